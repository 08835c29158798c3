//! Sockets that `std` and socket2 made, and that a loop takes over.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use common::steps::{Steps, assert_rests};
use common::{
    Folder, NO_IPV6, PATIENCE, accepted, connection_limits, drive_until_joined, has_ipv6, next,
    pattern, peer, turns, until, until_closed,
};
use readiness::{CloseReason, ConnectionId, Deadline, Event, EventLoop, Limits, Step};
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

/// Returns a connected pair over TCP, made by `std`.
fn tcp(at: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(at).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    (ours, theirs)
}

fn loop_with(limits: Limits) -> EventLoop {
    EventLoop::with_limits(limits).unwrap()
}

/// Returns a socket that connects without blocking, or is yet to.
fn non_blocking(domain: Domain) -> Socket {
    let socket = Socket::new(domain, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

fn connect(socket: &Socket, address: SocketAddr) {
    // It says that it is under way.
    let _ = socket.connect(&address.into());
}

fn echo(event_loop: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

/// How much is sent and read back: more than the kernel holds, so that a socket that blocks shows.
const COUNT: usize = 10_000_000;

/// Writes all of it in one thread while another reads it back.
fn talk<S: Read + Write + Send + 'static>(mut writing: S, mut reading: S) -> Vec<u8> {
    let writer = std::thread::spawn(move || writing.write_all(&pattern(0, COUNT)));
    let mut bytes = vec![0; COUNT];
    reading.read_exact(&mut bytes).unwrap();
    writer.join().unwrap().unwrap();
    bytes
}

/// Waits for the connect of this one, which is to be its first event.
fn await_connected(event_loop: &mut EventLoop, id: ConnectionId) {
    assert_eq!(event_loop[id].listener(), None);
    assert_eq!(next(event_loop), Event::Connected(id));
}

// Streams.

/// Adopts a stream that was connected over the loopback of this address, and echoes by it.
fn assert_connected_stream_echoes(at: &str) {
    let (ours, theirs) = tcp(at);
    let addresses = (ours.local_addr().unwrap(), ours.peer_addr().unwrap());
    let mut event_loop = loop_with(Limits::default());
    let id = event_loop.adopt_stream(ours, ()).unwrap();
    assert!(SockRef::from(&*event_loop[id]).nonblocking().unwrap());
    await_connected(&mut event_loop, id);
    let known = (event_loop[id].local_addr().unwrap(), event_loop[id].peer_addr().unwrap());
    assert_eq!(known, addresses);
    event_loop.couple(id, id);
    let reading = theirs.try_clone().unwrap();
    let talking = std::thread::spawn(move || talk(theirs, reading));
    assert!(drive_until_joined(&mut event_loop, talking, echo) == pattern(0, COUNT));
}

#[test]
fn connected_stream_over_ipv4_says_connected_first_and_echoes_without_blocking() {
    assert_connected_stream_echoes("127.0.0.1:0");
}

#[test]
fn connected_stream_over_ipv6_says_connected_first_and_echoes_without_blocking() {
    skip_unless!(has_ipv6(), NO_IPV6);
    assert_connected_stream_echoes("[::1]:0");
}

#[test]
fn unix_stream_of_a_pair_says_connected_first_and_echoes_without_blocking() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut event_loop = loop_with(Limits::default());
    let id = event_loop.adopt_unix_stream(ours, ()).unwrap();
    assert!(SockRef::from(&*event_loop[id]).nonblocking().unwrap());
    await_connected(&mut event_loop, id);
    assert!(event_loop[id].unix_peer_addr().unwrap().is_unnamed());
    event_loop.couple(id, id);
    let reading = theirs.try_clone().unwrap();
    let talking = std::thread::spawn(move || talk(theirs, reading));
    assert!(drive_until_joined(&mut event_loop, talking, echo) == pattern(0, COUNT));
}

#[test]
fn stream_that_was_accepted_elsewhere_is_coupled_to_nobody() {
    let (mut theirs, ours) = tcp("127.0.0.1:0");
    let mut event_loop = loop_with(Limits::default());
    let id = event_loop.adopt_stream(ours, ()).unwrap();
    event_loop[id].send(&vec![0; 12_000_000]);
    await_connected(&mut event_loop, id);
    assert_eq!(turns(&mut event_loop, 2), []);
    assert!(event_loop[id].unsent() > 0);
    // With this many unsent bytes an accepted connection would not read.
    theirs.write_all(b"heard").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
}

#[test]
fn what_came_before_a_stream_was_adopted_is_received_and_so_is_the_end() {
    let (ours, mut theirs) = tcp("127.0.0.1:0");
    theirs.write_all(b"read elsewhere, left").unwrap();
    let mut elsewhere = [0; 16];
    (&ours).read_exact(&mut elsewhere).unwrap();
    theirs.shutdown(Shutdown::Write).unwrap();
    let mut event_loop = loop_with(Limits::default());
    let id = event_loop.adopt_stream(ours, ()).unwrap();
    await_connected(&mut event_loop, id);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(event_loop[id].received(), b"left");
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
}

#[test]
fn bytes_sent_at_once_leave_when_an_adopted_stream_has_proved_connected() {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut event_loop = loop_with(Limits::default());
    let id = event_loop.adopt_unix_stream(ours, ()).unwrap();
    event_loop[id].send(b"hello");
    event_loop[id].finish();
    await_connected(&mut event_loop, id);
    assert_eq!(turns(&mut event_loop, 2), []);
    let mut bytes = String::new();
    theirs.read_to_string(&mut bytes).unwrap();
    assert_eq!(bytes, "hello");
}

#[test]
fn stream_that_is_still_connecting_says_connected_when_it_is() {
    let mut event_loop = loop_with(Limits::default());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let socket = non_blocking(Domain::IPV4);
    connect(&socket, listener.local_addr().unwrap());
    let id = event_loop.adopt_stream(socket.into(), ()).unwrap();
    await_connected(&mut event_loop, id);
    let (mut theirs, _) = listener.accept().unwrap();
    theirs.write_all(b"hello").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
}

#[test]
fn stream_whose_connect_is_refused_is_one_closed() {
    let address = common::refusing_address();
    let mut event_loop = loop_with(Limits::default());
    let socket = non_blocking(Domain::IPV4);
    connect(&socket, address);
    let id = event_loop.adopt_stream(socket.into(), ()).unwrap();
    let Event::Closed(closed, reason) = next(&mut event_loop) else {
        panic!("it was to fail");
    };
    assert_eq!(closed, id);
    // Elsewhere the call itself may have reported the refusal, and the socket does not repeat it.
    if cfg!(target_os = "linux") {
        assert_eq!(reason, CloseReason::Refused);
    }
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn stream_that_nobody_connects_costs_no_turns_and_ends_by_the_deadline() {
    let limits = connection_limits(|limits| limits.connect_deadline = Duration::from_millis(150));
    for adopt in [
        (|event_loop| event_loop.adopt_stream(non_blocking(Domain::IPV4).into(), ()).unwrap())
            as fn(&mut EventLoop) -> ConnectionId,
        |event_loop| event_loop.adopt_unix_stream(non_blocking(Domain::UNIX).into(), ()).unwrap(),
    ] {
        let mut event_loop = loop_with(limits.clone());
        let steps = Steps::of(&mut event_loop);
        let id = adopt(&mut event_loop);
        let end = Event::Closed(id, CloseReason::TimedOut(Deadline::Connect));
        assert_eq!(next(&mut event_loop), end);
        let waits = steps.waits();
        assert!(waits <= 6, "{waits} waits: {:?}", steps.take());
        assert_rests(&mut event_loop, &steps);
    }
}

#[test]
fn stream_whose_peer_has_gone_gives_what_the_kernel_still_holds() {
    let reset_over_tcp = || {
        let (ours, mut theirs) = tcp("127.0.0.1:0");
        theirs.write_all(b"last words").unwrap();
        common::reset(theirs);
        adopted_tcp(ours)
    };
    let finished_over_tcp = || {
        let (ours, mut theirs) = tcp("127.0.0.1:0");
        ours.shutdown(Shutdown::Write).unwrap();
        theirs.write_all(b"last words").unwrap();
        theirs.read_to_end(&mut Vec::new()).unwrap();
        drop(theirs);
        adopted_tcp(ours)
    };
    let reset_in_the_unix_domain = || {
        let (mut ours, mut theirs) = UnixStream::pair().unwrap();
        ours.write_all(b"unread").unwrap();
        theirs.write_all(b"last words").unwrap();
        drop(theirs);
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let id = event_loop.adopt_unix_stream(ours, ()).unwrap();
        (event_loop, id)
    };
    type Way<'w> = &'w dyn Fn() -> (EventLoop, ConnectionId);
    let ways: [(Way<'_>, CloseReason); 3] = [
        (&reset_over_tcp, CloseReason::Reset),
        (&finished_over_tcp, CloseReason::Finished),
        (&reset_in_the_unix_domain, CloseReason::Reset),
    ];
    for (way, expected) in ways {
        let (mut event_loop, id) = way();
        assert_eq!(next(&mut event_loop), Event::Connected(id));
        assert_eq!(next(&mut event_loop), Event::Received(id));
        assert_eq!(event_loop[id].received(), b"last words");
        assert_eq!(until_closed(&mut event_loop, id).1, expected);
    }
}

fn adopted_tcp(stream: TcpStream) -> (EventLoop, ConnectionId) {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.adopt_stream(stream, ()).unwrap();
    (event_loop, id)
}

#[test]
fn adopted_streams_have_the_options_of_the_limits_and_are_seen_by_observers() {
    let mut limits = Limits::default();
    limits.connection.keepalive = Some(Duration::from_secs(75));
    let mut event_loop = loop_with(limits);
    let steps = Steps::of(&mut event_loop);
    let (ours, _theirs) = tcp("127.0.0.1:0");
    let id = event_loop.adopt_stream(ours, ()).unwrap();
    let options = SockRef::from(&*event_loop[id]);
    assert!(options.tcp_nodelay().unwrap());
    assert!(options.keepalive().unwrap());
    assert_eq!(steps.take(), [Step::Adopted { id }]);
}

#[test]
fn peer_of_an_adopted_stream_that_resets_is_one_closed() {
    let (ours, theirs) = tcp("127.0.0.1:0");
    let mut event_loop = loop_with(Limits::default());
    let id = event_loop.adopt_stream(ours, ()).unwrap();
    await_connected(&mut event_loop, id);
    common::reset(theirs);
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Reset));
    assert_eq!(turns(&mut event_loop, 3), []);
}

// Listeners.

#[test]
fn listener_made_by_socket2_with_options_of_its_own_is_adopted() {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8 * 1024).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(16).unwrap();
    let small = socket.recv_buffer_size().unwrap();
    let mut event_loop = loop_with(Limits::default());
    let listener = event_loop.adopt_listener(socket.into(), |_| ()).unwrap();
    let mut client = peer(event_loop.listener_addr(listener).unwrap());
    let id = accepted(&mut event_loop);
    assert_eq!(event_loop[id].listener(), Some(listener));
    assert!(SockRef::from(&*event_loop[id]).recv_buffer_size().unwrap() <= 2 * small);
    client.write_all(b"hello").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
}

