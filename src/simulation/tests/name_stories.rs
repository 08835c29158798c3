//! Connects to names and to several addresses: an answer that arrives when its connection has
//! ended, or its slot has another; an attempt that is never answered.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::observer::Step;
use crate::simulation::Simulation;

const SOON: Duration = Duration::from_millis(10);
const LATER: Duration = Duration::from_millis(20);

fn address(last: u8) -> SocketAddr {
    ([10, 0, 0, last], 80).into()
}

/// Returns a network with one host for each name, each at its own address.
fn network(names: &[(&str, Duration)]) -> Simulation {
    let simulation = Simulation::new(1);
    for (place, (name, after)) in names.iter().enumerate() {
        let host: IpAddr = address(place as u8 + 1).ip();
        simulation.set_host(name, *after, Ok(vec![host]));
    }
    simulation
}

/// The next connection has the slot of the first, and its name is still looked up when the answer
/// to the first arrives.
#[test]
fn name_is_answered_when_its_connection_has_gone_the_next_in_its_slot_waits_for_its_own() {
    let simulation = network(&[("first", SOON), ("second", LATER)]);
    let first = simulation.listen(address(1));
    let second = simulation.listen(address(2));
    let mut client: EventLoop = simulation.event_loop();
    let gone = client.connect_name("first:80", ());
    client[gone].abort();
    assert_eq!(client.next_event().unwrap(), Event::Closed(gone, CloseReason::Aborted));
    assert_eq!(client.poll_event(Some(Duration::ZERO)).unwrap(), None);
    let id = client.connect_name("second:80", ());
    assert_eq!(id.slot, gone.slot);
    assert_eq!(client.next_event().unwrap(), Event::Connected(id));
    assert_eq!(client[id].peer_addr().unwrap(), address(2));
    while simulation.step() {}
    assert!(second.accept().is_some());
    assert!(first.accept().is_none(), "no connect wants that host any more");
}

/// The answer is there already when the program gives up, and the loop takes it before it delivers
/// that the connection has closed.
#[test]
fn name_is_answered_when_its_connection_was_aborted_no_connect_begins() {
    let simulation = network(&[("late", SOON)]);
    let listener = simulation.listen(address(1));
    let mut client: EventLoop = simulation.event_loop();
    let id = client.connect_name("late:80", ());
    assert_eq!(client.poll_event(Some(Duration::ZERO)).unwrap(), None);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    client.set_observer(move |step: Step| seen.lock().unwrap().push(step));
    simulation.pass_time(SOON);
    client[id].abort();
    assert_eq!(client.next_event().unwrap(), Event::Closed(id, CloseReason::Aborted));
    assert_eq!(client.poll_event(Some(SOON)).unwrap(), None);
    while simulation.step() {}
    assert!(listener.accept().is_none());
    let steps = steps.lock().unwrap();
    let begins = |step: &&Step| matches!(step, Step::Resolved { .. } | Step::Connecting { .. });
    assert_eq!(steps.iter().find(begins), None);
}

/// The first host never answers: the second is tried in parallel after a moment, and wins. A host
/// that refuses at once causes no delay.
#[test]
fn address_that_never_answers_delays_the_next_by_a_moment_and_one_that_refuses_by_none() {
    let simulation = Simulation::new(1);
    simulation.set_unreachable(address(1).ip());
    let listener = simulation.listen(address(2));
    let mut client: EventLoop = simulation.event_loop();
    let mut peers = Vec::new();
    for (first, delay) in [(1, 250), (3, 0)] {
        let start = simulation.now();
        let id = client.connect_any([address(first), address(2)], ());
        assert_eq!(client.next_event().unwrap(), Event::Connected(id));
        assert_eq!(simulation.now() - start, Duration::from_millis(delay));
        assert_eq!(client[id].peer_addr().unwrap(), address(2));
        assert_eq!(client[id].stream.origin.attempts().count(), 0);
        while simulation.step() {}
        peers.push(listener.accept().unwrap());
    }
}
