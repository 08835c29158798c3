//! Settling one connection: from what the program did to system calls.
//!
//! A connection is settled after the program may have changed it, and after it was served. Settling
//! flushes, releases empty buffers, moves to the next state, updates the interest (`epoll_ctl`) and
//! sets the alarm. Usually an answer leaves by one write and nothing else is to be done: for that
//! case, the first lines of [`Stream::settle`] make the write (the *fast path*).
//!
//! The socket is closed here too, before `Closed` is delivered.

use std::io::{self, Write};
use std::time::Instant;

#[cfg(test)]
pub(crate) use self::tests::{is_fast_path_off, without_fast_path};
use super::{Readers, Stream};
use crate::deadlines::Passed;
use crate::event::CloseReason;
use crate::exchange::Phase;
use crate::interest::Interest;
use crate::observer::Step;
use crate::resources::{AlarmTarget, Resources};
use crate::slots::ConnectionId;
use crate::system::System;
use crate::transfer::{self, StopReason, Transferred};

impl Stream {
    /// Carries out what the program did. `unsent_before` is how many bytes were unsent before that.
    pub(crate) fn settle(&mut self, unsent_before: usize, resources: &mut Resources) {
        if resources.observers.see_everything() && self.unsent() > unsent_before {
            let (id, count) = (self.id(), self.unsent() - unsent_before);
            resources.observers.trace(|| Step::Queued { id, count });
        }
        resources.pool.reclaim_empty(self.exchange.read_buffer());
        let mut begun = None;
        if self.may_send_only(resources.turn) {
            match self.send_whole(resources) {
                Ok(()) => return self.check_interest(),
                Err(outcome) => begun = outcome,
            }
        }
        self.settle_in_full(begun, resources);
        self.check_interest();
    }

    /// Checks, in debug builds, that the kernel has the interest that follows from the wants.
    #[inline]
    fn check_interest(&self) {
        debug_assert!(
            self.socket.is_none() || self.standing.interest == self.exchange.interest(),
            "the kernel's interest is not the one that follows from the wants: {self:?}"
        );
    }

    /// Returns whether settling comes to at most one write, the first of the turn.
    #[inline]
    fn may_send_only(&mut self, turn: u16) -> bool {
        #[cfg(test)]
        if is_fast_path_off() {
            return false;
        }
        // As bytes, so that the compiler compares the three fields at once.
        let standing = &self.standing;
        let stands = [u8::from(standing.yielded), standing.readers as u8, standing.interest as u8];
        stands == [0, Readers::None as u8, Interest::Readable as u8]
            && standing.flushed_in != turn
            && self.deadlines.is_none()
            && self.exchange.only_sends()
            && !self.exchange.read_buffer().has_block()
    }

    /// The fast path: one write that takes everything unsent, or none if nothing is unsent. Returns
    /// the outcome if the write took less than everything.
    #[inline]
    fn send_whole(&mut self, resources: &mut Resources) -> Result<(), Option<io::Result<usize>>> {
        let Some(mut socket) = self.socket.as_ref() else { return Err(None) };
        let unsent = self.exchange.unsent_bytes();
        let count = unsent.len();
        if count == 0 {
            resources.pool.reclaim_empty(self.exchange.write_buffer());
            return Ok(());
        }
        if count > self.exchange.limits().write_budget {
            return Err(None);
        }
        match socket.write(unsent) {
            Ok(written) if written == count => {
                resources.pool.give(self.exchange.write_buffer().take_block());
                let standing = &mut self.standing;
                // Nothing is left, so it does not matter whether the budget is spent.
                standing.flushed = u32::try_from(count).unwrap_or(u32::MAX);
                (standing.flushed_in, standing.moved_at) = (resources.turn, resources.moment);
                resources.metrics.flushed(count);
                if resources.observers.see_everything() {
                    let stop = StopReason::Ours;
                    self.note_flushed(Transferred { count, stop }, resources);
                }
                Ok(())
            }
            outcome => Err(Some(outcome)),
        }
    }

