//! Bugs that were found, each as the shortest scenario that shows it.

use std::io::ErrorKind;
use std::time::Duration;

use crate::event::{CloseReason, Deadline, Event};
use crate::event_loop::EventLoop;
use crate::limits::{ConnectionLimits, Limits};
use crate::simulation::{Faults, Peer, PeerState, Simulation};
use crate::slots::ConnectionId;
use crate::system::simulated::{Failing, lock};

/// A server with one connection, which has been accepted, in a network with a send buffer of four
/// bytes, and high and low water at five and two.
struct Scene {
    simulation: Simulation,
    server: EventLoop,
    id: ConnectionId,
    peer: Peer,
}

impl Scene {
    fn new() -> Self {
        let simulation = Simulation::with_faults(1, Faults { send_buffer: 4, ..Faults::none() });
        let mut limits = Limits::default();
        limits.connection.high_water = 5;
        limits.connection.low_water = 2;
        let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
        let listener = server.listen("127.0.0.1:0").unwrap();
        let peer = simulation.connect(server.listener_addr(listener).unwrap());
        let Event::Accepted(_, id) = server.next_event().unwrap() else {
            panic!("Accepted is delivered first");
        };
        server.uncouple(id);
        let mut scene = Self { simulation, server, id, peer };
        assert_eq!(scene.events(), []);
        scene
    }

    /// Another connection of the same server.
    fn accept_another(&mut self) -> (ConnectionId, Peer) {
        let address = self.server[self.id].local_addr().unwrap();
        let peer = self.simulation.connect(address);
        let Event::Accepted(_, id) = self.server.next_event().unwrap() else {
            panic!("Accepted is delivered first");
        };
        assert_eq!(self.events(), []);
        (id, peer)
    }

    /// The first connection has stopped at a budget of one byte, with more to read.
    fn leave_over(&mut self) {
        self.set_small_budget(self.id);
        self.receive(b"abcd");
    }

    fn set_small_budget(&mut self, id: ConnectionId) {
        let budget = ConnectionLimits {
            read_budget: 1,
            ..self.server[id].exchange.limits().as_ref().clone()
        };
        self.server[id].set_limits(budget).unwrap();
    }

    /// Lets the peer send, and delivers `Received` to the program.
    fn receive(&mut self, bytes: &[u8]) {
        self.peer.write(bytes);
        self.deliver();
        assert_eq!(self.server.next_event().unwrap(), Event::Received(self.id));
    }

    /// Makes an event pending, which moves the connection forward.
    fn become_pending_again(&mut self) {
        self.server[self.id].pause();
        self.server[self.id].resume();
    }

    /// Checks that all the rest arrives, one byte in each turn, and that no connection is queued
    /// twice.
    fn read_the_rest(&mut self) {
        let id = self.id;
        let mut held = self.server[id].received().len();
        for _ in 0..100 {
            let event = self.server.poll_event(Some(Duration::ZERO)).unwrap();
            assert!(event.is_none_or(|event| event == Event::Received(id)), "{event:?}");
            assert!(self.server.turns.times_queued(id) <= 1, "it stands in line twice");
            let holds = self.server[id].received().len();
            assert!(holds <= held + 1, "its budget was spent twice in a turn");
            if event.is_none() {
                held = holds;
            }
        }
        assert_eq!(self.server[id].received(), b"abcd");
    }

    /// Returns all events until a turn has none, the network standing still.
    fn events(&mut self) -> Vec<Event> {
        let poll = || self.server.poll_event(Some(Duration::ZERO)).unwrap();
        let events: Vec<Event> = std::iter::from_fn(poll).take(100).collect();
        assert!(events.len() < 100, "a turn has no end: {events:?}");
        events
    }

    fn deliver(&self) {
        while self.simulation.step() {}
    }
}

/// The peer took what had arrived for everything, because a clean end followed it.
#[test]
fn registering_fails_with_bytes_unsent_resets_instead_of_ending() {
    let mut scene = Scene::new();
    scene.server[scene.id].send(b"cut off in the middle");
    {
        let mut network = lock(&scene.simulation.network);
        // The first call is the write that fills the buffer, the second asks for writable.
        let at = network.calls + 2;
        let error = || ErrorKind::StorageFull.into();
        network.script.failures.push(Failing { at, is_persistent: false, error });
    }
    let closed = scene.server.next_event().unwrap();
    assert!(matches!(closed, Event::Closed(_, CloseReason::Failed(_))), "{closed:?}");
    assert_eq!(scene.events(), []);
    scene.deliver();
    scene.peer.read();
    assert_eq!(scene.peer.state(), PeerState::Reset);
}

