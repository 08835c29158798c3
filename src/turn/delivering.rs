//! Delivers the events of the connection at hand, one for each call of the program.
//!
//! A service goes through the list of pending events once. An event that becomes pending again, or
//! that comes before those already delivered, waits for the next turn. Only `Received` is repeated
//! within a service, a limited number of times, after the program has consumed something and before
//! its answers are flushed. So nothing that a program does while it handles events can keep a turn
//! from ending.

use super::Turns;
use crate::connection::{Queued, Stream};
use crate::event::Event;
use crate::observer::Step;
use crate::pending_events::Pending;
use crate::slots::ConnectionId;

/// Maximum number of repeats of `Received` in a service; then others are served.
pub(super) const REPEATS_MAX: u8 = 64;

/// The connection that is being served. After the delivery of its event it is dirty, but not in the
/// list of dirty ones: it is settled at the next call, after all in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) slot: u32,
    pub(super) delivered: Option<Delivered>,
    /// How many times `Received` was repeated.
    pub(super) repeats: u8,
}

/// What a service has delivered for its connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    /// The last of its pending events so far.
    pub(super) last: Pending,
    /// How many bytes were unsent when it was last settled.
    pub(super) unsent: usize,
}

impl Service {
    pub(super) fn begin(slot: u32) -> Self {
        Self { slot, delivered: None, repeats: 0 }
    }

    /// Counts an event as delivered, and returns it. What the program does now is settled
    /// afterwards.
    #[inline]
    pub(super) fn deliver(&mut self, stream: &mut Stream, pending: Pending) -> Option<Event> {
        let unsent = match self.delivered {
            Some(before) if stream.standing.dirty => before.unsent,
            _ => stream.unsent(),
        };
        let before = self.delivered.map(|before| before.last);
        self.repeats += u8::from(before.is_some_and(|before| pending <= before));
        let last = before.map_or(pending, |before| before.max(pending));
        self.delivered = Some(Delivered { last, unsent });
        stream.exchange.delivered(pending);
        stream.standing.dirty = true;
        let id = stream.id();
        Some(match pending {
            Pending::Accepted => Event::Accepted(stream.listener()?, id),
            Pending::Connected => Event::Connected(id),
            Pending::Received => Event::Received(id),
            Pending::Full => Event::Full(id),
            Pending::Drained => Event::Drained(id),
            Pending::Deadline => Event::Deadline(id),
            Pending::PeerFinished => Event::PeerFinished(id),
            Pending::Closed => Event::Closed(id, stream.exchange.close_reason()?),
        })
    }
}

impl<T> Turns<T> {
    /// Begins the service of a connection that was taken from its queue, with the transfers that it
    /// wants and is ready for. A closed connection is skipped.
    #[inline]
    pub(super) fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.at_id(id) else { return };
        connection.stream.standing.queued = Queued::No;
        connection.stream.serve(&mut self.resources);
        self.service = Some(Service::begin(id.slot));
    }

    /// Returns the next event of the connection that is being served. After the last event it is
    /// settled.
    #[inline]
    pub(super) fn go_on_serving(&mut self) -> Option<Event> {
        let Self { service, connections, .. } = self;
        let at_hand = service.as_mut()?;
        let (slot, delivered) = (at_hand.slot, at_hand.delivered);
        if let Some(connection) = connections.at(slot)
            && let Some(pending) = connection.stream.exchange.next_pending()
        {
            // Only a repeat is delivered again in the same service.
            let is_next = delivered.is_none_or(|delivered| pending > delivered.last);
            let is_repeat = !is_next && connection.exchange.is_repeat_next();
            if is_next || is_repeat && at_hand.repeats < REPEATS_MAX {
                return match pending {
                    Pending::Closed => self.deliver_closed(slot),
                    _ => at_hand.deliver(&mut connection.stream, pending),
                };
            }
            connection.stream.standing.yielded |= is_repeat;
        }
        self.service = None;
        match delivered {
            None => {
                // Its coupled readers too: whether it has unsent bytes may have changed.
                self.connections.lend(slot);
                self.settle_dirty();
            }
            // After the last event it was settled when the program asked for the next.
            Some(_) => self.requeue(slot),
        }
        None
    }

    /// Delivers `Received` again, before the program's answers are flushed, if it has consumed
    /// something and bytes are left. So a handler may take one message per event.
    #[inline]
    pub(super) fn repeat(&mut self) -> Option<Event> {
        let service = self.service.as_mut()?;
        let left_unsent = service.delivered?.unsent;
        if self.connections.is_any_closed() {
            return None;
        }
        let stream = &mut self.connections.at(service.slot)?.stream;
        if !stream.exchange.has_progress() {
            return None;
        }
        if stream.exchange.has_spent_write_budget() {
            // Others are served first.
            service.repeats = REPEATS_MAX;
        }
        if service.repeats < REPEATS_MAX && stream.exchange.may_repeat_at_once(left_unsent) {
            return service.deliver(stream, Pending::Received);
        }
        None
    }

    /// Delivers `Closed`. The socket is closed first, so the peer is told no later than the
    /// program.
    #[cold]
    fn deliver_closed(&mut self, slot: u32) -> Option<Event> {
        let stream = &mut self.connections.at(slot)?.stream;
        let reason = stream.exchange.close_reason()?;
        stream.close_socket(&mut self.resources);
        let (id, unsent, lost) = (stream.id(), stream.unsent(), stream.lost());
        self.resources.observers.see(Step::Closed { id, reason, unsent, lost });
        stream.exchange.delivered(Pending::Closed);
        self.connections.set_closed(slot);
        Some(Event::Closed(id, reason))
    }
}
