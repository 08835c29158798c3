//! All sockets of a simulation, its clock, and what the network does by itself.
//!
//! Bytes travel from the sender's send buffer to the receiver's receive buffer in pieces that the
//! seed cuts. The network moves on while a loop waits, and between any two system calls if it is
//! busy, so that every cut and every order occurs.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::faults::Faults;
use super::random::Random;
use super::socket::{Connect, Entry, Stream};
use crate::interest::Readiness;

/// What a test has the kernel do at calls of its choice.
#[derive(Default)]
pub(crate) struct Script {
    /// Fails the call of this number, and all behind it if it is persistent.
    pub(crate) failure: Option<Failing>,
    /// The most bytes of each of the next reads and writes that move any.
    pub(crate) reads: VecDeque<usize>,
    pub(crate) writes: VecDeque<usize>,
    /// Wakes that are to come from another thread at some time, in the middle of a wait too.
    pub(crate) wakes: VecDeque<Wake>,
}

/// A wake of a loop: what it does first tells whether the loop is to be rung for.
pub(crate) struct Wake {
    pub(crate) poller: usize,
    pub(crate) raise: Box<dyn FnOnce() -> bool + Send>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("failure", &self.failure).finish_non_exhaustive()
    }
}

/// A failure at the call of a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing {
    pub(crate) at: u64,
    pub(crate) is_persistent: bool,
    pub(crate) error: fn() -> io::Error,
}

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) steps: u64,
    /// How often something arrived that the other end can see.
    pub(crate) moved: u64,
    pub(crate) script: Script,
    /// How many calls there were that can fail.
    pub(crate) calls: u64,
    /// How many sockets their loop has closed by a reset.
    pub(crate) resets_asked: u64,
    start: Instant,
    pub(super) elapsed: Duration,
    pub(super) entries: Vec<Entry>,
    /// For each loop the sockets to look at in its next wait, in order.
    pub(super) listed: Vec<VecDeque<usize>>,
    /// For each loop whether somebody has rung for it.
    pub(super) rung: Vec<bool>,
    next_port: u16,
}

/// Ports from here on are given out by the network, one to each connection.
pub(super) const FIRST_PORT: u16 = 49_152;

impl Network {
    pub(crate) fn new(seed: u64, faults: Faults) -> Self {
        Self {
            random: Random::new(seed),
            faults,
            steps: 0,
            moved: 0,
            script: Script::default(),
            calls: 0,
            resets_asked: 0,
            start: Instant::now(),
            elapsed: Duration::ZERO,
            entries: Vec::new(),
            listed: Vec::new(),
            rung: Vec::new(),
            next_port: FIRST_PORT,
        }
    }

    pub(crate) fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    pub(crate) fn pass_time(&mut self, time: Duration) {
        self.elapsed = self.elapsed.saturating_add(time);
    }

    pub(crate) fn add_poller(&mut self) -> usize {
        self.listed.push(VecDeque::new());
        self.rung.push(false);
        self.listed.len() - 1
    }

    /// Closes all that a loop has.
    pub(crate) fn remove_poller(&mut self, poller: usize) {
        for index in 0..self.entries.len() {
            let is_its = match &self.entries[index] {
                Entry::Free => false,
                Entry::Listener(listener) => listener.poller == poller,
                Entry::Stream(stream) => stream.poller == Some(poller) && !stream.is_closed,
            };
            if is_its {
                self.close(index, false);
            }
        }
    }

