//! The turn: wait, fold readiness, serve, settle. This file alone waits.
//!
//! A program takes one event at a time, so that a turn stretches over many calls. Its stages, in
//! order: due alarms; a wake; foreign sources; the connections that are fresh; accepting; one
//! left-over. Serving is lazy: a connection is filled, its event delivered, and what the program
//! did with it settled, before the next is filled, so that one hot block serves all.
//!
//! A service climbs the list of owed events once: an event that comes up again, or one that stands
//! before those already delivered, waits for the next turn. So what a program does while it handles
//! an event cannot keep a turn from its end.
//!
//! After each event the connections that the program touched are settled, those that are coupled
//! to them are told, and any that has something left to do is queued to be served again.
//!
//! All this is the general way of an event. Most come the usual one, which is shorter: see
//! `turn/usual.rs`.

pub(crate) mod usual;

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::alarms::Due;
use crate::connection::{Connection, Queued, Readers, Stream};
use crate::connections::{Connections, Touched};
#[cfg(any(test, feature = "simulation"))]
use crate::diagnosis::{diagnosed, diagnosis};
use crate::event::{CloseReason, ConnectionId, Event, ListenerId};
use crate::exchange::Exchange;
use crate::interest::Readiness;
use crate::limits::{ConnectionLimits, Limits};
use crate::listener::{Accept, Listeners};
use crate::observer::Step;
use crate::origin::Origin;
use crate::owed::Owed;
use crate::ready::Ready;
use crate::shutdown::Shutdown;
use crate::sources::Sources;
use crate::spin::Spin;
use crate::system::{Socket, System, Watched};
use crate::timers::Timers;
use crate::tools::{Called, Tools};
use crate::waker::Waker;

/// How far a turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// No turn is under way.
    Over,
    /// Alarms that were due when the turn began.
    Alarms(Due),
    /// Another thread may have called.
    Wake,
    /// So many foreign sources have news that is still to be told.
    Sources(usize),
    /// Those that were fresh when the stage began.
    Fresh,
    /// So many listeners are still to be served, after the one at hand.
    Accepting {
        listeners: usize,
        at_hand: Option<(ListenerId, usize)>,
    },
    LeftOver,
    /// The left-over is served; then the turn is over.
    Last,
}

/// The connection that is being served. One whose event was delivered is settled when the program
/// comes back, after those that it touched meanwhile: it is marked as touched, but does not stand in
/// the list of those.
#[derive(Clone, Copy, Debug)]
struct Service {
    slot: u32,
    /// The event of it that was delivered last, and how much it had unsent then.
    delivered: Option<(Owed, usize)>,
}

/// Everything that a loop has, and the course of its turns.
pub(crate) struct Turns<T> {
    pub(crate) tools: Tools,
    pub(crate) connections: Connections<T>,
    pub(crate) listeners: Listeners<T>,
    pub(crate) timers: Timers,
    pub(crate) sources: Sources,
    pub(crate) waker: Waker,
    shutdown: Shutdown,
    pub(crate) limits: Limits,
    /// What each connection starts with, shared by those that have no limits of their own.
    connection_limits: Arc<ConnectionLimits>,
    ready: Ready,
    stage: Stage,
    service: Option<Service>,
    spin: Spin,
    /// An event that is no connection's, to be told next.
    announced: Option<Event>,
    /// A wake was seen, of which the program is to be told in this turn.
    is_woken: bool,
}

impl<T> Turns<T> {
    pub(crate) fn new(limits: Limits, system: System) -> io::Result<Self> {
        Ok(Self {
            waker: Waker::new(&system)?,
            tools: Tools::new(system),
            connections: Connections::new(),
            listeners: Listeners::new(),
            timers: Timers::default(),
            sources: Sources::default(),
            shutdown: Shutdown::No,
            connection_limits: Arc::new(limits.connection.clone()),
            spin: Spin::new(limits.spin),
            limits,
            ready: Ready::default(),
            stage: Stage::Over,
            service: None,
            announced: None,
            is_woken: false,
        })
    }

