//! Deadlines to the tick: on the virtual clock each passes when it is due, not before and not
//! after, and not where something has moved in the meantime.

use std::time::Duration;

use crate::event::{CloseReason, Deadline, Event};
use crate::event_loop::EventLoop;
use crate::limits::{ConnectionLimits, Limits};
use crate::simulation::{Faults, Peer, Simulation};
use crate::slots::ConnectionId;
use crate::system::simulated::lock;

const SECOND: Duration = Duration::from_secs(1);

fn limits(change: impl FnOnce(&mut ConnectionLimits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits.connection);
    limits
}

/// A server with some accepted connections, none of which is coupled, and their peers. The network
/// holds four bytes for a peer at our end, and nothing at its own.
struct Scene {
    simulation: Simulation,
    server: EventLoop,
    ids: Vec<ConnectionId>,
    peers: Vec<Peer>,
}

impl Scene {
    fn with(count: usize, limits: Limits) -> Self {
        let simulation = Simulation::with_faults(1, Faults { send_buffer: 4, ..Faults::none() });
        let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
        let listener = server.listen("127.0.0.1:0").unwrap();
        let address = server.listener_addr(listener).unwrap();
        let peers = (0..count).map(|_| simulation.connect(address)).collect();
        let mut scene = Self { simulation, server, ids: Vec::new(), peers };
        while scene.ids.len() < count {
            let Event::Accepted(_, id) = scene.server.next_event().unwrap() else {
                panic!("nothing else is delivered before all are accepted");
            };
            scene.server.uncouple(id);
            scene.ids.push(id);
        }
        assert_eq!(scene.events(), []);
        lock(&scene.simulation.network).faults.receive_buffer = 0;
        scene
    }

    /// Returns the events until the loop has nothing left to do.
    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut turns_at_rest = 0;
        while turns_at_rest < 3 {
            let event = self.server.poll_event(Some(Duration::ZERO)).unwrap();
            turns_at_rest = if event.is_some() { 0 } else { turns_at_rest + 1 };
            events.extend(event);
            assert!(events.len() < 100, "no rest in time: {events:?}");
        }
        events
    }

    /// The peer sends a byte, and the network delivers it.
    fn write(&mut self, place: usize) {
        lock(&self.simulation.network).faults.receive_buffer = 64;
        assert_eq!(self.peers[place].write(b"."), 1);
        while self.simulation.step() {}
        lock(&self.simulation.network).faults.receive_buffer = 0;
    }

    /// Fails unless the first connection ends by this deadline, at exactly `after` from now.
    #[track_caller]
    fn assert_passes(&mut self, deadline: Deadline, after: Duration) {
        let start = self.simulation.now();
        let closed = Event::Closed(self.ids[0], CloseReason::TimedOut(deadline));
        assert_eq!(self.server.next_event().unwrap(), closed);
        assert_eq!(self.simulation.now() - start, after);
    }
}

#[test]
fn idle_timeout_passes_to_the_tick_after_the_last_activity_in_either_direction() {
    let idle = limits(|limits| limits.idle_timeout = Some(10 * SECOND));
    let mut scene = Scene::with(1, idle);
    let id = scene.ids[0];
    scene.simulation.pass_time(9 * SECOND);
    scene.write(0);
    assert_eq!(scene.events(), [Event::Received(id)]);
    scene.simulation.pass_time(9 * SECOND);
    scene.server[id].send(b".");
    assert_eq!(scene.events(), []);
    scene.simulation.pass_time(9 * SECOND);
    assert_eq!(scene.events(), []);
    scene.assert_passes(Deadline::Idle, SECOND);
}

/// Bytes that have arrived are read before a deadline counts, even if the kernel has not reported them
/// yet: a wait reports one connection only, and the deadlines of all have passed.
#[test]
fn idle_timeouts_pass_while_the_program_is_busy_and_what_arrived_meanwhile_counts() {
    for event_capacity in [1, 1024] {
        let mut scene = Scene::with(4, limits(|limits| limits.idle_timeout = Some(10 * SECOND)));
        lock(&scene.simulation.network).faults.event_capacity = event_capacity;
        for place in 0..4 {
            scene.write(place);
        }
        scene.simulation.pass_time(20 * SECOND);
        let mut received = Vec::new();
        while received.len() < 4 {
            match scene.server.next_event().unwrap() {
                Event::Received(id) => received.push(id),
                other => panic!("{other:?}, though bytes have arrived"),
            }
        }
        received.sort_unstable();
        assert_eq!(received, scene.ids);
        assert_eq!(scene.events(), []);
        scene.assert_passes(Deadline::Idle, 10 * SECOND);
    }
}

#[test]
fn stalled_write_deadline_passes_to_the_tick_after_the_last_byte_that_was_taken() {
    let mut scene = Scene::with(1, Limits::default());
    let id = scene.ids[0];
    scene.server[id].send(&[1; 10]);
    assert_eq!(scene.events(), []);
    scene.simulation.pass_time(50 * SECOND);
    // The peer reads two bytes: as many are taken now.
    lock(&scene.simulation.network).faults.receive_buffer = 2;
    while scene.simulation.step() {}
    assert_eq!(scene.events(), []);
    assert_eq!(scene.server[id].unsent(), 4);
    scene.simulation.pass_time(59 * SECOND);
    assert_eq!(scene.events(), []);
    scene.assert_passes(Deadline::StalledWrite, SECOND);
}