#[test]
fn unix_listeners_are_adopted_with_those_that_wait_and_their_file_stays() {
    let folder = Folder::new();
    let by_std = UnixListener::bind(folder.path("std")).unwrap();
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    socket.bind(&SockAddr::unix(folder.path("socket2")).unwrap()).unwrap();
    socket.listen(16).unwrap();
    for (listener, name) in [(by_std, "std"), (socket.into(), "socket2")] {
        let path = folder.path(name);
        let mut waiting = UnixStream::connect(&path).unwrap();
        waiting.set_read_timeout(Some(PATIENCE)).unwrap();
        waiting.write_all(b"hello").unwrap();
        let mut event_loop = loop_with(Limits::default());
        let adopted = event_loop.adopt_unix_listener(listener, |_| ()).unwrap();
        assert_eq!(
            event_loop.unix_listener_addr(adopted).unwrap().as_pathname(),
            Some(path.as_path())
        );
        let id = accepted(&mut event_loop);
        assert_eq!(event_loop[id].listener(), Some(adopted));
        until(&mut event_loop, |event_loop, event| {
            echo(event_loop, event);
            (event == Event::Received(id)).then_some(())
        });
        assert_eq!(turns(&mut event_loop, 1), []);
        let mut answer = [0; 5];
        waiting.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        event_loop.close_listener(adopted).unwrap();
        assert!(path.exists());
    }
}
