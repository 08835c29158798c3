//! Which event comes next: the pending events of a connection, and what holds them back.
//!
//! **Received follows progress.** If the program consumes some bytes and leaves others, `Received`
//! is due again without a new read: the read buffer has a mark for it. It waits while the program
//! could do nothing with the bytes: while the connection is paused, clogged or held back by unsent
//! bytes. `PeerFinished` and `Closed` wait for it. If the program consumes nothing from a full read
//! buffer, `Full` becomes pending, once.

use super::{Behind, Exchange};
use crate::pending_events::{Pending, PendingEvents};
use crate::state::Intake;

impl Exchange {
    #[inline]
    pub(crate) fn announce_received(&mut self) {
        self.pending.add(Pending::Received);
    }

    /// Makes `Full` pending if the program consumes nothing from a full read buffer, once until
    /// there is room. The bytes that filled the buffer may be the last, so the end of file is
    /// looked for first.
    pub(crate) fn notice_full(&mut self) {
        if self.is_stalled_in_reading() && !self.can_fill() && self.read_buffer.note_full() {
            self.pending.add(Pending::Full);
        }
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

    /// Returns the event to deliver next.
    #[inline]
    pub(crate) fn next_pending(&self) -> Option<Pending> {
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
        self.next_pending() == Some(Pending::Received) && !self.pending.contains(Pending::Received)
    }

    /// Whether `Received` may be delivered again before the program's answers are flushed: they do
    /// not hold back the rest as long as they are within the budget. Bytes that the last flush left
    /// unsent do, on a connection that is coupled.
    pub(crate) fn may_repeat_at_once(&self, left_unsent: usize) -> bool {
        let waits = self.coupling.holds_back(left_unsent);
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
}
