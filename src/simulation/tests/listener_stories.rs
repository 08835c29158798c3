//! Listeners that run out of room, share it, and meet errors of single peers.

use std::io;
use std::time::Duration;

use crate::cost::steps_of;
use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::observer::Step;
use crate::simulation::{Faults, Peer, Simulation};
use crate::slots::{ConnectionId, ListenerId};
use crate::system::simulated::{Failing, lock};

/// Returns what a loop has done, as far as it concerns accepting.
fn watch(event_loop: &mut EventLoop) -> impl Fn(fn(&Step) -> bool) -> usize + use<> {
    let (seen, steps) = std::sync::mpsc::channel();
    event_loop.set_observer(move |step: Step| _ = seen.send(step));
    let all = std::cell::RefCell::new(Vec::new());
    move |is_counted| {
        all.borrow_mut().extend(steps.try_iter());
        all.borrow().iter().filter(|step| is_counted(step)).count()
    }
}

fn is_paused(step: &Step) -> bool {
    matches!(step, Step::AcceptPaused { .. })
}

fn is_skipped(step: &Step) -> bool {
    matches!(step, Step::AcceptSkipped { .. })
}

fn is_turn(step: &Step) -> bool {
    matches!(step, Step::Waited { .. })
}

/// Makes the next `count` calls fail with this error; `None` for all.
fn fail_calls(simulation: &Simulation, count: Option<u64>, error: fn() -> io::Error) {
    let mut network = lock(&simulation.network);
    let first = network.calls + 1;
    let (calls, is_persistent) = (first..first + count.unwrap_or(1), count.is_none());
    network.script.failures.extend(calls.map(|at| Failing { at, is_persistent, error }));
}

/// Returns the event of the next turn, if it brings one.
fn turn(event_loop: &mut EventLoop) -> Option<Event> {
    event_loop.poll_event(Some(Duration::ZERO)).unwrap()
}

fn listening(simulation: &Simulation, limits: Limits) -> (EventLoop, ListenerId) {
    let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
    let listener = server.listen("127.0.0.1:0").unwrap();
    (server, listener)
}

/// Peers that wait to be accepted.
fn peers(simulation: &Simulation, server: &EventLoop, at: ListenerId, count: usize) -> Vec<Peer> {
    let address = server.listener_addr(at).unwrap();
    let peers = (0..count).map(|_| simulation.connect(address)).collect();
    while simulation.step() {}
    peers
}

/// Accepts until a turn brings no event.
fn accepted(server: &mut EventLoop) -> Vec<ConnectionId> {
    let ids = std::iter::from_fn(|| turn(server)).map(|event| match event {
        Event::Accepted(_, id) => id,
        other => panic!("{other:?} was not expected"),
    });
    ids.collect()
}

/// Retries of the alarm that find no descriptor say nothing about what a close makes free.
#[test]
fn first_close_after_retries_in_vain_lets_the_listener_accept_at_once() {
    let mut faults = Faults::none();
    faults.descriptors_max = 3; // one is the listener's
    let simulation = Simulation::with_faults(1, faults);
    let (mut server, listener) = listening(&simulation, Limits::default());
    let count = watch(&mut server);
    let mut peers = peers(&simulation, &server, listener, 3);
    let Some(Event::Accepted(_, first)) = turn(&mut server) else { panic!("it is accepted") };
    assert!(matches!(turn(&mut server), Some(Event::Accepted(..))));
    assert!(matches!(turn(&mut server), Some(Event::AcceptFailed(..))));
    assert_eq!(server.poll_event(Some(Duration::from_millis(100))).unwrap(), None);
    assert!(count(is_paused) >= 4, "the alarm has retried in vain");

    let before = simulation.now();
    peers.remove(0).finish();
    while simulation.step() {}
    assert_eq!(turn(&mut server), Some(Event::PeerFinished(first)));
    assert!(matches!(turn(&mut server), Some(Event::Closed(id, _)) if id == first));
    let events: Vec<Event> = std::iter::from_fn(|| turn(&mut server)).collect();
    assert!(matches!(events[..], [Event::Accepted(..)]), "{events:?}");
    assert_eq!(simulation.now(), before);
}