    /// How many sockets a loop has open, and how many of them are registered.
    pub(crate) fn open_and_watched(&self, poller: usize) -> (usize, usize) {
        let mut count = (0, 0);
        for entry in &self.entries {
            let (owner, watch) = match entry {
                Entry::Free => continue,
                Entry::Listener(listener) => (Some(listener.poller), &listener.watch),
                Entry::Stream(stream) if stream.is_closed => continue,
                Entry::Stream(stream) => (stream.poller, &stream.watch),
            };
            if owner == Some(poller) {
                count.0 += 1;
                count.1 += usize::from(watch.is_some());
            }
        }
        count
    }

    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        let free = self.entries.iter().position(|entry| matches!(entry, Entry::Free));
        match free {
            Some(index) => {
                self.entries[index] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() - 1
            }
        }
    }

    pub(super) fn stream(&mut self, index: usize) -> &mut Stream {
        match &mut self.entries[index] {
            Entry::Stream(stream) => stream,
            other => panic!("socket {index} is no stream but {other:?}"),
        }
    }

    pub(super) fn listener_at(&self, address: SocketAddr) -> Option<usize> {
        self.entries.iter().position(
            |entry| matches!(entry, Entry::Listener(listener) if listener.address == address),
        )
    }

    pub(super) fn take_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = self.next_port.checked_add(1).unwrap_or(FIRST_PORT);
        port
    }

    pub(super) fn happens(&mut self, rate: fn(&Faults) -> u16) -> bool {
        let rate = rate(&self.faults);
        self.random.happens(rate)
    }

    /// What is the same at the beginning of each system call: the network may have moved on since
    /// the last, and the call may fail as a test's script wants it.
    pub(super) fn begin_call(&mut self) -> io::Result<()> {
        self.steps += 1;
        self.calls += 1;
        if self.happens(|faults| faults.busy_rate) {
            self.step();
        }
        if self.happens(|faults| faults.broken_rate) {
            self.break_one();
        }
        match self.script.failure {
            Some(failing) if self.calls == failing.at => Err((failing.error)()),
            Some(failing) if self.calls > failing.at && failing.is_persistent => {
                Err((failing.error)())
            }
            _ => Ok(()),
        }
    }

    /// As [`Network::begin_call`], for a call that neither blocks nor is interrupted.
    pub(super) fn begin_call_to_the_end(&mut self) -> io::Result<()> {
        let is_passing = |kind| matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted);
        self.begin_call().or_else(|error| match is_passing(error.kind()) {
            true => Ok(()),
            false => Err(error),
        })
    }

    pub(super) fn may_interrupt(&mut self) -> io::Result<()> {
        match self.happens(|faults| faults.interrupted_rate) {
            true => Err(ErrorKind::Interrupted.into()),
            false => Ok(()),
        }
    }

    // What the network does.

    /// One thing that the network does by itself, if there is any: delivers a piece, an end or the
    /// outcome of a connect.
    pub(crate) fn step(&mut self) -> bool {
        // Another thread is as fast as it likes.
        if !self.script.wakes.is_empty() && self.random.below(4) == 0 {
            return self.wake_one();
        }
        let count = self.entries.len();
        let first = self.random.below(count);
        let has_moved = (first..count).chain(0..first).any(|index| self.step_entry(index));
        self.moved += u64::from(has_moved);
        has_moved || self.wake_one()
    }

    /// Has a wake come that a test's script holds.
    fn wake_one(&mut self) -> bool {
        let Some(wake) = self.script.wakes.pop_front() else { return false };
        if (wake.raise)() {
            self.ring(wake.poller);
        }
        true
    }

    fn step_entry(&mut self, index: usize) -> bool {
        let Entry::Stream(stream) = &mut self.entries[index] else { return false };
        match stream.connect {
            Connect::UnderWay if stream.other.is_none() && !stream.is_closed => {
                self.establish(index);
                return true;
            }
            Connect::Failing(error) => {
                stream.connect = Connect::Hanging;
                stream.error = Some(error);
                self.list(index, Readiness::READABLE | Readiness::WRITABLE);
                return true;
            }
            Connect::UnderWay | Connect::Hanging | Connect::Done => {}
        }
        if stream.was_full && !stream.is_closed && stream.has_room(self.faults.send_buffer) {
            stream.was_full = false;
            self.list(index, Readiness::WRITABLE);
            return true;
        }
        let Some(other) = stream.other else { return false };
        if !stream.send.is_empty() {
            return self.deliver(index, other);
        }
        if stream.finished && !stream.finish_delivered {
            stream.finish_delivered = true;
            self.deliver_finish(index, other);
            return true;
        }
        false
    }

    /// Carries a connect to its outcome.
    pub(super) fn establish(&mut self, index: usize) {
        let (local, remote) = (self.stream(index).local, self.stream(index).remote);
        let Some(listener) = self.listener_at(remote) else {
            let stream = self.stream(index);
            stream.connect = Connect::Hanging;
            stream.error = Some(ErrorKind::ConnectionRefused);
            return self.list(index, Readiness::READABLE | Readiness::WRITABLE);
        };
        let mut accepted = Stream::new(remote, local, None);
        accepted.other = Some(index);
        accepted.connect = Connect::Done;
        let accepted = self.insert(Entry::Stream(accepted));
        let stream = self.stream(index);
        stream.other = Some(accepted);
        stream.connect = Connect::Done;
        self.list(index, Readiness::WRITABLE);
        if let Entry::Listener(listener) = &mut self.entries[listener] {
            listener.waiting.push_back(accepted);
        }
        self.list(listener, Readiness::READABLE);
    }

    /// Delivers a piece of what was sent. Bytes for an end that is closed are answered by a reset.
    fn deliver(&mut self, index: usize, other: usize) -> bool {
        let receiver = self.stream(other);
        if receiver.is_closed {
            self.forget(other);
            self.reset(index, ErrorKind::ConnectionReset);
            return true;
        }
        let held = receiver.receive.len();
        let room = self.faults.receive_buffer.saturating_sub(held);
        let most = self.stream(index).send.len().min(room).min(self.faults.piece_max);
        if most == 0 {
            return false;
        }
        let count = 1 + self.random.below(most);
        let mut send = std::mem::take(&mut self.stream(index).send);
        let (front, back) = send.as_slices();
        let from_front = count.min(front.len());
        let receive = &mut self.stream(other).receive;
        receive.extend(&front[..from_front]);
        receive.extend(&back[..count - from_front]);
        send.drain(..count);
        self.stream(index).send = send;
        self.list(other, Readiness::READABLE);
        true
    }

    /// Delivers the end of what `index` sends. When both ends are closed and have each other's
    /// finish, nothing is left of the connection.
    fn deliver_finish(&mut self, index: usize, other: usize) {
        let receiver = self.stream(other);
        receiver.ended = true;
        if !receiver.is_closed {
            self.list(other, Readiness::READABLE);
        } else if receiver.finish_delivered {
            self.forget(other);
        }
        let sender = self.stream(index);
        if sender.is_closed && (sender.ended || sender.other.is_none()) {
            self.forget(index);
        }
    }

    /// Has a reset arrive, or whatever else ends a connection for both its directions.
    pub(super) fn reset(&mut self, index: usize, error: ErrorKind) {
        self.moved += 1;
        let discards = self.happens(|faults| faults.discard_rate);
        let stream = self.stream(index);
        stream.other = None;
        stream.send.clear();
        stream.is_reset = true;
        if discards {
            stream.receive.clear();
            stream.ended = false;
        }
        // Behind the peer's end a reset can only concern what we write.
        let has_end = stream.ended && error == ErrorKind::ConnectionReset;
        stream.error = Some(if has_end { ErrorKind::BrokenPipe } else { error });
        if stream.is_closed {
            self.forget(index);
        } else {
            self.list(index, Readiness::READABLE | Readiness::WRITABLE);
        }
    }

    /// Breaks an established connection from within the network.
    fn break_one(&mut self) {
        let index = self.random.below(self.entries.len());
        let Some(Entry::Stream(stream)) = self.entries.get(index) else { return };
        let Some(other) = stream.other else { return };
        let errors = [ErrorKind::ConnectionReset, ErrorKind::TimedOut, ErrorKind::HostUnreachable];
        let error = self.random.one_of(&errors);
        self.reset(other, ErrorKind::ConnectionReset);
        self.reset(index, error);
    }

    /// Frees an entry, which its other end no longer knows then.
    pub(super) fn forget(&mut self, index: usize) {
        if let Some(other) = self.stream(index).other {
            self.stream(other).other = None;
        }
        self.entries[index] = Entry::Free;
    }
}
