//! What a connection wants from the kernel: to read, to write, both or nothing.
//!
//! All of it follows from the state of the exchange, and the interest follows from it, by the rule
//! of `interest.rs`.

use super::{Behind, Exchange, WriteSide};
use crate::interest::Interest;
use crate::state::Intake;

impl Exchange {
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

    pub(super) fn is_free_to_read(&self) -> bool {
        !self.paused && !self.is_held_back()
    }

    /// Returns the interest that follows from the wants.
    pub(crate) fn interest(&self) -> Interest {
        Interest::of(self.wants_read(), self.wants_write())
    }

    pub(crate) fn can_fill(&self) -> bool {
        self.readiness.is_readable() && self.wants_read()
    }
}

impl WriteSide {
    pub(crate) fn wants_write(&self) -> bool {
        self.is_connecting() || self.has_sendable() && !self.readiness.is_writable()
    }

    pub(crate) fn can_flush(&self) -> bool {
        self.readiness.is_writable() && self.has_sendable()
    }

    /// Returns whether there are unsent bytes that may leave now.
    pub(super) fn has_sendable(&self) -> bool {
        self.unsent() > 0 && !self.is_connecting() && !self.is_closed()
    }

    pub(super) fn is_held_back(&self) -> bool {
        self.coupling.holds_back(self.unsent())
    }
}
