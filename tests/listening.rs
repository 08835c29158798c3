//! Listening and accepting, on real sockets. The shell that lowers a limit makes it for Unix.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::child::{self, Child};
use common::steps::{Steps, assert_rests};
use common::{PATIENCE, accepted, await_backlog, listening, next, peer, reset, turns, until};
use readiness::{CloseReason, ConnectionId, Event, EventLoop, Limits, ListenerId, Step};
use socket2::{Domain, SockRef, Socket, Type};

/// Returns a loop with these limits that listens on a free port.
fn listening_with(change: impl FnOnce(&mut Limits)) -> (EventLoop, SocketAddr) {
    let mut limits = Limits::default();
    change(&mut limits);
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    (event_loop, address)
}

/// Returns `count` peers that wait to be accepted.
fn waiting_peers(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let peers = (0..count).map(|_| peer(address)).collect();
    await_backlog(address, count);
    peers
}

fn echo(event_loop: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

/// Whether the loop still accepts at the address and echoes.
fn assert_serves(event_loop: &mut EventLoop, address: SocketAddr) {
    let mut peer = peer(address);
    peer.write_all(b"ping").unwrap();
    until(event_loop, |event_loop, event| {
        echo(event_loop, event);
        matches!(event, Event::Received(_)).then_some(())
    });
    turns(event_loop, 1);
    let mut answer = [0; 4];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"ping");
}

fn assert_is_reset(peer: &mut TcpStream) {
    let outcome = peer.read(&mut [0; 8]).map_err(|error| error.kind());
    assert_eq!(outcome, Err(ErrorKind::ConnectionReset));
}

// Addresses.

#[test]
fn address_in_use_is_an_error_that_leaves_no_descriptor_and_a_usable_loop() {
    let name = "address_in_use_is_an_error_that_leaves_no_descriptor_and_a_usable_loop";
    child::alone(name, "", || {
        let (mut event_loop, _, address) = listening();
        let before = child::open_descriptors();
        for _ in 0..100 {
            let error = event_loop.listen(address).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AddrInUse);
        }
        assert_eq!(child::open_descriptors(), before);
        assert_serves(&mut event_loop, address);
    });
}

#[test]
fn address_of_another_host_is_an_error_that_registers_nothing() {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut event_loop);
    // Set aside for documentation, so that no host has it.
    let error = event_loop.listen("192.0.2.1:0").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AddrNotAvailable);
    let error = event_loop.listen("no address").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let error = event_loop.listen(&[][..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(steps.take(), []);
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn of_several_addresses_the_first_that_can_be_had_is_listened_at() {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let addresses: [SocketAddr; 3] =
        ["192.0.2.1:0", "127.0.0.2:0", "127.0.0.3:0"].map(|address| address.parse().unwrap());
    let listener = event_loop.listen(&addresses[..]).unwrap();
    assert_eq!(event_loop.listener_addr(listener).unwrap().ip(), addresses[1].ip());
}

#[test]
fn port_zero_gives_real_and_distinct_ports() {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let mut ports: Vec<u16> = Vec::new();
    for _ in 0..8 {
        let listener = event_loop.listen("127.0.0.1:0").unwrap();
        ports.push(event_loop.listener_addr(listener).unwrap().port());
    }
    assert!(!ports.contains(&0));
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 8);
}

#[test]
fn closed_listener_is_an_error_and_its_slot_s_next_owner_is_untouched() {
    let (mut event_loop, old, _) = listening();
    event_loop.close_listener(old).unwrap();
    let new = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(new).unwrap();
    assert_ne!(old, new);
    let errors = [
        event_loop.listener_addr(old).map(|_| ()).unwrap_err(),
        event_loop.pause_accepting(old).unwrap_err(),
        event_loop.resume_accepting(old).unwrap_err(),
        event_loop.close_listener(old).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains(&old.to_string()), "{error}");
    }
    assert_serves(&mut event_loop, address);
}

