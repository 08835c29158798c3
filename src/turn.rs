//! The turn: wait, record readiness, serve, settle.
//!
//! A program takes one event at a time, so a turn stretches over many calls. Its stages, in order:
//! alarms that are due; a wake; foreign sources; the fresh connections; accepting; one deferred
//! connection. Serving is lazy: a connection is filled, its event delivered, and what the program did
//! with it settled, before the next is filled, so that one hot block serves all.
//!
//! After each event the dirty connections are settled, connections that are coupled to them are
//! informed, and any connection with something left to do is queued to be served again.
//!
//! | file | |
//! |---|---|
//! | `waiting.rs` | how long to wait, and whether to busy-poll first |
//! | `delivering.rs` | the events of the connection that is being served |
//! | `adding.rs` | accepted and outgoing connections |

mod adding;
mod delivering;
mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use self::delivering::{Delivered, Service};
pub(crate) use self::waiting::Spin;
use self::waiting::WaitLimit;
use crate::alarms::Due;
use crate::connection::{Origin, Readers};
use crate::connections::{Connections, Dirty};
use crate::event::Event;
use crate::explanation::{Explanation, explain};
use crate::foreign_sources::Sources;
use crate::limits::{ConnectionLimits, Limits};
use crate::listener::{Accept, Listeners};
use crate::names::Names;
use crate::observer::Step;
use crate::ready_queues::ReadyQueues;
use crate::resources::{AlarmTarget, Resources};
use crate::shutdown::Shutdown;
use crate::slots::ListenerId;
use crate::system::System;
use crate::timers::Timers;
use crate::waker::Waker;

/// How far a turn has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No turn is under way.
    Over,
    /// The alarms that were due when the turn began.
    Alarms(Due),
    /// Another thread may have woken the loop.
    Wake,
    /// This many foreign sources still have something to deliver.
    Sources(usize),
    /// The connections that were fresh when the stage began.
    Fresh,
    /// This many listeners are not yet taken in this turn.
    Accepting {
        listeners: usize,
        at_hand: Option<(ListenerId, usize)>,
    },
    Deferred,
    /// The deferred connection is served; then the turn is over.
    Last,
}

/// The state of a loop, and the course of its turns.
pub(crate) struct Turns<T> {
    pub(crate) resources: Resources,
    pub(crate) connections: Connections<T>,
    pub(crate) listeners: Listeners<T>,
    pub(crate) timers: Timers,
    pub(crate) sources: Sources,
    pub(crate) waker: Waker,
    names: Names,
    shutdown: Shutdown,
    /// The limits that each connection starts with, shared by all that have not set their own.
    connection_limits: Arc<ConnectionLimits>,
    ready: ReadyQueues,
    stage: Stage,
    service: Option<Service>,
    spin: Spin,
    /// An event that is not a connection's, to be delivered next.
    announced: Option<Event>,
    /// An event that was found in a call that ended with an observer's panic.
    kept: Option<Event>,
    /// A wake was seen; `Woken` is due in this turn.
    is_woken: bool,
}

