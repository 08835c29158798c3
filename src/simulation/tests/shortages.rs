//! Running out of descriptors, in the process and in the whole system.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::observer::Step;
use crate::simulation::{Faults, Peer, Simulation};
use crate::slots::{ConnectionId, ListenerId};
use crate::system::simulated::{Failing, lock};

/// The error number of Unix systems for a system that has no descriptor left.
const NO_DESCRIPTOR_IN_SYSTEM: i32 = 23;

fn no_descriptor_in_system() -> io::Error {
    io::Error::from_raw_os_error(NO_DESCRIPTOR_IN_SYSTEM)
}

/// Lets `first` of the calls that can fail succeed, and fails the next `count`.
fn fail(simulation: &Simulation, first: u64, count: u64) {
    let mut network = lock(&simulation.network);
    let begin = network.calls + first + 1;
    let failures = (begin..begin + count).map(|at| {
        let error = no_descriptor_in_system as fn() -> io::Error;
        Failing { at, is_persistent: false, error }
    });
    network.script.failures.extend(failures);
}

/// The pauses of a listener, with the number of the error that each is for.
type Pauses = Arc<Mutex<Vec<(Option<i32>, Duration)>>>;

fn observe(server: &mut EventLoop) -> Pauses {
    let pauses = Pauses::default();
    let seen = pauses.clone();
    server.set_observer(move |step| {
        if let Step::AcceptPaused { failure, pause, .. } = step {
            seen.lock().unwrap().push((failure.raw_os_error(), pause));
        }
    });
    pauses
}

fn listening(simulation: &Simulation) -> (EventLoop, ListenerId) {
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    (server, listener)
}

/// Returns the next event other than `AcceptFailed`, and how many of those preceded it.
fn next(server: &mut EventLoop, listener: ListenerId) -> (usize, Event) {
    let mut reported = 0;
    loop {
        match server.next_event().unwrap() {
            Event::AcceptFailed(of, ..) if of == listener => reported += 1,
            event => return (reported, event),
        }
    }
}

fn accepted(event: Event) -> ConnectionId {
    match event {
        Event::Accepted(_, id) => id,
        other => panic!("{other:?} was not expected"),
    }
}

/// The first pause of a shortage was as long as the next of the shortage before would have been.
#[test]
fn accept_pauses_begin_anew_with_each_shortage() {
    let few = Faults { descriptors_max: 2, ..Faults::none() };
    let simulation = Simulation::with_faults(1, few);
    let (mut server, listener) = listening(&simulation);
    let address = server.listener_addr(listener).unwrap();
    let pauses = observe(&mut server);
    for _ in 0..3 {
        let _peers = [(); 2].map(|()| simulation.connect(address));
        while simulation.step() {}
        let first = accepted(server.next_event().unwrap());
        let failed = server.next_event().unwrap();
        assert!(matches!(failed, Event::AcceptFailed(..)), "{failed:?}");
        let shortest = Limits::default().accept_pause_min;
        assert_eq!(server.poll_event(Some(31 * shortest)).unwrap(), None);
        let seen: Vec<Duration> =
            pauses.lock().unwrap().drain(..).map(|(_, pause)| pause).collect();
        assert_eq!(seen, [1, 2, 4, 8, 16, 32].map(|times| times * shortest));
        // Room for the one peer that waits, and then for none.
        server[first].abort();
        assert_eq!(server.next_event().unwrap(), Event::Closed(first, CloseReason::Aborted));
        let second = accepted(server.next_event().unwrap());
        server[second].abort();
        assert_eq!(server.next_event().unwrap(), Event::Closed(second, CloseReason::Aborted));
        assert_eq!(server.poll_event(Some(Duration::from_secs(60))).unwrap(), None);
        pauses.lock().unwrap().clear();
    }
}

#[test]
fn system_out_of_descriptors_pauses_accepting_is_reported_once_and_outlived() {
    let simulation = Simulation::new(1);
    let (mut server, listener) = listening(&simulation);
    let pauses = observe(&mut server);
    let peers: Vec<Peer> = {
        let address = server.listener_addr(listener).unwrap();
        (0..3).map(|_| simulation.connect(address)).collect()
    };
    while simulation.step() {}
    let start = simulation.now();
    fail(&simulation, 0, 3);
    let (reported, event) = next(&mut server, listener);
    accepted(event);
    assert_eq!(reported, 1);
    let shortest = Limits::default().accept_pause_min;
    let expected = [1, 2, 4].map(|times| (Some(NO_DESCRIPTOR_IN_SYSTEM), times * shortest));
    assert_eq!(*pauses.lock().unwrap(), expected);
    assert_eq!(simulation.now() - start, 7 * shortest, "it waits between its tries");
    for _ in &peers[1..] {
        accepted(server.next_event().unwrap());
    }
}

#[test]
fn system_out_of_descriptors_at_a_connect_is_that_connections_closed_with_the_number() {
    let simulation = Simulation::new(1);
    let listener = simulation.listen(([10, 0, 0, 9], 80).into());
    let mut client: EventLoop = simulation.event_loop();
    fail(&simulation, 0, 1);
    let id = client.connect(listener.address(), ());
    let Event::Closed(closed, CloseReason::Failed(failure)) = client.next_event().unwrap() else {
        panic!("it is closed");
    };
    assert_eq!((closed, failure.raw_os_error()), (id, Some(NO_DESCRIPTOR_IN_SYSTEM)));
    let id = client.connect(listener.address(), ());
    assert_eq!(client.next_event().unwrap(), Event::Connected(id));
}
