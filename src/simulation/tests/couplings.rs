//! Which connection pauses the reading of which, also after a coupling was changed and one of the
//! two has closed.

use std::time::Duration;

use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::simulation::{Faults, Peer, Simulation};
use crate::slots::ConnectionId;

/// A server with three accepted connections, and their peers, for each of which the network holds
/// eight bytes.
struct Scene {
    simulation: Simulation,
    server: EventLoop,
    ids: [ConnectionId; 3],
    peers: [Peer; 3],
}

impl Scene {
    fn new() -> Self {
        let faults = Faults { send_buffer: 4, receive_buffer: 4, ..Faults::none() };
        let simulation = Simulation::with_faults(1, faults);
        let mut server: EventLoop = simulation.event_loop();
        let listener = server.listen("127.0.0.1:0").unwrap();
        let address = server.listener_addr(listener).unwrap();
        let peers = [(); 3].map(|()| simulation.connect(address));
        let ids = [(); 3].map(|()| match server.next_event().unwrap() {
            Event::Accepted(_, id) => id,
            other => panic!("{other:?} was not expected"),
        });
        let mut scene = Self { simulation, server, ids, peers };
        assert_eq!(scene.events(), []);
        scene
    }

    /// Returns the events until neither the loop nor the network has anything left to do.
    fn events(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut turns_at_rest = 0;
        while turns_at_rest < 3 {
            let has_moved = self.simulation.step();
            let event = self.server.poll_event(Some(Duration::ZERO)).unwrap();
            turns_at_rest = if has_moved || event.is_some() { 0 } else { turns_at_rest + 1 };
            events.extend(event);
            assert!(events.len() < 100, "no rest in time: {events:?}");
        }
        events
    }
}

/// The reader still counted among the readers of the writer before, and was uncoupled when that one
/// aborted.
#[test]
fn reader_that_was_coupled_anew_stays_held_back_when_the_writer_before_aborts() {
    // To itself, and to another.
    for place in [0, 2] {
        let mut scene = Scene::new();
        let [reader, before, _] = scene.ids;
        let writer = scene.ids[place];
        scene.server.couple(reader, before);
        assert_eq!(scene.events(), []);
        scene.server.couple(reader, writer);
        scene.server[before].abort();
        assert_eq!(scene.events(), [Event::Closed(before, CloseReason::Aborted)]);

        scene.server[writer].send(&[1; 20]);
        assert_eq!(scene.events(), []);
        assert_eq!(scene.server[writer].unsent(), 12);
        scene.peers[0].write(b"?");
        // Each time the peer reads, four bytes more leave.
        for unsent in [8, 4] {
            scene.peers[place].read();
            assert_eq!(scene.events(), []);
            assert_eq!(scene.server[writer].unsent(), unsent);
            assert!(scene.server[reader].received().is_empty());
        }
        scene.peers[place].read();
        assert_eq!(scene.events(), [Event::Received(reader)]);
        assert_eq!(scene.server[writer].unsent(), 0);
    }
}
