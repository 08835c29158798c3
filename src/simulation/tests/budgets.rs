//! What one turn does, and in which order: budgets, queues, alarms and listeners, on a network
//! without faults.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::connection::{Queued, Stream};
use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::interest::Interest;
use crate::limits::{ConnectionLimits, Limits};
use crate::observer::Step;
use crate::simulation::{Faults, Peer, PeerState, Simulation};
use crate::slots::{ConnectionId, ListenerId};
use crate::system::simulated::lock;

/// A server whose connections read and write at most four bytes in a turn.
struct Scene {
    simulation: Simulation,
    server: EventLoop,
    listener: ListenerId,
}

impl Scene {
    fn new(connections_max: Option<usize>) -> Self {
        let simulation = Simulation::new(1);
        let mut limits = Limits::default();
        (limits.connection.read_budget, limits.connection.write_budget) = (4, 4);
        limits.connections_max = connections_max;
        let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
        let listener = server.listen("127.0.0.1:0").unwrap();
        Self { simulation, server, listener }
    }

    fn connect(&self, listener: ListenerId) -> Peer {
        self.simulation.connect(self.server.listener_addr(listener).unwrap())
    }

    /// Returns a connection that was accepted, has no coupling and has come to rest.
    fn accepted(&mut self) -> (ConnectionId, Peer) {
        let peer = self.connect(self.listener);
        let Event::Accepted(_, id) = self.server.next_event().unwrap() else {
            panic!("Accepted is delivered first");
        };
        self.server.uncouple(id);
        assert_eq!((self.turn(), self.turn()), (vec![], vec![]));
        assert_eq!(self.server[id].stream.standing.queued, Queued::No);
        (id, peer)
    }

    fn deliver(&self) {
        while self.simulation.step() {}
    }

    fn poll(&mut self) -> Option<Event> {
        self.server.poll_event(Some(Duration::ZERO)).unwrap()
    }

    /// Returns all that the loop does from now on.
    fn steps(&mut self) -> Arc<Mutex<Vec<Step>>> {
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&steps);
        self.server.set_observer(move |step: Step| seen.lock().unwrap().push(step));
        steps
    }

    /// Returns the events up to the end of a turn.
    fn turn(&mut self) -> Vec<Event> {
        let events: Vec<Event> = std::iter::from_fn(|| self.poll()).take(100).collect();
        assert!(events.len() < 100, "a turn has no end: {events:?}");
        events
    }
}

#[test]
fn bytes_that_are_left_before_a_service_count_against_the_budget_of_its_turn() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    peer.write(b"?");
    scene.deliver();
    scene.server[id].send(&[1; 10]);
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    assert_eq!(scene.server[id].unsent(), 2, "four before the turn, four in it");
    scene.server[id].send(b"!");
    assert_eq!(scene.poll(), None);
    assert_eq!(scene.server[id].unsent(), 3, "the budget of this turn is spent");
    assert_eq!(scene.poll(), None);
    assert_eq!(scene.server[id].unsent(), 0);
}

#[test]
fn each_turn_has_a_budget_of_its_own_also_for_one_that_is_only_sent_to() {
    let mut scene = Scene::new(None);
    let (id, _peer) = scene.accepted();
    let steps = scene.steps();
    for _ in 0..3 {
        scene.server[id].send(&[1; 3]);
        assert_eq!(scene.turn(), []);
        let flushed = |step: &Step| matches!(step, Step::Flushed { .. });
        let flushes: Vec<Step> = steps.lock().unwrap().drain(..).filter(flushed).collect();
        assert_eq!(flushes, [Step::Flushed { id, count: 3, unsent: 0 }]);
    }
}