#[test]
fn several_listeners_are_told_apart() {
    let mut event_loop = EventLoop::new().unwrap();
    let listeners: Vec<_> = (0..3)
        .map(|number| event_loop.listen_with("127.0.0.1:0", move |_| number).unwrap())
        .collect();
    for number in [2, 0, 1, 1] {
        let _peer = peer(event_loop.listener_addr(listeners[number]).unwrap());
        let Event::Accepted(listener, id) = next(&mut event_loop) else {
            panic!("the peer was to be accepted first");
        };
        assert_eq!(listener, listeners[number]);
        assert_eq!(event_loop[id].listener(), Some(listeners[number]));
        assert_eq!(event_loop[id].data, number);
        // It says nothing more, so that the next event is the next peer's.
        event_loop[id].abort();
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Aborted));
    }
}

#[test]
fn adopted_listener_becomes_non_blocking_and_works() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let same = socket.try_clone().unwrap();
    assert!(!SockRef::from(&same).nonblocking().unwrap());
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let listener = event_loop.adopt_listener(socket, |_| ()).unwrap();
    assert!(SockRef::from(&same).nonblocking().unwrap());
    assert_eq!(event_loop.listener_addr(listener).unwrap(), address);
    // Two in a row: after each the loop looks for another peer, where a blocking socket would hang.
    assert_serves(&mut event_loop, address);
    assert_serves(&mut event_loop, address);
}

#[test]
fn accepted_connection_has_the_socket_options_of_the_limits() {
    for nodelay in [true, false] {
        let (mut event_loop, address) = listening_with(|limits| {
            limits.connection.nodelay = nodelay;
            limits.connection.keepalive = Some(Duration::from_secs(77));
        });
        let _peer = peer(address);
        let id = accepted(&mut event_loop);
        let options = SockRef::from(&*event_loop[id]);
        assert_eq!(options.tcp_nodelay().unwrap(), nodelay);
        assert!(options.keepalive().unwrap());
        assert_eq!(options.tcp_keepalive_time().unwrap(), Duration::from_secs(77));
    }
}

// Accepting.

#[test]
fn many_clients_at_once_are_accepted_once_each() {
    const CLIENTS: usize = 100;
    let (mut event_loop, _, address) = listening::<()>();
    let threads: Vec<_> = (0..4)
        .map(|_| std::thread::spawn(move || (0..CLIENTS / 4).map(|_| peer(address)).collect()))
        .collect();
    let mut ids: Vec<ConnectionId> = (0..CLIENTS).map(|_| accepted(&mut event_loop)).collect();
    let _peers: Vec<Vec<TcpStream>> =
        threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(turns(&mut event_loop, 5), []);
    assert_eq!(event_loop.connection_count(), CLIENTS);
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), CLIENTS);
}

#[test]
fn accept_budget_bounds_a_turn_and_the_rest_comes_without_a_new_edge() {
    let (mut event_loop, address) = listening_with(|limits| limits.accept_budget = 4);
    let steps = Steps::of(&mut event_loop);
    let _peers = waiting_peers(address, 10);
    for _ in 0..10 {
        accepted(&mut event_loop);
    }
    let mut accepted_by_turn: Vec<usize> = Vec::new();
    let mut edges = 0;
    for step in steps.take() {
        match step {
            Step::Waited { events: count, .. } => {
                accepted_by_turn.push(0);
                // The connections that were just accepted have nothing to report.
                edges += count;
            }
            Step::Accepted { .. } => *accepted_by_turn.last_mut().unwrap() += 1,
            _ => {}
        }
    }
    accepted_by_turn.retain(|count| *count > 0);
    assert_eq!(accepted_by_turn, [4, 4, 2]);
    assert_eq!(edges, 1);
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn listener_closed_with_peers_waiting_accepts_no_more() {
    let (mut event_loop, listener, address) = listening::<()>();
    let mut peers = waiting_peers(address, 3);
    let id = accepted(&mut event_loop);
    event_loop.close_listener(listener).unwrap();
    assert_eq!(turns(&mut event_loop, 5), []);
    assert_eq!(event_loop.connection_count(), 1);
    for peer in &mut peers[1..] {
        assert_is_reset(peer);
    }
    // What it has accepted goes on.
    peers[0].write_all(b"still here").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(event_loop[id].received(), b"still here");
}

#[test]
fn connection_closed_while_accepted_is_handled_hears_only_closed() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut peer = peer(address);
    peer.write_all(b"nobody reads this").unwrap();
    let id = accepted(&mut event_loop);
    event_loop[id].close();
    turns(&mut event_loop, 2);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    drop(peer);
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Closed));
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 0);
}

