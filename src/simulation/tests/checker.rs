//! The promises of the loop, checked after every step of every run.
//!
//! The numbers in the messages are those of the list of promises: 1 delivered is a prefix of sent,
//! 2 interest, 3 no lost wake-up, 4 no spin, 5 the order of events, 6 bounded memory, 7 nothing
//! left behind, 8 timers, 9 ends and resets, 10 fairness, 11 everything leaves, 12 no byte is
//! unaccounted for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::flow::{Coupled, Delivered, Flow, PeerEnd};
use super::trace::{SharedTrace, digest, is_fruitless, kind, look};
use crate::alarms::Alarm;
use crate::connection::{Connection, Queued, Stream};
use crate::event::{CloseReason, Deadline, Event};
use crate::event_loop::EventLoop;
use crate::exchange::Coupling;
use crate::observer::Step;
use crate::ready_queues::TURNS_IN_A_ROW;
use crate::simulation::Simulation;
use crate::slots::{ConnectionId, ListenerId};
use crate::system::simulated::lock;
use crate::system::{Socket, System};

pub(super) struct Checker {
    pub(super) simulation: Simulation,
    pub(super) trace: SharedTrace,
    /// The number of its loop on the network.
    pub(super) poller: usize,
    pub(super) flows: Vec<Flow>,
    by_id: BTreeMap<ConnectionId, usize>,
    pub(super) turns: u64,
    /// Steps by which something moved on.
    pub(super) moves: u64,
    /// How many ended with a socket by a reset of ours: where we gave up on the peer, and where it
    /// did not get all that the program had given.
    pub(super) resets: u64,
    /// The turns when the queues were looked at last.
    looked_at: u64,
    /// By which turn a listener that has peers waiting must have accepted, or tried to.
    accepts_until: BTreeMap<ListenerId, u64>,
    /// The virtual time before the last call, and whether that may have waited.
    before: Instant,
    may_have_waited: bool,
    /// The kinds of events that were delivered.
    pub(super) kinds: BTreeSet<&'static str>,
    /// For comparing runs.
    pub(super) digest: u64,
}

impl Checker {
    pub(super) fn new<T>(simulation: &Simulation, event_loop: &EventLoop<T>) -> Self {
        let System::Simulated(system) = &event_loop.turns.resources.system else {
            panic!("a simulated loop is on a simulated system");
        };
        Self {
            simulation: simulation.clone(),
            poller: system.poller(),
            trace: SharedTrace::default(),
            flows: Vec::new(),
            by_id: BTreeMap::new(),
            turns: 0,
            moves: 0,
            resets: 0,
            looked_at: 0,
            accepts_until: BTreeMap::new(),
            before: simulation.now(),
            may_have_waited: false,
            kinds: BTreeSet::new(),
            digest: 0,
        }
    }

    pub(super) fn add_flow(&mut self, port: u16) -> usize {
        self.flows.push(Flow::new(port, self.simulation.now()));
        self.flows.len() - 1
    }

    pub(super) fn flow_by_port(&mut self, port: u16) -> Option<usize> {
        self.flows.iter().rposition(|flow| flow.port == port)
    }

    pub(super) fn bind(&mut self, stream: &Stream, flow: usize) {
        let id = stream.id();
        assert!(self.by_id.insert(id, flow).is_none(), "5: {id} was given out twice");
        self.flows[flow].id = Some(id);
        self.flows[flow].has_socket = stream.socket.is_some();
        self.flows[flow].can_reset = stream.socket.as_ref().is_some_and(|socket| !socket.is_unix());
    }

    pub(super) fn flow(&mut self, id: ConnectionId) -> &mut Flow {
        let flow = self.by_id.get(&id);
        let flow = *flow.unwrap_or_else(|| panic!("5: {id} is unknown"));
        &mut self.flows[flow]
    }

    pub(super) fn before_call(&mut self, timeout: Duration) {
        self.before = self.simulation.now();
        self.may_have_waited = !timeout.is_zero();
        if self.may_have_waited {
            self.look_away();
        }
        look(&self.trace).fruitless = 0;
    }

    /// Notes that the checker misses some steps. A call that waits can end a turn and begin
    /// another, and so can one that is repeated after a panic.
    pub(super) fn look_away(&mut self) {
        self.accepts_until.clear();
    }