#[test]
fn whatever_leaves_in_a_turn_counts_against_one_budget_whoever_had_it_sent() {
    let mut scene = Scene::new(None);
    let ((id, mut peer), (other, mut other_peer)) = (scene.accepted(), scene.accepted());
    let served = |scene: &mut Scene, peers: [&mut Peer; 2], ids: [ConnectionId; 2]| {
        for (peer, id) in peers.into_iter().zip(ids) {
            peer.write(b"?");
            scene.deliver();
            assert_eq!(scene.server[id].received(), b"");
        }
        assert_eq!(scene.poll(), Some(Event::Received(ids[0])));
    };
    // What another has sent to it before its own answer, and behind that.
    served(&mut scene, [&mut other_peer, &mut peer], [other, id]);
    scene.server[other].consume(1);
    scene.server[id].send(&[1; 3]);
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    assert_eq!(scene.server[id].unsent(), 0);
    scene.server[id].consume(1);
    scene.server[id].send(&[2; 3]);
    assert_eq!(scene.poll(), None);
    assert_eq!(scene.server[id].unsent(), 2);
    assert_eq!((scene.turn(), scene.server[id].unsent()), (vec![], 0));

    served(&mut scene, [&mut peer, &mut other_peer], [id, other]);
    scene.server[id].consume(1);
    scene.server[id].send(&[2; 3]);
    assert_eq!(scene.poll(), Some(Event::Received(other)));
    assert_eq!(scene.server[id].unsent(), 0);
    scene.server[other].consume(1);
    scene.server[id].send(&[1; 3]);
    assert_eq!(scene.poll(), None);
    assert_eq!(scene.server[id].unsent(), 2);
}

#[test]
fn connection_coupled_to_itself_does_not_read_before_what_a_budget_left_has_left() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    scene.server.couple(id, id);
    peer.write(&[1; 8]);
    scene.deliver();
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    scene.server[id].consume(4);
    scene.server[id].send(&[1; 12]);
    for unsent in [8, 4] {
        assert_eq!(scene.poll(), None);
        assert_eq!((scene.server[id].unsent(), scene.server[id].received()), (unsent, &[][..]));
    }
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    assert_eq!((scene.server[id].unsent(), scene.server[id].received()), (0, &[1; 4][..]));
}

#[test]
fn bytes_that_were_left_have_gone_the_answer_has_a_budget_of_its_own() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    peer.write(b"?");
    scene.deliver();
    scene.server[id].send(&[1; 7]);
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    assert_eq!(scene.server[id].unsent(), 0);
    scene.server[id].send(&[2; 4]);
    assert_eq!(scene.poll(), None);
    assert_eq!(scene.server[id].unsent(), 0);
}

#[test]
fn stream_that_stopped_at_a_budget_is_deferred_until_it_is_through() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    peer.write(&[1; 10]);
    scene.deliver();
    for queued in [Queued::Deferred, Queued::Deferred, Queued::No] {
        assert_eq!(scene.turn(), [Event::Received(id)]);
        assert_eq!(scene.server[id].stream.standing.queued, queued);
    }
    scene.server[id].send(&[1; 14]);
    for (unsent, queued) in [(6, Queued::Deferred), (2, Queued::Deferred), (0, Queued::No)] {
        assert_eq!(scene.turn(), []);
        assert_eq!(
            (scene.server[id].unsent(), scene.server[id].stream.standing.queued),
            (unsent, queued)
        );
    }
}

#[test]
fn resumed_connection_is_served_before_a_deferred_one_also_when_it_sent_something() {
    let mut scene = Scene::new(None);
    let (bulk, mut bulk_peer) = scene.accepted();
    let (talker, mut peer) = scene.accepted();
    scene.server[talker].pause();
    bulk_peer.write(&[1; 100]);
    scene.deliver();
    assert_eq!(scene.turn(), [Event::Received(bulk)]);
    peer.write(b"?");
    scene.deliver();
    for _ in 0..2 {
        scene.server[talker].resume();
        scene.server[talker].send(b"!");
        assert_eq!(scene.turn(), [Event::Received(talker), Event::Received(bulk)]);
        scene.server[talker].pause();
        assert_eq!(scene.turn(), [Event::Received(bulk)]);
        peer.write(b"?");
        scene.deliver();
    }
}

#[test]
fn deadline_before_the_one_that_an_alarm_stands_for_comes_in_time() {
    let mut scene = Scene::new(None);
    let (id, _peer) = scene.accepted();
    scene.server[id].set_idle_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(scene.turn(), []);
    scene.server[id].set_deadline(Some(Duration::from_secs(1)));
    assert_eq!(scene.turn(), []);
    scene.simulation.pass_time(Duration::from_secs(2));
    assert_eq!(scene.turn(), [Event::Deadline(id)]);
}

