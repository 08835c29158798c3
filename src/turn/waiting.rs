//! Waits for the kernel: how long, and whether to busy-poll first. This file alone waits.
//!
//! Putting a thread to sleep and waking it takes longer than a peer on the same machine takes to
//! answer. If the answer arrives within a moment, busy-polling for that moment saves both; if not,
//! the moment is lost. So the loop remembers spins that found nothing. After a few in a row the
//! next waits do not spin, twice as many each time, until a spin finds something again.

use std::io;
use std::time::{Duration, Instant};

use super::{Stage, Turns};
use crate::connection::assert_somebody_moves;
use crate::observer::Step;
use crate::system::Watched;

/// How long a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WaitLimit {
    NoWait,
    At(Instant),
    Forever,
}

impl WaitLimit {
    pub(super) fn after(timeout: Option<Duration>, now: impl FnOnce() -> Instant) -> Self {
        match timeout {
            None => Self::Forever,
            Some(Duration::ZERO) => Self::NoWait,
            // A time that the clock cannot represent never passes.
            Some(timeout) => now().checked_add(timeout).map_or(Self::Forever, Self::At),
        }
    }

    pub(super) fn has_passed(self, now: impl FnOnce() -> Instant) -> bool {
        match self {
            Self::NoWait => true,
            Self::At(end) => end <= now(),
            Self::Forever => false,
        }
    }
}

impl<T> Turns<T> {
    /// Begins a turn: waits for the kernel unless something is left to do, and records what it
    /// reports.
    #[inline(never)]
    pub(super) fn wait_for_events(&mut self, limit: WaitLimit) -> io::Result<()> {
        debug_assert!(!self.connections.has_dirty(), "everything is settled before a wait");
        self.resources.observers.refresh();
        let mut timeout = self.wait_timeout(limit);
        // If it would wait forever while something is unsent or unread and nobody is to move, then a
        // wake-up was lost, which is a bug of this crate that must not stay hidden. This looks at a
        // bounded number of connections at a time.
        if cfg!(debug_assertions) && timeout.is_none() {
            self.connections.check_some(assert_somebody_moves);
        }
        let spins = (timeout != Some(Duration::ZERO)).then(|| self.spin.before_wait()).flatten();
        let mut count = 0;
        if let Some(moment) = spins {
            let moment = timeout.map_or(moment, |timeout| timeout.min(moment));
            count = self.resources.system.spin(moment)?;
            self.spin.spun(count > 0);
        }
        if count == 0 {
            if spins.is_some() {
                timeout = self.wait_timeout(limit);
            }
            let waited = self.resources.system.wait(timeout);
            #[cfg(any(test, feature = "simulation"))]
            let waited = waited.map_err(|error| {
                let explained = format!("{error}; the loop waits for {}", self.explain());
                io::Error::new(error.kind(), explained)
            });
            count = waited?;
        }
        self.resources.begin_turn();
        self.resources.metrics.waited(count);
        self.resources.observers.see(Step::Waited { at_most: timeout, events: count });
        self.record_readiness();
        self.take_names();
        self.ready.choose_deferred(|id| self.connections.get(id).is_some());
        self.stage = match self.resources.alarms.earliest() {
            Some(_) => Stage::Alarms(self.resources.alarms.due(self.resources.system.now())),
            None => Stage::Wake,
        };
        Ok(())
    }

    /// Records what the kernel has reported, and queues the connections and listeners concerned.
    fn record_readiness(&mut self) {
        let Self { resources, connections, listeners, sources, waker, is_woken, ready, .. } = self;
        let observers = &mut resources.observers;
        resources.system.take_events(|watched, readiness| match watched {
            Watched::Notifier => *is_woken |= waker.lower(),
            Watched::Source(slot) => sources.record(slot, readiness),
            Watched::Listener(slot) => listeners.ready(slot),
            Watched::Connection(slot) => {
                if let Some(connection) = connections.at(slot) {
                    ready.record(connection, readiness);
                    observers.trace(|| Step::Ready { id: connection.id(), readiness });
                }
            }
        });
    }

    /// Takes the answers for names that were resolved.
    fn take_names(&mut self) {
        while let Some((id, found)) = self.names.take_answer(&self.resources.system) {
            self.resolved(id, found);
        }
        // The connects that they begin are settled before anything else.
        self.settle_dirty();
    }

