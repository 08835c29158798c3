//! What is counted, and when: the warm-up, the window, and the draining after it.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::load::{Extent, Latency, Report};
use crate::process::processor_time;

/// A minute, in nanoseconds: nothing here takes longer.
const LATENCY_MAX: u64 = 60_000_000_000;

pub(super) struct Meter {
    extent: Extent,
    phase: Phase,
    /// When the phase ends, if time ends it.
    ends: Option<Instant>,
    server: u32,
    began: Sample,
    ended: Sample,
    messages: u64,
    background_bytes: u64,
    latencies: Histogram<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    WarmUp,
    Window,
    /// Nothing new is started; what is under way is still echoed.
    Draining,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    server_time: u64,
    load_time: u64,
}

impl Meter {
    pub(super) fn start(extent: Extent, server: u32) -> io::Result<Self> {
        let sample = Sample::take(server)?;
        let (phase, ends) = match extent {
            Extent::Time { warm_up, .. } => {
                (Phase::WarmUp, Some(sample.at + Duration::from_millis(warm_up)))
            }
            Extent::Messages(_) => (Phase::Window, None),
        };
        let latencies = Histogram::new_with_max(LATENCY_MAX, 3).map_err(io::Error::other)?;
        let (began, ended) = (sample, sample);
        let (messages, background_bytes) = (0, 0);
        Ok(Self {
            extent,
            phase,
            ends,
            server,
            began,
            ended,
            messages,
            background_bytes,
            latencies,
        })
    }

    /// Begins anew: what happened before does not count.
    pub(super) fn restart(&mut self) -> io::Result<()> {
        *self = Self::start(self.extent, self.server)?;
        Ok(())
    }

    /// Returns whether new messages are to be started.
    pub(super) fn goes_on(&self) -> bool {
        self.phase != Phase::Draining
    }

    /// Goes to the next phase when it is time.
    pub(super) fn tick(&mut self, now: Instant) -> io::Result<()> {
        match (self.phase, self.extent) {
            (Phase::WarmUp, Extent::Time { window, .. }) if self.is_over(now) => {
                self.began = Sample::take(self.server)?;
                self.ends = Some(self.began.at + Duration::from_millis(window));
                self.phase = Phase::Window;
            }
            (Phase::Window, Extent::Time { .. }) if self.is_over(now) => {
                self.ended = Sample::take(self.server)?;
                self.phase = Phase::Draining;
            }
            (Phase::Window, Extent::Messages(count)) if self.messages >= count => {
                self.phase = Phase::Draining;
            }
            _ => {}
        }
        Ok(())
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ends.is_some_and(|end| now >= end)
    }

    /// A message of the measured group is complete.
    pub(super) fn complete(&mut self, latency: Option<Duration>) {
        if !self.counts() {
            return;
        }
        self.messages += 1;
        if let Some(latency) = latency {
            self.latencies.saturating_record(latency.as_nanos() as u64);
        }
    }

    /// Counts bytes that were echoed to one of the others.
    pub(super) fn note_background(&mut self, count: usize) {
        if self.counts() {
            self.background_bytes += count as u64;
        }
    }

    /// Returns whether an echo counts. Where messages are counted and not time, those that are
    /// echoed while draining count too.
    fn counts(&self) -> bool {
        self.phase == Phase::Window || matches!(self.extent, Extent::Messages(_))
    }

    pub(super) fn report(mut self) -> io::Result<Report> {
        if let Extent::Messages(_) = self.extent {
            self.ended = Sample::take(self.server)?;
        }
        let at = |quantile| self.latencies.value_at_quantile(quantile);
        let latency = (!self.latencies.is_empty()).then(|| Latency {
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        });
        Ok(Report {
            seconds: (self.ended.at - self.began.at).as_secs_f64(),
            messages: self.messages,
            background_bytes: self.background_bytes,
            server_time: self.ended.server_time.saturating_sub(self.began.server_time),
            load_time: self.ended.load_time.saturating_sub(self.began.load_time),
            latency,
        })
    }
}

impl Sample {
    fn take(server: u32) -> io::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server_time: processor_time(server)?,
            load_time: processor_time(std::process::id())?,
        })
    }
}