#[test]
fn deadline_that_is_set_with_an_answer_comes_in_time() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    scene.server.couple(id, id);
    peer.write(b"?");
    scene.deliver();
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    scene.server[id].send_received();
    scene.server[id].set_deadline(Some(Duration::from_secs(1)));
    assert_eq!(scene.turn(), []);
    scene.simulation.pass_time(Duration::from_secs(2));
    assert_eq!(scene.turn(), [Event::Deadline(id)]);
}

#[test]
fn activity_that_moves_a_deadline_leaves_the_alarm_as_it_is() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    scene.server[id].set_idle_timeout(Some(Duration::from_secs(60))).unwrap();
    assert_eq!(scene.turn(), []);
    let alarm = |scene: &Scene| scene.server[id].stream.deadlines.as_ref().unwrap().alarm;
    let before = alarm(&scene);
    assert!(before.is_some());
    for _ in 0..3 {
        scene.simulation.pass_time(Duration::from_secs(1));
        peer.write(b"?");
        scene.deliver();
        assert_eq!(scene.turn(), [Event::Received(id)]);
        scene.server[id].send_received();
        assert_eq!(scene.turn(), []);
        assert_eq!(alarm(&scene), before);
    }
}

#[test]
fn bytes_that_the_program_sent_are_shown_to_observers_once() {
    let mut scene = Scene::new(None);
    let (id, _peer) = scene.accepted();
    let steps = scene.steps();
    scene.server[id].send(b"ab");
    scene.server[id].send(b"c");
    assert_eq!(scene.turn(), []);
    scene.server[id].pause();
    assert_eq!(scene.turn(), []);
    let steps = steps.lock().unwrap();
    let queued = steps.iter().filter(|step| matches!(step, Step::Queued { .. }));
    assert!(queued.eq(&[Step::Queued { id, count: 3 }]), "{steps:?}");
}

#[test]
fn listener_closed_while_it_waits_for_room_leaves_the_others_waiting_for_it() {
    let mut scene = Scene::new(Some(1));
    let listeners = [scene.listener, scene.server.listen("127.0.0.1:0").unwrap()];
    let (id, _peer) = scene.accepted();
    let _waiting = listeners.map(|listener| scene.connect(listener));
    scene.deliver();
    assert_eq!(scene.turn(), []);
    scene.server.close_listener(listeners[0]).unwrap();
    scene.server[id].abort();
    let closed = scene.poll();
    assert!(matches!(closed, Some(Event::Closed(of, _)) if of == id), "{closed:?}");
    let accepted = scene.turn();
    assert!(matches!(accepted[..], [Event::Accepted(by, _)] if by == listeners[1]), "{accepted:?}");
}

#[test]
fn paused_listener_is_in_no_queue() {
    let mut scene = Scene::new(None);
    let _peer = scene.connect(scene.listener);
    scene.deliver();
    scene.server.pause_accepting(scene.listener).unwrap();
    assert_eq!(scene.server.turns.listeners.ready_count(), 0);
    assert_eq!(scene.turn(), []);
    scene.server.resume_accepting(scene.listener).unwrap();
    assert_eq!(scene.server.turns.listeners.ready_count(), 1);
    assert!(matches!(scene.turn()[..], [Event::Accepted(..)]));
}

#[test]
fn event_that_comes_up_again_while_it_is_handled_waits_for_the_next_turn() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    peer.write(b"?");
    scene.deliver();
    for _ in 0..3 {
        assert_eq!(scene.poll(), Some(Event::Received(id)));
        scene.server[id].pause();
        scene.server[id].resume();
        assert_eq!(scene.poll(), None);
    }
}

#[test]
fn event_that_waits_for_the_next_turn_comes_behind_what_is_received_in_that() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    let mut limits = ConnectionLimits::default();
    (limits.high_water, limits.low_water) = (0, 0);
    scene.server[id].set_limits(limits).unwrap();
    scene.server[id].send(b"a");
    assert_eq!(scene.poll(), Some(Event::Drained(id)));
    scene.server[id].send(b"b");
    peer.write(b"?");
    scene.deliver();
    assert_eq!(scene.poll(), None, "it has drained again, in the same turn");
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    scene.server[id].consume(1);
    assert_eq!(scene.turn(), [Event::Drained(id)]);
}

