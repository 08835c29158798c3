//! The pure half of a connection (*sans-I/O*): the bytes of each direction, and which event comes
//! next.
//!
//! It has no socket, no clock and no loop. Its inputs are method calls; its outputs are the two
//! buffers, the wants, the pending events and, from [`Exchange::advance`], whether to send our end
//! of file. So a test can walk every path through it. `state.rs` says what leads from state to
//! state.
//!
//! | file | |
//! |---|---|
//! | `exchange/write_side.rs` | what sending needs: the write buffer, and the state of both directions |
//! | `exchange/readiness.rs` | what the kernel has reported, until it is disproved |
//! | `exchange/wants.rs` | whether to read and to write |
//! | `exchange/events.rs` | which event comes next |
//!
//! Here is what is left: the read buffer, and what concerns both sides.

mod events;
mod readiness;
mod wants;
mod write_side;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) use self::write_side::WriteSide;
use crate::buffer::Buffer;
use crate::event::CloseReason;
use crate::limits::ConnectionLimits;
use crate::pending_events::Pending;
use crate::readiness::Readiness;
use crate::state::{Input, Intake, State};

/// The connection whose unsent bytes pause the reading of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Coupling {
    /// None.
    None,
    /// The connection itself.
    Itself,
    /// Another connection; the loop keeps `has_unsent` up to date.
    Writer { has_unsent: bool },
}

impl Coupling {
    /// Returns whether it pauses the reading of a connection that itself has `unsent` bytes.
    fn holds_back(self, unsent: usize) -> bool {
        match self {
            Self::None => false,
            Self::Itself => unsent > 0,
            Self::Writer { has_unsent } => has_unsent,
        }
    }
}

/// What an exchange waits for, as far as a deadline bounds the wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
    #[default]
    Unbounded,
    Connecting,
    /// The kernel to take unsent bytes.
    Stalled,
    /// The kernel to take the last unsent bytes, after a close.
    Closing,
    /// What the kernel still holds for us, after a write error.
    Broken,
    /// The peer's end of file, after ours.
    Lingering,
}

/// What is known to follow the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Behind {
    Unknown,
    /// The read buffer is full, and the socket holds more. Meaningless while there is room.
    More,
    /// The peer's end of file (EOF), which was read.
    End,
    /// Nothing that is delivered: the program has closed.
    Nothing,
}

/// Both directions of one connection: the read buffer, and the sending side with the state of both.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Exchange {
    read_buffer: Buffer,
    write_side: WriteSide,
}

impl Deref for Exchange {
    type Target = WriteSide;

    #[inline]
    fn deref(&self) -> &WriteSide {
        &self.write_side
    }
}

impl DerefMut for Exchange {
    #[inline]
    fn deref_mut(&mut self) -> &mut WriteSide {
        &mut self.write_side
    }
}

impl Exchange {
    /// Creates the exchange of an accepted connection: open, coupled to itself unless the limits
    /// say otherwise, and writable until disproved.
    pub(crate) fn accepted(limits: Arc<ConnectionLimits>) -> Self {
        let coupling = if limits.reads_while_unsent { Coupling::None } else { Coupling::Itself };
        let mut exchange = Self::new(State::Open, coupling, limits);
        exchange.try_write();
        exchange.pending.add(Pending::Accepted);
        exchange
    }

    /// Creates the exchange of a connection whose connect is under way, without a coupling.
    pub(crate) fn connecting(limits: Arc<ConnectionLimits>) -> Self {
        Self::new(State::Connecting, Coupling::None, limits)
    }

    fn new(state: State, coupling: Coupling, limits: Arc<ConnectionLimits>) -> Self {
        let read_buffer = Buffer::default();
        Self { read_buffer, write_side: WriteSide::new(state, coupling, limits) }
    }

    /// Lends both sides at once.
    pub(crate) fn halves(&mut self) -> (&mut Buffer, &mut WriteSide) {
        (&mut self.read_buffer, &mut self.write_side)
    }

    // What can be asked.

    pub(crate) fn received(&self) -> &[u8] {
        self.read_buffer.bytes()
    }

    /// Returns whether the peer's end of file was read: nothing more will be received.
    pub(crate) fn is_at_end(&self) -> bool {
        self.behind == Behind::End
    }

    /// Returns how the input ends, once nothing more will be received: with an end of file (the
    /// peer's, or because the program has closed) or with an error.
    pub(crate) fn end_of_input(&self) -> Option<Result<(), CloseReason>> {
        match (self.close_reason(), self.behind) {
            (_, Behind::End) | (None, Behind::Nothing) => Some(Ok(())),
            (Some(CloseReason::Finished | CloseReason::Closed), _) => Some(Ok(())),
            (reason, _) => reason.map(Err),
        }
    }

    /// Whether the read buffer is full and the socket is known to hold more.
    pub(crate) fn is_overfull(&self) -> bool {
        self.room() == 0 && self.behind == Behind::More
    }

    /// Whether input is discarded: the program has closed, and only the peer's end is awaited.
    pub(crate) fn discards(&self) -> bool {
        self.state.intake() == Intake::Discards
    }

