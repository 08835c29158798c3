//! The pure half of a connection: the bytes of each direction, and which event comes next.
//!
//! No socket, no clock, no loop: the inputs are method calls, the outputs are the two buffers, the
//! wants, the pending events and, from [`Exchange::advance`], whether to send our end. So every path
//! through it can be walked in a test. What leads from state to state stands in `state.rs`.
//!
//! **Received follows progress.** Consuming marks the read buffer as long as bytes are left in it;
//! while the mark stands, `Received` is due again, without a new read. It waits where the program
//! could do nothing with the bytes: while the connection is paused, clogged or held back by unsent
//! bytes. `PeerFinished` and `Closed` wait behind it. A full read buffer from which the program takes
//! nothing is pending as `Full`, once.

mod outbound;

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

pub(crate) use self::outbound::Outbound;
use crate::buffer::Buffer;
use crate::event::CloseReason;
use crate::interest::{Interest, Readiness};
use crate::limits::ConnectionLimits;
use crate::pending::{Pending, PendingEvents};
use crate::state::{Input, Intake, State};

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

/// What is known to come behind the received bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Behind {
    Unknown,
    /// The read buffer is full, and the socket holds more. Meaningless while there is room.
    More,
    /// The peer's end (EOF), which was read.
    End,
    /// Nothing that the program is to hear of: it has closed.
    Nothing,
}

/// Both directions of one connection: the read buffer, and the sending side with the states.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Exchange {
    read_buffer: Buffer,
    outbound: Outbound,
}

impl Deref for Exchange {
    type Target = Outbound;

    #[inline]
    fn deref(&self) -> &Outbound {
        &self.outbound
    }
}

impl DerefMut for Exchange {
    #[inline]
    fn deref_mut(&mut self) -> &mut Outbound {
        &mut self.outbound
    }
}

impl Exchange {
    /// One that was accepted: open, coupled to itself unless the limits say otherwise, and writable
    /// until disproved.
    pub(crate) fn accepted(limits: Arc<ConnectionLimits>) -> Self {
        let coupling = if limits.reads_while_unsent { Coupling::None } else { Coupling::Itself };
        let mut exchange = Self::new(State::Open, coupling, limits);
        exchange.readiness.add(Readiness::WRITABLE);
        exchange.pending.add(Pending::Accepted);
        exchange
    }

    /// One whose connect is under way, coupled to nobody.
    pub(crate) fn connecting(limits: Arc<ConnectionLimits>) -> Self {
        Self::new(State::Connecting, Coupling::None, limits)
    }

    fn new(state: State, coupling: Coupling, limits: Arc<ConnectionLimits>) -> Self {
        let read_buffer = Buffer::default();
        Self { read_buffer, outbound: Outbound::new(state, coupling, limits) }
    }

    /// Lends both sides at once.
    pub(crate) fn halves(&mut self) -> (&mut Buffer, &mut Outbound) {
        (&mut self.read_buffer, &mut self.outbound)
    }

    // What can be asked.

    pub(crate) fn received(&self) -> &[u8] {
        self.read_buffer.bytes()
    }

    /// Whether the peer's end was read: nothing more will be received.
    pub(crate) fn is_at_end(&self) -> bool {
        self.behind == Behind::End
    }

    /// How the input ends, once the program can receive nothing more than it has: at the peer's end
    /// or because the program has closed, or by an error.
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

    /// Whether input is thrown away: we have closed and only wait for the peer's end.
    pub(crate) fn discards(&self) -> bool {
        self.state.intake() == Intake::Discards
    }

