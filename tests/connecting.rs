//! Connecting, on real sockets. The shell that lowers a limit makes it for Unix.

#![cfg(unix)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(unused_imports, reason = "some tests are for certain systems only")
)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::child;
use common::steps::{Steps, assert_rests};
use common::{PATIENCE, accepted, await_backlog, drive, listening, next, pattern, turns, until};
use readiness::{CloseReason, ConnectionId, Deadline, Event, EventLoop, Limits, Step};
use socket2::{Domain, Socket, Type};

/// Returns a local port that refuses connections, as long as the socket is kept.
fn refusing() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// Returns a listener whose backlog is full, so that connecting to it neither succeeds nor fails.
#[cfg(target_os = "linux")]
struct Full {
    listener: TcpListener,
    address: SocketAddr,
    _waiting: TcpStream,
}

#[cfg(target_os = "linux")]
impl Full {
    fn new() -> Self {
        let (socket, address) = refusing();
        // Linux lets one more wait than the backlog asks for.
        socket.listen(0).unwrap();
        let waiting = TcpStream::connect(address).unwrap();
        await_backlog(address, 1);
        Self { listener: socket.into(), address, _waiting: waiting }
    }
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer
}

/// Returns all events up to the end of a connection.
fn events_until_closed<T>(event_loop: &mut EventLoop<T>, id: ConnectionId) -> Vec<Event> {
    let mut events = Vec::new();
    until(event_loop, |_, event| {
        events.push(event);
        matches!(event, Event::Closed(of, _) if of == id).then_some(())
    });
    events
}

// Connects that fail.

#[test]
fn refused_connect_gives_one_closed_and_no_connected() {
    let (_socket, address) = refusing();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(address, ());
    assert_eq!(event_loop[id].peer_addr().unwrap(), address);
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Refused));
    assert_eq!(event_loop.connection_count(), 0);
    assert_eq!(turns(&mut event_loop, 3), []);
    assert!(event_loop.get(id).is_none());
}

#[test]
fn refused_local_port_is_reported_within_a_second() {
    let (_socket, address) = refusing();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    // The best of a few, since another process may hold up any one of them.
    let fastest = (0..5).map(|_| {
        let begin = Instant::now();
        let id = event_loop.connect(address, ());
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Refused));
        begin.elapsed()
    });
    assert!(fastest.min().unwrap() < Duration::from_secs(1));
}

#[test]
fn connect_that_fails_at_once_is_closed_at_the_next_call() {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    // The address of all hosts of the loopback network: no TCP goes there, and the call itself
    // fails.
    let id = event_loop.connect("127.255.255.255:9".parse().unwrap(), ());
    assert_eq!(event_loop.connection_count(), 1);
    let Event::Closed(closed, CloseReason::Failed(failure)) = next(&mut event_loop) else {
        panic!("it was to fail");
    };
    assert_eq!(closed, id);
    assert!(failure.raw_os_error().is_some());
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn connect_without_a_descriptor_left_is_that_connection_s_closed() {
    let name = "connect_without_a_descriptor_left_is_that_connection_s_closed";
    child::alone(name, "ulimit -n 64;", || {
        const CONNECTS: usize = 100;
        let (mut event_loop, listener, address) = listening::<()>();
        event_loop.pause_accepting(listener).unwrap();
        for _ in 0..CONNECTS {
            event_loop.connect(address, ());
        }
        let (mut connected, mut failed) = (Vec::new(), Vec::new());
        while connected.len() + failed.len() < CONNECTS {
            match next(&mut event_loop) {
                Event::Connected(id) => connected.push(id),
                Event::Closed(id, CloseReason::Failed(failure)) => {
                    let too_many_open_files = 24;
                    assert_eq!(failure.raw_os_error(), Some(too_many_open_files));
                    failed.push(id);
                }
                other => panic!("{other:?} was not expected"),
            }
        }
        assert!(connected.len() > 32 && failed.len() > 36, "{connected:?} {failed:?}");
        assert!(connected.iter().all(|id| !failed.contains(id)));
        assert_eq!(event_loop.connection_count(), connected.len());
    });
}

#[test]
#[cfg(target_os = "linux")]
fn connect_deadline_gives_one_closed_and_the_loop_lives_on() {
    const DEADLINE: Duration = Duration::from_millis(250);
    let full = Full::new();
    let mut limits = Limits::default();
    limits.connection.connect_deadline = DEADLINE;
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let begin = Instant::now();
    let id = event_loop.connect(full.address, ());
    let end = Event::Closed(id, CloseReason::TimedOut(Deadline::Connect));
    assert_eq!(events_until_closed(&mut event_loop, id), [end]);
    assert!(begin.elapsed() >= DEADLINE);
    assert_eq!(turns(&mut event_loop, 3), []);

    // What is connected has no deadline for it any more.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let other = event_loop.connect(listener.local_addr().unwrap(), ());
    assert_eq!(next(&mut event_loop), Event::Connected(other));
    assert_eq!(event_loop.poll_event(Some(2 * DEADLINE)).unwrap(), None);
    accept(&listener).write_all(b"alive").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(other));
}

// Connects that take their time.

#[test]
#[cfg(target_os = "linux")]
fn connected_comes_only_once_the_peer_has_answered() {
    let full = Full::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut event_loop);
    let id = event_loop.connect(full.address, ());
    event_loop[id].send(b"early");
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].unsent(), 5);
    // Room for it; the kernel asks again after a second or more.
    let _first = accept(&full.listener);
    assert_eq!(next(&mut event_loop), Event::Connected(id));
    turns(&mut event_loop, 1);
    let mut bytes = [0; 5];
    accept(&full.listener).read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"early");
}