    #[inline(never)]
    fn settle_in_full(&mut self, begun: Option<io::Result<usize>>, resources: &mut Resources) {
        if self.exchange.can_flush() {
            self.flush(begun, resources);
        }
        for buffer in self.exchange.buffers() {
            resources.pool.reclaim(buffer);
        }
        self.exchange.notice_full();
        if self.exchange.advance() {
            self.send_end(resources);
        }
        self.update_interest(resources);
        let exchange = &self.exchange;
        self.standing.yielded &=
            exchange.can_fill() || exchange.can_flush() || exchange.is_repeat_due();
        self.set_alarm(resources);
    }

    /// Sends our end of file (FIN): the half-close, `shutdown(SHUT_WR)`.
    fn send_end(&mut self, resources: &mut Resources) {
        if let Some(socket) = &self.socket {
            socket.finish();
            resources.observers.see(Step::Finished { id: self.id() });
        }
    }

    /// Gives the kernel the interest that follows from the wants (`epoll_ctl`), if it differs from
    /// the one last given. A connection that has ended wants nothing, so it is deregistered before
    /// it is closed.
    ///
    /// mio promises no edge for what arrived before readable was asked for. So where readable is
    /// newly asked for, one read is tried. If the socket was registered for something else before,
    /// reads go on until one finds it empty, because an end of file may have arrived unreported
    /// too.
    fn update_interest(&mut self, resources: &mut Resources) {
        let (from, to) = (self.standing.interest, self.exchange.interest());
        if from == to {
            return;
        }
        let id = self.id();
        let Some(socket) = &mut self.socket else { return };
        if let Err(error) = resources.system.update_interest(socket, id.slot, from, to) {
            self.exchange.end(CloseReason::of(&error));
            if to != Interest::None {
                // The former registration is removed.
                return self.update_interest(resources);
            }
        }
        self.standing.interest = to;
        resources.metrics.interest_changes += 1;
        resources.observers.see(Step::InterestChanged { id, from, to });
        if from == Interest::Writable && to.is_readable() {
            self.exchange.try_read_to_the_end();
        } else if to.is_readable() && !from.is_readable() {
            self.exchange.try_read();
        }
    }

    /// Sets the alarm for the next deadline. An earlier alarm stays and is set again when it fires,
    /// so activity costs nothing here.
    fn set_alarm(&mut self, resources: &mut Resources) {
        let is_bounded =
            self.exchange.phase() != Phase::Unbounded || self.exchange.is_stalled_in_reading();
        if self.deadlines.is_none() && !is_bounded {
            return;
        }
        let (target, now) = (AlarmTarget::Connection(self.id()), resources.system.now());
        self.deadlines_mut();
        // A deadline that has passed already fires in the next turn, after all that are due in this
        // one.
        let next = self.next_deadline(now).map(|(at, _)| at.max(now));
        let Some(deadlines) = &mut self.deadlines else { return };
        if next.is_none_or(|at| deadlines.alarm.is_none_or(|alarm| at < alarm.at())) {
            resources.cancel(deadlines.alarm);
            deadlines.alarm = next.map(|at| resources.alarms.set(at, target));
        }
        debug_assert!(
            next.is_none_or(|at| deadlines.alarm.is_some_and(|alarm| alarm.at() <= at)),
            "no alarm fires by the next deadline"
        );
        // The deadlines remember an idle timeout that the program has set or removed, which matters
        // in another phase.
        let idle_timeout = deadlines.idle_timeout.or(self.exchange.limits().idle_timeout);
        if next.is_none() && idle_timeout.is_none() {
            self.deadlines = None;
        }
    }

    /// Notes what the exchange waits for now, and returns the next deadline, if it has any.
    pub(super) fn next_deadline(&mut self, now: Instant) -> Option<(Instant, Passed)> {
        let deadlines = self.deadlines.as_mut()?;
        deadlines.enter(self.exchange.phase(), self.exchange.is_stalled_in_reading(), now);
        deadlines.next(self.exchange.limits())
    }

    // Closing the socket.

