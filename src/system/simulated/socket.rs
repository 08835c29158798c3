//! The sockets of a simulated network, and what is true of each: the state, not the calls.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::interest::Interest;
use crate::readiness::Readiness;
use crate::system::Watched;

/// A registration of one socket with one loop.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) poller: usize,
    pub(super) watched: Watched,
    pub(super) interest: Interest,
    /// The loop's next wait looks at it.
    pub(super) listed: bool,
    /// What has changed since a wait looked at it last.
    pub(super) edges: Readiness,
    /// Invariant: both true unless the interest is disarmed when it is reported.
    pub(super) armed_to_read: bool,
    pub(super) armed_to_write: bool,
}

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) poller: usize,
    pub(super) address: SocketAddr,
    pub(super) waiting: VecDeque<usize>,
    pub(super) watch: Option<Watch>,
}

/// The host of all Unix-domain sockets: their places are addresses that no TCP socket can have.
pub(super) const UNIX_DOMAIN: IpAddr = IpAddr::V4(Ipv4Addr::BROADCAST);

/// Whether an address is the place of a Unix-domain socket.
pub(super) fn is_unix(address: SocketAddr) -> bool {
    address.ip() == UNIX_DOMAIN
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Connect {
    /// Nothing is under way: the socket is yet to connect.
    #[cfg(unix)]
    NotBegun,
    UnderWay,
    /// It will fail with this.
    Failing(ErrorKind),
    /// It has failed, or is never answered.
    Hanging,
    Done,
}

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Stream {
    /// The loop that owns it; none for a peer's.
    pub(super) poller: Option<usize>,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// The other end, until it is gone without a trace.
    pub(super) other: Option<usize>,
    pub(super) connect: Connect,
    pub(super) send: VecDeque<u8>,
    pub(super) receive: VecDeque<u8>,
    /// A write found no room, or a wait: an edge is due once a third is free.
    pub(super) was_full: bool,
    pub(super) finished: bool,
    pub(super) finish_delivered: bool,
    /// The other end's finish has arrived.
    pub(super) ended: bool,
    /// The connection is broken, by a reset or by the network; `error` holds what a call has not
    /// returned yet.
    pub(super) is_reset: bool,
    pub(super) error: Option<ErrorKind>,
    /// In the Unix domain: the other end was closed.
    pub(super) hung_up: bool,
    /// This many bytes precede a mark of urgent data, including those that have not arrived.
    pub(super) urgent: Option<usize>,
    /// Closed by its owner; it exists only until what it sent is delivered.
    pub(super) is_closed: bool,
    /// Its owner asked for a reset when it closes.
    pub(super) resets_on_close: bool,
    pub(super) watch: Option<Watch>,
}

impl Stream {
    pub(super) fn new(local: SocketAddr, remote: SocketAddr, poller: Option<usize>) -> Self {
        Self {
            poller,
            local,
            remote,
            other: None,
            connect: Connect::UnderWay,
            send: VecDeque::new(),
            receive: VecDeque::new(),
            was_full: false,
            finished: false,
            finish_delivered: false,
            ended: false,
            is_reset: false,
            error: None,
            hung_up: false,
            urgent: None,
            is_closed: false,
            resets_on_close: false,
            watch: None,
        }
    }

    pub(super) fn is_unix(&self) -> bool {
        is_unix(self.local)
    }

    pub(super) fn is_broken(&self) -> bool {
        self.error.is_some() || self.is_reset
    }

    /// Returns whether a write would be reported: a kernel waits until there is enough room.
    pub(super) fn has_room(&self, send_buffer: usize) -> bool {
        let free = send_buffer.saturating_sub(self.send.len());
        free > 0 && free >= send_buffer / 3
    }

    /// A broken one, or one that both sides have finished, is reported whatever is asked; and so is
    /// one that is yet to connect.
    fn is_over(&self) -> bool {
        #[cfg(unix)]
        if self.connect == Connect::NotBegun {
            return true;
        }
        self.is_broken() || self.hung_up || self.finished && self.ended
    }

    /// What is true of it now.
    pub(super) fn readiness(&self, send_buffer: usize) -> Readiness {
        let mut readiness = Readiness::default();
        if self.is_over() {
            readiness.add(Readiness::READABLE | Readiness::WRITABLE | Readiness::HUP);
        }
        if self.connect != Connect::Done {
            return readiness;
        }
        if !self.receive.is_empty() {
            readiness.add(Readiness::READABLE);
        }
        if self.ended || self.urgent.is_some_and(|before| before <= self.receive.len()) {
            readiness.add(Readiness::READABLE | Readiness::HUP);
        }
        if self.finished || self.has_room(send_buffer) {
            readiness.add(Readiness::WRITABLE);
        }
        readiness
    }

    /// The part of its readiness that its watch asks for.
    pub(super) fn reported(&self, send_buffer: usize) -> Readiness {
        let Some(watch) = &self.watch else { return Readiness::default() };
        let mut reported = self.readiness(send_buffer);
        if !self.is_over() {
            if !watch.interest.is_readable() || !watch.armed_to_read {
                reported.clear(Readiness::READABLE | Readiness::HUP);
            }
            if !watch.interest.is_writable() || !watch.armed_to_write {
                reported.clear(Readiness::WRITABLE);
            }
        }
        reported
    }
}

#[derive(Debug)]
pub(super) enum Entry {
    Free,
    Listener(Listener),
    Stream(Stream),
}