    /// Returns how long a host may sleep on the descriptor before it must call again.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let is_in_turn = self.stage != Stage::Over;
        let is_unsettled = self.connections.has_dirty() || self.connections.is_any_closed();
        let is_pending = self.announced.is_some()
            || self.kept.is_some()
            || self.service.is_some()
            || self.is_shut_down()
            || self.resources.observers.hold_panic();
        if is_in_turn || is_unsettled || is_pending || self.resources.system.was_filled() {
            return Some(Duration::ZERO);
        }
        self.wait_timeout(WaitLimit::Forever)
    }

    fn wait_timeout(&self, limit: WaitLimit) -> Option<Duration> {
        let has_more = !self.ready.is_empty() || self.listeners.ready_count() > 0;
        if has_more || limit == WaitLimit::NoWait {
            return Some(Duration::ZERO);
        }
        let alarm = self.resources.alarms.earliest();
        let end = match limit {
            WaitLimit::At(end) => Some(alarm.map_or(end, |alarm| alarm.min(end))),
            WaitLimit::NoWait | WaitLimit::Forever => alarm,
        };
        end.map(|end| end.saturating_duration_since(self.resources.system.now()))
    }

    /// Returns the timeout for a test that drives several loops on one simulated clock and has no
    /// descriptors.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn simulated_timeout(&self) -> Option<Duration> {
        if self.resources.system.has_listed() {
            return Some(Duration::ZERO);
        }
        let answer = self.resources.system.next_answer();
        self.next_timeout().into_iter().chain(answer).min()
    }
}

/// After this many spins in a row that find nothing, a rest begins.
const FRUITLESS_MAX: u32 = 4;
/// The longest rest, in waits: a loop that is idle now may be busy later.
const REST_MAX: u32 = 1024;

/// Decides when to busy-poll before a wait blocks.
#[derive(Debug)]
pub(crate) struct Spin {
    moment: Option<Duration>,
    /// How many spins in a row have found nothing.
    fruitless: u32,
    /// How many more waits block without a spin.
    resting: u32,
    /// How long the last rest was, in waits.
    rest: u32,
}

impl Spin {
    pub(crate) fn new(moment: Option<Duration>) -> Self {
        Self { moment, fruitless: 0, resting: 0, rest: 0 }
    }

    /// Returns how long to spin before the wait that is about to block, if at all.
    fn before_wait(&mut self) -> Option<Duration> {
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        self.moment
    }

    /// Notes whether a spin has found something.
    fn spun(&mut self, is_fruitful: bool) {
        if is_fruitful {
            (self.fruitless, self.rest) = (0, 0);
            return;
        }
        self.fruitless += 1;
        if self.fruitless >= FRUITLESS_MAX {
            // If the one spin after a rest finds nothing, another rest begins.
            self.fruitless = FRUITLESS_MAX - 1;
            self.rest = (self.rest * 2).clamp(1, REST_MAX);
            self.resting = self.rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_micros(50);

    /// Returns how many waits block before the next spin, which finds something if `is_fruitful`.
    fn waits_until_spin(spin: &mut Spin, is_fruitful: bool) -> u32 {
        let mut count = 0;
        while spin.before_wait().is_none() {
            count += 1;
        }
        spin.spun(is_fruitful);
        count
    }

    #[test]
    fn without_a_moment_it_never_spins() {
        assert_eq!(Spin::new(None).before_wait(), None);
    }

    #[test]
    fn fruitless_spins_rest_for_doubling_numbers_of_waits_and_a_fruitful_one_resets_that() {
        let mut spin = Spin::new(Some(MOMENT));
        let mut next = |is_fruitful| waits_until_spin(&mut spin, is_fruitful);
        let rests: Vec<u32> = (0..8).map(|_| next(false)).collect();
        assert_eq!(rests, [0, 0, 0, 0, 1, 2, 4, 8]);
        assert_eq!(next(true), 16);
        let rests: Vec<u32> = (0..6).map(|_| next(false)).collect();
        assert_eq!(rests, [0, 0, 0, 0, 1, 2]);
        for _ in 0..20 {
            next(false);
        }
        assert_eq!(next(false), REST_MAX);
    }
}
