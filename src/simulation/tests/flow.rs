//! One connection as it is seen from outside: what either side has sent and read, and which events
//! were delivered.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::connection::{Queued, Stream};
use crate::event::CloseReason;
use crate::simulation::{Peer, PeerState};
use crate::slots::ConnectionId;

/// What the peer has done to its direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerEnd {
    Open,
    /// It has finished, or closed with nothing unread.
    Finished,
    /// It has reset the connection, or closed with something unread.
    Reset,
}

/// The event that was delivered to the program last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivered {
    Nothing,
    Opened,
    PeerFinished,
    Closed(CloseReason),
}

/// Which connection, if any, the program has coupled it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coupled {
    ToNobody,
    ToItself,
    To(ConnectionId),
}

pub(super) struct Flow {
    pub(super) port: u16,
    pub(super) id: Option<ConnectionId>,
    pub(super) peer: Option<Peer>,
    pub(super) peer_end: PeerEnd,
    pub(super) delivered: Delivered,
    /// There was a socket, and one that can be reset.
    pub(super) has_socket: bool,
    pub(super) can_reset: bool,
    /// It was closed by a reset of ours.
    pub(super) by_reset: bool,
    /// A deadline of the limits has passed.
    pub(super) has_timed_out: bool,
    /// What the peer wrote, and how much of it the program has consumed.
    pub(super) wrote: Vec<u8>,
    pub(super) consumed: usize,
    /// What the loop took from the program, and how much of it the kernel took and the peer read.
    pub(super) sent: Vec<u8>,
    pub(super) flushed: usize,
    pub(super) read: usize,
    /// All that the program gave to `send` and its like.
    pub(super) offered: u64,
    /// The most bytes that the program gave at once.
    pub(super) largest_offer: usize,
    /// Something has arrived since `Received` was delivered last, or was consumed while the rest
    /// stayed, or the rest was asked for.
    pub(super) is_received_due: bool,
    /// Something has arrived, or was asked for, since then: what is delivered is no mere repeat.
    pub(super) has_news: bool,
    /// `Full` was delivered since there was room last.
    pub(super) heard_full: bool,
    /// Not before this time the program consumed something or went on after a pause, or bytes
    /// arrived.
    pub(super) took: Instant,
    /// The unsent bytes have passed the mark, and no `Drained` has followed.
    pub(super) is_clogged: bool,
    /// The program has closed or aborted: only `Closed` is to be delivered.
    pub(super) is_closing: bool,
    /// Why the program has closed or aborted it.
    pub(super) rejected: Option<CloseReason>,
    pub(super) coupled: Coupled,
    /// The program has coupled it to a connection.
    pub(super) was_coupled: bool,
    /// The program has aborted it; it has paused it and not resumed it since.
    pub(super) was_aborted: bool,
    pub(super) is_paused: bool,
    /// This many of the peer's bytes had arrived when a shutdown began.
    pub(super) arrived: usize,
    /// The pause was reported to the program, or is to be reported.
    pub(super) was_paused: bool,
    /// The earliest time for the deadline that the program set.
    pub(super) deadline: Option<Instant>,
    pub(super) idle_timeout: Option<Duration>,
    /// Not before this time the connection began, bytes moved, the kernel took bytes, there were
    /// bytes for it to take, our end left.
    pub(super) began: Instant,
    pub(super) moved: Instant,
    pub(super) taken: Instant,
    pub(super) unsent: Instant,
    pub(super) finished: Option<Instant>,
    /// It waits to be served in this queue, which must have happened by this turn.
    pub(super) served_until: Option<(Queued, u64)>,
    /// How many bytes were read in one turn, and which that was.
    pub(super) filled: (u64, usize),
    /// Until this turn a deadline of its may be found to have passed.
    pub(super) rings_until: u64,
}

