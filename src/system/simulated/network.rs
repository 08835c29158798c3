//! All sockets of a simulation, its clock, and what the network does by itself.
//!
//! Bytes travel from the sender's send buffer to the receiver's receive buffer in pieces that the
//! seed cuts. The network moves on while a loop waits, and between any two system calls if it is
//! busy, so that every cut and every order occurs.

#[cfg(unix)]
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use super::faults::Faults;
use super::hosts::{Host, LookUp};
use super::random::Random;
use super::script::{Failing, Script};
use super::socket::{Connect, Entry, Stream};
#[cfg(unix)]
use crate::address::UnixAddress;
use crate::readiness::Readiness;

#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) random: Random,
    pub(crate) faults: Faults,
    pub(crate) steps: u64,
    /// How often something arrived that the other end can see.
    pub(crate) moved: u64,
    pub(crate) script: Script,
    /// How many calls that can fail were made.
    pub(crate) calls: u64,
    /// How many sockets their loop has closed by a reset.
    pub(crate) resets_asked: u64,
    start: Instant,
    pub(super) elapsed: Duration,
    pub(super) entries: Vec<Entry>,
    /// For each loop the sockets to look at in its next wait, in order.
    pub(super) listed: Vec<VecDeque<usize>>,
    /// For each loop, whether it has been notified.
    pub(super) notified: Vec<bool>,
    next_port: u16,
    pub(super) hosts: Vec<Host>,
    pub(super) look_ups: Vec<LookUp>,
    /// Hosts that never answer.
    pub(super) unreachable: Vec<IpAddr>,
    /// The names of Unix-domain sockets, each known by its number here.
    #[cfg(unix)]
    pub(super) names: Vec<UnixAddress>,
    /// The places of stale socket files: nothing listens there.
    #[cfg(unix)]
    pub(super) left_behind: BTreeSet<SocketAddr>,
}