/// `Drained` was delivered although the program had clogged the connection again in between.
#[test]
fn clogged_again_before_drained_is_delivered_drains_later_and_once() {
    let mut scene = Scene::new();
    let id = scene.id;
    lock(&scene.simulation.network).faults.receive_buffer = 0;
    scene.server[id].send(&[1; 8]);
    assert_eq!(scene.events(), []);
    lock(&scene.simulation.network).faults.receive_buffer = 64;
    scene.receive(b"?");
    scene.server[id].consume(1);
    assert!(!scene.server[id].is_clogged(), "drained, but not delivered yet");
    scene.server[id].send(&[2; 8]);
    assert!(scene.server[id].is_clogged());
    let mut drained = 0;
    for _ in 0..20 {
        for event in scene.events() {
            assert_eq!(event, Event::Drained(id));
            assert!(!scene.server[id].is_clogged(), "drained while clogged");
            drained += 1;
        }
        scene.deliver();
        scene.peer.read();
    }
    assert_eq!((drained, scene.server[id].unsent()), (1, 0));
}

/// `Received` was delivered with nothing received: the program had already consumed what a resume
/// announced.
#[test]
fn resumed_and_consumed_at_once_announces_nothing() {
    let mut scene = Scene::new();
    let id = scene.id;
    scene.receive(b"once");
    let count = scene.server[id].received().len();
    scene.server[id].pause();
    scene.server[id].resume();
    scene.server[id].consume(count);
    // What becomes pending again while it is handled waits for the next turn.
    assert_eq!(scene.events(), []);
    assert_eq!(scene.events(), []);
}

/// `Received` was delivered after an abort.
#[test]
fn aborted_while_paused_and_resumed_hears_only_closed() {
    let mut scene = Scene::new();
    let id = scene.id;
    scene.receive(b"left");
    scene.server[id].pause();
    scene.server[id].abort();
    scene.server[id].resume();
    assert_eq!(scene.events(), [Event::Closed(id, CloseReason::Aborted)]);
}

/// `PeerFinished` was delivered after an abort, because an overflow had ended the connection
/// before.
#[test]
fn overflowed_and_aborted_hears_only_closed() {
    let mut scene = Scene::new();
    let id = scene.id;
    scene.peer.write(b"last");
    scene.peer.finish();
    scene.deliver();
    assert_eq!(scene.server.next_event().unwrap(), Event::Received(id));
    let most = scene.server[id].exchange.limits().unsent_max;
    scene.server[id].send(b"first");
    scene.server[id].send(&vec![0; most]);
    scene.server[id].abort();
    assert_eq!(scene.events(), [Event::Closed(id, CloseReason::Overflow)]);
}

/// A deadline was delivered although the program had cancelled it in an event before it.
#[test]
fn deadline_that_has_passed_is_taken_back_before_its_delivery_does_not_come() {
    let mut scene = Scene::new();
    let id = scene.id;
    scene.receive(b"left");
    scene.server[id].pause();
    scene.server[id].set_deadline(Some(Duration::from_secs(1)));
    assert_eq!(scene.events(), []);
    scene.simulation.pass_time(Duration::from_secs(2));
    scene.server[id].resume();
    assert_eq!(scene.server.next_event().unwrap(), Event::Received(id));
    scene.server[id].set_deadline(None);
    assert_eq!(scene.events(), []);
}

/// A peer that never reads was kept for as long as it sent a byte now and then.
#[test]
fn stalled_write_to_a_peer_that_keeps_sending_times_out() {
    let mut scene = Scene::new();
    let id = scene.id;
    scene.server[id].send(&[1; 100]);
    lock(&scene.simulation.network).faults.receive_buffer = 4;
    for _ in 0..3 {
        scene.events();
        scene.deliver();
    }
    for _ in 0..3 {
        scene.simulation.pass_time(Duration::from_secs(19));
        scene.peer.write(b".");
        scene.deliver();
        assert_eq!(scene.events(), [Event::Received(id)]);
    }
    scene.simulation.pass_time(Duration::from_secs(19));
    let stalled = CloseReason::TimedOut(Deadline::StalledWrite);
    assert_eq!(scene.events(), [Event::Closed(id, stalled)]);
}

