//! Connects by name and to several addresses, under one id, without blocking; and the origin of a
//! connection.

#![cfg_attr(
    not(target_os = "linux"),
    allow(unused_imports, reason = "some tests are for certain systems only")
)]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::steps::Steps;
use common::{
    NO_IPV6, PATIENCE, connection_limits, has_ipv6, next, peer, refusing_address, turns, until,
    until_closed,
};
use readiness::{
    CloseReason, ConnectionId, Deadline, Event, EventLoop, Failure, Limits, ListenerId, Step,
};

/// Too long for a name, so that the resolver refuses it without asking anybody.
fn unresolvable() -> String {
    format!("{}:80", "a".repeat(300))
}

/// Tests that look names up take turns, since one of them counts the threads for it.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn closed_by_failure(reason: CloseReason) -> Failure {
    match reason {
        CloseReason::Failed(failure) => failure,
        other => panic!("{other:?} is no failure"),
    }
}

/// Returns the bytes that a listener's next connection sends before its end.
fn received(listener: &TcpListener) -> Vec<u8> {
    let (mut peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    bytes
}

// Names.

#[test]
fn name_connects_and_what_was_sent_before_arrives() {
    let _turn = one_at_a_time();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client: EventLoop<&str> = EventLoop::new().unwrap();
    let id = client.connect_name(&format!("localhost:{port}"), "data");
    client[id].send(b"sent before ");
    assert!(client[id].peer_addr().is_err(), "there is no peer yet");
    assert_eq!(next(&mut client), Event::Connected(id));
    assert_eq!(client[id].peer_addr().unwrap(), listener.local_addr().unwrap());
    assert_eq!(client[id].data, "data");
    client[id].send(b"and after");
    client[id].finish();
    turns(&mut client, 1);
    assert_eq!(received(&listener), b"sent before and after");
    assert_eq!(until_closed(&mut client, id).1, CloseReason::Finished);
}

#[test]
fn name_that_stands_for_nothing_is_its_closed_with_a_reason() {
    let _turn = one_at_a_time();
    let mut client: EventLoop = EventLoop::new().unwrap();
    let id = client.connect_name(&unresolvable(), ());
    client[id].send(b"never sent");
    let (events, reason) = until_closed(&mut client, id);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(closed_by_failure(reason).kind(), ErrorKind::NotFound);
    assert_eq!(client[id].unsent(), 10);
    assert_eq!(turns(&mut client, 2), []);
    assert_eq!(client.connection_count(), 0);
}

#[test]
fn name_that_cannot_be_one_is_its_closed_and_no_error_of_the_call() {
    let mut client: EventLoop = EventLoop::new().unwrap();
    for name in
        ["", "localhost", "localhost:", "localhost:http", "localhost:65536", ":80", "::1:80"]
    {
        let id = client.connect_name(name, ());
        let (events, reason) = until_closed(&mut client, id);
        assert_eq!(events.len(), 1, "{name:?}: {events:?}");
        assert_eq!(closed_by_failure(reason).kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn address_is_taken_as_a_name_without_looking_it_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client: EventLoop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut client);
    let id = client.connect_name(&listener.local_addr().unwrap().to_string(), ());
    assert_eq!(next(&mut client), Event::Connected(id));
    assert_eq!(steps.count(|step| matches!(step, Step::Resolving { .. })), 0);
}

#[test]
fn ipv6_address_in_brackets_is_taken_as_a_name() {
    skip_unless!(has_ipv6(), NO_IPV6);
    let listener = TcpListener::bind("[::1]:0").unwrap();
    let mut client: EventLoop = EventLoop::new().unwrap();
    let port = listener.local_addr().unwrap().port();
    let id = client.connect_name(&format!("[::1]:{port}"), ());
    assert_eq!(next(&mut client), Event::Connected(id));
}

#[test]
fn close_while_a_name_is_looked_up_is_closed_alone() {
    let _turn = one_at_a_time();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut client: EventLoop = EventLoop::new().unwrap();
    for end in [true, false] {
        let id = client.connect_name(&format!("localhost:{port}"), ());
        match end {
            true => client[id].close(),
            false => client[id].abort(),
        }
        let (events, reason) = until_closed(&mut client, id);
        let expected = if end { CloseReason::Closed } else { CloseReason::Aborted };
        assert_eq!((events.len(), reason), (1, expected));
    }
    // The late answers belong to no connection.
    assert_eq!(client.poll_event(Some(Duration::from_millis(20))).unwrap(), None);
}

/// Returns the helper threads of this process, by their name.
#[cfg(target_os = "linux")]
fn helper_threads() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.trim_end() == "readiness-names").count()
}

#[cfg(target_os = "linux")]
#[test]
fn helper_threads_are_made_when_first_needed_at_most_four_and_end_with_the_loop() {
    let _turn = one_at_a_time();
    let ended = || {
        let end = std::time::Instant::now() + PATIENCE;
        while helper_threads() > 0 {
            assert!(std::time::Instant::now() < end, "{} threads are left", helper_threads());
            std::thread::yield_now();
        }
    };
    ended(); // those of the tests before
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut client: EventLoop = EventLoop::new().unwrap();
    client.connect(address, ());
    client.connect_name(&address.to_string(), ());
    assert_eq!(helper_threads(), 0, "nothing was to be looked up");
    for _ in 0..20 {
        client.connect_name(&format!("localhost:{}", address.port()), ());
    }
    let mut connected = 0;
    until(&mut client, |_, event| {
        let Event::Connected(_) = event else { panic!("{event:?} was not expected") };
        connected += 1;
        (connected == 22).then_some(())
    });
    let threads = helper_threads();
    assert!((1..=4).contains(&threads), "{threads} threads");
    drop(client);
    ended();
}

