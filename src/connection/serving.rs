//! Serving one connection: from readiness to bytes.
//!
//! A connection is served because the kernel has reported that it is ready, or because it could
//! have gone on when it was last served. Serving checks a connect that is under way, flushes, and
//! fills. Most messages arrive on a connection for which nothing else is to be decided: for those,
//! the first lines of [`Stream::serve`] make the one read (the *fast path*). Any other outcome
//! continues in the general code (the *slow path*) with the result of the call that was made.
//!
//! An alarm leads here too, because a deadline of the limits takes effect only after one more
//! attempt to read and write.

use std::io::{self, Read};
use std::time::Instant;

use super::Stream;
use crate::deadlines::Passed;
use crate::event::CloseReason;
use crate::observer::Step;
use crate::readiness::Readiness;
use crate::resources::Resources;
use crate::transfer::{self, Begun, StopReason, Transferred};

impl Stream {
    /// Makes the transfers that the connection wants and is ready for.
    pub(crate) fn serve(&mut self, resources: &mut Resources) {
        self.standing.yielded = false;
        if self.may_receive_only() {
            self.receive(resources);
        } else {
            self.serve_in_full(resources);
        }
    }

    /// Returns whether serving comes to one read.
    #[inline]
    fn may_receive_only(&self) -> bool {
        #[cfg(test)]
        if super::settling::is_fast_path_off() {
            return false;
        }
        self.deadlines.is_none() && self.exchange.only_receives()
    }

    /// The fast path: one read, which usually returns less than there is room for.
    #[inline]
    fn receive(&mut self, resources: &mut Resources) {
        let Some(mut socket) = self.socket.as_ref() else { return };
        if !socket.short_proves_blocked() {
            return self.fill(None, resources);
        }
        let limits = self.exchange.limits();
        let max = limits.read_buffer_max.min(limits.read_budget);
        let block = self.exchange.read_buffer().put_block(resources.pool.take());
        let room = block.room(max);
        let asked = room.len();
        match socket.read(room) {
            Ok(count) if 0 < count && count < asked => {
                block.take_in(count);
                self.exchange.disproved(Readiness::READABLE);
                self.exchange.announce_received();
                self.standing.moved_at = resources.moment;
                resources.metrics.filled(count);
                if resources.observers.see_everything() {
                    let stop = StopReason::NotReady;
                    self.note_filled(Transferred { count, stop }, false, resources);
                }
            }
            outcome => self.fill(Some(outcome), resources),
        }
    }

    #[inline(never)]
    fn serve_in_full(&mut self, resources: &mut Resources) {
        if self.exchange.is_connecting() {
            self.look_at_connect(resources);
        }
        if self.exchange.can_flush() {
            self.flush(None, resources);
            if self.unsent() == 0 {
                // Bytes left over from an earlier turn have left; what the program sends now has a
                // second budget. Their block can serve what is read next.
                self.standing.flushed = 0;
                resources.pool.reclaim_empty(self.exchange.write_buffer());
            }
        }
        // Bytes that the program has left are announced before anything is read after them.
        if self.exchange.readiness().is_readable() && !self.exchange.is_repeat_due() {
            // `fill` itself checks how many bytes are wanted, possibly none.
            self.fill(None, resources);
        }
    }