    /// Whether nothing can go on without a report of the kernel or an action of the program.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pending.is_empty()
            && self.unsent() == 0
            && !self.readiness.is_readable()
            && !self.read_buffer.has_progress()
    }

    /// Whether serving comes to one read, as it usually does: nothing was left over.
    #[inline]
    pub(crate) fn only_receives(&self) -> bool {
        self.stands_at(Readiness::READABLE | Readiness::WRITABLE)
            && !self.read_buffer.has_block()
            && !self.write_buffer.has_block()
    }

    /// Whether settling comes to at most one write, if that takes everything and no block is left
    /// in the read buffer.
    #[inline]
    pub(crate) fn only_sends(&self) -> bool {
        self.stands_at(Readiness::WRITABLE) && !self.clogged
    }

    /// Whether the connection is quiet: everything that had arrived was read and handled, and
    /// everything that the program sent has left.
    pub(crate) fn is_quiet(&self) -> bool {
        !self.is_ending() && self.unsent() == 0 && self.is_read_out()
    }

    /// Whether the socket was read until there was no more, and the program has handled what arrived.
    /// While the connection is closing, only its pending events matter.
    pub(crate) fn is_read_out(&self) -> bool {
        let is_handled = self.next_pending().is_none();
        if self.is_ending() {
            return is_handled;
        }
        let may_have_more =
            !self.is_at_end() && (self.readiness.is_readable() || self.is_held_back());
        let is_reading = !self.is_connecting() && !self.paused;
        is_reading && is_handled && self.received().is_empty() && !may_have_more
    }

    // What the program does.

    pub(crate) fn consume(&mut self, count: usize) {
        self.read_buffer.consume(count);
    }

    /// Moves the received bytes to the unsent ones, or loses them if no more can be sent.
    #[inline]
    pub(crate) fn send_received(&mut self) {
        // Usually nothing is unsent, and too little was received to pass a mark.
        let count = self.read_buffer.len();
        let may_swap = self.state == State::Open && !self.write_buffer.has_block();
        if may_swap && 0 < count && count <= self.limits.high_water {
            std::mem::swap(&mut self.read_buffer, &mut self.write_side.write_buffer);
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

    /// Moves the received bytes to the unsent bytes of `to` and returns their number: zero if `to`
    /// can send no more.
    pub(crate) fn transfer_to(&mut self, to: &mut Exchange) -> usize {
        transfer(&mut self.read_buffer, &mut to.write_side)
    }

    /// Moves the received bytes to its own unsent bytes and returns their number.
    #[inline]
    pub(crate) fn transfer_to_itself(&mut self) -> usize {
        transfer(&mut self.read_buffer, &mut self.write_side)
    }

    /// Resumes after a pause, and announces again what the program had left.
    pub(crate) fn resume(&mut self) {
        if self.paused {
            self.paused = false;
            if self.received().is_empty() || self.behind == Behind::Nothing {
                return;
            }
            // Where its answers would have to wait, so does the announcement.
            if self.is_held_back() || self.clogged && self.takes_bytes() {
                self.read_buffer.note_progress();
            } else {
                self.announce_received();
            }
        }
    }

    // What the socket brings.

    /// Returns the buffer that a fill reads into.
    #[inline]
    pub(crate) fn read_buffer(&mut self) -> &mut Buffer {
        &mut self.read_buffer
    }

    /// Adds the first `count` bytes of the read buffer's room, which were just read.
    #[inline]
    pub(crate) fn filled(&mut self, count: usize) {
        self.read_buffer.extend(count);
        self.forget_more();
        self.announce_received();
    }

    /// Moves on by one state, unless something holds the connection in its present one. The loop
    /// calls it when it settles a connection. Returns whether to send our end of file now.
    #[must_use]
    pub(crate) fn advance(&mut self) -> bool {
        debug_assert_eq!(
            self.reason().is_some(),
            matches!(self.state, State::Broken | State::Closed),
            "there is a reason exactly where something has ended"
        );
        if self.unsent() > 0 {
            return false;
        }
        // The program may answer a pending event, so its sends must still be accepted.
        let is_handled =
            self.next_pending().is_none() && !self.read_buffer.has_progress() && !self.paused;
        match self.state {
            State::PeerFinished if self.half_open => {}
            State::PeerFinished | State::BothFinishing if !is_handled => {}
            State::PeerFinished | State::BothFinishing => self.end(CloseReason::Finished),
            State::BothClosing => self.end(CloseReason::Closed),
            before => {
                self.state = before.on(Input::AllSent);
                return self.state != before;
            }
        }
        false
    }

    /// Returns both buffers, so that they can release what they do not need.
    pub(crate) fn buffers(&mut self) -> [&mut Buffer; 2] {
        [&mut self.read_buffer, &mut self.write_side.write_buffer]
    }
}

/// Moves received bytes to the unsent bytes of the same connection or of another, and returns their
/// number: zero if no more can be sent.
fn transfer(read_buffer: &mut Buffer, to: &mut WriteSide) -> usize {
    let count = read_buffer.len();
    if !to.has_room_for(count) {
        return 0;
    }
    read_buffer.move_to(&mut to.write_buffer);
    to.notice_high_water();
    count
}

#[cfg(test)]
mod tests;