    /// The next event: at the end of a turn `None` if the time is over, or else another turn.
    pub(crate) fn next(&mut self, timeout: Option<Duration>) -> io::Result<Option<Event>> {
        self.free_closed();
        self.settle_touched();
        let until = Until::after(timeout, || self.tools.system.now());
        loop {
            let is_turn = self.stage != Stage::Over;
            if let Some(event) = self.next_in_turn() {
                return Ok(Some(event));
            }
            // A shutdown whose time is over has touched those that it aborted.
            self.settle_touched();
            if self.is_shut_down() {
                self.shutdown.end(&mut self.tools);
                self.announce(Step::ShutDown, Event::ShutDown);
                return Ok(self.announced.take());
            }
            if is_turn && until.has_passed(|| self.tools.system.now()) {
                return Ok(None);
            }
            self.wait(until)?;
        }
    }

    // Waiting.

    /// Begins a turn: waits for the kernel, unless something is left to do, and folds its answer.
    fn wait(&mut self, until: Until) -> io::Result<()> {
        self.tools.observers.refresh();
        self.tools.turn = self.tools.turn.wrapping_add(1);
        let timeout = self.wait_timeout(until);
        let count = self.spin_or_wait(timeout, until);
        #[cfg(any(test, feature = "simulation"))]
        let count = count.map_err(|error| diagnosed(&error, &self.diagnosis()));
        let count = count?;
        let news = self.fold();
        self.ready.choose_left_over(|id| self.connections.get(id).is_some());
        self.stage = match self.tools.alarms.earliest() {
            Some(_) => Stage::Alarms(self.tools.alarms.due(self.tools.system.now())),
            None => Stage::Wake,
        };
        // Last, so that an observer that panics loses nothing of what the kernel says only once.
        self.tools.observers.trace(|| Step::Waited(timeout, count));
        for (id, readiness) in news {
            self.tools.observers.trace(|| Step::Ready(id, readiness));
        }
        Ok(())
    }

    /// Remembers what the kernel has said. Returns what was said of connections, if anybody looks.
    fn fold(&mut self) -> Vec<(ConnectionId, Readiness)> {
        let Self { tools, connections, listeners, sources, waker, is_woken, ready, .. } = self;
        let is_looked_at = tools.observers.see_everything();
        let mut news = Vec::new();
        tools.system.take_events(|watched, readiness| match watched {
            Watched::Bell => *is_woken |= waker.lower(),
            Watched::Source(slot) => sources.fold(slot, readiness),
            Watched::Listener(slot) => listeners.ready(slot),
            Watched::Connection(slot) => {
                if let Some(connection) = connections.at(slot) {
                    ready.fold(connection, readiness);
                    if is_looked_at {
                        news.push((connection.id(), readiness));
                    }
                }
            }
        });
        news
    }

    /// Waits, but first spins if that is worth a try, since a wait that blocks wakes late.
    fn spin_or_wait(&mut self, timeout: Option<Duration>, until: Until) -> io::Result<usize> {
        let blocks = timeout != Some(Duration::ZERO);
        let moment = if blocks { self.spin.before_wait() } else { None };
        let Some(moment) = moment else { return self.tools.system.wait(timeout) };
        let moment = timeout.map_or(moment, |timeout| timeout.min(moment));
        let count = self.tools.system.spin(moment)?;
        self.spin.spun(count > 0);
        if count > 0 {
            return Ok(count);
        }
        self.tools.system.wait(self.wait_timeout(until))
    }

    /// How long the program may sleep on the descriptor before it is to come back.
    pub(crate) fn next_timeout(&self) -> Option<Duration> {
        let is_in_turn = self.stage != Stage::Over;
        let is_unsettled = self.connections.has_touched() || self.connections.is_any_closed();
        let is_owed = self.announced.is_some() || self.service.is_some() || self.is_shut_down();
        if is_in_turn || is_unsettled || is_owed || self.tools.system.was_filled() {
            return Some(Duration::ZERO);
        }
        self.wait_timeout(Until::Never)
    }

    /// The same for who drives several loops on one simulated clock, and has no descriptors.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn simulated_timeout(&self) -> Option<Duration> {
        if self.tools.system.has_listed() { Some(Duration::ZERO) } else { self.next_timeout() }
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn diagnosis(&self) -> String {
        diagnosis(&self.connections, &self.listeners)
    }

