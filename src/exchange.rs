//! The pure half of a connection: what was said in each direction, and what is owed next.
//!
//! No socket, no clock, no loop: the inputs are method calls, the outputs are the two buffers, the
//! wants, the owed events and, from [`Exchange::advance`], whether to send our end. So every path
//! through it can be walked in a test.
//!
//! Each direction is open or ended; ours can also be ending (its end is owed after the unsent
//! bytes), and so can the whole (input is then read and thrown away, since two sides that only
//! write must not wait for each other). The thirteen states, and what leads from one to the next.
//! `·` means that nothing changes, an empty cell that it cannot come to that. A test reads this
//! table:
//!
//! | state | connected | peer's end | all sent | `finish` | `close` | write error |
//! |---|---|---|---|---|---|---|
//! | Connecting | Open | | · | ConnectingToFinish | ConnectingToClose ¹ | |
//! | ConnectingToFinish | Finishing | | · | · | ConnectingToClose ¹ | |
//! | ConnectingToClose | Closing | | · | · | · | |
//! | Open | | PeerFinished | · | Finishing | Closing | Broken |
//! | Finishing | | BothFinishing | Finished ⁴ | · | Closing | Broken |
//! | Finished | | BothFinishing | · | · | Lingering | |
//! | Broken | | Closed | · | · | Closed | |
//! | Closing | | BothClosing | Lingering ⁴ | · | · | Closed |
//! | Lingering | | Closed | · | · | · | |
//! | PeerFinished | | | Closed ² ³ | BothFinishing | BothClosing | Closed |
//! | BothFinishing | | | Closed ² | · | BothClosing | Closed |
//! | BothClosing | | | Closed | · | · | Closed |
//! | Closed | | | · | · | · | |
//!
//! - ¹ Closed at once, with nothing unsent.
//! - ² Once the program has handled all events that are owed to it, and not while it is paused.
//! - ³ Not while half-open is allowed.
//! - ⁴ The end of our direction is sent.
//! - From every state a failed connect, a read error, a passed deadline, an abort and an overflow
//!   lead to Closed. A write error does not where there is still something to read: the kernel
//!   may hold bytes that came before it. Broken reads them, and the end behind them is then not
//!   the peer's.

use std::sync::Arc;

use crate::buffer::Buffer;
use crate::event::{CloseReason, Deadline};
use crate::interest::{Interest, Readiness};
use crate::limits::ConnectionLimits;
use crate::owed::{Owed, OwedEvents};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum State {
    // Nothing is read yet.
    Connecting,
    ConnectingToFinish,
    ConnectingToClose,
    // What comes is for the program.
    Open,
    Finishing,
    Finished,
    Broken,
    // What comes is thrown away.
    Closing,
    Lingering,
    // Nothing comes any more.
    PeerFinished,
    BothFinishing,
    BothClosing,
    Closed,
}

/// Whose unsent bytes hold back the reading of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Coupling {
    /// Nobody's.
    None,
    /// Its own.
    Itself,
    /// Another connection's, which has some or not: the bit that the loop sets.
    Writer { has_unsent: bool },
}

/// What an exchange waits for, as far as a deadline bounds the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    Unbounded,
    Connecting,
    /// Unsent bytes that the kernel does not take.
    Stalled,
    /// Unsent bytes that are the last, behind a close.
    Closing,
    /// What the kernel still holds, behind a write error.
    Broken,
    /// The peer's end, after ours.
    Lingering,
}

/// What is known to come from the peer behind the bytes that were received.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Behind {
    Unknown,
    /// The read buffer is full, and the socket holds more. Meaningless while there is room.
    More,
    /// The peer's end (EOF), which was read.
    End,
}

/// Why it ended, and what was lost.
#[derive(Debug, Default)]
struct Ending {
    /// Invariant: there is a reason just in the states Broken and Closed.
    reason: Option<CloseReason>,
    lost: u64,
}

/// Both directions of one connection: their states, their buffers, and the events they owe.
// In the order of C, so that what `Exchange::stands_at` compares lies side by side.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Exchange {
    read_buffer: Buffer,
    write_buffer: Buffer,
    limits: Arc<ConnectionLimits>,
    /// Only where something has ended or was lost, so that the others do not carry it.
    ending: Option<Box<Ending>>,
    state: State,
    owed: OwedEvents,
    pub(crate) readiness: Readiness,
    paused: bool,
    coupling: Coupling,
    clogged: bool,
    half_open: bool,
    behind: Behind,
}

