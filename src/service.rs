//! Serving and settling one connection: the system calls that its exchange has come to.
//!
//! Serving follows readiness: learn what became of a connect, flush, fill. Settling follows what
//! the program did: flush, give back empty buffers, go on to the next state, tell the kernel an
//! interest that has changed, set the alarm. The methods below these two are their leaves: each
//! makes one kind of system call, and tells the observers what came of it.
//!
//! This is the general way, which any connection can go at any time. What most messages come to has
//! a shorter one: see `turn/usual.rs`.

use std::io;
#[cfg(unix)]
use std::time::Duration;
use std::time::Instant;

use crate::connection::Stream;
use crate::deadlines::Passed;
use crate::event::{CloseReason, ConnectionId};
use crate::exchange::Phase;
use crate::interest::{Interest, Readiness};
use crate::observer::Step;
#[cfg(unix)]
use crate::origin::Origin;
use crate::system::{ConnectOutcome, System};
use crate::tools::{Called, Tools};
#[cfg(unix)]
use crate::transfer::Attempt;
use crate::transfer::{self, Begun, Stop, Transferred};

impl Stream {
    /// Does what readiness and wants allow.
    pub(crate) fn serve(&mut self, tools: &mut Tools) {
        self.stopped_early = false;
        if self.exchange.is_connecting() {
            self.look_at_connect(tools);
        }
        if self.exchange.can_flush() {
            self.flush(None, tools);
            if self.unsent() == 0 {
                // What was left from before has left: what the program sends now has a budget of
                // its own.
                self.flushed = 0;
            }
        }
        if self.exchange.readiness.is_readable() {
            // Which itself asks how much is wanted: it may be nothing.
            self.fill(None, tools);
        }
    }

    /// Makes good what the program did. `begun` is what came of the first write, if it was made.
    pub(crate) fn settle(&mut self, begun: Option<io::Result<usize>>, tools: &mut Tools) {
        if self.exchange.can_flush() {
            self.flush(begun, tools);
        }
        for buffer in self.exchange.buffers() {
            tools.pool.reclaim(buffer);
        }
        if self.exchange.advance() {
            self.send_end(tools);
        }
        self.tell_interest(tools);
        self.stopped_early &= self.exchange.can_fill() || self.exchange.can_flush();
        self.set_alarm(tools);
    }