    /// Takes in what the loop did in a call. Returns the steps, for a script.
    pub(super) fn absorb(&mut self) -> Vec<Step> {
        let steps = std::mem::take(&mut look(&self.trace).unchecked);
        for step in &steps {
            self.absorb_step(*step);
        }
        steps
    }

    fn absorb_step(&mut self, step: Step) {
        let before = self.before;
        self.moves += u64::from(!is_fruitless(&step));
        self.digest = self.digest.rotate_left(7).wrapping_mul(0x9E37_79B9) ^ digest(&step);
        match step {
            Step::Waited { .. } => self.turns += 1,
            Step::Filled { id, count: 0 }
            | Step::Discarded { id, count: 0 }
            | Step::Flushed { id, count: 0, .. }
            | Step::Queued { id, count: 0 } => {
                panic!("4: {id} counts as moved on by nothing: {step:?}")
            }
            Step::Flushed { id, count, .. } => {
                let flow = self.flow(id);
                flow.flushed += count;
                (flow.moved, flow.taken) = (before, before);
                flow.served_until = None;
            }
            Step::Filled { id, count } | Step::Discarded { id, count } => {
                let turn = self.turns;
                let flow = self.flow(id);
                let in_turn = if flow.filled.0 == turn { flow.filled.1 } else { 0 };
                flow.filled = (turn, in_turn + count);
                // What is discarded behind a deadline, before the close, is too late to count.
                if !flow.has_timed_out {
                    flow.moved = before;
                }
                if matches!(step, Step::Filled { .. }) {
                    (flow.is_received_due, flow.heard_full, flow.took) = (true, false, before);
                    flow.has_news = true;
                }
                flow.served_until = None;
            }
            Step::DeadlinePassed { id, .. } => self.flow(id).has_timed_out = true,
            Step::ShutdownTimedOut { .. } => {
                let open = self.flows.iter_mut().filter(|flow| flow.is_open());
                open.for_each(|flow| flow.is_closing = true);
            }
            Step::Connected { id } => self.flow(id).moved = before,
            Step::Finished { id } => {
                let flow = self.flow(id);
                assert_eq!(flow.flushed, flow.sent.len(), "9: {id} finished with bytes unsent");
                assert_eq!(flow.finished, None, "9: {id} finished twice");
                flow.finished = Some(before);
            }
            Step::InterestChanged { id, from, to } => {
                assert_ne!(from, to, "2: {id} registers what the kernel has already");
            }
            Step::Accepted { listener: id, .. }
            | Step::AcceptSkipped { id }
            | Step::AcceptPaused { id, .. }
            | Step::ListenerClosed { id } => _ = self.accepts_until.remove(&id),
            Step::ReadBlocked { id } | Step::WriteBlocked { id } => {
                self.flow(id).served_until = None;
            }
            _ => {}
        }
    }

    // Events.

    /// Checks that an event is delivered in its order and is true. `self.absorb` was called.
    pub(super) fn event<T>(&mut self, event: Event, event_loop: &EventLoop<T>) {
        let now = self.simulation.now();
        self.kinds.insert(kind(event));
        let Some(id) = event.connection() else { return };
        if let Event::Accepted(listener, id) = event {
            let connection = &event_loop[id];
            assert_eq!(connection.listener(), Some(listener), "5: accepted by another");
            let flow = self.flow_by_port(ports(&self.simulation, connection).1);
            self.bind(connection, flow.expect("5: a peer that was accepted has connected"));
            let is_free = connection.exchange.limits().reads_while_unsent;
            self.flow(id).coupled = if is_free { Coupled::ToNobody } else { Coupled::ToItself };
        }
        let connection = &event_loop[id];
        let before = self.before;
        if let Event::Connected(_) = event {
            self.connected(connection);
        }
        let flow = self.flow(id);
        flow.served_until = None;
        let is_first = matches!(event, Event::Accepted(..) | Event::Connected(_));
        match (event, flow.delivered) {
            (_, Delivered::Closed(_)) => panic!("5: {event:?} after closed"),
            (Event::Closed(..), _) => {}
            (_, Delivered::Nothing) if is_first => flow.delivered = Delivered::Opened,
            (_, Delivered::Nothing) => panic!("5: {event:?} before it was opened"),
            _ if is_first => panic!("5: {event:?} twice"),
            (Event::PeerFinished(_), Delivered::PeerFinished) => panic!("5: {event:?} twice"),
            _ => {}
        }
        assert!(!flow.is_closing || matches!(event, Event::Closed(..)), "5: {event:?} after close");
        check_event(flow, event, connection);
        match event {
            Event::Accepted(..) => (flow.began, flow.moved, flow.taken) = (before, before, before),
            Event::Received(_) => (flow.is_received_due, flow.has_news) = (false, false),
            Event::Full(_) => flow.heard_full = true,
            Event::Drained(_) => {
                flow.is_clogged = false;
                // It announces what is left.
                flow.is_received_due |= !connection.received().is_empty();
            }
            Event::Deadline(_) => {
                let at = flow.deadline.take();
                assert!(at.is_some_and(|at| now >= at), "8: a deadline early, or of none set");
            }
            Event::PeerFinished(_) => {
                flow.delivered = Delivered::PeerFinished;
                check_peers_end(flow, connection);
            }
            Event::Closed(_, reason) => self.closed(id, reason, connection),
            _ => {}
        }
    }