    /// Checks the deadlines when the alarm has fired. A deadline that has passed takes effect; for
    /// one that activity has moved, settling sets the alarm again.
    pub(crate) fn alarm_fired(&mut self, resources: &mut Resources) {
        let now = resources.system.now();
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.alarm = None;
        }
        match self.passed(now) {
            None => {}
            Some(Passed::Program) => {
                self.deadlines_mut().set_program(None);
                self.exchange.program_deadline_passed();
            }
            Some(Passed::Again) => self.connect_again(resources),
            Some(Passed::Limit(_)) => {
                // The program may have been busy while the socket moved on, and a send succeeds
                // long before the kernel reports room. So read and write once more before the
                // deadline takes effect.
                self.exchange.try_read();
                self.exchange.try_write();
                self.serve(resources);
                if let Some(Passed::Limit(deadline)) = self.passed(now)
                    && !self.exchange.is_closed()
                {
                    resources.observers.see(Step::DeadlinePassed { id: self.id(), deadline });
                    self.exchange.end(CloseReason::TimedOut(deadline));
                }
            }
        }
    }

    /// Returns the deadline that has passed by `now`, if one has.
    fn passed(&mut self, now: Instant) -> Option<Passed> {
        let (at, passed) = self.next_deadline(now)?;
        (at <= now).then_some(passed)
    }

    /// Fills the read buffer. `begun` is the outcome of the first read, if it was made already.
    pub(super) fn fill(&mut self, begun: Option<io::Result<usize>>, resources: &mut Resources) {
        debug_assert!(
            self.unsent() > 0 || !self.exchange.write_buffer().has_block(),
            "no empty block is held while another is taken: {self:?}"
        );
        let Some(socket) = &self.socket else { return };
        let discards = self.exchange.discards();
        let short_proves_empty = socket.short_proves_blocked();
        let mut socket = Begun { outcome: begun, socket };
        let pool = &mut resources.pool;
        let filled = transfer::fill(&mut self.exchange, &mut socket, pool, short_proves_empty);
        self.standing.yielded |= filled.stop == StopReason::Ours && filled.count > 0;
        resources.metrics.filled(filled.count);
        self.note_filled(filled, discards, resources);
    }

    /// Flushes at most the rest of the budget. `begun` is the outcome of the first write, if it was
    /// made already.
    pub(super) fn flush(&mut self, begun: Option<io::Result<usize>>, resources: &mut Resources) {
        let Some(socket) = &self.socket else { return };
        let standing = &mut self.standing;
        if standing.flushed_in != resources.turn {
            (standing.flushed, standing.flushed_in) = (0, resources.turn);
        }
        let budget = self.exchange.limits().write_budget.saturating_sub(standing.flushed as usize);
        let short_proves_full = socket.short_proves_blocked();
        let mut socket = Begun { outcome: begun, socket };
        let flushed = transfer::flush(&mut self.exchange, &mut socket, budget, short_proves_full);
        let count = u32::try_from(flushed.count).unwrap_or(u32::MAX);
        self.standing.flushed = self.standing.flushed.saturating_add(count);
        self.standing.yielded |= flushed.stop == StopReason::Ours && self.unsent() > 0;
        resources.metrics.flushed(flushed.count);
        self.note_flushed(flushed, resources);
    }

    pub(super) fn note_filled(
        &mut self,
        filled: Transferred,
        discards: bool,
        resources: &mut Resources,
    ) {
        let (id, count) = (self.id(), filled.count);
        if count > 0 {
            self.standing.moved_at = resources.moment;
            if let Some(deadlines) = &mut self.deadlines {
                deadlines.moved(resources.system.now());
            }
            resources.observers.trace(|| match discards {
                true => Step::Discarded { id, count },
                false => Step::Filled { id, count },
            });
        }
        match filled.stop {
            StopReason::NotReady => resources.observers.trace(|| Step::ReadBlocked { id }),
            StopReason::Ended => resources.observers.trace(|| Step::PeerEnded { id }),
            StopReason::Ours | StopReason::Failed => {}
        }
    }

    pub(super) fn note_flushed(&mut self, flushed: Transferred, resources: &mut Resources) {
        let (id, count) = (self.id(), flushed.count);
        if count > 0 {
            self.standing.moved_at = resources.moment;
            if let Some(deadlines) = &mut self.deadlines {
                deadlines.flushed(resources.system.now());
            }
            let unsent = self.unsent();
            resources.observers.trace(|| Step::Flushed { id, count, unsent });
        }
        if flushed.stop == StopReason::NotReady {
            resources.observers.trace(|| Step::WriteBlocked { id });
        }
    }
}
