//! A tiny kernel: one socket with room for two bytes in each direction.

use std::io::{self, ErrorKind, Read, Write};

use super::super::*;
use crate::attempt::Peek;
use crate::interest::Interest;
use crate::system::simulated::Choices;

/// The bytes that each buffer of the socket holds.
pub(super) const BUFFER: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Connect {
    UnderWay,
    Failed,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Reset {
    None,
    /// The next call that can return it does.
    Pending,
    Returned,
}

/// The socket as its kernel sees it, and how much the peer has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kernel {
    pub(super) connect: Connect,
    /// What the kernel was asked.
    pub(super) interest: Interest,
    /// An edge is due: the next wait looks at the socket.
    pub(super) listed: bool,
    pub(super) receive: u8,
    pub(super) peer_finished: bool,
    pub(super) reset: Reset,
    pub(super) send: u8,
    /// A write found less room than it asked for, so that room raises an edge.
    pub(super) was_full: bool,
    /// We have sent the end of our direction.
    pub(super) finished: bool,
    /// A read has returned the end of the peer's direction, or an error.
    pub(super) end_was_read: bool,
}

impl Kernel {
    pub(super) fn new(connect: Connect) -> Self {
        Self {
            connect,
            interest: Interest::None,
            listed: false,
            receive: 0,
            peer_finished: false,
            reset: Reset::None,
            send: 0,
            was_full: false,
            finished: false,
            end_was_read: false,
        }
    }

    /// Returns whether a read would bring something, an end or an error too.
    pub(super) fn is_readable(&self) -> bool {
        self.connect == Connect::Done
            && (self.receive > 0 || self.peer_finished || self.reset != Reset::None)
    }

    /// Returns whether room is reported: later than there is some, as kernels do.
    pub(super) fn reports_room(&self) -> bool {
        self.connect == Connect::Done && self.send == 0
    }

    fn has_failed(&self) -> bool {
        self.connect == Connect::Failed || self.reset != Reset::None
    }

    /// Returns what a wait reports: what is true and asked for. A failure is reported with any
    /// interest.
    pub(super) fn reported(&self) -> Readiness {
        let mut reported = Readiness::default();
        if self.interest == Interest::None {
            return reported;
        }
        if self.has_failed() {
            return Readiness::READABLE | Readiness::WRITABLE | Readiness::HUP;
        }
        if self.interest.is_readable() && self.is_readable() {
            reported.add(Readiness::READABLE);
            if self.peer_finished {
                reported.add(Readiness::HUP);
            }
        }
        if self.interest.is_writable() && self.reports_room() {
            reported.add(Readiness::WRITABLE);
        }
        reported
    }

    pub(super) fn wait(&mut self) -> Readiness {
        self.listed = false;
        self.reported()
    }

    /// Takes a new interest. A kernel that `rearms` looks at once whether it is true already; one
    /// that does not still does it for writing, since no loop could do without that.
    pub(super) fn update_interest(&mut self, to: Interest, rearms: bool) {
        let newly_writable = to.is_writable() && !self.interest.is_writable();
        self.interest = to;
        match to {
            Interest::None => self.listed = false,
            _ if rearms => self.listed |= self.reported() != Readiness::default(),
            _ => self.listed |= newly_writable && (self.reports_room() || self.has_failed()),
        }
    }

    fn list_reader(&mut self) {
        self.listed |= self.interest.is_readable();
    }

    fn list_writer(&mut self) {
        self.listed |= self.interest.is_writable();
    }

    // The peer and the network.

    pub(super) fn connected(&mut self) {
        self.connect = Connect::Done;
        self.list_writer();
    }

    pub(super) fn connect_failed(&mut self) {
        self.connect = Connect::Failed;
        self.list_writer();
    }

    pub(super) fn peer_writes(&mut self) {
        self.receive += 1;
        self.list_reader();
    }

    pub(super) fn peer_finishes(&mut self) {
        self.peer_finished = true;
        self.list_reader();
    }

    /// The peer, or its kernel on the way, resets; what was received before is kept or discarded.
    pub(super) fn peer_resets(&mut self, discards: bool) {
        self.reset = Reset::Pending;
        self.send = 0;
        if discards {
            self.receive = 0;
        }
        self.listed |= self.interest != Interest::None;
    }

    pub(super) fn peer_reads(&mut self, count: u8) {
        self.send -= count;
        if self.was_full && self.reports_room() {
            self.was_full = false;
            self.list_writer();
        }
    }
}

/// The socket while one connection is served or settled. It checks the order of the bytes.
pub(super) struct Socket<'s> {
    pub(super) kernel: &'s mut Kernel,
    pub(super) choices: &'s mut Choices,
    /// The number of the next byte to read.
    pub(super) next_read: &'s mut u8,
    /// What the program has sent and the kernel has not taken.
    pub(super) unsent: &'s mut Vec<u8>,
}

impl Read for Socket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        assert!(!into.is_empty(), "a read asks for something");
        assert!(!self.kernel.end_was_read, "nothing is read behind the end");
        assert_eq!(self.kernel.connect, Connect::Done, "a read before the connect is done");
        let most = into.len().min(usize::from(self.kernel.receive));
        if most == 0 {
            self.kernel.end_was_read = self.kernel.is_readable();
            if self.kernel.reset == Reset::Pending {
                self.kernel.reset = Reset::Returned;
                return Err(ErrorKind::ConnectionReset.into());
            }
            return if self.kernel.is_readable() {
                Ok(0)
            } else {
                Err(ErrorKind::WouldBlock.into())
            };
        }
        let count = most - self.choices.choose(most + 1);
        for byte in &mut into[..count] {
            *byte = *self.next_read;
            *self.next_read += 1;
        }
        self.kernel.receive -= u8::try_from(count).expect("a few bytes");
        // After a short read, the rest must have arrived later.
        if count < most {
            self.kernel.list_reader();
        }
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }
}

impl Peek for Socket<'_> {
    fn peek(&mut self) -> io::Result<bool> {
        if self.kernel.receive == 0 {
            return self.read(&mut [0]).map(|_| false);
        }
        if self.choices.choose(2) == 1 {
            self.kernel.list_reader();
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(true)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(!bytes.is_empty(), "a write has something");
        assert!(!self.kernel.finished, "a write behind the end of our direction");
        assert_eq!(self.kernel.connect, Connect::Done, "a write before the connect is done");
        assert!(self.unsent.starts_with(bytes), "the bytes leave in the order they were sent in");
        match self.kernel.reset {
            Reset::None => {}
            Reset::Pending => {
                self.kernel.reset = Reset::Returned;
                return Err(ErrorKind::ConnectionReset.into());
            }
            Reset::Returned => return Err(ErrorKind::BrokenPipe.into()),
        }
        let most = bytes.len().min(usize::from(BUFFER - self.kernel.send));
        let count = most - self.choices.choose(most + 1);
        self.kernel.send += u8::try_from(count).expect("a few bytes");
        self.unsent.drain(..count);
        if count < bytes.len() {
            self.kernel.was_full = true;
            // After a short write, the room must have appeared later.
            if self.kernel.reports_room() {
                self.kernel.was_full = false;
                self.kernel.list_writer();
            }
        }
        if count == 0 { Err(ErrorKind::WouldBlock.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