    /// Which of several attempts has won is known only now.
    fn connected(&mut self, stream: &Stream) {
        let port = ports(&self.simulation, stream).0;
        let socket = stream.socket.as_ref();
        let flow = self.flow(stream.id());
        (flow.port, flow.has_socket) = (port, socket.is_some());
        flow.can_reset = socket.is_some_and(|socket| !socket.is_unix());
    }

    fn closed(&mut self, id: ConnectionId, reason: CloseReason, stream: &Stream) {
        let now = self.simulation.now();
        let ended = stream.exchange.reason().expect("it has ended somehow");
        let flow = self.flow(id);
        check_bytes(flow, stream);
        let hears_all = !flow.is_closing && !flow.is_paused;
        assert!(!(hears_all && flow.is_received_due), "5: closed before what was received");
        assert!(stream.socket.is_none(), "7: {id} is reported as closed, and has a socket");
        assert_eq!(reason, flow.rejected.unwrap_or(ended), "5: the first reason stays");
        if matches!(ended, CloseReason::Finished | CloseReason::Closed) && flow.has_socket {
            let is_given_up = flow.delivered == Delivered::Nothing && ended == CloseReason::Closed;
            assert!(
                stream.unsent() == 0 && flow.flushed == flow.sent.len() || is_given_up,
                "1: closed cleanly with bytes unsent"
            );
        }
        if ended == CloseReason::Finished {
            check_peers_end(flow, stream);
            assert!(
                flow.delivered == Delivered::PeerFinished,
                "5: finished, but PeerFinished was not delivered"
            );
            assert!(!flow.is_clogged, "5: finished without the drained that was due");
        }
        if let CloseReason::TimedOut(deadline) = ended {
            check_deadline(flow, deadline, stream, now);
        }
        let is_clean = matches!(ended, CloseReason::Finished | CloseReason::Closed);
        flow.delivered = Delivered::Closed(ended);
        let is_wanted = matches!(ended, CloseReason::Aborted | CloseReason::Overflow);
        let lacks = flow.offered > flow.flushed as u64;
        // A connect to several addresses that has won after the program closed was not delivered.
        let has_won = flow.flushed > 0 && !stream.origin.is_unix();
        flow.by_reset = (flow.can_reset || has_won) && !is_clean && (is_wanted || lacks);
        self.resets += u64::from(flow.by_reset);
    }

    // What holds between any two calls.

    pub(super) fn check<T>(&mut self, event_loop: &EventLoop<T>) {
        let turns = &event_loop.turns;
        for connection in turns.settled() {
            let at = self.by_id.get(&connection.id());
            let flow = at.map(|flow| &mut self.flows[*flow]);
            if let Some(flow) = flow {
                check_bytes(flow, connection);
                check_reading_program(flow, connection);
                check_coupled(flow, event_loop, connection);
            }
            if connection.exchange.close_reason().is_none() {
                check_settled(&self.simulation, connection);
                check_coupling(event_loop, connection);
            }
        }
        self.check_fairness(event_loop);
        self.check_sockets(event_loop);
    }

