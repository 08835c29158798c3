//! What the program of a run does to a connection, one call each, with the books kept of it.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use super::flow::Coupled;
use super::run::{Line, Run};
use crate::limits::ConnectionLimits;
use crate::slots::ConnectionId;

/// What needs no books but of what it forbids from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Pause,
    Resume,
    Finish,
    Close,
    CloseWith(ErrorKind),
    Abort,
    AbortWith(ErrorKind),
    AllowHalfOpen(bool),
    SetIdleTimeout(Duration),
}

impl Run {
    pub(super) fn consume(&mut self, id: ConnectionId, most: usize) {
        let connection = &mut self.event_loop[id];
        let count = connection.received().len().min(most);
        connection.consume(count);
        let left = connection.received().len();
        let now = self.simulation.now();
        self.checker.flow(id).consume(count, left, now);
        self.note(Line::Program("consumes", id, count));
    }

    pub(super) fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        let connection = &mut self.event_loop[id];
        let (unsent, count) = (connection.unsent(), bytes.len());
        connection.send(bytes);
        let is_taken = connection.unsent() == unsent + count;
        self.checker.flow(id).offer(bytes, if is_taken { count } else { 0 });
        self.note_unsent(id, unsent);
        self.note_clogged(id);
        self.note(Line::Program("sends", id, count));
    }

    /// Writes as `Write` has it: what is not taken is neither lost nor counted.
    pub(super) fn write(&mut self, id: ConnectionId, bytes: &[u8]) {
        let connection = &mut self.event_loop[id];
        let (unsent, lost) = (connection.unsent(), connection.lost());
        let taken = match connection.write(bytes) {
            Ok(count) => count,
            Err(error) => {
                let is_over = !connection.exchange.takes_bytes();
                let expected = if is_over { ErrorKind::BrokenPipe } else { ErrorKind::WouldBlock };
                assert_eq!(error.kind(), expected, "12: {id} refuses a write");
                0
            }
        };
        let is_short = taken < bytes.len() && connection.exchange.takes_bytes();
        assert!(!is_short || connection.is_clogged(), "5: {id} took too little, and no word");
        assert_eq!(connection.unsent(), unsent + taken, "12: {id} took something else");
        assert_eq!(connection.lost(), lost, "12: {id} lost something of a write");
        let flow = self.checker.flow(id);
        flow.offer(&bytes[..taken], taken);
        flow.is_clogged |= is_short;
        self.note_unsent(id, unsent);
        self.note_clogged(id);
        self.note(Line::Program("writes", id, taken));
    }

    /// Writes all or nothing.
    pub(super) fn write_all(&mut self, id: ConnectionId, bytes: &[u8]) {
        let connection = &mut self.event_loop[id];
        let (unsent, lost) = (connection.unsent(), connection.lost());
        let taken = match connection.write_all(bytes) {
            Ok(()) => bytes.len(),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::BrokenPipe, "12: {id} refuses a write");
                0
            }
        };
        assert_eq!(connection.unsent(), unsent + taken, "12: {id} took a part");
        assert_eq!(connection.lost(), lost, "12: {id} lost something of a write");
        self.checker.flow(id).offer(&bytes[..taken], taken);
        self.note_unsent(id, unsent);
        self.note_clogged(id);
        self.note(Line::Program("writes all", id, taken));
    }

    pub(super) fn send_received(&mut self, id: ConnectionId) {
        let connection = &mut self.event_loop[id];
        let (unsent, count) = (connection.unsent(), connection.received().len());
        connection.send_received();
        let is_taken = connection.unsent() == unsent + count;
        let now = self.simulation.now();
        let flow = self.checker.flow(id);
        let bytes = flow.wrote[flow.consumed..flow.consumed + count].to_vec();
        flow.offer(&bytes, if is_taken { count } else { 0 });
        flow.consume(count, 0, now);
        self.note_unsent(id, unsent);
        self.note_clogged(id);
        self.note(Line::Program("sends what it received", id, count));
    }

    /// Moves what one has received to another, which may be the same or just closed.
    pub(super) fn transfer(&mut self, from: ConnectionId, to: ConnectionId) {
        let unsent = self.event_loop.get(to).map_or(0, |connection| connection.unsent());
        let moved = self.event_loop.transfer(from, to);
        let now = self.simulation.now();
        let flow = self.checker.flow(from);
        let bytes = flow.wrote[flow.consumed..flow.consumed + moved].to_vec();
        flow.consume(moved, 0, now);
        self.checker.flow(to).offer(&bytes, moved);
        if moved > 0 {
            self.note_unsent(to, unsent);
        }
        self.note_clogged(to);
        self.note(Line::Program("transfers", from, moved));
    }

    /// So much was unsent before it was given more.
    fn note_unsent(&mut self, id: ConnectionId, before: usize) {
        if before == 0 {
            self.checker.flow(id).unsent = self.simulation.now();
        }
    }

    fn note_clogged(&mut self, id: ConnectionId) {
        let Some(connection) = self.event_loop.get(id) else { return };
        let high_water = connection.exchange.limits().high_water;
        let flow = self.checker.flow(id);
        flow.is_clogged |= connection.unsent() > high_water;
    }

    pub(super) fn couple(&mut self, reader: ConnectionId, writer: ConnectionId) {
        let are_there = [reader, writer].map(|id| self.event_loop.get(id).is_some());
        self.event_loop.couple(reader, writer);
        let flow = self.checker.flow(reader);
        flow.was_coupled = true;
        if are_there == [true, true] {
            let to_itself = reader == writer;
            flow.coupled = if to_itself { Coupled::ToItself } else { Coupled::To(writer) };
        }
        self.note(Line::Program("is coupled", reader, 0));
    }

    pub(super) fn uncouple(&mut self, reader: ConnectionId) {
        self.event_loop.uncouple(reader);
        self.checker.flow(reader).coupled = Coupled::ToNobody;
        self.note(Line::Program("is uncoupled", reader, 0));
    }

    pub(super) fn set_deadline(&mut self, id: ConnectionId, after: Option<Duration>) {
        let now = self.simulation.now();
        self.event_loop[id].set_deadline(after);
        self.checker.flow(id).deadline = after.map(|after| now + after);
        self.note(Line::Program("sets a deadline", id, 0));
    }

    /// Only ever up, so that the bounds of what is held go on to hold.
    pub(super) fn set_limits(&mut self, id: ConnectionId, mut limits: ConnectionLimits) {
        let connection = &mut self.event_loop[id];
        let before = connection.exchange.limits();
        limits.read_buffer_max = limits.read_buffer_max.max(before.read_buffer_max);
        limits.unsent_max = limits.unsent_max.max(before.unsent_max);
        limits.idle_timeout = before.idle_timeout;
        let is_changed = limits.reads_while_unsent != before.reads_while_unsent;
        let (is_free, is_accepted) = (limits.reads_while_unsent, connection.listener().is_some());
        connection.set_limits(limits).unwrap();
        let flow = self.checker.flow(id);
        flow.filled.1 = 0;
        let is_gone = |writer| self.event_loop.get(writer).is_none();
        let coupled = match flow.coupled {
            Coupled::To(writer) if is_gone(writer) => Coupled::ToNobody,
            coupled => coupled,
        };
        flow.coupled = match coupled {
            Coupled::ToItself if is_accepted && is_changed && is_free => Coupled::ToNobody,
            Coupled::ToNobody if is_accepted && is_changed && !is_free => Coupled::ToItself,
            coupled => coupled,
        };
        // The new marks count at once.
        self.note_clogged(id);
        self.note(Line::Program("changes its limits", id, 0));
    }

    pub(super) fn change(&mut self, id: ConnectionId, change: Change) {
        let Some(connection) = self.event_loop.get_mut(id) else { return };
        let flow = self.checker.flow(id);
        let what = match change {
            Change::Pause => {
                connection.pause();
                flow.is_paused = connection.exchange.is_paused();
                flow.was_paused |= flow.is_paused;
                "pauses"
            }
            Change::Resume => {
                connection.resume();
                flow.resumed(connection, self.simulation.now());
                "resumes"
            }
            Change::Finish => {
                connection.finish();
                "finishes"
            }
            Change::Close => {
                connection.close();
                flow.is_closing = true;
                "closes"
            }
            Change::CloseWith(kind) => {
                flow.reject(connection, kind);
                connection.close_with(kind);
                flow.is_closing = true;
                "closes with a reason"
            }
            Change::Abort => {
                connection.abort();
                (flow.is_closing, flow.was_aborted) = (true, true);
                "aborts"
            }
            Change::AbortWith(kind) => {
                flow.reject(connection, kind);
                connection.abort_with(kind);
                (flow.is_closing, flow.was_aborted) = (true, true);
                "aborts with a reason"
            }
            Change::AllowHalfOpen(allowed) => {
                connection.allow_half_open(allowed);
                "changes half-open"
            }
            Change::SetIdleTimeout(timeout) => {
                connection.set_idle_timeout(Some(timeout)).unwrap();
                // A deadline that was set before may be due already.
                let least = flow.idle_timeout.map_or(timeout, |before| before.min(timeout));
                flow.idle_timeout = Some(least);
                "sets an idle timeout"
            }
        };
        self.note(Line::Program(what, id, 0));
    }
}
