//! The pure half of a connection (*sans-I/O*): the bytes of each direction, and which event comes
//! next.
//!
//! It has no socket, no clock and no loop. Its inputs are method calls; its outputs are the two
//! buffers, the wants, the pending events and, from [`Exchange::advance`], whether to send our end
//! of file. So a test can walk every path through it. `state.rs` says what leads from state to
//! state. What sending needs is in `exchange/control.rs`: the write buffer, the state, the pending
//! events; what reading needs is here.
//!
//! **Received follows progress.** If the program consumes some bytes and leaves others, `Received`
//! is due again without a new read: the read buffer has a mark for it. It waits while the program
//! could do nothing with the bytes: while the connection is paused, clogged or held back by unsent
//! bytes. `PeerFinished` and `Closed` wait for it. If the program consumes nothing from a full read
//! buffer, `Full` becomes pending, once.

mod control;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) use self::control::Control;
use crate::buffer::Buffer;
use crate::event::CloseReason;
use crate::interest::{Interest, Readiness};
use crate::limits::ConnectionLimits;
use crate::pending_events::{Pending, PendingEvents};
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

/// What an exchange waits for, as far as a deadline bounds the wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Phase {
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
    control: Control,
}

impl Deref for Exchange {
    type Target = Control;

    #[inline]
    fn deref(&self) -> &Control {
        &self.control
    }
}

