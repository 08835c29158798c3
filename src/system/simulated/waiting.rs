//! Registration and waiting: which edges are reported to a loop, and when.
//!
//! A socket is listed when something happens to it or when its interest is registered. A wait
//! reports what is true when it looks at the socket and what is asked for, as epoll does. A loop
//! that misses an edge, or clears what no edge will report again, waits forever.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::network::Network;
use super::socket::{Entry, Watch};
use crate::interest::Interest;
use crate::readiness::Readiness;
use crate::system::Watched;

/// The beginning of the error of a wait that would last forever; the loop adds what it waits for.
const NOTHING_CAN_END_IT: &str = "nothing in the simulation can ever end this wait";

impl Network {
    pub(crate) fn update_interest(
        &mut self,
        index: usize,
        watched: Watched,
        interest: Interest,
    ) -> io::Result<()> {
        if interest == Interest::None {
            self.steps += 1;
            *self.watch(index) = None;
            return Ok(());
        }
        self.begin_call_to_the_end()?;
        if self.happens(|faults| faults.register_rate) {
            let errors = [ErrorKind::StorageFull, ErrorKind::OutOfMemory];
            return Err(self.random.one_of(&errors).into());
        }
        let is_silent = self.faults.silent_rearm && !self.faults.disarms_on_report;
        let (poller, is_stream) = match &self.entries[index] {
            Entry::Listener(listener) => (Some(listener.poller), false),
            Entry::Stream(stream) => (stream.poller, true),
            Entry::Free => panic!("socket {index} is closed"),
        };
        let before = self.watch(index).take();
        let mut edges = before.as_ref().map_or(Readiness::default(), |watch| watch.edges);
        edges.add(Readiness::WRITABLE);
        if !(is_silent && is_stream) {
            edges.add(Readiness::READABLE);
        }
        *self.watch(index) = Some(Watch {
            poller: poller.expect("only a loop registers its sockets"),
            watched,
            interest,
            listed: before.is_some_and(|watch| watch.listed),
            edges,
            armed_to_read: true,
            armed_to_write: true,
        });
        self.list(index, edges);
        Ok(())
    }

    pub(super) fn watch(&mut self, index: usize) -> &mut Option<Watch> {
        match &mut self.entries[index] {
            Entry::Listener(listener) => &mut listener.watch,
            Entry::Stream(stream) => &mut stream.watch,
            Entry::Free => panic!("socket {index} is closed"),
        }
    }

    /// Something happened to a socket: its loop is to look at it in its next wait.
    pub(super) fn list(&mut self, index: usize, edge: Readiness) {
        if let Some(watch) = self.watch(index) {
            watch.edges.add(edge);
            if !watch.listed {
                watch.listed = true;
                let poller = watch.poller;
                self.listed[poller].push_back(index);
            }
        }
    }

    /// A call would have blocked: where an interest is disarmed when it is reported, this arms it
    /// again, which looks at the socket anew.
    pub(super) fn blocked(&mut self, index: usize) {
        if !self.faults.disarms_on_report {
            return;
        }
        if let Some(watch) = self.watch(index) {
            watch.armed_to_read = true;
            watch.armed_to_write = true;
            self.list(index, Readiness::READABLE | Readiness::WRITABLE);
        }
    }

    /// Whether a loop has something to look at in its next wait.
    pub(crate) fn has_listed(&self, poller: usize) -> bool {
        self.notified[poller] || !self.listed[poller].is_empty()
    }

    /// Somebody calls for a loop: its wait ends, or else its next.
    pub(crate) fn notify(&mut self, poller: usize) {
        self.steps += 1;
        self.notified[poller] = true;
    }

    /// Waits: the network moves on until a loop has something to look at, or the time passes.
    pub(crate) fn wait(
        &mut self,
        poller: usize,
        timeout: Option<Duration>,
        events: &mut Vec<(Watched, Readiness)>,
    ) -> io::Result<()> {
        events.clear();
        self.steps += 1;
        self.pass_chance_time();
        let end = timeout.map(|timeout| self.elapsed.saturating_add(timeout));
        self.may_interrupt()?;
        for _ in 0..self.random.few() {
            self.step();
        }
        self.add_spurious(poller, events);
        loop {
            self.answer_names();
            self.collect(poller, timeout == Some(Duration::ZERO), events);
            if !events.is_empty() || end.is_some_and(|end| self.elapsed >= end) {
                return Ok(());
            }
            if !self.step() {
                // Time passes to what happens next, if anything does.
                let answer = self.next_answer(poller).map(|after| self.elapsed + after);
                let Some(next) = answer.into_iter().chain(end).min() else {
                    return Err(io::Error::new(ErrorKind::TimedOut, NOTHING_CAN_END_IT));
                };
                self.elapsed = next;
            }
            self.pass_chance_time();
        }
    }

