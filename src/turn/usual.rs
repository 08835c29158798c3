//! The usual way of a message: one read, one event, one write.
//!
//! That is what a loop does most of the time, on a connection about which nothing else is to be
//! decided: it is open, owes no event, has nothing left from before, and no deadline runs. What has
//! come is read by one call and told; what the program answers leaves by one call, before the next
//! connection is served. The general way, which begins in `turn.rs` and goes through `service.rs`
//! and `transfer.rs`, has some forty questions to ask on this path. Here few are left, because what
//! they ask about lies side by side in memory and is compared at once.
//!
//! What is not usual goes the general way, from where it stands: before the call, or with the
//! outcome of the call that was made. So nothing is done here that would not be done there; a test
//! has simulated runs go both ways and compares the steps.

use std::io::{self, Read, Write};

use crate::buffer::Block;
use crate::connection::{Queued, Readers, Stream};
use crate::event::ConnectionId;
use crate::interest::{Interest, Readiness};
use crate::owed::Owed;
use crate::tools::Tools;
use crate::transfer::{Stop, Transferred};
use crate::turn::{Service, Turns};

#[cfg(test)]
thread_local! {
    /// Nothing is usual, to compare the two ways.
    static GENERAL_ONLY: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Does something with every connection going the general way.
#[cfg(test)]
pub(crate) fn in_general<R>(run: impl FnOnce() -> R) -> R {
    GENERAL_ONLY.set(true);
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    let outcome = catch_unwind(AssertUnwindSafe(run));
    GENERAL_ONLY.set(false);
    outcome.unwrap_or_else(|payload| resume_unwind(payload))
}

impl<T> Turns<T> {
    /// Settles the connection whose event the program has handled, and serves the next of those
    /// that are fresh. Returns who has received something, which is herewith told; or nobody, if
    /// anything is not usual. Then the turn goes on in the general way.
    pub(crate) fn next_usual(&mut self) -> Option<ConnectionId> {
        // What the program did to others is settled first, and a shutdown closes who is quiet.
        if self.connections.has_touched() || self.shutdown.is_under_way() {
            return unusual();
        }
        #[cfg(test)]
        if GENERAL_ONLY.get() {
            return unusual();
        }
        self.settle_usual()?;
        self.serve_usual()
    }

    /// Settles the connection that is being served, if one is, and ends its service.
    #[inline(always)]
    fn settle_usual(&mut self) -> Option<()> {
        let (slot, unsent) = match self.service {
            None => return Some(()),
            Some(Service { slot, delivered: Some((Owed::Received, unsent)) }) => (slot, unsent),
            Some(_) => return unusual(),
        };
        let Some(connection) = self.connections.at(slot) else { return unusual() };
        if connection.id().slot != slot {
            return unusual();
        }
        connection.stream.write_once(unsent, &mut self.tools)?;
        self.service = None;
        Some(())
    }

    /// Serves the next of those that are fresh.
    #[inline(always)]
    fn serve_usual(&mut self) -> Option<ConnectionId> {
        debug_assert!(!self.connections.is_any_closed(), "its service stands until it is freed");
        let Some(id) = self.ready.take_fresh() else { return unusual() };
        let Some(connection) = self.connections.named(id) else { return unusual() };
        let stream = &mut connection.stream;
        // First, so that an observer that panics leaves nobody unserved.
        self.service = Some(Service { slot: id.slot, delivered: None });
        stream.queued = Queued::No;
        stream.read_once(&mut self.tools)?;
        stream.touched = true;
        self.service = Some(Service { slot: id.slot, delivered: Some((Owed::Received, 0)) });
        Some(id)
    }
}

/// Tells that something is not usual. That this is seldom is what a compiler learns here; else it
/// would not put the calls on the way into one function.
#[cold]
#[inline(never)]
fn unusual<R>() -> Option<R> {
    None
}

impl Stream {
    /// Serves by one read that brings less than there is room for. If that is not usual, or is not
    /// what comes of it, it is served in the general way.
    #[inline(always)]
    fn read_once(&mut self, tools: &mut Tools) -> Option<()> {
        let Some(socket) = &self.socket else { return self.serve_generally(tools) };
        if !self.may_read_once() || !tools.system.short_proves_blocked(socket) {
            return self.serve_generally(tools);
        }
        self.stopped_early = false;
        let limits = self.exchange.limits();
        let max = limits.read_buffer_max.min(limits.read_budget);
        let block = self.exchange.read_buffer().put_block(tools.pool.take());
        let room = block.room(max);
        let asked = room.len();
        match tools.system.io(socket).read(room) {
            Ok(count) if 0 < count && count < asked => {
                block.take_in(count);
                self.exchange.readiness.clear(Readiness::READABLE);
                if tools.observers.see_everything() {
                    self.show_received(count, tools);
                }
                Some(())
            }
            outcome => self.go_on_filling(outcome, tools),
        }
    }

    #[inline(always)]
    fn may_read_once(&self) -> bool {
        self.deadlines.is_none() && self.exchange.only_receives()
    }

    #[inline(always)]
    fn may_write_once(&self) -> bool {
        // As bytes, so that a compiler compares the four at once.
        let standing = [
            u8::from(self.touched),
            u8::from(self.stopped_early),
            self.readers as u8,
            self.interest as u8,
        ];
        standing == [1, 0, Readers::None as u8, Interest::Readable as u8]
            && self.deadlines.is_none()
            && self.exchange.only_sends()
    }

    #[cold]
    fn serve_generally(&mut self, tools: &mut Tools) -> Option<()> {
        self.serve(tools);
        None
    }

    #[cold]
    fn go_on_filling(&mut self, outcome: io::Result<usize>, tools: &mut Tools) -> Option<()> {
        self.fill(Some(outcome), tools);
        None
    }

    /// Settles by one write that takes all that is unsent, or by none. If that is not what comes
    /// of it, it is settled in the general way.
    #[inline(always)]
    fn write_once(&mut self, unsent_before: usize, tools: &mut Tools) -> Option<()> {
        if self.exchange.read_buffer().has_block() {
            self.give_back(tools)?;
        }
        if !self.may_write_once() || self.flushed_in == tools.turn {
            return unusual();
        }
        let Some(socket) = &self.socket else { return unusual() };
        if tools.observers.see_everything() {
            self.note_queued(unsent_before, tools);
        }
        let Some(block) = self.exchange.write_buffer().take_block() else {
            self.touched = false;
            return Some(());
        };
        let unsent = block.live();
        let count = unsent.len();
        debug_assert!(count > 0, "an empty buffer holds no block");
        if count > self.exchange.limits().write_budget {
            return self.go_on_settling(block, None, tools);
        }
        match tools.system.io(socket).write(unsent) {
            Ok(written) if written == count => {
                tools.pool.give(Some(block));
                (self.flushed, self.flushed_in) = (count, tools.turn);
                self.touched = false;
                if tools.observers.see_everything() {
                    self.show_sent(count, tools);
                }
                Some(())
            }
            outcome => self.go_on_settling(block, Some(outcome), tools),
        }
    }

    /// Gives back the block of what the program has received, if it has consumed that.
    #[cold]
    fn give_back(&mut self, tools: &mut Tools) -> Option<()> {
        let buffer = self.exchange.read_buffer();
        tools.pool.reclaim_empty(buffer);
        if buffer.has_block() { None } else { Some(()) }
    }

    #[cold]
    fn go_on_settling(
        &mut self,
        block: Box<Block>,
        outcome: Option<io::Result<usize>>,
        tools: &mut Tools,
    ) -> Option<()> {
        self.exchange.write_buffer().put_block(block);
        self.settle(outcome, tools);
        self.touched = false;
        None
    }

    #[cold]
    fn show_received(&mut self, count: usize, tools: &mut Tools) {
        // Owed until it has been shown, so that an observer that panics loses nothing.
        self.exchange.owe_received();
        self.note_filled(Transferred { count, stop: Stop::NotReady }, false, tools);
        self.exchange.delivered(Owed::Received);
    }

    #[cold]
    fn show_sent(&mut self, count: usize, tools: &mut Tools) {
        self.note_flushed(Transferred { count, stop: Stop::Ours }, tools);
    }
}