impl<T> Turns<T> {
    pub(crate) fn new(limits: Limits, system: System) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(&system)?,
            connections: Connections::new(),
            listeners: Listeners::new(),
            timers: Timers::default(),
            sources: Sources::default(),
            names: Names::new(),
            shutdown: Shutdown::No,
            connection_limits: Arc::new(limits.connection.clone()),
            spin: Spin::new(limits.spin),
            resources: Resources::new(system, limits),
            ready: ReadyQueues::default(),
            stage: Stage::Over,
            service: None,
            announced: None,
            kept: None,
            is_woken: false,
        })
    }

    /// Returns the next event, or `None` at the end of a turn if the timeout has passed or an
    /// observer has panicked.
    pub(crate) fn next_event(&mut self, timeout: Option<Duration>) -> io::Result<Option<Event>> {
        if self.kept.is_some() {
            return Ok(self.kept.take());
        }
        if let Some(event) = self.repeat() {
            return Ok(Some(event));
        }
        if self.connections.is_any_closed() {
            self.free_closed();
        }
        self.settle_dirty();
        // Usually the next connection has an event, and the clock need not be read.
        let mut limit = None;
        loop {
            let is_turn = self.stage != Stage::Over;
            if let Some(event) = self.next_in_turn() {
                return Ok(Some(event));
            }
            // A shutdown whose deadline passed in this turn has aborted connections: settle them.
            self.settle_dirty();
            if self.is_shut_down() {
                self.shutdown.end(&mut self.resources);
                self.announce(Step::ShutDown, Event::ShutDown);
                return Ok(self.announced.take());
            }
            let now = || self.resources.system.now();
            let limit = *limit.get_or_insert_with(|| WaitLimit::after(timeout, now));
            if is_turn && limit.has_passed(now) || self.resources.observers.hold_panic() {
                return Ok(None);
            }
            self.wait_for_events(limit)?;
        }
    }

    /// Ends a call. If an observer has panicked, resumes the panic and keeps what the call has
    /// found for the next one.
    #[inline]
    pub(crate) fn end_call(
        &mut self,
        outcome: io::Result<Option<Event>>,
    ) -> io::Result<Option<Event>> {
        if let Some(payload) = self.resources.observers.take_panic() {
            if let Ok(event) = outcome {
                self.kept = event;
            }
            std::panic::resume_unwind(payload);
        }
        outcome
    }

    // Serving.

    fn next_in_turn(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.go_on_serving() {
                return Some(event);
            }
            if self.announced.is_some() {
                return self.announced.take();
            }
            self.stage = match self.stage {
                Stage::Over => return None,
                Stage::Alarms(due) => self.fire_next(due),
                Stage::Wake => {
                    if std::mem::take(&mut self.is_woken) {
                        self.announce(Step::Woken, Event::Woken);
                    }
                    Stage::Sources(self.sources.ready_count())
                }
                Stage::Sources(0) => {
                    self.ready.begin_batch();
                    Stage::Fresh
                }
                Stage::Sources(left) => {
                    self.announce_source();
                    Stage::Sources(left - 1)
                }
                Stage::Fresh => match self.ready.take_fresh() {
                    Some(id) => {
                        self.serve(id);
                        continue;
                    }
                    None => {
                        let listeners = self.listeners.ready_count();
                        Stage::Accepting { listeners, at_hand: None }
                    }
                },
                Stage::Accepting { at_hand: Some((id, budget)), listeners } => {
                    Stage::Accepting { listeners, at_hand: self.accept(id, budget) }
                }
                Stage::Accepting { listeners: 0, at_hand: None } => Stage::Deferred,
                Stage::Accepting { listeners, at_hand: None } => {
                    let id = self.listeners.take_ready();
                    let at_hand = id.map(|id| (id, self.resources.limits.accept_budget));
                    Stage::Accepting { listeners: listeners - 1, at_hand }
                }
                Stage::Deferred => {
                    if let Some(id) = self.ready.take_deferred() {
                        self.serve(id);
                    }
                    Stage::Last
                }
                Stage::Last => {
                    self.stage = Stage::Over;
                    return None;
                }
            };
        }
    }

    /// Frees the connection whose `Closed` was handled, and lets a listener that waits for room
    /// accept.
    #[cold]
    fn free_closed(&mut self) {
        let Some(slot) = self.connections.take_closed() else { return };
        self.service = None;
        let Some(mut connection) = self.connections.remove(slot) else { return };
        connection.stream.assert_lives_in(slot);
        self.shutdown.freed(connection.id());
        connection.stream.release(&mut self.resources);
        self.listeners.make_room(&mut self.resources);
    }

    /// Makes an event that is not a connection's the next to be delivered.
    fn announce(&mut self, step: Step, event: Event) {
        self.announced = Some(event);
        self.resources.observers.see(step);
    }

    fn announce_source(&mut self) {
        if let Some((id, readiness)) = self.sources.take_ready() {
            self.announce(Step::SourceReady { id, readiness }, Event::Ready(id, readiness));
        }
    }

    /// Handles the next of the alarms that were due when the turn began.
    #[inline(never)]
    fn fire_next(&mut self, due: Due) -> Stage {
        let Some(target) = self.resources.alarms.take_due(due) else { return Stage::Wake };
        match target {
            AlarmTarget::Listener(id) => {
                self.listeners.try_again(id, &mut self.resources);
            }
            AlarmTarget::Timer(id) => {
                self.timers.fired(id, &mut self.resources);
                self.announce(Step::TimerFired { id }, Event::Timer(id));
            }
            AlarmTarget::Shutdown => {
                let Self { shutdown, connections, listeners, resources, .. } = self;
                shutdown.abort_rest(connections, listeners, resources);
            }
            AlarmTarget::Connection(id) => {
                if let Some(connection) = self.connections.at(id.slot) {
                    connection.stream.alarm_fired(&mut self.resources);
                    self.service = Some(Service::begin(id.slot));
                }
            }
        }
        Stage::Alarms(due)
    }

    /// Accepts one connection and begins its service. Returns the listener and the rest of its
    /// budget, unless it is done for this turn.
    #[inline(never)]
    fn accept(&mut self, id: ListenerId, budget: usize) -> Option<(ListenerId, usize)> {
        let Some(left) = budget.checked_sub(1) else {
            self.listeners.queue(id);
            return None;
        };
        let has_room =
            self.resources.limits.connections_max.is_none_or(|max| self.connections.len() < max);
        match self.listeners.accept(id, has_room, &mut self.resources) {
            Accept::Done => None,
            Accept::Failed(id, failure) => {
                let event = Event::AcceptFailed(id, failure);
                self.announce(Step::AcceptFailed { id, failure }, event);
                None
            }
            Accept::Skipped => Some((id, left)),
            Accept::Peer { socket, peer, data } => {
                let accepted = self.add_accepted(data, Origin::accepted(id, peer), socket);
                self.service = Some(Service::begin(accepted.slot));
                let step = Step::Accepted { listener: id, id: accepted, peer };
                self.resources.observers.see(step);
                Some((id, left))
            }
        }
    }

    // Settling.

    /// Settles the dirty connections, then the one that is being served and those that are coupled
    /// to it.
    #[inline]
    fn settle_dirty(&mut self) {
        self.settle_listed();
        if let Some(Service { slot, delivered: Some(Delivered { unsent, .. }), .. }) = self.service
        {
            self.settle(slot, unsent);
            // The connections that are coupled to it.
            self.settle_listed();
        }
    }

    #[inline]
    fn settle_listed(&mut self) {
        while let Some(Dirty { slot, unsent }) = self.connections.take_dirty() {
            self.settle(slot, unsent);
        }
    }

    /// Settles a connection that had this many bytes unsent when it was lent to the program.
    #[inline]
    fn settle(&mut self, slot: u32, unsent: usize) {
        // A closed connection may have been freed.
        let Some(connection) = self.connections.at(slot) else { return };
        if !connection.stream.standing.dirty {
            return;
        }
        let stream = &mut connection.stream;
        stream.assert_lives_in(slot);
        stream.standing.dirty = false;
        stream.settle(unsent, &mut self.resources);
        let is_at_rest = stream.exchange.is_at_rest();
        let has_readers = stream.standing.readers != Readers::None;
        if has_readers || self.shutdown.is_under_way() {
            self.settle_others(slot);
        }
        if self.service.is_none_or(|service| service.slot != slot) {
            if !is_at_rest {
                self.requeue(slot);
            }
        } else if is_at_rest {
            // Nothing is left to be delivered or done.
            self.service = None;
        }
    }

    /// Follows up on a settled connection: for those coupled to it, and for a shutdown.
    #[cold]
    fn settle_others(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let (id, has_unsent) = (connection.id(), connection.unsent() > 0);
        self.connections.inform_readers(id, has_unsent);
        self.shutdown.close_quiet(id, &mut self.connections);
    }

    fn requeue(&mut self, slot: u32) {
        if let Some(connection) = self.connections.at(slot) {
            self.ready.requeue(connection);
        }
    }

    /// What everything waits for.
    pub(crate) fn explain(&self) -> Explanation {
        explain(&self.connections, &self.listeners, &self.resources)
    }

    // Shutting down.

    pub(crate) fn shut_down(&mut self, after: Duration) {
        let Self { shutdown, connections, listeners, resources, .. } = self;
        shutdown.begin(after, connections, listeners, resources);
    }

    fn is_shut_down(&self) -> bool {
        self.shutdown.is_over(&self.connections, &self.listeners)
    }
}

impl<T> Drop for Turns<T> {
    /// Deregisters everything, so that duplicates of its sockets cannot keep a duplicate of the
    /// loop's descriptor readable.
    fn drop(&mut self) {
        let system = &self.resources.system;
        if system.owns_registrations() {
            self.connections.all_mut().for_each(|connection| connection.stream.deregister(system));
            self.listeners.deregister(system);
        }
    }
}

#[cfg(test)]
mod tests;