// Several addresses.

fn any(addresses: &[SocketAddr], limits: Limits) -> (EventLoop, Steps, ConnectionId) {
    let mut client: EventLoop = EventLoop::with_limits(limits).unwrap();
    let steps = Steps::of(&mut client);
    let id = client.connect_any(addresses.iter().copied(), ());
    (client, steps, id)
}

#[test]
fn first_address_is_dead_and_the_second_wins_under_the_same_id() {
    let dead = refusing_address();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut client, steps, id) = any(&[dead, address], Limits::default());
    client[id].send(b"sent before");
    assert_eq!(next(&mut client), Event::Connected(id));
    assert_eq!(client[id].peer_addr().unwrap(), address);
    client[id].finish();
    turns(&mut client, 1);
    assert_eq!(received(&listener), b"sent before");
    let failed = |step: &Step| match step {
        Step::AttemptFailed { id: of, address, failure } => {
            *of == id && *address == dead && failure.kind() == ErrorKind::ConnectionRefused
        }
        _ => false,
    };
    assert_eq!(steps.count(failed), 1);
}

#[test]
fn all_addresses_refuse_and_closed_comes_alone_with_the_reason_of_the_last() {
    let dead = refusing_address();
    let (mut client, steps, id) = any(&[dead, dead, dead], Limits::default());
    let (events, reason) = until_closed(&mut client, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Refused));
    assert_eq!(steps.count(|step| matches!(step, Step::Connecting { .. })), 3);

    let (mut client, _, id) = any(&[], Limits::default());
    let (events, reason) = until_closed(&mut client, id);
    assert_eq!(events.len(), 1);
    assert_eq!(closed_by_failure(reason).kind(), ErrorKind::InvalidInput);
}

/// Returns an address that does not answer: the listener's backlog is full, as long as what fills
/// it is kept.
#[cfg(target_os = "linux")]
fn silent_address() -> (socket2::Socket, Vec<std::net::TcpStream>, SocketAddr) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    let patience = Duration::from_millis(200);
    while let Ok(peer) = std::net::TcpStream::connect_timeout(&address, patience) {
        fill.push(peer);
    }
    (listener, fill, address)
}

#[cfg(target_os = "linux")]
#[test]
fn address_that_does_not_answer_holds_up_the_next_for_a_quarter_of_a_second() {
    let (_listener, _fill, silent) = silent_address();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let begin = std::time::Instant::now();
    let (mut client, steps, id) = any(&[silent, address], Limits::default());
    client[id].send(b"?");
    assert_eq!(next(&mut client), Event::Connected(id));
    assert!(begin.elapsed() >= Duration::from_millis(250), "after {:?}", begin.elapsed());
    assert_eq!(client[id].peer_addr().unwrap(), address);
    assert_eq!(steps.count(|step| matches!(step, Step::Connecting { .. })), 2);
    client[id].finish();
    turns(&mut client, 1);
    assert_eq!(received(&listener), b"?");
}

#[cfg(target_os = "linux")]
#[test]
fn connect_deadline_covers_all_attempts() {
    let (_listener, _fill, silent) = silent_address();
    let limits = connection_limits(|limits| limits.connect_deadline = Duration::from_millis(300));
    let begin = std::time::Instant::now();
    let (mut client, _, id) = any(&[silent; 10], limits);
    let (events, reason) = until_closed(&mut client, id);
    assert_eq!((events.len(), reason), (1, CloseReason::TimedOut(Deadline::Connect)));
    assert!(begin.elapsed() >= Duration::from_millis(300));
}

// The origin of a connection.

#[test]
fn data_of_an_accepted_connection_is_made_with_its_peers_address() {
    let mut server: EventLoop<(Option<ListenerId>, Option<SocketAddr>)> = EventLoop::new().unwrap();
    let listener = server.listen_with("127.0.0.1:0", |peer| (None, Some(peer))).unwrap();
    let address = server.listener_addr(listener).unwrap();
    for _ in 0..3 {
        let mut client = peer(address);
        let Event::Accepted(at, id) = next(&mut server) else { panic!("it is delivered first") };
        let from = server[id].data.1.unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!((from, at), (server[id].peer_addr().unwrap(), listener));
        client.write_all(b"x").unwrap();
        assert_eq!(next(&mut server), Event::Received(id));
        server[id].abort();
        until_closed(&mut server, id);
    }
}

/// The attempts under way have the options of the limits that are set while they run.
#[cfg(unix)]
#[test]
fn limits_that_are_set_during_a_race_apply_to_the_winner() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mut client, _steps, id) = any(&[address, refusing_address()], Limits::default());
    let limits = connection_limits(|limits| {
        limits.keepalive = Some(Duration::from_secs(60));
        limits.nodelay = false;
    });
    client[id].set_limits(limits.connection).unwrap();
    assert_eq!(next(&mut client), Event::Connected(id));
    let socket = socket2::SockRef::from(&client[id]);
    assert!(socket.keepalive().unwrap());
    assert!(!socket.tcp_nodelay().unwrap());
}