    /// Closes the socket of a connection that has ended: with a reset if bytes are given up that
    /// the peer should have got. Otherwise the kernel goes on delivering what it has taken.
    pub(crate) fn close_socket(&mut self, resources: &mut Resources) {
        debug_assert!(self.exchange.is_closed(), "only a closed connection gives up its socket");
        self.update_interest(resources);
        self.close_attempts(&resources.system);
        if self.exchange.ends_by_reset() {
            if let Some(socket) = &self.socket {
                socket.reset_on_close();
            }
        } else if self.exchange.has_timed_out() {
            self.discard_rest(resources);
        }
        if let Some(socket) = self.socket.take() {
            debug_assert!(self.standing.interest == Interest::None, "closed while registered");
            socket.close();
        }
    }

    /// Reads and discards what has arrived. Closing a socket with unread bytes sends a reset, which
    /// would destroy what the peer has not read yet.
    fn discard_rest(&mut self, resources: &mut Resources) {
        let Some(mut socket) = self.socket.as_ref() else { return };
        let (id, budget) = (self.id(), self.exchange.limits().read_budget);
        let count = transfer::discard(&mut socket, &mut resources.pool, budget);
        resources.metrics.filled(count);
        if count > 0 {
            resources.observers.trace(|| Step::Discarded { id, count });
        }
    }

    /// Releases what a closed connection holds: its alarm and its blocks.
    pub(crate) fn release(&mut self, resources: &mut Resources) {
        resources.cancel(self.deadlines.take().and_then(|deadlines| deadlines.alarm));
        for buffer in self.exchange.buffers() {
            buffer.consume(buffer.len());
            resources.pool.reclaim(buffer);
        }
    }

    /// Deregisters the sockets of a connection that is about to be dropped with its loop.
    pub(crate) fn deregister(&mut self, system: &System) {
        self.close_attempts(system);
        let (slot, from) = (self.id().slot, self.standing.interest);
        if let Some(socket) = self.socket.as_mut().filter(|_| from != Interest::None) {
            // An error has no consequence: the socket is closed next.
            let _ = system.update_interest(socket, slot, from, Interest::None);
        }
    }

    /// Panics if the program has borrowed two connections and swapped them: each would answer to
    /// the other's id.
    #[inline]
    pub(crate) fn assert_lives_in(&self, slot: u32) {
        if self.id().slot != slot {
            swapped(self.id());
        }
    }
}

#[cold]
fn swapped(id: ConnectionId) -> ! {
    panic!("connection {id} was swapped into the place of another");
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
    use std::time::Duration;

    use crate::{Event, EventLoop, Limits};

    thread_local! {
        static IS_FAST_PATH_OFF: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn is_fast_path_off() -> bool {
        IS_FAST_PATH_OFF.get()
    }

    /// Runs something with the fast path switched off, to compare it with the slow one.
    pub(crate) fn without_fast_path<R>(run: impl FnOnce() -> R) -> R {
        IS_FAST_PATH_OFF.set(true);
        let outcome = catch_unwind(AssertUnwindSafe(run));
        IS_FAST_PATH_OFF.set(false);
        outcome.unwrap_or_else(|payload| resume_unwind(payload))
    }

    #[test]
    fn messages_on_a_connection_with_an_idle_timeout_cost_no_operation_on_the_alarms() {
        let mut limits = Limits::default();
        limits.connection.idle_timeout = Some(Duration::from_secs(1_000));
        let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
        let listener = event_loop.listen("127.0.0.1:0").unwrap();
        let mut peer = TcpStream::connect(event_loop.listener_addr(listener).unwrap()).unwrap();
        let Event::Accepted(_, id) = event_loop.next_event().unwrap() else { panic!("it comes") };
        event_loop[id].set_deadline(Some(Duration::from_secs(2_000)));
        assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);

        let alarms = |event_loop: &EventLoop| {
            let alarms = &event_loop.turns.resources.alarms;
            (alarms.len(), alarms.set_count(), alarms.earliest())
        };
        let before = alarms(&event_loop);
        assert_eq!(before.0, 1);
        for _ in 0..1_000 {
            peer.write_all(b"message").unwrap();
            assert_eq!(event_loop.next_event().unwrap(), Event::Received(id));
            event_loop[id].send_received();
            assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
            peer.read_exact(&mut [0; 7]).unwrap();
        }
        assert_eq!(alarms(&event_loop), before);
    }
}