    fn wait_timeout(&self, until: Until) -> Option<Duration> {
        let has_more = !self.ready.is_empty() || self.listeners.ready_count() > 0;
        if has_more || until == Until::AtOnce {
            return Some(Duration::ZERO);
        }
        let alarm = self.tools.alarms.earliest();
        let end = match until {
            Until::At(end) => Some(alarm.map_or(end, |alarm| alarm.min(end))),
            Until::AtOnce | Until::Never => alarm,
        };
        end.map(|end| end.saturating_duration_since(self.tools.system.now()))
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
                Stage::Alarms(due) => match self.tools.alarms.take_due(due) {
                    Some(called) => {
                        self.ring(called);
                        self.stage
                    }
                    None => Stage::Wake,
                },
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
                    if let Some((id, news)) = self.sources.take_ready() {
                        self.announce(Step::SourceReady(id, news), Event::Ready(id, news));
                    }
                    Stage::Sources(left - 1)
                }
                Stage::Fresh => match self.serve_fresh() {
                    Some(event) => return Some(event),
                    None => continue,
                },
                Stage::Accepting { at_hand: Some((id, budget)), listeners } => {
                    Stage::Accepting { listeners, at_hand: self.accept(id, budget) }
                }
                Stage::Accepting { listeners: 0, at_hand: None } => Stage::LeftOver,
                Stage::Accepting { listeners, at_hand: None } => {
                    let id = self.listeners.take_ready();
                    let at_hand = id.map(|id| (id, self.limits.accept_budget));
                    Stage::Accepting { listeners: listeners - 1, at_hand }
                }
                Stage::LeftOver => {
                    self.stage = Stage::Last;
                    if let Some(id) = self.ready.take_left_over() {
                        self.serve(id);
                    }
                    continue;
                }
                Stage::Last => {
                    self.stage = Stage::Over;
                    return None;
                }
            };
        }
    }

    /// Serves the next of those that are fresh, and goes on to the next stage after the last.
    /// Returns the event if it comes the usual way; any other follows.
    fn serve_fresh(&mut self) -> Option<Event> {
        let received = self.next_usual();
        // What is not usual may have been taken, and its service begun.
        if received.is_none() && self.service.is_none() {
            match self.ready.take_fresh() {
                Some(id) => self.serve(id),
                None => {
                    let listeners = self.listeners.ready_count();
                    self.stage = Stage::Accepting { listeners, at_hand: None };
                }
            }
        }
        received.map(Event::Received)
    }

    /// Begins the service of a connection that was taken from its queue: the transfers that it
    /// wants and is ready for. One that has gone meanwhile is skipped.
    fn serve(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.named(id) else { return };
        // First, so that an observer that panics leaves nobody unserved.
        self.service = Some(Service { slot: id.slot, delivered: None });
        connection.stream.queued = Queued::No;
        connection.stream.serve(&mut self.tools);
    }

    /// The next event of the connection that is being served; at the end it is settled.
    fn go_on_serving(&mut self) -> Option<Event> {
        let Service { slot, delivered } = self.service?;
        let last = delivered.map(|(last, _)| last);
        if let Some(connection) = self.connections.at(slot)
            && let Some(owed) = connection.exchange.next_owed()
            && last.is_none_or(|last| owed > last)
        {
            let id = connection.id();
            // First, so that an observer that panics does not lose it.
            let event = self.event(id, owed);
            self.count_delivered(slot, owed);
            return event;
        }
        self.service = None;
        match delivered {
            None => {
                // With those that read for it: whether it has unsent bytes may have changed.
                self.connections.touch(slot);
                self.settle_touched();
            }
            // The last event was settled when the program came back for the next.
            Some(_) => self.requeue(slot),
        }
        None
    }

    /// Counts an event as delivered. What the program does now is settled after it.
    fn count_delivered(&mut self, slot: u32, owed: Owed) {
        let Some(connection) = self.connections.at(slot) else { return };
        let stream = &mut connection.stream;
        stream.exchange.delivered(owed);
        stream.touched = true;
        self.service = Some(Service { slot, delivered: Some((owed, stream.unsent())) });
    }

    fn event(&mut self, id: ConnectionId, owed: Owed) -> Option<Event> {
        Some(match owed {
            Owed::Accepted => Event::Accepted(self.connections.get(id)?.listener()?, id),
            Owed::Connected => Event::Connected(id),
            Owed::Received => Event::Received(id),
            Owed::Drained => Event::Drained(id),
            Owed::Deadline => Event::Deadline(id),
            Owed::PeerFinished => Event::PeerFinished(id),
            Owed::Closed => Event::Closed(id, self.closed(id)?),
        })
    }

    /// Prepares for the program to handle the last event of a connection, and tells its reason.
    fn closed(&mut self, id: ConnectionId) -> Option<CloseReason> {
        let stream = &mut self.connections.at(id.slot)?.stream;
        let reason = stream.exchange.close_reason()?;
        // Before the program hears of it, so that its peer hears of it no later.
        stream.close_socket(&mut self.tools);
        let (unsent, lost) = (stream.unsent(), stream.lost());
        self.tools.observers.see(Step::Closed(id, reason, unsent, lost));
        self.connections.set_closed(id.slot);
        Some(reason)
    }

    /// Frees the connection whose `Closed` was handled, and lets those accept that wait for room.
    fn free_closed(&mut self) {
        let Some(slot) = self.connections.take_closed() else { return };
        self.service = None;
        let Some(mut connection) = self.connections.remove(slot) else { return };
        connection.stream.assert_lives_in(slot);
        self.shutdown.freed(connection.id());
        connection.stream.release(&mut self.tools);
        self.listeners.make_room(&self.limits, &mut self.tools);
    }

    /// Has an event that is no connection's told next.
    fn announce(&mut self, step: Step, event: Event) {
        // First, so that an observer that panics does not lose it.
        self.announced = Some(event);
        self.tools.observers.see(step);
    }

    fn ring(&mut self, called: Called) {
        match called {
            Called::Listener(id) => {
                self.listeners.try_again(id, &self.limits, &mut self.tools);
            }
            Called::Timer(id) => {
                self.timers.ring(id, &mut self.tools);
                self.announce(Step::TimerRang(id), Event::Timer(id));
            }
            Called::Shutdown => {
                let Self { shutdown, connections, listeners, tools, .. } = self;
                shutdown.abort_rest(connections, listeners, tools);
            }
            Called::Connection(id) => {
                if let Some(connection) = self.connections.at(id.slot) {
                    self.service = Some(Service { slot: id.slot, delivered: None });
                    connection.stream.ring(&mut self.tools);
                }
            }
        }
    }

    /// Accepts one connection and begins its service. Returns the listener and the budget that is
    /// left for it, unless it is done for this turn.
    fn accept(&mut self, id: ListenerId, budget: usize) -> Option<(ListenerId, usize)> {
        let Some(left) = budget.checked_sub(1) else {
            self.listeners.queue(id);
            return None;
        };
        let has_room = self.limits.connections_max.is_none_or(|max| self.connections.len() < max);
        match self.listeners.accept(id, has_room, &self.limits, &mut self.tools) {
            Accept::Done => None,
            Accept::Failed(id, failure) => {
                self.announce(Step::AcceptFailed(id, failure), Event::AcceptFailed(id, failure));
                None
            }
            Accept::Skipped => Some((id, left)),
            Accept::Peer { socket, peer, data } => {
                let accepted = self.add_accepted(data, Origin::accepted(id, peer), socket);
                self.service = Some(Service { slot: accepted.slot, delivered: None });
                self.tools.observers.see(Step::Accepted(id, accepted, peer));
                Some((id, left))
            }
        }
    }

    // Settling.

    /// Settles what the program may have changed, and last the connection that is being served.
    #[inline]
    fn settle_touched(&mut self) {
        self.settle_listed();
        if let Some(Service { slot, delivered: Some((_, unsent)) }) = self.service {
            self.settle(slot, unsent);
            // Those that read for it.
            self.settle_listed();
        }
    }

    fn settle_listed(&mut self) {
        while let Some(Touched { slot, unsent }) = self.connections.next_touched() {
            self.settle(slot, unsent);
        }
    }

    /// Settles a connection that was touched when it had so much unsent.
    fn settle(&mut self, slot: u32, unsent: usize) {
        // One that was closed may have gone, and one that is served may have been settled when what
        // came of its write was not usual.
        let connection = self.connections.at(slot).filter(|connection| connection.stream.touched);
        let Some(connection) = connection else { return self.connections.settled(slot) };
        let stream = &mut connection.stream;
        stream.assert_lives_in(slot);
        stream.note_queued(unsent, &mut self.tools);
        stream.settle(None, &mut self.tools);
        // Not before, so that an observer that panics leaves nobody unsettled.
        self.connections.settled(slot);
        self.settle_others(slot);
        let connection = self.connections.at(slot);
        let is_at_rest = connection.is_none_or(|connection| connection.exchange.is_at_rest());
        if self.service.is_none_or(|service| service.slot != slot) {
            if !is_at_rest {
                self.requeue(slot);
            }
        } else if is_at_rest {
            // Nothing is left to be told or to be done.
            self.service = None;
        }
    }

    /// What a connection that was settled means for others, or for a shutdown.
    fn settle_others(&mut self, slot: u32) {
        let Some(connection) = self.connections.at(slot) else { return };
        let (id, has_unsent) = (connection.id(), connection.unsent() > 0);
        if connection.readers != Readers::None {
            self.connections.tell_readers(id, has_unsent);
        }
        self.shutdown.close_quiet(id, &mut self.connections);
    }

    fn requeue(&mut self, slot: u32) {
        if let Some(connection) = self.connections.at(slot) {
            self.ready.requeue(connection);
        }
    }

    // Shutting down.

    pub(crate) fn shut_down(&mut self, after: Duration) {
        let Self { shutdown, connections, listeners, limits, tools, .. } = self;
        shutdown.begin(after, connections, listeners, limits, tools);
    }

    fn is_shut_down(&self) -> bool {
        self.shutdown.is_over(&self.connections, &self.listeners)
    }

    #[cfg(test)]
    pub(crate) fn times_queued(&self, id: ConnectionId) -> usize {
        self.ready.times(id)
    }

    /// The connections that were settled: not those at which the program or the turn is.
    #[cfg(test)]
    pub(crate) fn settled(&self) -> impl Iterator<Item = &Connection<T>> {
        let served = self.service.map(|service| service.slot);
        self.connections.iter().filter(move |connection| {
            !connection.stream.touched && served != Some(connection.id().slot)
        })
    }

    // What the program adds.

    fn add_accepted(&mut self, data: T, origin: Origin, socket: Socket) -> ConnectionId {
        let mut exchange = Exchange::accepted(self.connection_limits.clone());
        if self.shutdown.is_under_way() {
            // So that it is read until there is no more before it is closed.
            exchange.readiness.fold(Readiness::HINTED);
        }
        self.connections
            .insert(|id| Connection::new(data, Stream::new(id, origin, Some(socket), exchange)))
    }

    /// Adds a connection that is connecting, or may be. One that has failed at once is closed, like
    /// one that fails later.
    pub(crate) fn add_outgoing(
        &mut self,
        data: T,
        origin: Origin,
        socket: io::Result<Socket>,
    ) -> ConnectionId {
        let mut exchange = Exchange::connecting(self.connection_limits.clone());
        if let Err(error) = &socket {
            exchange.end(CloseReason::of(error));
        }
        let id = self
            .connections
            .insert(|id| Connection::new(data, Stream::new(id, origin, socket.ok(), exchange)));
        self.connections.touch(id.slot);
        id
    }
}

impl<T> Drop for Turns<T> {
    /// Deregisters everything, so that no duplicate of a socket can keep a duplicate of the loop's
    /// descriptor readable.
    fn drop(&mut self) {
        let system = &self.tools.system;
        if system.owns_registrations() {
            self.connections.all_mut().for_each(|connection| connection.stream.deregister(system));
            self.listeners.deregister(system);
        }
    }
}

/// Until when a call may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    AtOnce,
    At(Instant),
    Never,
}

impl Until {
    fn after(timeout: Option<Duration>, now: impl FnOnce() -> Instant) -> Self {
        match timeout {
            None => Self::Never,
            Some(Duration::ZERO) => Self::AtOnce,
            // A time beyond the clock never comes.
            Some(timeout) => now().checked_add(timeout).map_or(Self::Never, Self::At),
        }
    }

    fn has_passed(self, now: impl FnOnce() -> Instant) -> bool {
        match self {
            Self::AtOnce => true,
            Self::At(end) => end <= now(),
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests;