/// A deferred connection that another's event moved forward was served as both, and was queued
/// twice after each service.
#[test]
fn deferred_one_that_is_resumed_in_anothers_event_stands_in_line_once() {
    let mut scene = Scene::new();
    let (other, mut other_peer) = scene.accept_another();
    scene.leave_over();
    other_peer.write(b"?");
    scene.deliver();
    assert_eq!(scene.server.next_event().unwrap(), Event::Received(other));
    scene.become_pending_again();
    scene.read_the_rest();
}

/// A deferred connection was moved forward before its turn, and yielded once more in the same turn.
/// It was served again as the deferred connection that had been chosen.
#[test]
fn deferred_one_that_is_resumed_in_anothers_deadline_stands_in_line_once() {
    let mut scene = Scene::new();
    let (other, _other_peer) = scene.accept_another();
    scene.server[other].set_deadline(Some(Duration::from_secs(1)));
    assert_eq!(scene.events(), []);
    scene.leave_over();
    scene.simulation.pass_time(Duration::from_secs(2));
    assert_eq!(scene.server.next_event().unwrap(), Event::Deadline(other));
    scene.become_pending_again();
    scene.read_the_rest();
}

/// A connection had more to read, but was held back when it was served. It would have counted as
/// stopped by its budget, and waited behind those that were.
#[test]
fn held_back_connection_that_may_read_again_is_not_deferred() {
    let mut scene = Scene::new();
    let id = scene.id;
    let mut others = [scene.accept_another(), scene.accept_another()];
    scene.leave_over();
    scene.server.couple(id, id);
    scene.server[id].send(&[1; 10]);
    for (other, peer) in &mut others {
        scene.set_small_budget(*other);
        peer.write(b"abcd");
    }
    scene.deliver();
    let has_drained = (0..100).any(|_| {
        let has_drained = scene.server.next_event().unwrap() == Event::Drained(id);
        if !has_drained {
            scene.deliver();
        }
        has_drained
    });
    assert!(has_drained);
    assert_eq!(scene.server[id].unsent(), 2);
    let are_deferred = others.iter().all(|(other, _)| scene.server[*other].received().len() < 4);
    assert!(are_deferred, "the others have more to read");
    scene.server.uncouple(id);
    let events = std::iter::from_fn(|| Some(scene.server.next_event().unwrap()));
    let before = events.take(100).take_while(|event| *event != Event::Received(id)).count();
    assert!(
        before <= 1,
        "it waits for no more than the deferred connection of this turn, not for {before}"
    );
}

/// Two programs against each other, with buffers that hold a fraction of what is on the way. If
/// both ends stopped reading while they had unsent bytes, neither would ever move again.
#[test]
fn client_sends_more_than_all_buffers_hold_gets_everything_back() {
    let narrow = Faults { send_buffer: 4, receive_buffer: 4, ..Faults::none() };
    let simulation = Simulation::with_faults(1, narrow);
    let mut server: EventLoop = simulation.event_loop();
    let mut client: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let id = client.connect(server.listener_addr(listener).unwrap(), ());
    let sent: Vec<u8> = (0..1000).map(|place| place as u8).collect();
    client[id].send(&sent);
    for _ in 0..10_000 {
        if let Some(Event::Received(id)) = server.poll_event(Some(Duration::ZERO)).unwrap() {
            server[id].send_received();
        }
        client.poll_event(Some(Duration::ZERO)).unwrap();
        if client[id].received().len() == sent.len() {
            break;
        }
    }
    assert_eq!(client[id].received(), sent);
}

/// Each connection that closes makes room for just one of the waiting peers. That the next finds
/// none again is not reported.
#[test]
fn out_of_descriptors_with_many_that_wait_is_reported_once_until_nobody_waits() {
    let few = Faults { descriptors_max: 3, ..Faults::none() };
    let simulation = Simulation::with_faults(1, few);
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let address = server.listener_addr(listener).unwrap();
    for round in [1, 2] {
        let peers: Vec<Peer> = (0..6).map(|_| simulation.connect(address)).collect();
        let (mut closed, mut failed) = (0, 0);
        while closed < peers.len() {
            match server.poll_event(Some(Duration::ZERO)).unwrap() {
                Some(Event::AcceptFailed(..)) => failed += 1,
                Some(Event::Closed(..)) => closed += 1,
                Some(_) => {}
                None => server.connections_mut().take(1).for_each(|connection| connection.abort()),
            }
        }
        assert_eq!(failed, 1, "in round {round}");
        assert_eq!(server.poll_event(Some(Duration::ZERO)).unwrap(), None);
    }
}

