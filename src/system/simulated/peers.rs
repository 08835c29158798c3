//! What the peers of a test do, without faults of their own, and what a test may look at.

use std::io::ErrorKind;
use std::net::SocketAddr;

#[cfg(test)]
use super::network::FIRST_PORT;
use super::network::Network;
#[cfg(test)]
use super::socket::Connect;
use super::socket::{Entry, Stream};
#[cfg(test)]
use crate::interest::Interest;
use crate::readiness::Readiness;

/// What is true of a socket, and what will be reported to its loop.
#[cfg(test)]
#[derive(Debug)]
pub(crate) struct Probe {
    pub(crate) interest: Interest,
    /// A connect could not begin: the kernel will report nothing about it.
    pub(crate) is_idle: bool,
    /// A connect has come to its outcome.
    pub(crate) is_decided: bool,
    /// A read would bring bytes, the end or an error.
    pub(crate) has_news: bool,
    pub(crate) has_room: bool,
    /// The next wait looks for bytes to read, or for room.
    pub(crate) read_edge: bool,
    pub(crate) write_edge: bool,
    /// This many bytes have arrived and are not read.
    pub(crate) arrived: usize,
}

impl Network {
    /// A peer that connects at once.
    pub(crate) fn connect_peer(&mut self, to: SocketAddr) -> usize {
        self.steps += 1;
        assert!(self.listener_at(to).is_some(), "nothing listens at {to}");
        let from = SocketAddr::new(to.ip(), self.take_port());
        let index = self.insert(Entry::Stream(Stream::new(from, to, None)));
        self.establish(index);
        index
    }

    /// Its own address of a stream, and that of its other end.
    pub(crate) fn addresses(&mut self, index: usize) -> (SocketAddr, SocketAddr) {
        let stream = self.stream(index);
        (stream.local, stream.remote)
    }

    pub(crate) fn take_waiting(&mut self, index: usize) -> Option<usize> {
        self.steps += 1;
        self.pop_waiting(index)
    }

    pub(crate) fn peer_write(&mut self, index: usize, bytes: &[u8]) -> usize {
        self.steps += 1;
        let send_buffer = self.faults.send_buffer;
        let stream = self.stream(index);
        if stream.finished || stream.is_reset || stream.hung_up {
            return 0;
        }
        let count = bytes.len().min(send_buffer.saturating_sub(stream.send.len()));
        stream.send.extend(&bytes[..count]);
        count
    }

    pub(crate) fn peer_read(&mut self, index: usize, most: usize) -> Vec<u8> {
        self.steps += 1;
        let stream = self.stream(index);
        let count = stream.receive.len().min(most);
        stream.receive.drain(..count).collect()
    }

    /// Whether a close now is an error to the other end: in the Unix domain what was sent counts as
    /// soon as it was.
    #[cfg(test)]
    pub(crate) fn has_unread(&mut self, index: usize) -> bool {
        let stream = self.stream(index);
        let (is_unix, other) = (stream.is_unix(), stream.other);
        let has_arrived = !stream.receive.is_empty();
        has_arrived || is_unix && other.is_some_and(|other| !self.stream(other).send.is_empty())
    }

    pub(crate) fn is_unix(&mut self, index: usize) -> bool {
        self.stream(index).is_unix()
    }

    /// What a peer would read behind the bytes that have arrived.
    pub(crate) fn peer_error(&mut self, index: usize) -> Option<ErrorKind> {
        let stream = self.stream(index);
        match () {
            () if stream.hung_up && stream.receive.is_empty() && stream.error.is_some() => {
                stream.error
            }
            () if stream.ended && stream.receive.is_empty() => Some(ErrorKind::UnexpectedEof),
            () if stream.is_reset => Some(ErrorKind::ConnectionReset),
            () => None,
        }
    }

    /// Marks the end of what was sent so far as urgent. One mark at a time: a new one replaces it.
    pub(crate) fn mark_urgent(&mut self, index: usize) {
        self.steps += 1;
        let sender = self.stream(index);
        let (other, underway) = (sender.other, sender.send.len());
        if sender.finished || sender.is_unix() {
            return;
        }
        if let Some(other) = other.filter(|other| !self.stream(*other).is_closed) {
            let receiver = self.stream(other);
            receiver.urgent = Some(receiver.receive.len() + underway);
            self.list(other, Readiness::READABLE);
        }
    }

    /// What a test's checker compares with what the loop believes.
    #[cfg(test)]
    pub(crate) fn probe(&self, index: usize) -> Probe {
        let Entry::Stream(stream) = &self.entries[index] else {
            panic!("socket {index} is no stream");
        };
        let watch = stream.watch.as_ref();
        let listed = watch.filter(|watch| watch.listed);
        let has_edge = |is_for: fn(Readiness) -> bool| {
            listed.is_some_and(|watch| is_for(watch.edges) || !self.faults.separate_edges)
        };
        Probe {
            interest: watch.map_or(Interest::None, |watch| watch.interest),
            #[cfg(unix)]
            is_idle: stream.connect == Connect::NotBegun,
            #[cfg(not(unix))]
            is_idle: false,
            is_decided: stream.connect == Connect::Done || stream.error.is_some(),
            has_news: !stream.receive.is_empty() || stream.ended || stream.is_broken(),
            has_room: stream.has_room(self.faults.send_buffer),
            read_edge: has_edge(Readiness::is_readable)
                && listed.is_some_and(|watch| watch.armed_to_read),
            write_edge: stream.was_full
                || has_edge(Readiness::is_writable)
                    && listed.is_some_and(|watch| watch.armed_to_write),
            arrived: stream.receive.len(),
        }
    }

    /// The connections that wait to be accepted at the listeners of a loop: where, from which port,
    /// and how many bytes of each have arrived.
    #[cfg(test)]
    pub(crate) fn waiting(&mut self, poller: usize) -> Vec<(SocketAddr, u16, usize)> {
        let mut waiting = Vec::new();
        for entry in &self.entries {
            if let Entry::Listener(listener) = entry
                && listener.poller == poller
            {
                waiting.extend(listener.waiting.iter().map(|index| (listener.address, *index)));
            }
        }
        let described = waiting.into_iter().map(|(address, index)| {
            let stream = self.stream(index);
            (address, stream.remote.port(), stream.receive.len())
        });
        described.collect()
    }

    /// How many peers wait for a loop to accept them.
    #[cfg(test)]
    pub(crate) fn waiting_count(&self, poller: usize) -> usize {
        let waiting = self.entries.iter().map(|entry| match entry {
            Entry::Listener(listener) if listener.poller == poller => listener.waiting.len(),
            _ => 0,
        });
        waiting.sum()
    }

    /// How many sockets there are in all, closed ones too that still deliver.
    #[cfg(test)]
    pub(crate) fn socket_count(&self) -> usize {
        self.entries.iter().filter(|entry| !matches!(entry, Entry::Free)).count()
    }

    /// The port of the end that connected, by which both ends know their connection.
    #[cfg(test)]
    pub(crate) fn flow_port(&mut self, index: usize) -> u16 {
        let stream = self.stream(index);
        match stream.remote.port() >= FIRST_PORT && stream.local.port() < FIRST_PORT {
            true => stream.remote.port(),
            false => stream.local.port(),
        }
    }
}