/// `accept` passes on the errors of connections that had failed before they were accepted.
#[test]
fn errors_of_single_peers_skip_those_and_pause_nothing() {
    let errors: [fn() -> io::Error; 6] = [
        || io::Error::from_raw_os_error(71),
        || io::Error::from_raw_os_error(112),
        || io::ErrorKind::HostUnreachable.into(),
        || io::ErrorKind::NetworkDown.into(),
        || io::ErrorKind::ConnectionReset.into(),
        || io::ErrorKind::ConnectionAborted.into(),
    ];
    for (place, error) in errors.into_iter().enumerate() {
        if place < 2 && !cfg!(target_os = "linux") {
            continue;
        }
        let simulation = Simulation::new(1);
        let (mut server, listener) = listening(&simulation, Limits::default());
        let count = watch(&mut server);
        let _peers = peers(&simulation, &server, listener, 3);
        fail_calls(&simulation, Some(5), error);
        assert_eq!(accepted(&mut server).len(), 3, "{error:?}", error = error());
        assert_eq!((count(is_skipped), count(is_paused)), (5, 0));
        assert_eq!(count(is_turn), 1, "in the turn in which they arrived");
    }
}

/// Errors of that kind without an end would be a spin.
#[test]
fn errors_of_single_peers_without_an_end_pause_the_listener() {
    let simulation = Simulation::new(1);
    let (mut server, listener) = listening(&simulation, Limits::default());
    let count = watch(&mut server);
    let _peers = peers(&simulation, &server, listener, 3);
    fail_calls(&simulation, None, || io::ErrorKind::HostUnreachable.into());
    let failed = Event::AcceptFailed(listener, io::ErrorKind::HostUnreachable.into());
    assert_eq!(server.poll_event(Some(Duration::from_secs(10))).unwrap(), Some(failed));
    assert_eq!(server.poll_event(Some(Duration::from_secs(10))).unwrap(), None);
    // Each pause is twice the one before, up to a second.
    assert!(count(is_turn) < 24, "{} turns in twenty seconds", count(is_turn));
    lock(&simulation.network).script.failures.clear();
    server.poll_event(Some(Duration::from_secs(1))).unwrap();
    assert_eq!(accepted(&mut server).len(), 2, "it goes on");
}

/// What closed connections had is taken by something else in the process.
#[test]
fn closes_by_which_nothing_is_gained_bring_no_retries() {
    let simulation = Simulation::new(1);
    let (mut server, listener) = listening(&simulation, Limits::default());
    let _open = peers(&simulation, &server, listener, 100);
    let ids: Vec<ConnectionId> = (0..20).flat_map(|_| accepted(&mut server)).collect();
    assert_eq!(ids.len(), 100);
    let count = watch(&mut server);
    let _waiting = peers(&simulation, &server, listener, 100);
    simulation.set_faults(Faults { accept_rate: 1000, ..Faults::none() });
    assert!(matches!(turn(&mut server), Some(Event::AcceptFailed(..))));
    for id in ids {
        server[id].abort();
        let closed = std::iter::from_fn(|| Some(turn(&mut server))).find_map(|event| event);
        assert_eq!(closed, Some(Event::Closed(id, CloseReason::Aborted)));
        assert_eq!(turn(&mut server), None);
    }
    let failed = count(|step| matches!(step, Step::AcceptFailed { .. }));
    assert_eq!(failed, 1, "one shortage");
    // The one that failed first, and the one that a close had resumed in vain.
    assert_eq!(count(is_paused), 2);
}

