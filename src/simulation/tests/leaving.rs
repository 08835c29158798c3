//! A shutdown of a run: what it must see to, and by when.

use std::time::{Duration, Instant};

use super::checker::Checker;
use super::flow::Delivered;
use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::slots::{ConnectionId, ListenerId};
use crate::system::Socket;
use crate::system::simulated::lock;

/// A shutdown that is under way.
pub(super) struct Leaving {
    /// None if its time lies beyond the clock.
    until: Option<Instant>,
    /// The listeners that existed when it began, and the peers that waited there, by their ports.
    listeners: Vec<ListenerId>,
    waiting: Vec<(ListenerId, u16)>,
    /// A fault may make peers or bytes seem absent.
    hides_peers: bool,
    hides_bytes: bool,
    /// Turns that have begun since its time is over, and the connections that there were then.
    overdue: u32,
    doomed: Vec<ConnectionId>,
    /// The connections that were given up before the shutdown got another deadline.
    given_up: Vec<ConnectionId>,
}

impl Leaving {
    /// To be called just before the program begins it, or gives it another time.
    pub(super) fn begin<T>(
        before: Option<Self>,
        after: Duration,
        checker: &mut Checker,
        event_loop: &EventLoop<T>,
        listeners: impl Iterator<Item = ListenerId>,
    ) -> Self {
        let simulation = checker.simulation.clone();
        let mut network = lock(&simulation.network);
        let faults = &network.faults;
        let is_scripted = !network.script.failures.is_empty();
        let mut leaving = Self {
            until: network.now().checked_add(after),
            listeners: listeners.collect(),
            waiting: Vec::new(),
            hides_peers: faults.not_ready_rate + faults.aborted_rate > 0 || is_scripted,
            hides_bytes: faults.not_ready_rate + faults.short_rate > 0 || is_scripted,
            overdue: 0,
            doomed: Vec::new(),
            given_up: Vec::new(),
        };
        let was_over = before.as_ref().is_some_and(|before| !before.is_in_time(network.now()));
        if let Some(before) = before {
            leaving.hides_peers |= before.hides_peers;
            leaving.hides_bytes |= before.hides_bytes;
            leaving.listeners.extend(before.listeners);
            leaving.given_up = [before.given_up, before.doomed].concat();
        }
        for id in &leaving.listeners {
            let Ok(address) = event_loop.listener_addr(*id) else { continue };
            for (at, port, arrived) in network.waiting(checker.poller) {
                if at == address {
                    leaving.waiting.push((*id, port));
                    let flow = checker.flow_by_port(port).expect("a peer that has connected");
                    checker.flows[flow].arrived = arrived;
                }
            }
        }
        for connection in event_loop.turns.connections.all() {
            let exchange = &connection.exchange;
            if was_over && exchange.close_reason() == Some(CloseReason::Aborted) {
                leaving.given_up.push(connection.id());
            }
            if let Some(Socket::Simulated(socket)) = &connection.stream.socket
                && !exchange.is_ending()
            {
                let in_kernel = network.probe(socket.index()).arrived;
                let flow = checker.flow(connection.id());
                flow.arrived = flow.consumed + exchange.received().len() + in_kernel;
            }
        }
        leaving
    }

    /// Returns when the rest is to be aborted, if that has not happened.
    pub(super) fn rings_at(&self) -> Option<Instant> {
        self.until.filter(|_| self.overdue == 0)
    }

    pub(super) fn is_in_time(&self, now: Instant) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// Notes that a turn has begun. Once the time is over, all that existed must be closed within
    /// two turns.
    pub(super) fn turn<T>(&mut self, now: Instant, checker: &Checker, event_loop: &EventLoop<T>) {
        if self.is_in_time(now) {
            return;
        }
        self.overdue += 1;
        if self.overdue == 1 {
            self.doomed = checker.open().collect();
        }
        if self.overdue > 2 {
            let mut left = checker.open().filter(|id| self.doomed.contains(id));
            assert_eq!(left.next(), None, "11: the time of a shutdown is over, and there is still");
            assert!(!self.has_listeners(event_loop), "11: there is still a listener");
        }
    }