#[test]
fn connection_aborted_while_accepted_is_handled_is_reset() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    event_loop[id].abort();
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Aborted));
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_is_reset(&mut peer);
}

#[test]
fn peers_that_wait_while_accepting_is_paused_are_accepted_after_resume() {
    let (mut event_loop, listener, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let _peers = waiting_peers(address, 3);
    accepted(&mut event_loop);
    // Two are left of the same edge; two more arrive during the pause.
    event_loop.pause_accepting(listener).unwrap();
    event_loop.pause_accepting(listener).unwrap();
    let _more = [peer(address), peer(address)];
    await_backlog(address, 4);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop.connection_count(), 1);
    event_loop.resume_accepting(listener).unwrap();
    event_loop.resume_accepting(listener).unwrap();
    for _ in 0..4 {
        accepted(&mut event_loop);
    }
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn peer_that_resets_before_accept_is_accepted_and_closed() {
    let (mut event_loop, _, address) = listening::<()>();
    let waiting = peer(address);
    let its_address = waiting.local_addr().unwrap();
    await_backlog(address, 1);
    reset(waiting);
    let id = accepted(&mut event_loop);
    // The kernel no longer knows it; accept did.
    assert_eq!(event_loop[id].peer_addr().unwrap(), its_address);
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Reset));
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 0);
}

#[test]
fn loop_dropped_with_peers_waiting_resets_them() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut accepted_peer = peer(address);
    accepted(&mut event_loop);
    let mut peers = waiting_peers(address, 2);
    drop(event_loop);
    for peer in &mut peers {
        assert_is_reset(peer);
    }
    assert_eq!(accepted_peer.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn connections_never_pass_the_cap_and_accepting_resumes_as_each_closes() {
    const CAP: usize = 2;
    let (mut event_loop, address) = listening_with(|limits| limits.connections_max = Some(CAP));
    let steps = Steps::of(&mut event_loop);
    let mut peers = waiting_peers(address, 6);
    let mut open: Vec<ConnectionId> = (0..CAP).map(|_| accepted(&mut event_loop)).collect();
    while peers.len() > CAP {
        assert_rests(&mut event_loop, &steps);
        assert_eq!(event_loop.connection_count(), CAP);
        drop(peers.remove(0));
        let first = open.remove(0);
        let id = until(&mut event_loop, |event_loop, event| {
            assert!(event_loop.connection_count() <= CAP);
            match event {
                Event::Accepted(_, id) => Some(id),
                Event::PeerFinished(id) | Event::Closed(id, CloseReason::Finished) => {
                    assert_eq!(id, first);
                    None
                }
                other => panic!("{other:?} was not expected"),
            }
        });
        open.push(id);
    }
    assert_rests(&mut event_loop, &steps);
}

/// Returns a loop with room for one connection and two listeners, at each of which `count` peers
/// wait.
fn two_listeners_with_peers(count: usize) -> (EventLoop, [ListenerId; 2], Vec<TcpStream>) {
    let mut limits = Limits::default();
    limits.connections_max = Some(1);
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let listeners = [(); 2].map(|()| event_loop.listen("127.0.0.1:0").unwrap());
    let addresses = listeners.map(|listener| event_loop.listener_addr(listener).unwrap());
    let peers = addresses.map(|address| waiting_peers(address, count)).into_iter().flatten();
    (event_loop, listeners, peers.collect())
}

/// Checks that each of these listeners had its turn within any `within` accepts in a row.
fn assert_take_turns(accepted_by: &[ListenerId], listeners: [ListenerId; 2], within: usize) {
    for window in accepted_by.windows(within) {
        for listener in listeners {
            assert!(window.contains(&listener), "{listener} starves: {accepted_by:?}");
        }
    }
}

#[test]
fn listeners_that_wait_for_the_same_room_take_turns() {
    const PEERS: usize = 10;
    let (mut event_loop, listeners, _peers) = two_listeners_with_peers(PEERS);
    let mut accepted_by = Vec::new();
    let mut open = None;
    let end = Instant::now() + PATIENCE;
    while accepted_by.len() < 2 * PEERS {
        assert!(Instant::now() < end, "only {accepted_by:?}");
        match event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            Some(Event::Accepted(listener, id)) => {
                accepted_by.push(listener);
                assert_eq!(open.replace(id), None, "there is room for one");
            }
            Some(Event::Closed(..)) => {}
            Some(other) => panic!("{other:?} was not expected"),
            // Closed between two turns, while both listeners wait.
            None => open.take().into_iter().for_each(|id| event_loop[id].abort()),
        }
    }
    // The last peer is accepted when no peer waits at the other listener.
    assert_take_turns(&accepted_by[..2 * PEERS - 2], listeners, 3);
    let first = accepted_by.iter().filter(|listener| **listener == listeners[0]).count();
    assert_eq!(first, PEERS);
}