/// Returns a loop with one place and two listeners that wait for it, of which the next to be
/// resumed has no waiting peer. Returns also both listeners, the connection in the way and all
/// peers.
fn two_that_wait(more: usize) -> (EventLoop, [ListenerId; 2], Vec<ConnectionId>, Vec<Peer>) {
    let simulation = Simulation::new(1);
    let limits = Limits { connections_max: Some(1 + more), ..Limits::default() };
    let (mut server, one) = listening(&simulation, limits);
    let other = server.listen("127.0.0.1:0").unwrap();
    let mut all = peers(&simulation, &server, one, more);
    let mut ids = accepted(&mut server);
    let abort = |server: &mut EventLoop, id: ConnectionId| {
        server[id].abort();
        while !matches!(turn(server), Some(Event::Closed(..))) {}
    };
    all.extend(peers(&simulation, &server, other, 1));
    let of_other = accepted(&mut server);
    // Now both wait; the first has accepted less recently, and accepts.
    all.extend(peers(&simulation, &server, one, 1));
    assert_eq!(turn(&mut server), None, "there is no room for it");
    abort(&mut server, of_other[0]);
    ids.extend(accepted(&mut server));
    // Now the other has, at which no peer waits.
    all.extend(peers(&simulation, &server, one, 1));
    assert_eq!((turn(&mut server), ids.len()), (None, 1 + more));
    (server, [one, other], ids, all)
}

#[test]
fn room_that_a_listener_does_not_need_goes_to_the_next() {
    let (mut server, [one, _], ids, _peers) = two_that_wait(0);
    server[ids[0]].abort();
    let events: Vec<Event> = (0..20).filter_map(|_| turn(&mut server)).collect();
    assert!(matches!(events[..], [Event::Closed(..), Event::Accepted(at, _)] if at == one));
}

#[test]
fn room_of_a_listener_that_is_closed_or_paused_before_it_accepts_goes_to_the_next() {
    let close: fn(&mut EventLoop, _) = |server, id| server.close_listener(id).unwrap();
    let pause: fn(&mut EventLoop, _) = |server, id| server.pause_accepting(id).unwrap();
    for take_out in [close, pause] {
        let (mut server, [one, other], ids, mut peers) = two_that_wait(1);
        // Both are served in one turn, in this order; then the listeners are.
        server[ids[1]].abort();
        peers[0].write(b"hello");
        while turn(&mut server).is_none() {}
        let event = turn(&mut server);
        assert_eq!(event, Some(Event::Received(ids[0])), "in the same turn");
        take_out(&mut server, other);
        let events = (0..20).filter_map(|_| turn(&mut server));
        // The message may arrive in pieces.
        let events: Vec<Event> = events.filter(|event| *event != Event::Received(ids[0])).collect();
        assert!(matches!(events[..], [Event::Accepted(at, _)] if at == one), "{events:?}");
    }
}

/// Returns the steps that it takes until each of `count` listeners, which all wait for the same
/// place, has accepted its peer.
fn steps_to_serve(count: usize) -> u64 {
    let simulation = Simulation::new(1);
    let limits = Limits { connections_max: Some(1), ..Limits::default() };
    let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
    let ids: Vec<ListenerId> = (0..count).map(|_| server.listen("127.0.0.1:0").unwrap()).collect();
    let _peers: Vec<Vec<Peer>> = ids.iter().map(|id| peers(&simulation, &server, *id, 1)).collect();
    let mut accepted = 0;
    steps_of(|| {
        while accepted < count {
            match turn(&mut server) {
                Some(Event::Accepted(_, id)) => {
                    accepted += 1;
                    server[id].abort();
                }
                Some(Event::Closed(..)) | None => {}
                Some(other) => panic!("{other:?} was not expected"),
            }
        }
        server.shutdown(Duration::ZERO);
        while turn(&mut server) != Some(Event::ShutDown) {}
    })
}

#[test]
fn cost_of_a_close_does_not_grow_with_the_number_of_listeners() {
    let (few, many) = (steps_to_serve(100), steps_to_serve(800));
    assert!(few >= 100, "{few} steps were counted");
    assert!(many <= 9 * few, "{many} steps for 800, {few} for 100");
}
