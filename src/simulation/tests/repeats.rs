//! `Received` follows progress: programs that take one message for each event.

use std::time::Duration;

use crate::event::Event;
use crate::event_loop::EventLoop;
use crate::limits::{ConnectionLimits, Limits};
use crate::simulation::{Faults, Peer, PeerState, Simulation};
use crate::slots::ConnectionId;

/// A server and its peers, in a network that delivers whatever it is given.
struct Scene {
    simulation: Simulation,
    server: EventLoop,
    ids: Vec<ConnectionId>,
    peers: Vec<Peer>,
}

impl Scene {
    fn with(count: usize, change: impl FnOnce(&mut ConnectionLimits)) -> Self {
        let simulation = Simulation::with_faults(1, Faults::none());
        let mut limits = Limits::default();
        change(&mut limits.connection);
        let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
        let listener = server.listen("127.0.0.1:0").unwrap();
        let address = server.listener_addr(listener).unwrap();
        let peers = (0..count).map(|_| simulation.connect(address)).collect();
        let mut scene = Self { simulation, server, ids: Vec::new(), peers };
        while scene.ids.len() < count {
            let Event::Accepted(_, id) = scene.server.next_event().unwrap() else {
                panic!("nothing else is delivered before all are accepted");
            };
            scene.ids.push(id);
        }
        assert_eq!(scene.poll(), None);
        scene
    }

    fn poll(&mut self) -> Option<Event> {
        self.server.poll_event(Some(Duration::ZERO)).unwrap()
    }

    fn deliver(&self) {
        while self.simulation.step() {}
    }

    /// Takes a request of one byte.
    fn take_one(&mut self, id: ConnectionId) -> u8 {
        let request = self.server[id].received()[0];
        self.server[id].consume(1);
        request
    }
}

/// Each is a request of one byte, and all of them arrive in one piece.
#[test]
fn requests_taken_one_for_each_event_are_all_answered_and_leave_together() {
    let mut scene = Scene::with(1, |_| {});
    let id = scene.ids[0];
    assert_eq!(scene.peers[0].write(b"0123456789abcdef"), 16);
    scene.deliver();
    for request in b"0123456789abcdef" {
        assert_eq!(scene.poll(), Some(Event::Received(id)));
        assert_eq!(scene.take_one(id), *request);
        scene.server[id].send(&[*request]);
        scene.deliver();
        assert_eq!(scene.peers[0].read(), b"", "the answers leave behind the last request");
    }
    assert_eq!(scene.poll(), None);
    scene.deliver();
    assert_eq!(scene.peers[0].read(), b"0123456789abcdef");
}

#[test]
fn requests_of_one_without_end_let_another_have_its_turn() {
    let mut scene = Scene::with(2, |_| {});
    let [id, other] = scene.ids[..] else { panic!("there are two") };
    assert_eq!(scene.peers[0].write(&[b'.'; 500]), 500);
    scene.deliver();
    assert_eq!(scene.poll(), Some(Event::Received(id)));
    scene.take_one(id);
    scene.peers[1].write(b"?");
    scene.deliver();
    let (mut before, mut is_other_served) = (1, false);
    for _ in 0..1_000 {
        match scene.poll() {
            Some(Event::Received(of)) if of == other => is_other_served = true,
            Some(Event::Received(_)) => {
                before += usize::from(!is_other_served);
                scene.take_one(id);
            }
            None => {}
            Some(event) => panic!("{event:?} was not expected"),
        }
    }
    assert!(is_other_served && before <= 65, "after {before}: one service at most");
    assert!(scene.server[id].received().is_empty(), "no request is lost");
}

/// Lets a peer send all requests before it reads anything; every answer has `answer` bytes. Returns
/// the most that was unsent at once.
fn most_unsent(
    requests: usize,
    answer: usize,
    change: impl FnOnce(&mut ConnectionLimits),
) -> usize {
    let mut scene = Scene::with(1, change);
    let id = scene.ids[0];
    let faults = Faults { send_buffer: 10, receive_buffer: 100, ..Faults::none() };
    assert_eq!(scene.peers[0].write(&vec![b'?'; requests]), requests);
    scene.deliver();
    scene.simulation.set_faults(faults);
    let (mut answered, mut read, mut most) = (0, 0, 0);
    for _ in 0..requests * answer {
        match scene.poll() {
            Some(Event::Received(_)) => {
                scene.take_one(id);
                scene.server[id].send(&vec![b'!'; answer]);
                most = most.max(scene.server[id].unsent());
                answered += 1;
            }
            None => {
                scene.deliver();
                read += scene.peers[0].read().len();
            }
            Some(Event::Drained(_)) => {}
            Some(event) => panic!("{event:?} was not expected"),
        }
    }
    assert_eq!((answered, read), (requests, requests * answer));
    assert_eq!(scene.peers[0].state(), PeerState::Open);
    most
}

/// Answers above the mark: each leaves before the next request is delivered.
#[test]
fn requests_for_large_answers_are_answered_one_at_a_time() {
    let most = most_unsent(80, 1_000, |limits| {
        limits.high_water = 100;
        limits.low_water = 10;
        limits.unsent_max = 1_000;
    });
    assert_eq!(most, 1_000);
}

/// Answers below every bound but the write budget: no more than that are held.
#[test]
fn requests_for_small_answers_are_answered_until_a_write_budget_is_full() {
    let most = most_unsent(80, 10, |limits| limits.write_budget = 64);
    assert_eq!(most, 70);
}