/// An undelivered failure of a registration then counted as delivered, and so no failed accept was
/// delivered any more.
#[test]
fn accepting_that_fails_behind_a_failed_registration_is_reported() {
    let simulation = Simulation::new(1);
    let limits = Limits { connections_max: Some(1), ..Limits::default() };
    let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let address = server.listener_addr(listener).unwrap();
    let _peers: Vec<Peer> = (0..2).map(|_| simulation.connect(address)).collect();
    while simulation.step() {}
    let Event::Accepted(_, id) = server.next_event().unwrap() else {
        panic!("Accepted is delivered first");
    };
    assert_eq!(server.poll_event(Some(Duration::ZERO)).unwrap(), None, "there is no more room");
    server[id].abort();
    assert_eq!(server.next_event().unwrap(), Event::Closed(id, CloseReason::Aborted));
    let fail = |nth| {
        let mut network = lock(&simulation.network);
        let at = network.calls + nth;
        let error = || ErrorKind::StorageFull.into();
        network.script.failures.push(Failing { at, is_persistent: false, error });
    };
    // To register the listener, for which there is room now, which delivers no event; then, when
    // that is tried again and succeeds, to accept.
    fail(1);
    assert_eq!(server.poll_event(Some(Duration::ZERO)).unwrap(), None);
    fail(2);
    let failed = Event::AcceptFailed(listener, ErrorKind::StorageFull.into());
    assert_eq!(server.next_event().unwrap(), failed);
    assert!(matches!(server.next_event().unwrap(), Event::Accepted(..)), "it goes on");
}

/// A full read buffer hid the end, so that a message of exactly its size was never complete.
#[test]
fn end_behind_a_full_read_buffer_is_found_although_nothing_is_consumed() {
    for seed in 0..50 {
        let simulation = Simulation::with_faults(seed, Faults::drawn(seed).survivable());
        let mut limits = Limits::default();
        limits.connection.read_buffer_max = 5;
        let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
        let listener = server.listen("127.0.0.1:0").unwrap();
        let mut peer = simulation.connect(server.listener_addr(listener).unwrap());
        let mut written = 0;
        let finished = (0..2_000).find_map(|_| {
            written += peer.write(&b"hello"[written..]);
            if written == 5 {
                peer.finish();
            }
            let event = server.poll_event(Some(Duration::from_millis(10))).unwrap();
            event.filter(|event| matches!(event, Event::PeerFinished(_)))
        });
        let Some(Event::PeerFinished(id)) = finished else {
            panic!("seed {seed}: no end is delivered")
        };
        assert_eq!(server[id].received(), b"hello");
    }
}

/// The time that a connect took counted as silence: it ended as soon as it was connected.
#[test]
fn connect_takes_longer_than_the_idle_timeout_is_connected_and_stays() {
    let mut slow = 0;
    for seed in 0..20 {
        let simulation = Simulation::new(seed);
        let mut limits = Limits::default();
        limits.connection.idle_timeout = Some(Duration::from_secs(1));
        let mut client: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
        let listener = simulation.listen(([10, 0, 0, 9], 80).into());
        let id = client.connect(listener.address(), ());
        if client.poll_event(Some(Duration::ZERO)).unwrap().is_some() {
            continue; // it was connected at once
        }
        slow += 1;
        simulation.pass_time(Duration::from_secs(3));
        assert_eq!(client.next_event().unwrap(), Event::Connected(id));
        let connected = simulation.now();
        let idle = CloseReason::TimedOut(Deadline::Idle);
        assert_eq!(client.next_event().unwrap(), Event::Closed(id, idle));
        assert!(simulation.now() - connected >= Duration::from_secs(1), "seed {seed}");
    }
    assert!(slow > 0, "no connect took any time");
}

/// A connect without a deadline had nothing to wait for, and forgot its idle timeout.
#[test]
fn idle_timeout_set_while_connecting_without_a_deadline_counts_afterwards() {
    let simulation = Simulation::new(1);
    let mut limits = Limits::default();
    limits.connection.connect_deadline = Duration::MAX;
    let mut client: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
    let listener = simulation.listen(([10, 0, 0, 9], 80).into());
    let id = client.connect(listener.address(), ());
    client[id].set_idle_timeout(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(client.next_event().unwrap(), Event::Connected(id));
    let idle = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(client.next_event().unwrap(), Event::Closed(id, idle));
}