    /// Whether nothing can go on without news from the socket or the program.
    #[inline]
    pub(crate) fn is_at_rest(&self) -> bool {
        self.pending.is_empty()
            && self.unsent() == 0
            && !self.readiness.is_readable()
            && !self.read_buffer.has_progress()
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

    /// Whether nothing is left to be done for either side: all that had arrived was read and handled,
    /// and what the program sent has left.
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

    /// How many bytes a fill may still add to those received.
    pub(crate) fn room(&self) -> usize {
        self.limits.read_buffer_max.saturating_sub(self.read_buffer.len())
    }

    /// How many bytes are wanted of the socket: as many as it has, where they are thrown away.
    pub(crate) fn wanted(&self) -> usize {
        match self.state.intake() {
            Intake::Receives if self.is_free_to_read() => self.room(),
            Intake::Discards => usize::MAX,
            Intake::Receives | Intake::NotYet | Intake::Over => 0,
        }
    }

    /// Whether there is no room for more, and it is not known whether more comes: then the end is
    /// looked for, so that a message which fills the read buffer can be known to be whole.
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

    /// What the kernel is to be asked for this exchange.
    pub(crate) fn interest(&self) -> Interest {
        Interest::of(self.wants_read(), self.wants_write())
    }

    pub(crate) fn can_fill(&self) -> bool {
        self.readiness.is_readable() && self.wants_read()
    }

    /// Whether the read buffer is full, and the program, which could take something, takes nothing.
    /// What is in the buffer is announced by a `Drained` first.
    pub(crate) fn is_stalled_in_reading(&self) -> bool {
        self.state.intake() == Intake::Receives
            && self.room() == 0
            && self.is_free_to_read()
            && !self.clogged
            && !self.pending.contains(Pending::Drained)
            && !self.read_buffer.has_progress()
    }

    // What the program does.

    pub(crate) fn consume(&mut self, count: usize) {
        self.read_buffer.consume(count);
    }

    /// Moves what was received to the unsent bytes, or loses it where they take no more.
    #[inline]
    pub(crate) fn send_received(&mut self) {
        // Mostly nothing is unsent, and so little was received that it passes no mark.
        let count = self.read_buffer.len();
        let may_swap = self.state == State::Open && !self.write_buffer.has_block();
        if may_swap && 0 < count && count <= self.limits.high_water {
            std::mem::swap(&mut self.read_buffer, &mut self.outbound.write_buffer);
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
        transfer(&mut self.read_buffer, &mut to.outbound)
    }

    /// Moves what was received to its own unsent bytes and returns how much it was.
    #[inline]
    pub(crate) fn transfer_to_itself(&mut self) -> usize {
        transfer(&mut self.read_buffer, &mut self.outbound)
    }

    /// Goes on after a pause, and announces again what the program had left.
    pub(crate) fn resume(&mut self) {
        if self.paused {
            self.paused = false;
            if !self.received().is_empty() && self.behind != Behind::Nothing {
                self.announce_received();
            }
        }
    }

    // What the socket brings.

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
        self.announce_received();
    }

    #[inline]
    pub(crate) fn announce_received(&mut self) {
        self.pending.add(Pending::Received);
    }

    /// Goes on by one state, if nothing holds it: what the loop asks when it settles a connection.
    /// Returns whether the end of our direction is to be sent now.
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
        // What is yet to be delivered the program may answer, and so what it sends must be taken.
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

    /// Has `Full` delivered where the program takes nothing from a full read buffer, once until
    /// there is room. What has filled the buffer may be the last: the end is looked for first.
    pub(crate) fn notice_full(&mut self) {
        if self.is_stalled_in_reading()
            && !self.can_fill()
            && !self.pending.contains(Pending::Received)
            && self.read_buffer.note_full()
        {
            self.pending.add(Pending::Full);
        }
    }

    // The pending events.

    /// The event to deliver next.
    #[inline]
    pub(crate) fn next_event(&self) -> Option<Pending> {
        // Mostly it is just what was received.
        if self.pending == PendingEvents::RECEIVED && !self.paused && !self.read_buffer.is_empty() {
            return Some(Pending::Received);
        }
        let first = self.pending.first_but(self.held_back());
        first.or_else(|| self.is_repeat_due().then_some(Pending::Received))
    }

    /// What cannot be delivered now. A pause holds back what comes from the peer, and nothing is
    /// delivered before `Connected` but a `Closed`.
    fn held_back(&self) -> PendingEvents {
        let mut held_back = PendingEvents::default();
        // What a resume announced the program may have consumed before it was delivered.
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

    /// Whether `Received` is due again: the program has consumed something, bytes are left, and it
    /// can answer them.
    pub(crate) fn is_repeat_due(&self) -> bool {
        self.may_repeat() && (self.is_closed() || !self.is_held_back())
    }

    /// Whether the event to deliver next is only such a repeat.
    pub(crate) fn is_repeat_next(&self) -> bool {
        self.next_event() == Some(Pending::Received) && !self.pending.contains(Pending::Received)
    }

    /// Whether `Received` may be delivered again before what the program has just sent is flushed:
    /// its answers to what it has consumed do not hold back the rest, as long as they are within
    /// the budget.
    pub(crate) fn may_repeat_at_once(&self) -> bool {
        self.may_repeat() && !self.has_spent_write_budget()
    }

    /// Whether the program has consumed something since the rest was announced.
    #[inline]
    pub(crate) fn has_progress(&self) -> bool {
        self.read_buffer.has_progress()
    }

    /// Whether the program has sent as much as may leave in a turn.
    pub(crate) fn has_spent_write_budget(&self) -> bool {
        self.unsent() >= self.limits.write_budget
    }

    fn may_repeat(&self) -> bool {
        self.read_buffer.has_progress()
            && !self.paused
            && self.behind != Behind::Nothing
            && (self.is_closed() || !self.clogged)
    }

    /// Counts an event as delivered. Nothing is delivered after `Closed`.
    pub(crate) fn delivered(&mut self, event: Pending) {
        match event {
            Pending::Closed => self.pending.clear(),
            Pending::Received => self.read_buffer.forget_progress(),
            // It announces what was left, since a program that waited for it has taken nothing.
            Pending::Drained => self.read_buffer.note_progress(),
            Pending::Full => _ = self.read_buffer.note_full(),
            _ => {}
        }
        self.pending.remove(event);
    }

    /// Both buffers, to give back what they do not need.
    pub(crate) fn buffers(&mut self) -> [&mut Buffer; 2] {
        [&mut self.read_buffer, &mut self.outbound.write_buffer]
    }
}

/// Moves what was received to the unsent bytes of the same connection or of another, and returns
/// how much it was: nothing if they take no more.
fn transfer(read_buffer: &mut Buffer, to: &mut Outbound) -> usize {
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
    /// What can come of this state, as a number: not which bytes there are, nor what was lost.
    pub(crate) fn fingerprint(&self, hasher: &mut impl std::hash::Hasher) {
        use std::hash::Hash;
        let Outbound { state, pending, readiness, coupling, paused, half_open, .. } =
            &self.outbound;
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