    /// Every connection that waits to be served is served within a bounded number of turns, and
    /// every listener that peers wait at accepts.
    fn check_fairness<T>(&mut self, event_loop: &EventLoop<T>) {
        let turns = self.turns;
        // A call that waits can take many turns, in which a queued connection was served and queued
        // again, unseen: what it waits for counts from here.
        let looked_at = std::mem::replace(&mut self.looked_at, turns);
        let is_blind = turns > looked_at + 1;
        let in_a_row = u64::from(TURNS_IN_A_ROW);
        let deferred_max = in_a_row * event_loop.connection_count() as u64 + 3;
        for connection in event_loop.connections() {
            let times = event_loop.turns.times_queued(connection.id());
            assert!(times <= 1, "10: {} stands in the queues {times} times", connection.id());
            let Some(flow) = self.by_id.get(&connection.id()) else { continue };
            let flow = &mut self.flows[*flow];
            // Before a deadline counts, the loop looks at the socket once more. One that was set in
            // this call can have passed only if it waited.
            if connection.stream.deadlines.is_some() || self.may_have_waited {
                flow.rings_until = turns + 1;
            }
            let services = if turns <= flow.rings_until { 2 } else { 1 };
            let budget = connection.exchange.limits().read_budget;
            let (filled_in, filled) = flow.filled;
            // What was read before the last look was judged then: a deadline may have passed since.
            let is_new = filled_in >= looked_at;
            assert!(
                !is_new || filled <= services * budget,
                "10: {} had its budget twice",
                connection.id()
            );
            let until = &mut flow.served_until;
            if is_blind {
                *until = None;
            }
            let queue = connection.stream.standing.queued;
            let most = match queue {
                Queued::No => {
                    *until = None;
                    continue;
                }
                Queued::Fresh => 3,
                Queued::Deferred => deferred_max,
            };
            // It can move from the fresh to the deferred ones only by being served, if only in
            // vain: what it sent before in that turn had spent its budget.
            let is_served = |from| (from, queue) == (Queued::Fresh, Queued::Deferred);
            let waits = until.filter(|(from, _)| !is_served(*from));
            let by = waits.map_or(turns + most, |(_, by)| by.min(turns + most));
            *until = Some((queue, by));
            assert!(turns <= by, "10: {} is not served", connection.id());
        }
        let queued: Vec<ListenerId> = event_loop.turns.listeners.queued().collect();
        self.accepts_until.retain(|id, _| queued.contains(id));
        for id in queued {
            let until = *self.accepts_until.entry(id).or_insert(turns + 1);
            assert!(turns <= until, "10: {id} does not accept");
        }
    }

    /// Checks that slots are open sockets, and registrations are slots whose interest is not none.
    fn check_sockets<T>(&self, event_loop: &EventLoop<T>) {
        let turns = &event_loop.turns;
        let (mut open, mut watched) = (0, 0);
        for connection in turns.connections.all() {
            let attempts = connection.stream.origin.attempts().count();
            open += usize::from(connection.stream.socket.is_some()) + attempts;
            watched += usize::from(connection.interest() != crate::Interest::None) + attempts;
        }
        let (listening, watched_listeners) = turns.listeners.open_and_watched();
        let count = lock(&self.simulation.network).open_and_watched(self.poller);
        assert_eq!(count, (open + listening, watched + watched_listeners), "7: sockets and slots");
    }
}

/// No byte is unaccounted for, and memory is bounded.
fn check_bytes(flow: &Flow, stream: &Stream) {
    let received = stream.received();
    let next = flow.consumed..flow.consumed + received.len();
    assert!(next.end <= flow.wrote.len(), "1: received more than the peer wrote");
    assert!(received == &flow.wrote[next], "1: received is a prefix of sent");
    let known = flow.flushed as u64 + stream.unsent() as u64 + stream.lost();
    assert_eq!(known, flow.offered, "12: flushed + unsent + lost is what was offered");
    let limits = stream.exchange.limits();
    let unsent_max = limits.unsent_max.max(flow.largest_offer);
    assert!(stream.unsent() <= unsent_max, "6: unsent");
    assert!(received.len() <= limits.read_buffer_max, "6: received");
}