    fn has_listeners<T>(&self, event_loop: &EventLoop<T>) -> bool {
        self.listeners.iter().any(|id| event_loop.turns.listeners.get(*id).is_ok())
    }

    /// Checks a listener that has closed by itself: its waiting peers were accepted, unless the
    /// time is over.
    pub(super) fn listener_has_gone(&self, id: ListenerId, checker: &mut Checker) {
        assert!(self.listeners.contains(&id), "11: {id} has closed by itself");
        if !self.is_in_time(checker.simulation.now()) || self.hides_peers {
            return;
        }
        for (_, port) in self.waiting.iter().filter(|(at, _)| *at == id) {
            let flow = checker.flow_by_port(*port).expect("a peer that has connected");
            let was_accepted = checker.flows[flow].id.is_some();
            assert!(was_accepted, "11: {id} has closed, and {port} was not accepted");
        }
    }

    /// A call has ended without an event.
    pub(super) fn nothing<T>(&self, event_loop: &EventLoop<T>) {
        let is_over = event_loop.connection_count() == 0 && !self.has_listeners(event_loop);
        assert!(!is_over, "11: the shutdown is over, and ShutDown is not delivered");
    }

    pub(super) fn shut_down<T>(&self, event_loop: &EventLoop<T>) {
        let is_awaited = |id: ConnectionId| self.overdue == 0 || self.doomed.contains(&id);
        let mut left = event_loop.connections().map(|connection| connection.id());
        assert!(!left.any(is_awaited), "5: shut down too early");
        assert!(!self.has_listeners(event_loop), "5: shut down with a listener");
    }
}

/// Checks that a connection closed only by the shutdown was quiet, and had received what had
/// arrived.
pub(super) fn check_closed<T>(
    leaving: Option<&Leaving>,
    checker: &mut Checker,
    event_loop: &EventLoop<T>,
) {
    for connection in event_loop.turns.connections.all() {
        let (id, exchange) = (connection.id(), &connection.exchange);
        let is_clean = exchange.close_reason().is_none_or(|reason| reason == CloseReason::Closed);
        if !exchange.is_ending() || !is_clean || checker.flow(id).is_closing {
            continue;
        }
        let leaving = leaving.unwrap_or_else(|| panic!("5: {id} is closed without a cause"));
        let flow = checker.flow(id);
        flow.is_closing = true;
        assert!(!flow.is_paused, "11: a shutdown closes {id}, which is paused");
        assert!(
            flow.delivered != Delivered::Nothing,
            "11: a shutdown closes {id} before it is opened"
        );
        let is_delivered = !exchange.is_at_end() || flow.delivered == Delivered::PeerFinished;
        assert!(is_delivered, "11: a shutdown closes {id} before its end is delivered");
        assert!(connection.received().is_empty(), "11: a shutdown closes {id} with received bytes");
        assert_eq!(flow.flushed, flow.sent.len(), "11: a shutdown closes {id} with unsent bytes");
        let is_whole = flow.consumed >= flow.arrived || leaving.hides_bytes;
        let (consumed, arrived) = (flow.consumed, flow.arrived);
        assert!(is_whole, "11: a shutdown closes {id} after {consumed} of {arrived} bytes");
    }
}

/// What only a shutdown may bring, and what it must not.
pub(super) fn check_event<T>(
    leaving: Option<&Leaving>,
    event: Event,
    checker: &mut Checker,
    event_loop: &EventLoop<T>,
) {
    match event {
        Event::Closed(id, CloseReason::Aborted) => {
            let now = checker.simulation.now();
            let has_given_up = leaving
                .is_some_and(|leaving| !leaving.is_in_time(now) || leaving.given_up.contains(&id));
            let was_aborted = checker.flow(id).was_aborted;
            assert!(was_aborted || has_given_up, "11: {id} is aborted without a cause");
        }
        Event::Accepted(listener, _) => {
            assert!(
                event_loop.turns.listeners.get(listener).is_ok(),
                "5: accepted after the close"
            );
        }
        Event::ShutDown => {
            leaving.expect("5: shut down without a call").shut_down(event_loop);
        }
        _ => {}
    }
}