/// The network hands out ports from here on, one per connection.
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
            notified: Vec::new(),
            next_port: FIRST_PORT,
            hosts: Vec::new(),
            look_ups: Vec::new(),
            unreachable: Vec::new(),
            #[cfg(unix)]
            names: Vec::new(),
            #[cfg(unix)]
            left_behind: BTreeSet::new(),
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
        self.notified.push(false);
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

    /// Returns how many sockets a loop has open, and how many of them are registered.
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

    /// Opens a socket under the lowest free number.
    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        let is_closed = |entry: &Entry| match entry {
            Entry::Free => true,
            Entry::Listener(_) => false,
            Entry::Stream(stream) => stream.is_closed,
        };
        let index = self.entries.iter().position(is_closed).unwrap_or(self.entries.len());
        match self.entries.get(index) {
            None => self.entries.push(Entry::Free),
            Some(Entry::Stream(_)) => self.move_up(index),
            Some(Entry::Free | Entry::Listener(_)) => {}
        }
        self.entries[index] = entry;
        index
    }

    /// Moves a closed socket that still has something to deliver, so that its number is free.
    fn move_up(&mut self, index: usize) {
        let free = self.entries.iter().rposition(|entry| matches!(entry, Entry::Free));
        let free = free.unwrap_or_else(|| {
            self.entries.push(Entry::Free);
            self.entries.len() - 1
        });
        self.entries.swap(index, free);
        if let Some(other) = self.stream(free).other {
            self.stream(other).other = Some(free);
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

    /// Begins a system call: the network may have moved on since the last one, and the call may
    /// fail as a test's script demands.
    pub(super) fn begin_call(&mut self) -> io::Result<()> {
        self.steps += 1;
        self.calls += 1;
        if self.happens(|faults| faults.busy_rate) {
            self.step();
        }
        if self.happens(|faults| faults.broken_rate) {
            self.break_one();
        }
        match self.failing() {
            Some(failing) => Err((failing.error)()),
            None => Ok(()),
        }
    }

    /// Returns how the script makes the present call fail, if it does. The last entry that applies
    /// counts.
    pub(super) fn failing(&self) -> Option<&Failing> {
        let fails = |failing: &&Failing| {
            self.calls == failing.at || self.calls > failing.at && failing.is_persistent
        };
        self.script.failures.iter().rfind(fails)
    }

    /// Begins a call that neither blocks nor is interrupted: see [`Network::begin_call`].
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

    /// Does one thing that the network does by itself, if there is any: delivers a piece, an end of
    /// file or the outcome of a connect.
    pub(crate) fn step(&mut self) -> bool {
        // Another thread may act at any time.
        if !self.script.wakes.is_empty() && self.random.below(4) == 0 {
            return self.wake_one();
        }
        let count = self.entries.len();
        let first = self.random.below(count);
        let has_moved = (first..count).chain(0..first).any(|index| self.step_entry(index));
        self.moved += u64::from(has_moved);
        has_moved || self.wake_one()
    }

    /// Performs a wake that a test's script holds.
    fn wake_one(&mut self) -> bool {
        let Some(wake) = self.script.wakes.pop_front() else { return false };
        if (wake.raise)() {
            self.notify(wake.poller);
        }
        true
    }

    pub(super) fn step_entry(&mut self, index: usize) -> bool {
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
            #[cfg(unix)]
            Connect::NotBegun => return false,
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

    /// Delivers the outcome of a connect.
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

    /// Delivers a piece of what was sent. Bytes for a closed end cause a reset.
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

    /// Delivers the end of file of `index`. When both ends are closed and have each other's, the
    /// connection is removed.
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

    /// Delivers a reset, or another error that ends both directions of a connection.
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
        // After the peer's end of file, a reset can only concern what we write.
        let has_end = stream.ended && error == ErrorKind::ConnectionReset;
        stream.error = Some(if has_end { ErrorKind::BrokenPipe } else { error });
        if stream.is_closed {
            self.forget(index);
        } else {
            self.list(index, Readiness::READABLE | Readiness::WRITABLE);
        }
    }

    /// Breaks an established connection from within the network, which the Unix domain does not
    /// have.
    fn break_one(&mut self) {
        let index = self.random.below(self.entries.len());
        let Some(Entry::Stream(stream)) = self.entries.get(index) else { return };
        let Some(other) = stream.other.filter(|_| !stream.is_unix()) else { return };
        let errors = [ErrorKind::ConnectionReset, ErrorKind::TimedOut, ErrorKind::HostUnreachable];
        let error = self.random.one_of(&errors);
        self.reset(other, ErrorKind::ConnectionReset);
        self.reset(index, error);
    }

    /// Closes one end in the Unix domain. What it has sent has arrived already; the other end can
    /// write no more, and reads an error if something was left unread.
    pub(super) fn hang_up(&mut self, index: usize, is_waiting: bool) {
        let stream = self.stream(index);
        let (other, sent) = (stream.other, std::mem::take(&mut stream.send));
        let mut has_left = is_waiting || !stream.receive.is_empty();
        self.forget(index);
        let Some(other) = other else { return };
        self.moved += 1;
        let other_end = self.stream(other);
        has_left |= !other_end.send.is_empty();
        other_end.send.clear();
        other_end.receive.extend(sent);
        other_end.ended = true;
        other_end.hung_up = true;
        other_end.error = has_left.then_some(ErrorKind::ConnectionReset);
        self.list(other, Readiness::READABLE | Readiness::WRITABLE);
    }

    /// Frees an entry, and removes the other end's reference to it.
    pub(super) fn forget(&mut self, index: usize) {
        if let Some(other) = self.stream(index).other {
            self.stream(other).other = None;
        }
        self.entries[index] = Entry::Free;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn socket_is_opened_while_a_closed_one_delivers_has_the_number_of_that() {
        let mut network = Network::new(1, Faults::none());
        let poller = network.add_poller();
        let address = "127.0.0.1:80".parse().unwrap();
        let listener = network.listen(poller, address).unwrap();
        let first = network.connect(poller, address).unwrap();
        let second = network.connect(poller, address).unwrap();
        while network.step() {}
        let accepted = [(); 2].map(|()| network.accept(listener).unwrap().0);
        assert_eq!([listener, first, second], [0, 1, 2]);
        let other = network.stream(first).other.unwrap();
        assert!(accepted.contains(&other));
        network.write(first, b"last").unwrap();
        network.close(second, false);
        network.close(first, false);
        assert_eq!(network.connect(poller, address).unwrap(), first);
        assert_eq!(network.connect(poller, address).unwrap(), second);
        while network.step() {}
        let mut received: Vec<u8> = Vec::new();
        loop {
            let mut into = [0; 8];
            match network.read(other, &mut into).unwrap() {
                0 => break,
                count => received.extend(&into[..count]),
            }
        }
        assert_eq!(received, b"last", "what a closed socket has sent still arrives");
    }
}