    /// Looks at the deadlines when the alarm has rung. One that has passed takes effect; for one
    /// that has moved meanwhile, settling sets the alarm again.
    pub(crate) fn ring(&mut self, tools: &mut Tools) {
        let now = tools.system.now();
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.alarm = None;
        }
        match self.passed(now) {
            None => {}
            Some(Passed::Program) => {
                self.deadlines_mut().set_program(None);
                self.exchange.tell_deadline();
            }
            #[cfg(unix)]
            Some(Passed::Again) => self.connect_again(tools),
            Some(Passed::Limit(_)) => {
                // The program may have been busy while the socket moved on, and a send succeeds
                // long before the kernel reports room: so one more look before it counts.
                self.exchange.readiness.fold(Readiness::READABLE | Readiness::WRITABLE);
                self.serve(tools);
                if let Some(Passed::Limit(deadline)) = self.passed(now)
                    && self.exchange.close_reason().is_none()
                {
                    tools.observers.see(Step::DeadlinePassed(self.id(), deadline));
                    self.exchange.pass(deadline);
                }
            }
        }
    }

    /// Tries a connect again that could not begin before.
    #[cfg(unix)]
    fn connect_again(&mut self, tools: &mut Tools) {
        self.deadlines_mut().set_again(None);
        let (Origin::ConnectedUnix(Some(again)), Some(socket)) = (&self.origin, &self.socket)
        else {
            return;
        };
        match tools.system.connect_unix(socket, &again.address) {
            Attempt::NotReady => self.pause_connecting(tools),
            Attempt::Failed(error) => self.exchange.end(CloseReason::of(&error)),
            Attempt::Done(()) => {
                self.origin = Origin::ConnectedUnix(None);
                // It was registered before it was connected, and no event is promised for that.
                self.exchange.readiness.fold(Readiness::WRITABLE);
                self.serve(tools);
            }
        }
    }

    /// Has a connect that could not begin be tried again after a pause, and shows that.
    #[cfg(unix)]
    fn pause_connecting(&mut self, tools: &mut Tools) {
        if let Some(pause) = self.connect_later(tools) {
            tools.observers.see(Step::ConnectPaused(self.id(), pause));
        }
    }

    /// The same without showing it. Returns the pause, if there is something to try again.
    #[cfg(unix)]
    pub(crate) fn connect_later(&mut self, tools: &Tools) -> Option<Duration> {
        let Origin::ConnectedUnix(Some(again)) = &mut self.origin else { return None };
        let pause = again.take_pause();
        let at = tools.system.now().checked_add(pause);
        self.deadlines_mut().set_again(at);
        Some(pause)
    }

    /// The deadline that has passed by `now`, if one has.
    fn passed(&mut self, now: Instant) -> Option<Passed> {
        let phase = self.exchange.phase();
        let deadlines = self.deadlines.as_mut()?;
        deadlines.enter(phase, now);
        let (at, passed) = deadlines.next(self.exchange.limits())?;
        (at <= now).then_some(passed)
    }

    /// Closes the socket of a connection that has ended: by a reset, if bytes that the peer was to
    /// get are given up. Otherwise the kernel goes on delivering what it has taken.
    pub(crate) fn close_socket(&mut self, tools: &mut Tools) {
        debug_assert!(self.exchange.close_reason().is_some(), "an open connection has a socket");
        self.tell_interest(tools);
        if self.exchange.ends_by_reset() {
            if let Some(socket) = &self.socket {
                tools.system.reset_on_close(socket);
            }
        } else if self.exchange.has_timed_out() {
            self.discard_rest(tools);
        }
        if let Some(socket) = self.socket.take() {
            tools.system.close(socket);
        }
    }

    /// Reads what has arrived and nobody will read any more. A socket that is closed with unread
    /// bytes sends a reset, which would destroy what the peer has not read yet.
    fn discard_rest(&mut self, tools: &mut Tools) {
        let Some(socket) = &self.socket else { return };
        let budget = self.exchange.limits().read_budget;
        let count = transfer::discard(&mut tools.system.io(socket), &mut tools.pool, budget);
        if count > 0 {
            tools.observers.trace(|| Step::Discarded(self.id(), count));
        }
    }

    /// Gives back what a closed connection holds: its alarm and its blocks.
    pub(crate) fn release(&mut self, tools: &mut Tools) {
        tools.cancel(self.deadlines.take().and_then(|deadlines| deadlines.alarm));
        for buffer in self.exchange.buffers() {
            buffer.consume(buffer.len());
            tools.pool.reclaim(buffer);
        }
    }

    /// Deregisters the socket of a connection that is about to be dropped with its loop.
    pub(crate) fn deregister(&mut self, system: &System) {
        let slot = self.id().slot;
        if let Some(socket) = &mut self.socket
            && self.interest != Interest::None
        {
            // An error has no consequence: the socket is closed next.
            let _ = system.tell(socket, slot, self.interest, Interest::None);
        }
    }

    /// Two connections that a program borrowed and swapped would each answer to the other's id.
    #[inline]
    pub(crate) fn assert_lives_in(&self, slot: u32) {
        if self.id().slot != slot {
            swapped(self.id());
        }
    }

    #[cold]
    fn look_at_connect(&mut self, tools: &mut Tools) {
        let Some(socket) = &self.socket else { return };
        if self.exchange.readiness == Readiness::default() {
            return;
        }
        let is_hinted = self.exchange.readiness.is_hinted();
        self.exchange.readiness = Readiness::default();
        match tools.system.connect_outcome(socket, is_hinted) {
            ConnectOutcome::UnderWay => {}
            ConnectOutcome::Failed(error) => self.exchange.end(CloseReason::of(&error)),
            ConnectOutcome::Connected => {
                self.exchange.connected();
                tools.observers.see(Step::Connected(self.id()));
            }
        }
    }

    /// Fills the read buffer. `begun` is what came of the first read, if it was made.
    pub(crate) fn fill(&mut self, begun: Option<io::Result<usize>>, tools: &mut Tools) {
        let Some(socket) = &self.socket else { return };
        let discards = self.exchange.discards();
        let short_proves_empty = tools.system.short_proves_blocked(socket);
        let mut socket = Begun { outcome: begun, socket: tools.system.io(socket) };
        let filled =
            transfer::fill(&mut self.exchange, &mut socket, &mut tools.pool, short_proves_empty);
        self.stopped_early |= filled.stop == Stop::Ours && filled.count > 0;
        self.note_filled(filled, discards, tools);
    }

    /// Flushes what is left of the budget at most.
    fn flush(&mut self, begun: Option<io::Result<usize>>, tools: &mut Tools) {
        let Some(socket) = &self.socket else { return };
        if self.flushed_in != tools.turn {
            (self.flushed, self.flushed_in) = (0, tools.turn);
        }
        let budget = self.exchange.limits().write_budget.saturating_sub(self.flushed);
        let short_proves_full = tools.system.short_proves_blocked(socket);
        let mut socket = Begun { outcome: begun, socket: tools.system.io(socket) };
        let flushed = transfer::flush(&mut self.exchange, &mut socket, budget, short_proves_full);
        self.stopped_early |= flushed.stop == Stop::Ours && self.unsent() > 0;
        self.flushed += flushed.count;
        self.note_flushed(flushed, tools);
    }

    /// Shows how much the program has sent since it had so much unsent.
    pub(crate) fn note_queued(&self, unsent_before: usize, tools: &mut Tools) {
        if self.unsent() > unsent_before {
            let queued = self.unsent() - unsent_before;
            tools.observers.trace(|| Step::Queued(self.id(), queued));
        }
    }

    pub(crate) fn note_filled(&mut self, filled: Transferred, discards: bool, tools: &mut Tools) {
        if filled.count > 0 {
            if let Some(deadlines) = &mut self.deadlines {
                deadlines.moved(tools.system.now());
            }
            tools.observers.trace(|| match discards {
                true => Step::Discarded(self.id(), filled.count),
                false => Step::Filled(self.id(), filled.count),
            });
        }
        match filled.stop {
            Stop::NotReady => tools.observers.trace(|| Step::ReadBlocked(self.id())),
            Stop::Ended => tools.observers.trace(|| Step::PeerEnded(self.id())),
            Stop::Ours | Stop::Failed => {}
        }
    }

    pub(crate) fn note_flushed(&mut self, flushed: Transferred, tools: &mut Tools) {
        if flushed.count > 0 {
            if let Some(deadlines) = &mut self.deadlines {
                deadlines.flushed(tools.system.now());
            }
            tools.observers.trace(|| Step::Flushed(self.id(), flushed.count, self.unsent()));
        }
        if flushed.stop == Stop::NotReady {
            tools.observers.trace(|| Step::WriteBlocked(self.id()));
        }
    }

    fn send_end(&mut self, tools: &mut Tools) {
        if let Some(socket) = &self.socket {
            tools.system.finish(socket);
            tools.observers.see(Step::Finished(self.id()));
        }
    }

    /// Tells the kernel the interest that follows from the wants, if it differs from the one told
    /// last. A connection that has ended wants nothing, and so is deregistered before it is closed.
    ///
    /// That a socket was readable meanwhile raises no new edge that mio promises, so where readable
    /// is asked for anew, a read is tried; and where another interest was told before, so is one
    /// behind it, since an end that came meanwhile was not hinted at either.
    fn tell_interest(&mut self, tools: &mut Tools) {
        let (from, to) = (self.interest, self.exchange.interest());
        if from == to {
            return;
        }
        let slot = self.id().slot;
        let Some(socket) = &mut self.socket else { return };
        if let Err(error) = tools.system.tell(socket, slot, from, to) {
            self.exchange.end(CloseReason::of(&error));
            if to != Interest::None {
                // What was registered before is taken back.
                return self.tell_interest(tools);
            }
        }
        self.interest = to;
        if to.is_readable() && !from.is_readable() {
            self.exchange.readiness.fold(Readiness::READABLE);
        }
        if from == Interest::Writable && to.is_readable() {
            self.exchange.readiness.fold(Readiness::HINTED);
        }
        // Last, so that an observer that panics leaves nothing undone.
        tools.observers.trace(|| Step::InterestChanged(self.id(), from, to));
    }

    /// Sets the alarm for the next deadline. One that is set already rings first, and is set again
    /// then, so that activity costs nothing here.
    fn set_alarm(&mut self, tools: &mut Tools) {
        let next = self.next_deadline(|| tools.system.now());
        let called = Called::Connection(self.id());
        let Some(deadlines) = &mut self.deadlines else { return };
        match (next, deadlines.alarm) {
            (Some(at), Some(alarm)) if alarm.at() <= at => {}
            (Some(at), alarm) => {
                tools.cancel(alarm);
                deadlines.alarm = Some(tools.alarms.set(at, called));
            }
            (None, alarm) => {
                tools.cancel(alarm);
                deadlines.alarm = None;
                // This remembers an idle timeout of its own, which counts in another phase, and that
                // the one of the limits was taken back.
                let has_idle_timeout = deadlines.has_idle_timeout();
                if !has_idle_timeout && self.exchange.limits().idle_timeout.is_none() {
                    self.deadlines = None;
                }
            }
        }
    }

    fn next_deadline(&mut self, now: impl FnOnce() -> Instant) -> Option<Instant> {
        let phase = self.exchange.phase();
        if self.deadlines.is_none() && phase == Phase::Unbounded {
            return None;
        }
        let now = now();
        self.deadlines_mut().enter(phase, now);
        let next = self.deadlines.as_ref()?.next(self.exchange.limits());
        // One that has passed already rings in the next turn, behind all that are due in this one.
        next.map(|(at, _)| at.max(now))
    }
}

#[cold]
fn swapped(id: ConnectionId) -> ! {
    panic!("connection {id} was swapped into the place of another");
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    use crate::{Event, EventLoop, Limits};

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
            let alarms = &event_loop.turns().tools.alarms;
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