#[test]
fn listeners_take_turns_where_each_connection_makes_room_at_once() {
    let budget = Limits::default().accept_budget;
    let (mut event_loop, listeners, _peers) = two_listeners_with_peers(3 * budget);
    let mut accepted_by = Vec::new();
    until(&mut event_loop, |event_loop, event| {
        if let Event::Accepted(listener, id) = event {
            accepted_by.push(listener);
            event_loop[id].abort();
        }
        (accepted_by.len() == 4 * budget).then_some(())
    });
    assert_take_turns(&accepted_by, listeners, budget + 1);
}

#[test]
fn listener_that_is_out_of_room_is_not_woken_by_more_peers() {
    let (mut event_loop, address) = listening_with(|limits| limits.connections_max = Some(1));
    let _first = peer(address);
    let id = accepted(&mut event_loop);
    let _waiting = waiting_peers(address, 1);
    turns(&mut event_loop, 3);
    let steps = Steps::of(&mut event_loop);
    let mut more = Vec::new();
    for count in 2..12 {
        more.push(peer(address));
        await_backlog(address, count);
        assert_eq!(turns(&mut event_loop, 1), []);
    }
    let woken = steps.count(|step| matches!(step, Step::Waited { events, .. } if *events > 0));
    assert_eq!(woken, 0, "wake-ups for peers that cannot be accepted");
    assert_rests(&mut event_loop, &steps);
    // All of them are accepted as there is room.
    let mut id = id;
    for _ in 0..11 {
        event_loop[id].abort();
        id = accepted(&mut event_loop);
    }
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn listener_that_fails_to_accept_is_reported_once_and_survives() {
    // It listens no more: each accept fails, with an error that does not concern one peer.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1).unwrap();
    let same = socket.try_clone().unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut event_loop);
    let listener = event_loop.adopt_listener(socket.into(), |_| ()).unwrap();
    same.shutdown(Shutdown::Both).unwrap();
    let Event::AcceptFailed(failed, failure) = next(&mut event_loop) else {
        panic!("accepting fails");
    };
    assert_eq!((failed, failure.kind()), (listener, ErrorKind::InvalidInput));
    // It tries again, after pauses that grow, without saying it again.
    let pauses = || -> Vec<Duration> {
        let steps = steps.clone();
        let all = steps.take().into_iter();
        all.filter_map(|step| match step {
            Step::AcceptPaused { pause, .. } => Some(pause),
            _ => None,
        })
        .collect()
    };
    assert_eq!(event_loop.poll_event(Some(Duration::from_millis(200))).unwrap(), None);
    let mut expected = Limits::default().accept_pause_min;
    for pause in pauses() {
        assert_eq!(pause, expected);
        expected *= 2;
    }
    assert!(expected > Limits::default().accept_pause_min, "it tried again");
    same.listen(1).unwrap();
    assert_serves(&mut event_loop, same.local_addr().unwrap().as_socket().unwrap());
}