/// Checks that an event of what is received is true, and is delivered when it is due.
fn check_event(flow: &Flow, event: Event, stream: &Stream) {
    let exchange = &stream.exchange;
    match event {
        Event::Received(_) => {
            assert!(!stream.received().is_empty(), "5: nothing received");
            assert!(flow.is_received_due, "5: received again without progress");
            assert!(!flow.is_paused, "5: received while paused");
            // What is announced anew waits until the program can answer it.
            let is_clogged = exchange.takes_bytes() && exchange.is_clogged();
            assert!(flow.has_news || !is_clogged, "5: received again while clogged");
        }
        Event::Full(_) => {
            assert_eq!(exchange.room(), 0, "5: full, and there is room");
            assert!(!flow.is_received_due, "5: full before received");
            let must_wait = flow.is_paused || flow.is_clogged;
            assert!(!must_wait, "5: full, and it must wait: {stream:?}");
            assert!(!flow.heard_full, "5: full twice without room between");
        }
        Event::Drained(_) => {
            assert!(flow.is_clogged, "5: drained without a crossing");
            let is_true = !exchange.takes_bytes() || !exchange.is_clogged();
            assert!(is_true, "5: drained, but clogged");
        }
        Event::PeerFinished(_) => {
            assert!(!flow.is_received_due, "5: the peer's end before what was received");
            assert!(!flow.is_paused, "5: the peer's end while paused");
        }
        _ => {}
    }
}

/// Checks that a program that can answer what it has received got its `Received`, and that `Full`
/// was delivered for a full buffer.
fn check_reading_program(flow: &Flow, stream: &Stream) {
    let exchange = &stream.exchange;
    let is_delivered = matches!(flow.delivered, Delivered::Opened | Delivered::PeerFinished);
    let takes_input = is_delivered && !flow.is_closing && !exchange.is_closed();
    let is_held_back = match exchange.coupling() {
        Coupling::None => false,
        Coupling::Itself => stream.unsent() > 0,
        Coupling::Writer { has_unsent } => has_unsent,
    };
    let is_free = !flow.is_paused && !flow.is_clogged && !is_held_back;
    if takes_input && is_free && !stream.received().is_empty() {
        let is_queued = stream.standing.queued != Queued::No;
        assert!(
            is_queued || !flow.is_received_due,
            "3: received is due, and will not be delivered"
        );
        let is_over = exchange.is_at_end() || exchange.end_of_input().is_some();
        let is_full = exchange.room() == 0 && !is_over;
        assert!(is_queued || !is_full || flow.heard_full, "3: full, and Full was not delivered");
    }
}

/// Returns the ports of a connection's two ends; in the Unix domain, the numbers that stand for
/// them.
pub(super) fn ports(simulation: &Simulation, stream: &Stream) -> (u16, u16) {
    let Some(Socket::Simulated(socket)) = &stream.socket else { return (0, 0) };
    let (local, remote) = lock(&simulation.network).addresses(socket.index());
    (local.port(), remote.port())
}

/// It is coupled as the program has it, as long as the other one is there, and it is not ending.
fn check_coupled<T>(flow: &Flow, event_loop: &EventLoop<T>, reader: &Connection<T>) {
    let connections = &event_loop.turns.connections;
    let expected = match flow.coupled {
        _ if reader.exchange.is_ending() => return,
        Coupled::To(writer) if connections.get(writer).is_none() => Coupled::ToNobody,
        coupled => coupled,
    };
    let coupled = match (reader.exchange.coupling(), connections.writer_of(reader.id())) {
        (Coupling::None, None) => Coupled::ToNobody,
        (Coupling::Itself, None) => Coupled::ToItself,
        (Coupling::Writer { .. }, Some(writer)) => Coupled::To(writer),
        both => panic!("3: {} is coupled in part: {both:?}", reader.id()),
    };
    assert_eq!(coupled, expected, "3: {} is coupled to another than it should be", reader.id());
}

/// Checks that a coupled reader knows whether its writer has unsent bytes, or is about to be
/// updated.
fn check_coupling<T>(event_loop: &EventLoop<T>, reader: &Connection<T>) {
    let Coupling::Writer { has_unsent } = reader.exchange.coupling() else { return };
    let turns = &event_loop.turns;
    let writer = turns.connections.writer_of(reader.id());
    let writer = turns.settled().find(|connection| Some(connection.id()) == writer);
    if let Some(writer) = writer {
        assert_eq!(
            has_unsent,
            writer.unsent() > 0,
            "3: {} holds back {}",
            writer.id(),
            reader.id()
        );
    }
}