impl Flow {
    pub(super) fn new(port: u16, now: Instant) -> Self {
        Self {
            port,
            id: None,
            peer: None,
            peer_end: PeerEnd::Open,
            delivered: Delivered::Nothing,
            has_socket: false,
            can_reset: false,
            by_reset: false,
            has_timed_out: false,
            wrote: Vec::new(),
            consumed: 0,
            sent: Vec::new(),
            flushed: 0,
            read: 0,
            offered: 0,
            largest_offer: 0,
            is_received_due: false,
            has_news: false,
            heard_full: false,
            took: now,
            is_clogged: false,
            is_closing: false,
            rejected: None,
            coupled: Coupled::ToNobody,
            was_coupled: false,
            was_aborted: false,
            is_paused: false,
            arrived: 0,
            was_paused: false,
            deadline: None,
            idle_timeout: None,
            began: now,
            moved: now,
            taken: now,
            unsent: now,
            finished: None,
            served_until: None,
            filled: (0, 0),
            rings_until: 0,
        }
    }

    /// The program gives bytes, of which this many were taken.
    pub(super) fn offer(&mut self, bytes: &[u8], taken: usize) {
        self.offered += bytes.len() as u64;
        self.largest_offer = self.largest_offer.max(bytes.len());
        self.sent.extend(&bytes[..taken]);
    }

    /// The program consumes this many bytes, and leaves as many as that.
    pub(super) fn consume(&mut self, count: usize, left: usize, now: Instant) {
        self.consumed += count;
        if count > 0 {
            self.is_received_due = left > 0;
            (self.heard_full, self.took) = (false, now);
        }
    }

    /// The program goes on after a pause.
    pub(super) fn resumed(&mut self, stream: &Stream, now: Instant) {
        if self.is_paused {
            self.is_received_due |= !stream.received().is_empty();
            self.has_news |= !stream.received().is_empty();
            self.took = now;
        }
        self.is_paused = false;
    }

    /// The program gives a reason for closing, which counts if nothing has ended it before.
    pub(super) fn reject(&mut self, stream: &Stream, kind: ErrorKind) {
        let exchange = &stream.exchange;
        if !self.is_closing && exchange.reason().is_none() {
            self.rejected = Some(CloseReason::Rejected(kind.into()));
        }
    }

    pub(super) fn is_open(&self) -> bool {
        self.id.is_some() && !matches!(self.delivered, Delivered::Closed(_))
    }

    /// Lets the peer read, and checks that it gets the next bytes of what was sent.
    pub(super) fn peer_reads(&mut self, most: usize) -> usize {
        let Some(peer) = &mut self.peer else { return 0 };
        let got = peer.read_at_most(most);
        let next = self.read..self.read + got.len();
        assert!(next.end <= self.flushed, "a peer reads more than was flushed");
        assert!(got == self.sent[next], "delivered is a prefix of sent");
        self.read += got.len();
        if peer.state() == PeerState::Ended {
            let port = self.port;
            assert!(
                self.finished.is_some() || matches!(self.delivered, Delivered::Closed(_)),
                "the peer {port} reads an end that was not sent"
            );
            // Where there is no reset, the end also stands for what was given up.
            let was_given_up = peer.is_unix()
                && matches!(self.delivered, Delivered::Closed(reason) if !is_clean(reason));
            let is_whole = self.read == self.sent.len();
            assert!(is_whole || was_given_up, "the end arrives only after the last byte");
        }
        got.len()
    }

    /// Follows the flow of a peer that is itself a program, at the other end of this connection.
    pub(super) fn follow(&mut self, other: &Self) {
        self.wrote.extend(&other.sent[self.wrote.len()..other.flushed]);
        self.read = other.consumed;
        let is_closed = matches!(other.delivered, Delivered::Closed(_)) && !other.by_reset;
        if other.finished.is_some() || is_closed {
            self.peer_end = PeerEnd::Finished;
        }
    }

    /// The peer closes: with something unread its kernel sends a reset.
    pub(super) fn peer_closes(&mut self, by_reset: bool) {
        let Some(peer) = self.peer.take() else { return };
        let is_reset = by_reset && !peer.is_unix() || peer.has_unread();
        if self.peer_end == PeerEnd::Open {
            self.peer_end = if is_reset { PeerEnd::Reset } else { PeerEnd::Finished };
        }
        if by_reset {
            peer.reset();
        }
    }
}

fn is_clean(reason: CloseReason) -> bool {
    matches!(reason, CloseReason::Finished | CloseReason::Closed)
}
