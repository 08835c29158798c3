//! What the program of a run does to a connection, one call each, with the books kept of it.

use std::time::Duration;

use super::flow::Coupled;
use super::run::{Line, Run};
use crate::event::ConnectionId;
use crate::limits::ConnectionLimits;

/// What needs no books but of what it forbids from then on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Pause,
    Resume,
    Finish,
    Close,
    Abort,
    AllowHalfOpen(bool),
    SetIdleTimeout(Duration),
}

impl Run {
    pub(super) fn consume(&mut self, id: ConnectionId, most: usize) {
        let connection = &mut self.event_loop[id];
        let count = connection.received().len().min(most);
        connection.consume(count);
        self.checker.flow(id).consumed += count;
        self.note(Line::Program("consumes", id, count));
    }

    pub(super) fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        let connection = &mut self.event_loop[id];
        let (unsent, count) = (connection.unsent(), bytes.len());
        connection.send(bytes);
        let is_taken = connection.unsent() == unsent + count;
        let flow = self.checker.flow(id);
        flow.offered += count as u64;
        if is_taken {
            flow.sent.extend(bytes);
        }
        self.note_unsent(id, unsent);
        self.note_clogged(id);
        self.note(Line::Program("sends", id, count));
    }

    pub(super) fn send_received(&mut self, id: ConnectionId) {
        let connection = &mut self.event_loop[id];
        let (unsent, count) = (connection.unsent(), connection.received().len());
        connection.send_received();
        let is_taken = connection.unsent() == unsent + count;
        let flow = self.checker.flow(id);
        flow.offered += count as u64;
        if is_taken {
            flow.sent.extend_from_slice(&flow.wrote[flow.consumed..flow.consumed + count]);
        }
        flow.consumed += count;
        self.note_unsent(id, unsent);
        self.note_clogged(id);
        self.note(Line::Program("sends what it received", id, count));
    }

    /// Moves what one has received to another, which may be the same or just closed.
    pub(super) fn transfer(&mut self, from: ConnectionId, to: ConnectionId) {
        let unsent = self.event_loop.get(to).map_or(0, |connection| connection.unsent());
        let moved = self.event_loop.transfer(from, to);
        let flow = self.checker.flow(from);
        let bytes = flow.wrote[flow.consumed..flow.consumed + moved].to_vec();
        flow.consumed += moved;
        let flow = self.checker.flow(to);
        flow.offered += bytes.len() as u64;
        flow.sent.extend(bytes);
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
        if connection.exchange.takes_bytes() && connection.is_clogged() {
            let high_water = connection.exchange.limits().high_water;
            let flow = self.checker.flow(id);
            flow.is_clogged |= connection.unsent() > high_water;
        }
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
        limits.high_water = before.high_water;
        limits.low_water = before.low_water;
        limits.idle_timeout = before.idle_timeout;
        connection.set_limits(limits).unwrap();
        self.checker.flow(id).filled.1 = 0;
        self.note(Line::Program("changes its limits", id, 0));
    }

    pub(super) fn change(&mut self, id: ConnectionId, change: Change) {
        let Some(connection) = self.event_loop.get_mut(id) else { return };
        let flow = self.checker.flow(id);
        let what = match change {
            Change::Pause => {
                connection.pause();
                (flow.was_paused, flow.is_paused) = (true, true);
                "pauses"
            }
            Change::Resume => {
                connection.resume();
                flow.is_paused = false;
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
            Change::Abort => {
                connection.abort();
                (flow.is_closing, flow.was_aborted) = (true, true);
                "aborts"
            }
            Change::AllowHalfOpen(allowed) => {
                connection.allow_half_open(allowed);
                "changes half-open"
            }
            Change::SetIdleTimeout(timeout) => {
                connection.set_idle_timeout(Some(timeout));
                // One that was set before may have come due already.
                let least = flow.idle_timeout.map_or(timeout, |before| before.min(timeout));
                flow.idle_timeout = Some(least);
                "sets an idle timeout"
            }
        };
        self.note(Line::Program(what, id, 0));
    }
}