/// The kernel takes the first bytes long before the stall, which they are no part of.
#[test]
fn stalled_read_deadline_passes_to_the_tick_after_the_program_took_something_last() {
    let mut scene = Scene::with(1, limits(|limits| limits.read_buffer_max = 2));
    let id = scene.ids[0];
    scene.write(0);
    scene.write(0);
    assert_eq!(scene.events(), [Event::Received(id), Event::Full(id)]);
    scene.simulation.pass_time(50 * SECOND);
    scene.server[id].consume(1);
    assert_eq!(scene.events(), [Event::Received(id)]);
    scene.simulation.pass_time(100 * SECOND);
    scene.write(0);
    assert_eq!(scene.events(), [Event::Received(id), Event::Full(id)]);
    scene.assert_passes(Deadline::StalledRead, 60 * SECOND);
}

/// The loop has no turn between the two, so it sees a pause only by what the resume announces.
#[test]
fn stalled_read_deadline_counts_anew_after_a_pause_and_a_resume_at_once() {
    let mut scene = Scene::with(1, limits(|limits| limits.read_buffer_max = 1));
    let id = scene.ids[0];
    scene.write(0);
    assert_eq!(scene.events(), [Event::Received(id), Event::Full(id)]);
    scene.simulation.pass_time(50 * SECOND);
    scene.server[id].pause();
    scene.server[id].resume();
    assert_eq!(scene.events(), [Event::Received(id)]);
    scene.assert_passes(Deadline::StalledRead, 60 * SECOND);
}

#[test]
fn stalled_write_deadline_counts_from_the_stall_and_not_from_an_earlier_flush() {
    // A connection without an idle timeout notes no time while it waits for nothing.
    let idle = limits(|limits| limits.idle_timeout = Some(1_000 * SECOND));
    let mut scene = Scene::with(1, idle);
    let id = scene.ids[0];
    scene.server[id].send(&[1; 4]);
    assert_eq!(scene.events(), []);
    assert_eq!(scene.server[id].unsent(), 0);
    scene.simulation.pass_time(50 * SECOND);
    scene.server[id].send(b"!");
    assert_eq!(scene.events(), []);
    assert_eq!(scene.server[id].unsent(), 1);
    scene.assert_passes(Deadline::StalledWrite, 60 * SECOND);
}

#[test]
fn stalled_write_deadline_of_a_close_counts_from_the_close() {
    let mut scene = Scene::with(1, Limits::default());
    let id = scene.ids[0];
    scene.server[id].send(&[1; 10]);
    assert_eq!(scene.events(), []);
    scene.simulation.pass_time(50 * SECOND);
    scene.server[id].close();
    assert_eq!(scene.events(), []);
    scene.assert_passes(Deadline::StalledWrite, 60 * SECOND);
}

#[test]
fn close_deadlines_pass_to_the_tick_after_silence_and_after_all() {
    let mut scene = Scene::with(1, Limits::default());
    scene.server[scene.ids[0]].close();
    scene.assert_passes(Deadline::Close, 5 * SECOND);

    let mut scene = Scene::with(1, Limits::default());
    scene.server[scene.ids[0]].close();
    assert_eq!(scene.events(), []);
    for _ in 0..7 {
        scene.simulation.pass_time(4 * SECOND);
        scene.write(0);
        assert_eq!(scene.events(), []);
    }
    scene.assert_passes(Deadline::Close, 2 * SECOND);
}

#[test]
fn deadline_that_the_program_set_is_delivered_to_the_tick() {
    let mut scene = Scene::with(1, Limits::default());
    let id = scene.ids[0];
    scene.server[id].set_deadline(Some(10 * SECOND));
    scene.simulation.pass_time(4 * SECOND);
    // It counts from when the loop looks at it first.
    assert_eq!(scene.events(), []);
    scene.write(0);
    assert_eq!(scene.events(), [Event::Received(id)]);
    let start = scene.simulation.now();
    assert_eq!(scene.server.next_event().unwrap(), Event::Deadline(id));
    assert_eq!(scene.simulation.now() - start, 10 * SECOND);
}

#[test]
fn connect_deadline_passes_to_the_tick() {
    let mut hanging = 0;
    for seed in 0..30 {
        let faults = Faults { connect_rate: 1000, ..Faults::none() };
        let simulation = Simulation::with_faults(seed, faults);
        let mut client: EventLoop = simulation.event_loop();
        let start = simulation.now();
        let id = client.connect(([10, 0, 0, 9], 80).into(), ());
        let timed_out = CloseReason::TimedOut(Deadline::Connect);
        if client.next_event().unwrap() == Event::Closed(id, timed_out) {
            assert_eq!(simulation.now() - start, ConnectionLimits::default().connect_deadline);
            hanging += 1;
        }
    }
    assert!(hanging > 0, "no connect was left without an answer");
}

#[test]
fn deadline_of_a_shutdown_passes_to_the_tick() {
    let mut scene = Scene::with(1, Limits::default());
    let id = scene.ids[0];
    scene.server[id].send(&[1; 10]);
    assert_eq!(scene.events(), []);
    let start = scene.simulation.now();
    scene.server.shutdown(10 * SECOND);
    assert_eq!(scene.server.next_event().unwrap(), Event::Closed(id, CloseReason::Aborted));
    assert_eq!(scene.server.next_event().unwrap(), Event::ShutDown);
    assert_eq!(scene.simulation.now() - start, 10 * SECOND);
}
