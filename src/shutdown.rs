//! Leaving gracefully: every connection lives on until it is quiet, and then it closes.
//!
//! A shutdown first lets the listeners accept all peers that wait, and closes them. A connection is
//! quiet when its socket was read to `EAGAIN` and nothing is left to be handled or to leave, so
//! what the peers had sent before is received and answered. A connection that others are coupled to
//! waits for them too, because what they have read leaves through it. At the deadline, whatever is
//! left is aborted. When nothing is left, `ShutDown` is delivered.
//!
//! It deliberately does not stop the loop. Timers, wakes and foreign sources go on, and so does a
//! program that listens again.

use std::time::Duration;

use crate::alarms::Alarm;
use crate::connections::{Connections, Newest};
use crate::listener::Listeners;
use crate::observer::Step;
use crate::resources::{AlarmTarget, Resources};
use crate::slots::ConnectionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shutdown {
    No,
    /// Under way. The alarm fires at the deadline: never, if the clock cannot represent it.
    Until(Option<Alarm>),
    /// The deadline has passed. The connections of that moment are aborted, and only they are
    /// waited for: the newest of them, and how many are left. Otherwise a program that reconnects
    /// whenever a connection closes would never end.
    Aborted {
        newest: Newest,
        left: usize,
    },
}

impl Shutdown {
    pub(crate) fn is_under_way(self) -> bool {
        self != Self::No
    }

    /// Begins a shutdown, or sets another deadline for one that has begun.
    pub(crate) fn begin<T>(
        &mut self,
        after: Duration,
        connections: &mut Connections<T>,
        listeners: &mut Listeners<T>,
        resources: &mut Resources,
    ) {
        if let Self::Until(alarm) = *self {
            resources.cancel(alarm);
        }
        let at = resources.system.now().checked_add(after);
        *self = Self::Until(at.map(|at| resources.alarms.set(at, AlarmTarget::Shutdown)));
        for connection in connections.iter_mut() {
            // So that each is read to `EAGAIN`; a short read does not prove that nothing is left.
            connection.stream.exchange.try_read_to_the_end();
        }
        listeners.drain(resources);
        let connections = connections.len();
        resources.observers.see(Step::ShuttingDown { connections, deadline: after });
    }

    /// Closes a connection that was settled if it is quiet now. The connection that it is coupled
    /// to is checked too, because it may have waited for this one alone.
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
            // The program may just have acted on it, and settling may find more to read.
            connections.lend(writer.slot);
        }
    }

    /// Aborts what is left: the deadline has passed.
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

    /// Returns whether nothing is left, so that `ShutDown` is due.
    pub(crate) fn is_over<T>(self, connections: &Connections<T>, listeners: &Listeners<T>) -> bool {
        match self {
            Self::No => false,
            Self::Until(_) => connections.is_empty() && !listeners.is_any_draining(),
            Self::Aborted { left, .. } => left == 0,
        }
    }

    /// Records that the slot of a connection was freed.
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