impl Exchange {
    /// One that was accepted: open, coupled to itself, and writable until disproved.
    pub(crate) fn accepted(limits: Arc<ConnectionLimits>) -> Self {
        let mut exchange = Self::new(State::Open, Coupling::Itself, limits);
        exchange.readiness.fold(Readiness::WRITABLE);
        exchange.owed.add(Owed::Accepted);
        exchange
    }

    /// One whose connect is under way, coupled to nobody.
    pub(crate) fn connecting(limits: Arc<ConnectionLimits>) -> Self {
        Self::new(State::Connecting, Coupling::None, limits)
    }

    fn new(state: State, coupling: Coupling, limits: Arc<ConnectionLimits>) -> Self {
        Self {
            read_buffer: Buffer::default(),
            write_buffer: Buffer::default(),
            limits,
            ending: None,
            state,
            owed: OwedEvents::default(),
            readiness: Readiness::default(),
            paused: false,
            coupling,
            clogged: false,
            half_open: false,
            behind: Behind::Unknown,
        }
    }

    // What can be asked.

    pub(crate) fn limits(&self) -> &Arc<ConnectionLimits> {
        &self.limits
    }

    pub(crate) fn received(&self) -> &[u8] {
        self.read_buffer.bytes()
    }

    /// How many received bytes there are up to and with the first delimiter, if there is one.
    pub(crate) fn find(&mut self, delimiter: u8) -> Option<usize> {
        self.read_buffer.find(delimiter)
    }

    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.write_buffer.len()
    }

    #[inline]
    pub(crate) fn unsent_bytes(&self) -> &[u8] {
        self.write_buffer.bytes()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.ending.as_ref().map_or(0, |ending| ending.lost)
    }

    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        if self.state == State::Closed { self.reason() } else { None }
    }

    /// Why it has ended or broken.
    fn reason(&self) -> Option<CloseReason> {
        self.ending.as_ref().and_then(|ending| ending.reason)
    }

    /// Whether the socket is to be closed by a reset: where the program wants it, and where bytes
    /// are given up that the peer was to get, because an end would tell it that it has everything.
    /// Not where a deadline passed and the kernel has taken every byte: a slow peer may still be
    /// reading those, and a reset would destroy them.
    pub(crate) fn ends_by_reset(&self) -> bool {
        match self.close_reason() {
            None | Some(CloseReason::Finished | CloseReason::Closed) => false,
            Some(CloseReason::Aborted | CloseReason::Overflow) => true,
            Some(
                CloseReason::TimedOut(_)
                | CloseReason::Reset
                | CloseReason::Refused
                | CloseReason::Failed(_),
            ) => self.unsent() > 0 || self.lost() > 0,
        }
    }

    pub(crate) fn has_timed_out(&self) -> bool {
        matches!(self.close_reason(), Some(CloseReason::TimedOut(_)))
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn state(&self) -> State {
        self.state
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn is_connecting(&self) -> bool {
        use State::{Connecting, ConnectingToClose, ConnectingToFinish};
        matches!(self.state, Connecting | ConnectingToFinish | ConnectingToClose)
    }

    /// Whether what the program sends can still leave.
    pub(crate) fn takes_bytes(&self) -> bool {
        matches!(self.state, State::Connecting | State::Open | State::PeerFinished)
    }

    /// Whether the peer's end was read: nothing more will be received.
    pub(crate) fn is_at_end(&self) -> bool {
        self.behind == Behind::End
    }

    /// How the input ends, once the program can receive nothing more than it has: at the peer's end
    /// or because the program has closed, or by an error.
    pub(crate) fn end_of_input(&self) -> Option<Result<(), CloseReason>> {
        match self.close_reason() {
            _ if self.is_at_end() => Some(Ok(())),
            Some(CloseReason::Finished | CloseReason::Closed) => Some(Ok(())),
            Some(reason) => Some(Err(reason)),
            None if self.is_ending() => Some(Ok(())),
            None => None,
        }
    }

    /// Whether it is known that a message which fills the read buffer is not whole.
    pub(crate) fn is_overfull(&self) -> bool {
        self.room() == 0 && self.behind == Behind::More
    }

    pub(crate) fn is_clogged(&self) -> bool {
        self.clogged || !self.takes_bytes()
    }

    /// Whether input is thrown away: we have closed and only wait for the peer's end.
    pub(crate) fn discards(&self) -> bool {
        matches!(self.state, State::Closing | State::Lingering)
    }

    /// Whether nothing can go on without news from the socket or the program.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.owed.is_empty() && self.unsent() == 0 && !self.readiness.is_readable()
    }

    /// Whether serving comes to one read, as it mostly does: nothing was left from before.
    #[inline]
    pub(crate) fn only_receives(&self) -> bool {
        self.stands_at(Readiness::READABLE | Readiness::WRITABLE)
            && !self.read_buffer.has_block()
            && !self.write_buffer.has_block()
    }

    /// Whether settling comes to one write at most, if that takes all and no block is left in the
    /// read buffer.
    #[inline]
    pub(crate) fn only_sends(&self) -> bool {
        self.stands_at(Readiness::WRITABLE) && !self.clogged
    }

    /// Whether it is open, free to read, owes no event, and is ready for just this.
    #[inline]
    fn stands_at(&self, readiness: Readiness) -> bool {
        let Self { state, owed, readiness: remembered, paused, .. } = self;
        // As bytes, so that a compiler compares the four at once.
        let standing = [*state as u8, owed.bits(), remembered.bits(), u8::from(*paused)];
        standing == [State::Open as u8, 0, readiness.bits(), 0]
            && self.coupling != Coupling::Writer { has_unsent: true }
    }

    /// Whether nothing is left to be done for either side: all that had come was read and handled,
    /// and what the program sent has left.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.is_ending() && self.unsent() == 0 && self.is_read_out()
    }

    /// Whether the socket was read until there was no more, and the program has handled what came.
    /// Of one that is ending, nothing is handled but what it still owes.
    pub(crate) fn is_read_out(&self) -> bool {
        let is_handled = self.next_owed().is_none();
        if self.is_ending() {
            return is_handled;
        }
        let may_have_more =
            !self.is_at_end() && (self.readiness.is_readable() || self.is_held_back());
        let is_reading = !self.is_connecting() && !self.paused;
        is_reading && is_handled && self.received().is_empty() && !may_have_more
    }

    /// How many bytes a fill may still add to those received.
    pub(crate) fn room(&self) -> usize {
        self.limits.read_buffer_max.saturating_sub(self.read_buffer.len())
    }

    /// How many bytes are wanted of the socket: as many as it has, where they are thrown away.
    pub(crate) fn wanted(&self) -> usize {
        match self.state {
            State::Open | State::Finishing | State::Finished | State::Broken => {
                if self.is_free_to_read() { self.room() } else { 0 }
            }
            State::Closing | State::Lingering => usize::MAX,
            State::Connecting
            | State::ConnectingToFinish
            | State::ConnectingToClose
            | State::PeerFinished
            | State::BothFinishing
            | State::BothClosing
            | State::Closed => 0,
        }
    }

    /// Whether there is no room for more, and it is not known whether more comes: then the end is
    /// looked for, so that a message which fills the read buffer can be known to be whole.
    pub(crate) fn looks_for_end(&self) -> bool {
        use State::{Broken, Finished, Finishing, Open};
        matches!(self.state, Open | Finishing | Finished | Broken)
            && self.room() == 0
            && self.behind == Behind::Unknown
            && self.is_free_to_read()
    }

    pub(crate) fn wants_read(&self) -> bool {
        self.wanted() > 0 || self.looks_for_end()
    }

    pub(crate) fn wants_write(&self) -> bool {
        self.is_connecting() || self.has_sendable() && !self.readiness.is_writable()
    }

    /// What the kernel is to be asked for this exchange.
    pub(crate) fn interest(&self) -> Interest {
        Interest::of(self.wants_read(), self.wants_write())
    }

    pub(crate) fn can_fill(&self) -> bool {
        self.readiness.is_readable() && self.wants_read()
    }

    pub(crate) fn can_flush(&self) -> bool {
        self.readiness.is_writable() && self.has_sendable()
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Connecting | State::ConnectingToFinish | State::ConnectingToClose => {
                Phase::Connecting
            }
            State::Broken => Phase::Broken,
            State::Lingering => Phase::Lingering,
            State::Closing | State::BothClosing => Phase::Closing,
            _ if self.has_sendable() && !self.readiness.is_writable() => Phase::Stalled,
            _ => Phase::Unbounded,
        }
    }

    /// Unsent bytes that may leave now.
    fn has_sendable(&self) -> bool {
        self.unsent() > 0 && !self.is_connecting() && self.state != State::Closed
    }

    fn is_free_to_read(&self) -> bool {
        !self.paused && !self.is_held_back()
    }

    fn is_held_back(&self) -> bool {
        match self.coupling {
            Coupling::None => false,
            Coupling::Itself => self.unsent() > 0,
            Coupling::Writer { has_unsent } => has_unsent,
        }
    }

    // What the program does.

    pub(crate) fn consume(&mut self, count: usize) {
        self.read_buffer.consume(count);
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.has_room_for(bytes.len()) {
            self.write_buffer.append(bytes);
            self.notice_high_water();
        } else {
            self.lose(bytes.len());
        }
    }

    /// Moves what was received to the unsent bytes, or loses it where they take no more.
    #[inline]
    pub(crate) fn send_received(&mut self) {
        // Mostly nothing is unsent, and so little was received that it passes no mark.
        let count = self.read_buffer.len();
        let may_swap = self.state == State::Open && !self.write_buffer.has_block();
        if may_swap && 0 < count && count <= self.limits.high_water {
            std::mem::swap(&mut self.read_buffer, &mut self.write_buffer);
        } else {
            self.send_received_or_lose();
        }
    }

    #[cold]
    fn send_received_or_lose(&mut self) {
        if self.transfer_to_itself() == 0 {
            let count = self.received().len();
            self.lose(count);
            self.consume(count);
        }
    }

    /// Moves what was received here to the unsent bytes of `to` and returns how much it was:
    /// nothing if `to` takes no more.
    pub(crate) fn transfer_to(&mut self, to: &mut Exchange) -> usize {
        let count = self.read_buffer.len();
        if !to.has_room_for(count) {
            return 0;
        }
        self.read_buffer.move_to(&mut to.write_buffer);
        to.notice_high_water();
        count
    }

    /// The same to its own unsent bytes.
    #[inline]
    pub(crate) fn transfer_to_itself(&mut self) -> usize {
        let count = self.read_buffer.len();
        if !self.has_room_for(count) {
            return 0;
        }
        self.read_buffer.move_to(&mut self.write_buffer);
        self.notice_high_water();
        count
    }

    /// Whether there are bytes and they may be appended to the unsent ones. Too many end the
    /// exchange.
    fn has_room_for(&mut self, count: usize) -> bool {
        if count == 0 || !self.takes_bytes() {
            return false;
        }
        let fits = count <= self.limits.unsent_max.saturating_sub(self.unsent());
        if !fits {
            self.end(CloseReason::Overflow);
        }
        fits
    }

    /// Counts bytes that were given to us and will never be sent.
    #[cold]
    fn lose(&mut self, count: usize) {
        if count > 0 {
            self.ending.get_or_insert_default().lost += count as u64;
        }
    }

    fn notice_high_water(&mut self) {
        if self.unsent() > self.limits.high_water {
            self.clogged = true;
            // One that was not told yet would come too early now.
            self.owed.remove(Owed::Drained);
        }
    }

    pub(crate) fn finish(&mut self) {
        self.state = match self.state {
            State::Connecting => State::ConnectingToFinish,
            State::Open => State::Finishing,
            State::PeerFinished => State::BothFinishing,
            other => other,
        };
    }

    pub(crate) fn close(&mut self) {
        self.state = match self.state {
            State::Connecting | State::ConnectingToFinish if self.unsent() > 0 => {
                State::ConnectingToClose
            }
            State::Open | State::Finishing => State::Closing,
            State::PeerFinished | State::BothFinishing => State::BothClosing,
            State::Finished => State::Lingering,
            State::Connecting | State::ConnectingToFinish => {
                return self.abandon(CloseReason::Closed);
            }
            State::Broken => return self.abandon(self.reason().unwrap_or(CloseReason::Closed)),
            State::Closed => return self.hear_only_the_end(),
            State::ConnectingToClose | State::Closing | State::BothClosing | State::Lingering => {
                return;
            }
        };
        self.hear_only_the_end();
    }

    pub(crate) fn abort(&mut self) {
        self.abandon(CloseReason::Aborted);
    }

    /// Ends at the program's word, if it has not ended before.
    fn abandon(&mut self, reason: CloseReason) {
        self.hear_only_the_end();
        self.end(reason);
    }

    /// The program has closed: of what it is owed, only the last event still comes, and nothing
    /// that it asked for before holds back the reading.
    fn hear_only_the_end(&mut self) {
        self.owed.keep_only_closed();
        self.paused = false;
        self.coupling = Coupling::None;
    }

    /// Holds back what comes from the peer. One that has ended has nothing to hold back but what
    /// it owes besides its last event.
    pub(crate) fn pause(&mut self) {
        if !self.is_ending() || self.owed.has_news() {
            self.paused = true;
        }
    }

    /// Goes on after a pause, and announces again what the program had left.
    pub(crate) fn resume(&mut self) {
        if self.paused {
            self.paused = false;
            if !self.received().is_empty() {
                self.owed.add(Owed::Received);
            }
        }
    }

    pub(crate) fn allow_half_open(&mut self, allowed: bool) {
        self.half_open = allowed;
    }

    /// Changes the limits. The unsent bytes are compared with the new marks at once.
    pub(crate) fn set_limits(&mut self, limits: Arc<ConnectionLimits>) {
        self.limits = limits;
        self.forget_more();
        self.notice_high_water();
        if self.clogged {
            self.notice_low_water();
        }
    }

    pub(crate) fn set_coupling(&mut self, coupling: Coupling) {
        if !self.is_ending() {
            self.coupling = coupling;
        }
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn coupling(&self) -> Coupling {
        self.coupling
    }

    /// Whether the program has said its last word by a close, or there is nothing left to say.
    pub(crate) fn is_ending(&self) -> bool {
        use State::{BothClosing, Closed, Closing, ConnectingToClose, Lingering};
        matches!(self.state, ConnectingToClose | Closing | BothClosing | Lingering | Closed)
    }

    // What the socket brings.

    /// The connect has succeeded: from here on bytes may leave.
    pub(crate) fn connected(&mut self) {
        self.state = match self.state {
            State::Connecting => State::Open,
            State::ConnectingToFinish => State::Finishing,
            State::ConnectingToClose => State::Closing,
            other => unreachable!("connected while {other:?}"),
        };
        self.readiness.fold(Readiness::WRITABLE);
        if self.state != State::Closing {
            self.owed.add(Owed::Connected);
        }
    }

    /// The buffer to read into, for a fill.
    #[inline]
    pub(crate) fn read_buffer(&mut self) -> &mut Buffer {
        &mut self.read_buffer
    }

    /// The first `count` bytes of the read buffer's room were read.
    #[inline]
    pub(crate) fn filled(&mut self, count: usize) {
        self.read_buffer.extend(count);
        self.forget_more();
        self.owe_received();
    }

    /// The read buffer is full, and the socket holds more.
    pub(crate) fn found_more(&mut self) {
        self.behind = Behind::More;
    }

    fn forget_more(&mut self) {
        if self.behind == Behind::More {
            self.behind = Behind::Unknown;
        }
    }

    pub(crate) fn owe_received(&mut self) {
        self.owed.add(Owed::Received);
    }

    /// The end of the peer's direction was read.
    #[cold]
    pub(crate) fn peer_ended(&mut self) {
        self.state = match self.state {
            State::Open => State::PeerFinished,
            State::Finishing | State::Finished => State::BothFinishing,
            State::Closing => State::BothClosing,
            State::Lingering => return self.end(CloseReason::Closed),
            State::Broken => return self.end(self.reason().unwrap_or(CloseReason::Reset)),
            other => unreachable!("an end was read while {other:?}"),
        };
        self.behind = Behind::End;
        if self.state != State::BothClosing {
            self.owed.add(Owed::PeerFinished);
        }
    }

    /// A read failed: both directions are over. An earlier write error remains the reason.
    #[cold]
    pub(crate) fn read_failed(&mut self, reason: CloseReason) {
        self.end(self.reason().unwrap_or(reason));
    }

    /// The kernel took the first `count` unsent bytes.
    pub(crate) fn flushed(&mut self, count: usize) {
        self.write_buffer.consume(count);
        if self.clogged {
            self.notice_low_water();
        }
    }

    #[inline(never)]
    fn notice_low_water(&mut self) {
        if self.unsent() <= self.limits.low_water {
            self.clogged = false;
            if !self.is_ending() {
                self.owed.add(Owed::Drained);
            }
        }
    }

    /// A write failed: our direction is over, and the unsent bytes are lost.
    #[cold]
    pub(crate) fn write_failed(&mut self, reason: CloseReason) {
        match self.state {
            State::Open | State::Finishing => {
                let unsent = self.unsent();
                self.lose(unsent);
                // The block stays for the pool, like that of any other empty buffer.
                self.write_buffer.consume(unsent);
                self.state = State::Broken;
                self.ending.get_or_insert_default().reason = Some(reason);
                // What the kernel holds of the peer's is read to its end before it is over.
                self.readiness.fold(Readiness::READABLE | Readiness::HINTED);
            }
            _ => self.end(reason),
        }
    }

    /// It is over. Received bytes stay, to be read while `Closed` is handled.
    #[cold]
    pub(crate) fn end(&mut self, reason: CloseReason) {
        if self.state != State::Closed {
            if self.is_connecting() {
                self.owed.clear();
            }
            self.state = State::Closed;
            self.ending.get_or_insert_default().reason = Some(reason);
            self.coupling = Coupling::None;
            self.owed.add(Owed::Closed);
        }
    }

    /// The program has set another deadline, or none: the one before is not told of any more.
    pub(crate) fn forget_deadline(&mut self) {
        self.owed.remove(Owed::Deadline);
    }

    /// The deadline that the program set has passed.
    pub(crate) fn tell_deadline(&mut self) {
        if !self.is_ending() {
            self.owed.add(Owed::Deadline);
        }
    }

    /// A deadline has passed. A write error that came before it remains the reason.
    pub(crate) fn pass(&mut self, deadline: Deadline) {
        self.end(self.reason().unwrap_or(CloseReason::TimedOut(deadline)));
    }

    /// Goes on by one state, if nothing holds it: what the loop asks when it settles a connection.
    /// Returns whether the end of our direction is to be sent now.
    #[must_use]
    pub(crate) fn advance(&mut self) -> bool {
        debug_assert_eq!(
            self.reason().is_some(),
            matches!(self.state, State::Broken | State::Closed),
            "there is a reason just where something has ended"
        );
        let all_sent = self.unsent() == 0;
        // What the program is yet to hear it may answer, and so what it sends must still be taken.
        let may_end = all_sent && self.next_owed().is_none() && !self.paused;
        match self.state {
            State::PeerFinished if may_end && !self.half_open => self.end(CloseReason::Finished),
            State::BothFinishing if may_end => self.end(CloseReason::Finished),
            State::BothClosing if all_sent => self.end(CloseReason::Closed),
            State::Finishing if all_sent => self.state = State::Finished,
            State::Closing if all_sent => self.state = State::Lingering,
            _ => return false,
        }
        self.state != State::Closed
    }

    // What is owed to the program.

    /// The event to deliver next; a pause holds back what comes from the peer, and nothing comes
    /// before `Connected` but a `Closed`.
    #[inline]
    pub(crate) fn next_owed(&self) -> Option<Owed> {
        // Mostly it is just what was received.
        if self.owed == OwedEvents::RECEIVED && !self.paused && !self.read_buffer.is_empty() {
            return Some(Owed::Received);
        }
        let mut held_back = OwedEvents::default();
        // What a resume announced the program may have consumed before it was told.
        if self.paused || self.read_buffer.is_empty() {
            held_back.add(Owed::Received);
        }
        if self.paused {
            held_back.add(Owed::PeerFinished);
        }
        if self.is_connecting() {
            held_back.add(Owed::Drained);
            held_back.add(Owed::Deadline);
        }
        self.owed.first_but(held_back)
    }

    /// Counts an event as delivered. Nothing comes after `Closed`.
    pub(crate) fn delivered(&mut self, event: Owed) {
        match event {
            Owed::Closed => self.owed.clear(),
            _ => self.owed.remove(event),
        }
    }

    /// What can come of this state, as a number: not which bytes there are, nor what was lost.
    #[cfg(test)]
    pub(crate) fn fingerprint(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let Self { state, owed, readiness, coupling, paused, half_open, clogged, .. } = self;
        (self.received().len(), self.unsent(), state, owed, readiness).hash(hasher);
        (coupling, paused, half_open, clogged, self.behind, self.reason().is_some()).hash(hasher);
        (self.ends_by_reset(), self.limits.read_budget, self.limits.write_budget).hash(hasher);
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.read_buffer.capacity() + self.write_buffer.capacity()
    }

    /// The buffer to write from.
    #[inline]
    pub(crate) fn write_buffer(&mut self) -> &mut Buffer {
        &mut self.write_buffer
    }

    /// Both buffers, to give back what they do not need.
    pub(crate) fn buffers(&mut self) -> [&mut Buffer; 2] {
        [&mut self.read_buffer, &mut self.write_buffer]
    }
}

#[cfg(test)]
mod tests;