#[test]
fn peers_that_the_budget_left_waiting_are_accepted_without_another_edge() {
    let simulation = Simulation::new(1);
    let limits = Limits { accept_budget: 1, ..Limits::default() };
    let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let address = server.listener_addr(listener).unwrap();
    let _peers = [simulation.connect(address), simulation.connect(address)];
    while simulation.step() {}
    for _ in 0..2 {
        let event = server.next_event().unwrap();
        let Event::Accepted(_, id) = event else { panic!("{event:?} is not the next peer") };
        // So that it gives the loop no reason to go on.
        server[id].pause();
    }
}

#[test]
fn alarm_that_rings_for_nothing_does_not_end_a_call_that_waits() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    scene.server[id].set_idle_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(scene.turn(), []);
    scene.simulation.pass_time(Duration::from_secs(3));
    peer.write(b"?");
    scene.deliver();
    assert_eq!(scene.turn(), [Event::Received(id)]);
    let (before, timeout) = (scene.simulation.now(), Duration::from_secs(4));
    assert_eq!(scene.server.poll_event(Some(timeout)).unwrap(), None);
    assert_eq!(scene.simulation.now() - before, timeout);
}

#[test]
fn finished_or_closed_connection_sends_its_end_behind_what_is_unsent() {
    let ways: [fn(&mut Stream); 2] = [Stream::finish, Stream::close];
    for end in ways {
        let mut scene = Scene::new(None);
        let (id, mut peer) = scene.accepted();
        scene.server[id].send(b"bye!!");
        end(&mut scene.server[id]);
        assert_eq!(scene.poll(), None);
        scene.deliver();
        assert_eq!((peer.read(), peer.state()), (b"bye!!".to_vec(), PeerState::Ended));
    }
}

#[test]
fn uncoupled_connection_that_cannot_write_tries_no_read_in_vain() {
    let mut scene = Scene::new(None);
    let (id, _peer) = scene.accepted();
    scene.simulation.set_faults(Faults { send_buffer: 2, ..Faults::none() });
    let steps = scene.steps();
    scene.server[id].send(&[1; 3]);
    assert_eq!(scene.poll(), None);
    let steps = steps.lock().unwrap();
    let (from, to) = (Interest::Readable, Interest::ReadableWritable);
    assert!(steps.contains(&Step::InterestChanged { id, from, to }), "{steps:?}");
    assert!(!steps.contains(&Step::ReadBlocked { id }), "{steps:?}");
}

#[test]
fn resumed_connection_reads_once_what_is_there() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    scene.server[id].pause();
    assert_eq!(scene.turn(), []);
    peer.write(b"?");
    scene.deliver();
    scene.server[id].resume();
    let before = lock(&scene.simulation.network).calls;
    assert_eq!(scene.turn(), [Event::Received(id)]);
    let calls = lock(&scene.simulation.network).calls - before;
    assert_eq!(calls, 2, "the interest is registered, and one read is made: it is short");
}

/// The kernel reported neither while the interest did not include reading, and reports them late
/// now.
#[test]
fn bytes_and_the_end_came_while_it_could_only_write_are_read_in_one_service() {
    let mut scene = Scene::new(None);
    let (id, mut peer) = scene.accepted();
    scene.server.couple(id, id);
    let tiny = Faults { send_buffer: 2, receive_buffer: 2, ..Faults::none() };
    scene.simulation.set_faults(tiny);
    scene.server[id].send(&[1; 6]);
    assert_eq!(scene.turn(), []);
    assert_eq!(scene.server[id].interest(), Interest::Writable);
    peer.write(b"?");
    peer.finish();
    while scene.server[id].unsent() > 0 {
        scene.deliver();
        peer.read();
        scene.deliver();
        assert_eq!(scene.poll(), None);
    }
    scene.simulation.set_faults(Faults { delayed_rate: 1000, ..Faults::none() });
    let closed = Event::Closed(id, CloseReason::Finished);
    assert_eq!(scene.turn(), [Event::Received(id), Event::PeerFinished(id), closed]);
}