impl DerefMut for Exchange {
    #[inline]
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
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
        Self { read_buffer, control: Control::new(state, coupling, limits) }
    }

    /// Lends both sides at once.
    pub(crate) fn halves(&mut self) -> (&mut Buffer, &mut Control) {
        (&mut self.read_buffer, &mut self.control)
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
        if matches!(self.behind, Behind::End | Behind::Nothing) && !self.is_closed() {
            return Some(Ok(()));
        }
        match self.close_reason()? {
            _ if self.is_at_end() => Some(Ok(())),
            CloseReason::Finished | CloseReason::Closed => Some(Ok(())),
            reason => Some(Err(reason)),
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
        let is_handled = self.next_event().is_none();
        if self.is_ending() {
            return is_handled;
        }
        let may_have_more =
            !self.is_at_end() && (self.readiness.is_readable() || self.is_held_back());
        let is_reading = !self.is_connecting() && !self.paused;
        is_reading && is_handled && self.received().is_empty() && !may_have_more
    }

    /// Returns how many bytes a fill may still add to the received ones.
    pub(crate) fn room(&self) -> usize {
        self.limits.read_buffer_max.saturating_sub(self.read_buffer.len())
    }

    /// Returns how many bytes are wanted from the socket: all of them where they are discarded.
    pub(crate) fn wanted(&self) -> usize {
        match self.state.intake() {
            Intake::Receives if self.is_free_to_read() => self.room(),
            Intake::Discards => usize::MAX,
            Intake::Receives | Intake::NotYet | Intake::Over => 0,
        }
    }

    /// Whether the read buffer is full and it is not known what follows. Then the end of file is
    /// looked for, so that a message that just fills the buffer can be recognised as whole.
    pub(crate) fn looks_for_end(&self) -> bool {
        self.state.intake() == Intake::Receives
            && self.room() == 0
            && self.behind == Behind::Unknown
            && self.is_free_to_read()
    }

    pub(crate) fn wants_read(&self) -> bool {
        self.wanted() > 0 || self.looks_for_end()
    }

    fn is_free_to_read(&self) -> bool {
        !self.paused && !self.is_held_back()
    }

    /// Returns the interest that follows from the wants.
    pub(crate) fn interest(&self) -> Interest {
        Interest::of(self.wants_read(), self.wants_write())
    }

    pub(crate) fn can_fill(&self) -> bool {
        self.readiness.is_readable() && self.wants_read()
    }

    /// Whether the read buffer is full and the program consumes nothing although it could. A
    /// pending `Received` or `Drained` announces the bytes first.
    pub(crate) fn is_stalled_in_reading(&self) -> bool {
        self.state.intake() == Intake::Receives
            && self.room() == 0
            && self.is_free_to_read()
            && !self.clogged
            && !self.pending.contains(Pending::Drained)
            && !self.pending.contains(Pending::Received)
            && !self.read_buffer.has_progress()
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
            std::mem::swap(&mut self.read_buffer, &mut self.control.write_buffer);
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
        transfer(&mut self.read_buffer, &mut to.control)
    }

    /// Moves the received bytes to its own unsent bytes and returns their number.
    #[inline]
    pub(crate) fn transfer_to_itself(&mut self) -> usize {
        transfer(&mut self.read_buffer, &mut self.control)
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

    #[inline]
    pub(crate) fn announce_received(&mut self) {
        self.pending.add(Pending::Received);
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
            self.next_event().is_none() && !self.read_buffer.has_progress() && !self.paused;
        match self.state {
            State::PeerFinished if !is_handled || self.half_open => false,
            State::BothFinishing if !is_handled => false,
            State::PeerFinished | State::BothFinishing => {
                self.end(CloseReason::Finished);
                false
            }
            State::BothClosing => {
                self.end(CloseReason::Closed);
                false
            }
            before => {
                self.state = before.on(Input::AllSent);
                self.state != before
            }
        }
    }

    /// Makes `Full` pending if the program consumes nothing from a full read buffer, once until
    /// there is room. The bytes that filled the buffer may be the last, so the end of file is
    /// looked for first.
    pub(crate) fn notice_full(&mut self) {
        if self.is_stalled_in_reading() && !self.can_fill() && self.read_buffer.note_full() {
            self.pending.add(Pending::Full);
        }
    }

    // The pending events.

    /// Returns the event to deliver next.
    #[inline]
    pub(crate) fn next_event(&self) -> Option<Pending> {
        // Usually it is just `Received`.
        if self.pending == PendingEvents::RECEIVED && !self.paused && !self.read_buffer.is_empty() {
            return Some(Pending::Received);
        }
        let first = self.pending.first_but(self.held_back());
        first.or_else(|| self.is_repeat_due().then_some(Pending::Received))
    }

    /// Returns the events that cannot be delivered now. A pause holds back `Received` and
    /// `PeerFinished`; before `Connected`, only `Closed` can be delivered.
    fn held_back(&self) -> PendingEvents {
        let mut held_back = PendingEvents::default();
        // The program may have consumed what a resume announced before it is delivered.
        if self.paused || self.read_buffer.is_empty() {
            held_back.add(Pending::Received);
        }
        if !self.is_stalled_in_reading() {
            held_back.add(Pending::Full);
        }
        if self.paused || self.read_buffer.has_progress() {
            held_back.add(Pending::PeerFinished);
        }
        if self.is_repeat_due() {
            held_back.add(Pending::Closed);
        }
        if self.is_connecting() {
            held_back.add(Pending::Drained);
            held_back.add(Pending::Deadline);
        }
        held_back
    }

    /// Whether `Received` is due again: the program has consumed something, bytes are left, and
    /// their answers can be sent.
    pub(crate) fn is_repeat_due(&self) -> bool {
        self.may_repeat() && (self.is_closed() || !self.is_held_back())
    }

    /// Whether the event to deliver next is only such a repeat.
    pub(crate) fn is_repeat_next(&self) -> bool {
        self.next_event() == Some(Pending::Received) && !self.pending.contains(Pending::Received)
    }

    /// Whether `Received` may be delivered again before the program's answers are flushed: they do
    /// not hold back the rest as long as they are within the budget. Bytes that the last flush left
    /// unsent do, on a connection that is coupled.
    pub(crate) fn may_repeat_at_once(&self, left_unsent: usize) -> bool {
        let waits = match self.coupling() {
            Coupling::None => false,
            Coupling::Itself => left_unsent > 0,
            Coupling::Writer { has_unsent } => has_unsent,
        };
        self.may_repeat() && !waits && !self.has_spent_write_budget()
    }

    /// Whether the program has consumed something since the rest was last announced.
    #[inline]
    pub(crate) fn has_progress(&self) -> bool {
        self.read_buffer.has_progress()
    }

    /// Whether the program has sent as much as may leave in one turn.
    pub(crate) fn has_spent_write_budget(&self) -> bool {
        self.unsent() >= self.limits.write_budget
    }

    fn may_repeat(&self) -> bool {
        self.read_buffer.has_progress()
            && !self.paused
            && self.behind != Behind::Nothing
            && !(self.clogged && self.takes_bytes())
    }

    /// Counts an event as delivered. Nothing is delivered after `Closed`.
    pub(crate) fn delivered(&mut self, event: Pending) {
        debug_assert!(self.pending.contains(event) || event == Pending::Received, "{event:?}");
        match event {
            Pending::Closed => self.pending.clear(),
            Pending::Received => self.read_buffer.forget_progress(),
            // It announces what was left, because a program that waited for it has consumed
            // nothing.
            Pending::Drained => self.read_buffer.note_progress(),
            Pending::Full => _ = self.read_buffer.note_full(),
            _ => {}
        }
        self.pending.remove(event);
    }

    /// Returns both buffers, so that they can release what they do not need.
    pub(crate) fn buffers(&mut self) -> [&mut Buffer; 2] {
        [&mut self.read_buffer, &mut self.control.write_buffer]
    }
}

/// Moves received bytes to the unsent bytes of the same connection or of another, and returns their
/// number: zero if no more can be sent.
fn transfer(read_buffer: &mut Buffer, to: &mut Control) -> usize {
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

#[cfg(test)]
impl Exchange {
    /// Returns a number for everything that the exchange's behaviour depends on: not the bytes
    /// themselves, nor how many were lost.
    pub(crate) fn fingerprint(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let Control { state, pending, readiness, coupling, paused, half_open, .. } = &self.control;
        (self.received().len(), self.unsent(), state, pending, readiness).hash(hasher);
        (coupling, paused, half_open, self.clogged, self.behind).hash(hasher);
        (self.reason(), self.close_reason().is_some(), self.ends_by_reset()).hash(hasher);
        (self.limits.read_budget, self.limits.write_budget).hash(hasher);
        self.read_buffer.marks().hash(hasher);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.read_buffer.capacity() + self.write_buffer.capacity()
    }
}