fn check_settled<T>(simulation: &Simulation, connection: &Connection<T>) {
    let stream = &connection.stream;
    let exchange = &stream.exchange;
    let held = exchange.received().len() + exchange.unsent();
    // Two blocks, each at most three times what is in it.
    let most = 3 * held + 6;
    assert!(exchange.capacity() <= most, "6: {held} bytes hold {}", exchange.capacity());
    if exchange.takes_bytes() && exchange.is_clogged() {
        assert!(exchange.unsent() > exchange.limits().low_water, "5: clogged below the mark");
    } else if exchange.takes_bytes() {
        assert!(exchange.unsent() <= exchange.limits().high_water, "5: not clogged above the mark");
    }
    let waits = exchange.can_fill() || exchange.can_flush() || exchange.next_pending().is_some();
    assert!(!waits || stream.standing.queued != Queued::No, "3: ready and not queued: {stream:?}");
    let next = stream.deadlines.as_ref().and_then(|it| it.next(exchange.limits()));
    let alarm = stream.deadlines.as_ref().and_then(|it| it.alarm);
    if let Some((at, _)) = next.filter(|_| exchange.close_reason().is_none()) {
        let is_set = alarm.is_some_and(|alarm| alarm.at() <= at.max(simulation.now()));
        assert!(is_set, "8: no alarm stands for a deadline: {stream:?}");
    }
    let Some(Socket::Simulated(socket)) = &stream.socket else { return };
    let probe = lock(&simulation.network).probe(socket.index());
    assert_eq!(probe.interest, stream.interest(), "2: the interest that was registered");
    // A queued connection has readiness that is not served yet, and is settled then.
    if stream.standing.queued != Queued::No {
        return;
    }
    assert_eq!(stream.interest(), exchange.interest(), "2: the interest follows the rule");
    let remembered = exchange.readiness();
    if exchange.wants_read() && probe.has_news && !remembered.is_readable() {
        assert!(probe.read_edge, "3: unread, and not reported: {probe:?} {stream:?}");
    }
    if exchange.is_connecting() && probe.is_idle {
        let is_soon = |alarm: Alarm| alarm.at() <= simulation.now() + Duration::from_secs(1);
        assert!(
            alarm.is_some_and(is_soon),
            "3: it is not connected, and not tried again: {stream:?}"
        );
    }
    let has_sendable = exchange.unsent() > 0 && !exchange.is_connecting();
    if has_sendable && probe.has_room && !remembered.is_writable() {
        assert!(probe.write_edge, "3: unsent, and not reported: {probe:?} {stream:?}");
    }
    if exchange.is_connecting() && probe.is_decided {
        assert!(probe.write_edge, "3: connected, and not reported: {probe:?} {stream:?}");
    }
}

/// An end is the peer's only if the peer sent one, and everything before it was received.
fn check_peers_end(flow: &Flow, stream: &Stream) {
    assert_eq!(flow.peer_end, PeerEnd::Finished, "1: an end that the peer did not send");
    let received = flow.consumed + stream.received().len();
    assert_eq!(received, flow.wrote.len(), "1: the peer's end, but not all before it");
}

fn check_deadline(flow: &Flow, deadline: Deadline, stream: &Stream, now: Instant) {
    let limits = stream.exchange.limits();
    let is_due = match deadline {
        Deadline::Connect => now >= flow.began + limits.connect_deadline,
        Deadline::StalledWrite => {
            now >= flow.taken.max(flow.unsent) + limits.stalled_write_deadline
        }
        Deadline::Idle => flow.idle_timeout.is_some_and(|timeout| now >= flow.moved + timeout),
        Deadline::StalledRead => now >= flow.took + limits.stalled_read_deadline,
        Deadline::Close => {
            let began = flow.finished.unwrap_or(flow.began);
            now >= began.max(flow.moved) + limits.close_quiet_deadline
                || now >= began + limits.close_deadline
        }
    };
    assert!(is_due, "8: {deadline:?} fired early");
}