    fn pass_chance_time(&mut self) {
        if self.happens(|faults| faults.clock_rate) {
            let micros = self.random.below(5_000) as u64;
            self.pass_time(Duration::from_micros(micros));
        }
        if self.happens(|faults| faults.suspended_rate) {
            let seconds = 1 << self.random.below(8);
            self.pass_time(Duration::from_secs(seconds));
        }
    }

    /// Looks at what is listed, and takes out what is true and asked for.
    fn collect(&mut self, poller: usize, may_delay: bool, events: &mut Vec<(Watched, Readiness)>) {
        if self.notified[poller] && !(may_delay && self.happens(|faults| faults.delayed_rate)) {
            self.notified[poller] = false;
            events.push((Watched::Notifier, Readiness::READABLE));
        }
        for _ in 0..self.listed[poller].len() {
            if events.len() >= self.faults.event_capacity {
                break;
            }
            if self.happens(|faults| faults.reordered_rate) {
                let place = self.random.below(self.listed[poller].len());
                self.listed[poller].swap(0, place);
            }
            let Some(index) = self.listed[poller].pop_front() else { break };
            if may_delay && self.happens(|faults| faults.delayed_rate) {
                self.listed[poller].push_back(index);
                continue;
            }
            self.report(index, poller, events);
        }
    }

    fn report(&mut self, index: usize, poller: usize, events: &mut Vec<(Watched, Readiness)>) {
        let (send_buffer, disarms) = (self.faults.send_buffer, self.faults.disarms_on_report);
        let separates = self.faults.separate_edges && !disarms;
        let mut readiness = match &mut self.entries[index] {
            Entry::Free => return,
            Entry::Listener(listener) if listener.waiting.is_empty() => Readiness::default(),
            Entry::Listener(_) => Readiness::READABLE,
            Entry::Stream(stream) => {
                // Having looked for room and found none, the kernel tells when there is.
                stream.was_full |= !stream.has_room(send_buffer);
                stream.reported(send_buffer)
            }
        };
        let splits = readiness.is_readable()
            && readiness.is_writable()
            && self.happens(|faults| faults.split_rate);
        let reads_first = splits && self.random.below(2) == 0;
        // A socket that was freed and used again may stand here twice.
        let is_its = |watch: &&mut Watch| watch.poller == poller && watch.listed;
        let Some(watch) = self.watch(index).as_mut().filter(is_its) else { return };
        watch.listed = false;
        let edges = std::mem::take(&mut watch.edges);
        let mut rest = Readiness::default();
        if separates {
            keep_edges(&mut readiness, edges);
        }
        if splits && readiness.is_readable() && readiness.is_writable() {
            rest = if reads_first { Readiness::WRITABLE } else { Readiness::READABLE };
            let both = Readiness::READABLE | Readiness::HUP;
            readiness.clear(if reads_first { Readiness::WRITABLE } else { both });
        }
        if readiness != Readiness::default() {
            if disarms {
                watch.armed_to_read &= !readiness.is_readable();
                watch.armed_to_write &= !readiness.is_writable();
            }
            events.push((watch.watched, readiness));
        }
        if rest != Readiness::default() {
            self.list(index, rest);
        }
    }

    fn add_spurious(&mut self, poller: usize, events: &mut Vec<(Watched, Readiness)>) {
        for (index, readiness) in std::mem::take(&mut self.script.spurious) {
            self.report_untrue(index, readiness, poller, events);
        }
        if !self.happens(|faults| faults.spurious_rate) {
            return;
        }
        let index = self.random.below(self.entries.len());
        let readiness = self.random.one_of(&[
            Readiness::READABLE,
            Readiness::WRITABLE,
            Readiness::READABLE | Readiness::WRITABLE,
            Readiness::READABLE | Readiness::HUP,
        ]);
        self.report_untrue(index, readiness, poller, events);
    }

    /// Reports of a socket what need not be true, if this loop watches it.
    fn report_untrue(
        &self,
        index: usize,
        readiness: Readiness,
        poller: usize,
        events: &mut Vec<(Watched, Readiness)>,
    ) {
        let watch = match self.entries.get(index) {
            Some(Entry::Listener(listener)) => &listener.watch,
            Some(Entry::Stream(stream)) => &stream.watch,
            Some(Entry::Free) | None => return,
        };
        if let Some(watch) = watch.as_ref().filter(|watch| watch.poller == poller) {
            events.push((watch.watched, readiness));
        }
    }
}

/// Where readable and writable have edges of their own, only what has changed is reported.
fn keep_edges(readiness: &mut Readiness, edges: Readiness) {
    if !edges.is_readable() {
        readiness.clear(Readiness::READABLE | Readiness::HUP);
    }
    if !edges.is_writable() {
        readiness.clear(Readiness::WRITABLE);
    }
}