// Running out of descriptors, in a process that has few.

const OUT_OF_DESCRIPTORS: &str = "child_of_out_of_descriptors_serves";

/// Not a test by itself: the server of the test below, in its own process.
#[test]
#[ignore = "it is run by out_of_descriptors_serves_the_old_and_accepts_the_waiting_as_others_leave"]
fn child_of_out_of_descriptors_serves() {
    if !child::is_child(OUT_OF_DESCRIPTORS) {
        return;
    }
    let (mut event_loop, _, address) = listening();
    let steps = Steps::of(&mut event_loop);
    let commands = child::commands();
    child::report("address", address);
    let mut is_full = false;
    loop {
        match event_loop.poll_event(Some(Duration::from_millis(5))).unwrap() {
            Some(Event::AcceptFailed(..)) if !is_full => {
                is_full = true;
                let code = steps.take().into_iter().find_map(|step| match step {
                    Step::AcceptPaused { failure, .. } => failure.raw_os_error(),
                    _ => None,
                });
                child::report("full", event_loop.connection_count());
                child::report("error", code.unwrap());
            }
            Some(event) => echo(&mut event_loop, event),
            None => {}
        }
        match commands.try_recv().as_deref() {
            Ok("rest") => {
                steps.take();
                let event = event_loop.poll_event(Some(Duration::from_millis(500))).unwrap();
                assert_eq!(event, None);
                child::report("waits", steps.waits());
            }
            Ok(other) => panic!("there is no command {other}"),
            Err(std::sync::mpsc::TryRecvError::Empty) => {}
            Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
        }
    }
}

#[test]
fn out_of_descriptors_serves_the_old_and_accepts_the_waiting_as_others_leave() {
    const CLIENTS: usize = 150;
    let mut child = Child::start(OUT_OF_DESCRIPTORS, "ulimit -n 64;");
    let address: SocketAddr = child.report("address").parse().unwrap();
    let mut peers: Vec<TcpStream> = (0..CLIENTS).map(|_| peer(address)).collect();
    let served: usize = child.report("full").parse().unwrap();
    assert!(served > 32 && served < 64, "{served} connections with 64 descriptors");
    let too_many_open_files = 24;
    assert_eq!(child.report("error"), too_many_open_files.to_string());

    // Each pause is twice the one before, so half a second has room for a few waits only.
    child.say("rest");
    let waits: usize = child.report("waits").parse().unwrap();
    assert!(waits <= 20, "{waits} waits in half a second with nothing to do");

    let served_peer = |peer: &mut TcpStream, message: u8| {
        let mut answer = [0; 1];
        peer.write_all(&[message]).unwrap();
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [message]);
    };
    for peer in &mut peers[..served] {
        served_peer(peer, b'o');
    }
    // The waiting peers are served in their order, as soon as another leaves.
    let begin = Instant::now();
    for waiting in served..CLIENTS {
        peers[waiting - served].shutdown(std::net::Shutdown::Both).unwrap();
        served_peer(&mut peers[waiting], b'n');
    }
    let each_by_a_whole_pause = Limits::default().accept_pause_max * (CLIENTS - served) as u32;
    assert!(begin.elapsed() < each_by_a_whole_pause / 2, "{:?}", begin.elapsed());
    assert!(begin.elapsed() < PATIENCE);
    served_peer(&mut peers[CLIENTS - 1], b'l');
}