#[test]
#[cfg(target_os = "linux")]
fn connect_closed_while_under_way_gives_one_closed() {
    let full = Full::new();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(full.address, ());
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].close();
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Closed));
    assert_eq!(turns(&mut event_loop, 3), []);

    let id = event_loop.connect(full.address, ());
    event_loop[id].send(b"to be lost");
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].abort();
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Aborted));
    assert_eq!(event_loop[id].unsent(), 10);
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 0);
}

#[test]
fn connect_closed_with_bytes_unsent_sends_them_and_gives_one_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    event_loop[id].send(b"all I have to say");
    event_loop[id].close();
    let mut peer = accept(&listener);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let end = Event::Closed(id, CloseReason::Closed);
    assert_eq!(events_until_closed(&mut event_loop, id), [end]);
    assert_eq!(reader.join().unwrap(), b"all I have to say");
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn sent_before_connected_leaves_in_order_afterwards_and_then_the_end() {
    const COUNT: usize = 300_000;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    for place in (0..COUNT).step_by(1000) {
        event_loop[id].send(&pattern(place, 1000));
        assert_eq!(event_loop[id].is_clogged(), place + 1000 > 64 * 1024, "{place}");
    }
    event_loop[id].finish();
    let mut peer = accept(&listener);
    let reader = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).unwrap();
        bytes
    });
    let mut events = Vec::new();
    drive(&mut event_loop, |_, event| events.push(event), || reader.is_finished());
    assert!(reader.join().unwrap() == pattern(0, COUNT));
    events.extend(turns(&mut event_loop, 3));
    // The peer has closed after its end, which ends the connection, as we had finished already.
    if events.len() < 4 {
        events.extend(events_until_closed(&mut event_loop, id));
    }
    assert_eq!(
        events,
        [
            Event::Connected(id),
            Event::Drained(id),
            Event::PeerFinished(id),
            Event::Closed(id, CloseReason::Finished)
        ]
    );
}

#[test]
fn sent_before_a_connect_that_fails_is_reported_as_unsent_with_closed() {
    let (_socket, address) = refusing();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(address, ());
    event_loop[id].send(&pattern(0, 1000));
    event_loop[id].finish();
    event_loop[id].send(b"too late");
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Refused));
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (1000, 8));
    event_loop[id].send(b"and later still");
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (1000, 23));
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 0);
}

#[test]
fn reconnect_while_closed_is_handled_gets_a_new_id_and_connects() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut event_loop: EventLoop<u32> = EventLoop::new().unwrap();
    let mut id = event_loop.connect(address, 0);
    for attempt in 1..=20 {
        assert_eq!(next(&mut event_loop), Event::Connected(id));
        common::reset(accept(&listener));
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Reset));
        let again = event_loop.connect(address, attempt);
        assert_ne!(again, id);
        assert_eq!(event_loop[id].data, attempt - 1, "it is there until the next call");
        assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).map(drop).ok(), Some(()));
        assert!(event_loop.get(id).is_none());
        assert_eq!(event_loop[again].data, attempt);
        event_loop[again].abort();
        let closed = Event::Closed(again, CloseReason::Aborted);
        assert_eq!(events_until_closed(&mut event_loop, again).last(), Some(&closed));
        // Its handshake was done; it waits to be accepted.
        drop(listener.accept().unwrap());
        id = event_loop.connect(address, attempt);
    }
}

#[test]
#[cfg(target_os = "linux")]
fn unconnected_socket_and_one_that_failed_cost_no_turns() {
    let full = Full::new();
    let (_socket, address) = refusing();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut event_loop);
    let under_way = event_loop.connect(full.address, ());
    let refused = event_loop.connect(address, ());
    // A socket that is not connected counts as hung up: waiting for one must not bring that.
    assert_eq!(next(&mut event_loop), Event::Closed(refused, CloseReason::Refused));
    assert_rests(&mut event_loop, &steps);
    let is_about = |step: &Step| matches!(step, Step::Ready { id, .. } if *id == under_way);
    assert_eq!(steps.count(is_about), 0);
    assert_eq!(event_loop.connection_count(), 1);
}

#[test]
fn both_ends_in_one_loop_connect_and_talk() {
    let (mut event_loop, _, address) = listening::<()>();
    let ours = event_loop.connect(address, ());
    event_loop[ours].send(b"hello");
    let theirs = accepted(&mut event_loop);
    until(&mut event_loop, |_, event| (event == Event::Received(theirs)).then_some(()));
    assert_eq!(event_loop[theirs].received(), b"hello");
    assert_eq!(event_loop[ours].local_addr().unwrap(), event_loop[theirs].peer_addr().unwrap());
    assert_eq!(event_loop[ours].listener(), None);
}

#[test]
fn connect_that_has_succeeded_when_its_deadline_is_looked_at_is_connected() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut limits = Limits::default();
    limits.connection.connect_deadline = Duration::from_nanos(1);
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    assert_eq!(next(&mut event_loop), Event::Connected(id));
}

#[test]
fn peer_sends_and_resets_before_the_first_look_its_bytes_are_received() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"busy").unwrap();
    common::reset(peer);
    assert_eq!(next(&mut event_loop), Event::Connected(id));
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(event_loop[id].received(), b"busy");
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Reset));
}
