//! Leaving gracefully: every connection lives on until it is quiet, and then it closes.
//!
//! A shutdown first lets the listeners accept all peers that wait, and closes them. A connection is
//! quiet when its socket was read until there was no more, and nothing of it is left to be handled or
//! to leave; so what the peers had sent before is received and answered. One that others are coupled
//! to waits for those too, since what they have read is to leave by it. Whatever is still there
//! when the time is over is aborted. When nothing is left, `ShutDown` is delivered.
//!
//! What it deliberately does not do: it does not stop the loop. Timers, wakes and foreign sources
//! go on, and so does a program that listens anew.

use std::time::Duration;

use crate::alarms::Alarm;
use crate::connections::{Connections, Newest};
use crate::limits::Limits;
use crate::listener::Listeners;
use crate::observer::Step;
use crate::resources::{AlarmTarget, Resources};
use crate::slots::ConnectionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    No,
    /// Under way, and this fires when the time is over: never, if that lies beyond the clock.
    Until(Option<Alarm>),
    /// The time is over. What there was then is aborted, and only that is waited for: the newest of
    /// it, and how many are left. A program that connects anew whenever a connection closes would
    /// have no end.
    Aborted {
        newest: Newest,
        left: usize,
    },
}

impl Shutdown {
    pub(crate) fn is_under_way(self) -> bool {
        self != Self::No
    }

    /// Begins, or gives one that has begun another time.
    pub(crate) fn begin<T>(
        &mut self,
        after: Duration,
        connections: &mut Connections<T>,
        listeners: &mut Listeners<T>,
        limits: &Limits,
        resources: &mut Resources,
    ) {
        if let Self::Until(alarm) = *self {
            resources.cancel(alarm);
        }
        let at = resources.system.now().checked_add(after);
        *self = Self::Until(at.map(|at| resources.alarms.set(at, AlarmTarget::Shutdown)));
        for connection in connections.iter_mut() {
            // So that each is read until there is no more; a short read does not prove that.
            let exchange = &mut connection.stream.exchange;
            exchange.try_read_to_the_end();
        }
        listeners.drain(limits, resources);
        resources
            .observers
            .see(Step::ShuttingDown { connections: connections.len(), deadline: after });
    }

    /// Closes a connection that was settled, if it is quiet now, and has the one that it reads for
    /// looked at, which may have waited for that alone.
    pub(crate) fn close_quiet<T>(self, id: ConnectionId, connections: &mut Connections<T>) {
        if !matches!(self, Self::Until(_)) {
            return;
        }
        if connections.is_quiet(id)
            && let Some(connection) = connections.lend(id.slot)
        {
            connection.stream.close();
        }
        if let Some(writer) = connections.writer_of(id)
            && connections.is_quiet(writer)
        {
            // The program may just have done something to it, and settling may find more to read.
            connections.lend(writer.slot);
        }
    }

    /// The time is over.
    pub(crate) fn abort_rest<T>(
        &mut self,
        connections: &mut Connections<T>,
        listeners: &mut Listeners<T>,
        resources: &mut Resources,
    ) {
        *self = Self::Aborted { newest: connections.newest(), left: connections.slot_count() };
        for connection in connections.iter_mut() {
            connection.abort();
        }
        listeners.close_draining(resources);
        resources.observers.see(Step::ShutdownTimedOut { connections: connections.len() });
    }

    /// Whether nothing is left, so that the program is to be told.
    pub(crate) fn is_over<T>(self, connections: &Connections<T>, listeners: &Listeners<T>) -> bool {
        match self {
            Self::No => false,
            Self::Until(_) => connections.is_empty() && !listeners.is_any_draining(),
            Self::Aborted { left, .. } => left == 0,
        }
    }

    /// The slot of a connection was freed.
    pub(crate) fn freed(&mut self, id: ConnectionId) {
        if let Self::Aborted { newest, left } = self
            && newest.is_as_new_as(id)
        {
            *left -= 1;
        }
    }

    /// Ends the shutdown.
    pub(crate) fn end(&mut self, resources: &mut Resources) {
        if let Self::Until(alarm) = std::mem::replace(self, Self::No) {
            resources.cancel(alarm);
        }
    }
}
