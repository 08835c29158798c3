//! The service of one connection: which of its pending events were delivered.
//!
//! A service climbs the list of pending events once: an event that becomes pending again, or one that
//! comes before those already delivered, waits for the next turn. Only `Received` is repeated within
//! a service, after the program has consumed something and before its answers are flushed, and that
//! a limited number of times. So what a program does while it handles an event cannot keep a turn
//! from its end.

use super::Turns;
use crate::connection::{Queued, Stream};
use crate::event::Event;
use crate::observer::Step;
use crate::pending::Pending;
use crate::slots::ConnectionId;

/// The number of times that `Received` is repeated in a service, at most; then others are served.
pub(super) const REPEATS_MAX: u8 = 64;

/// The connection that is being served. After its event was delivered it is dirty, but not in the
/// list of those: it is settled when the program comes back, after all in the list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Service {
    pub(super) slot: u32,
    pub(super) delivered: Option<Delivered>,
    /// How many times `Received` was repeated.
    pub(super) repeats: u8,
}

/// What was delivered of a connection in a service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivered {
    /// The last of its pending events.
    pub(super) last: Pending,
    /// How many bytes it had unsent when it was settled last.
    pub(super) unsent: usize,
}

impl Service {
    pub(super) fn begin(slot: u32) -> Self {
        Self { slot, delivered: None, repeats: 0 }
    }

    /// Counts an event as delivered, and returns it. What the program does now is settled after it.
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
    /// Begins the service of a connection that was taken from its queue: the transfers that it
    /// wants and is ready for. One that has closed meanwhile is skipped.
    #[inline]
    pub(super) fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.at_id(id) else { return };
        connection.stream.standing.queued = Queued::No;
        connection.stream.serve(&mut self.resources);
        self.service = Some(Service::begin(id.slot));
    }

    /// Returns the next event of the connection that is being served; at the end it is settled.
    #[inline]
    pub(super) fn go_on_serving(&mut self) -> Option<Event> {
        let Self { service, connections, .. } = self;
        let at_hand = service.as_mut()?;
        let (slot, delivered) = (at_hand.slot, at_hand.delivered);
        if let Some(connection) = connections.at(slot)
            && let Some(pending) = connection.stream.exchange.next_event()
        {
            // Only a repeat comes again in the same service.
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
                // With those that read for it: whether it has unsent bytes may have changed.
                self.connections.lend(slot);
                self.settle_dirty();
            }
            // The last event was settled when the program came back for the next.
            Some(_) => self.requeue(slot),
        }
        None
    }

    /// Delivers `Received` again, before anything that the program has just sent is flushed, if it
    /// has consumed something and bytes are left: so a handler may take one message per event.
    #[inline]
    pub(super) fn repeat(&mut self) -> Option<Event> {
        let service = self.service.as_mut().filter(|service| service.delivered.is_some())?;
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
        if service.repeats < REPEATS_MAX && stream.exchange.may_repeat_at_once() {
            return service.deliver(stream, Pending::Received);
        }
        None
    }

    /// Delivers the last event of a connection. Its socket is closed first, so that its peer hears of
    /// it no later than the program.
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
