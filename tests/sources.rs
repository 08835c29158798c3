//! Foreign sources: what the program reads and writes itself, and the loop only watches.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::collections::HashSet;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::time::Duration;

use common::steps::{Steps, assert_rests};
use common::{accepted, listening, next, peer, turns};
use mio::event::Source;
use mio::net::UdpSocket;
use mio::{Registry, Token};
use readiness::{Event, EventLoop, Interest, Limits, Readiness, SourceId, Step};

fn new() -> EventLoop {
    EventLoop::new().unwrap()
}

/// Returns a UDP socket for the loop, and one that sends to it.
fn datagrams() -> (UdpSocket, StdSocket) {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let sender = StdSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(socket.local_addr().unwrap()).unwrap();
    (socket, sender)
}

/// Reads datagrams, at most `most`, until it would block. Returns how many there were.
fn read(socket: &UdpSocket, most: usize) -> usize {
    for count in 0..most {
        match socket.recv(&mut [0; 64]) {
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return count;
            }
        }
    }
    most
}

/// Returns the next event, which must be the readiness of this source.
fn ready(event_loop: &mut EventLoop, id: SourceId) -> Readiness {
    match next(event_loop) {
        Event::Ready(of, readiness) if of == id => readiness,
        other => panic!("{other:?} was not expected"),
    }
}

fn slot(id: SourceId) -> String {
    id.to_string().split('.').next().unwrap().to_owned()
}

#[test]
fn source_that_is_not_read_on_is_reported_again_only_by_a_new_edge() {
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    let (mut socket, sender) = datagrams();
    let id = event_loop.register(&mut socket, Interest::Readable).unwrap();
    for message in [b"one", b"two"] {
        sender.send(message).unwrap();
    }
    let readiness = ready(&mut event_loop, id);
    assert!(readiness.is_readable() && !readiness.is_writable());
    let seen = steps.take();
    assert!(seen.contains(&Step::SourceReady { id, readiness }), "{seen:?}");
    assert_eq!(read(&socket, 1), 1);
    assert_rests(&mut event_loop, &steps);

    sender.send(b"three").unwrap();
    assert!(ready(&mut event_loop, id).is_readable());
    assert_eq!(read(&socket, 9), 2, "the second is still there");
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn udp_echo_goes_on_beside_a_tcp_echo() {
    let (mut event_loop, _, address) = listening::<()>();
    let (mut socket, _) = datagrams();
    let client = StdSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    client.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let udp = event_loop.register(&mut socket, Interest::Readable).unwrap();
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    for round in 0..50u8 {
        client.send(&[round]).unwrap();
        peer.write_all(&[round]).unwrap();
        let (mut datagrams, mut bytes) = (0, 0);
        while datagrams + bytes < 2 {
            match next(&mut event_loop) {
                Event::Ready(of, _) if of == udp => {
                    let mut datagram = [0; 8];
                    while let Ok((count, from)) = socket.recv_from(&mut datagram) {
                        datagrams += count;
                        assert_eq!(socket.send_to(&datagram[..count], from).unwrap(), count);
                    }
                }
                Event::Received(of) if of == id => {
                    bytes += event_loop[id].received().len();
                    event_loop[id].send_received();
                }
                other => panic!("{other:?} was not expected"),
            }
        }
        assert_eq!(turns(&mut event_loop, 1), []);
        let (mut datagram, mut byte) = ([0; 8], [0]);
        assert_eq!(client.recv(&mut datagram).unwrap(), 1);
        io::Read::read_exact(&mut peer, &mut byte).unwrap();
        assert_eq!((datagram[0], byte[0]), (round, round));
    }
}

#[test]
fn interest_changed_before_the_next_wait_silences_the_old_one() {
    let mut event_loop = new();
    let (mut socket, sender) = datagrams();
    let id = event_loop.register(&mut socket, Interest::Readable).unwrap();
    sender.send(b"news").unwrap();
    event_loop.reregister(id, &mut socket, Interest::Writable).unwrap();
    let readiness = ready(&mut event_loop, id);
    assert!(readiness.is_writable() && !readiness.is_readable(), "{readiness}");
    assert_eq!(turns(&mut event_loop, 3), []);

    event_loop.reregister(id, &mut socket, Interest::ReadableWritable).unwrap();
    let readiness = ready(&mut event_loop, id);
    assert!(readiness.is_writable() && readiness.is_readable(), "{readiness}");
}

/// Returns two sources that are both ready, after the turn in which the first is delivered has
/// begun: the first and the second, each as its place among the two, and all four ends.
fn two_ready(event_loop: &mut EventLoop) -> ([SourceId; 2], [UdpSocket; 2], usize) {
    let ((mut one, to_one), (mut other, to_other)) = (datagrams(), datagrams());
    let ids = [&mut one, &mut other]
        .map(|socket| event_loop.register(socket, Interest::Readable).unwrap());
    to_one.send(b"news").unwrap();
    to_other.send(b"news").unwrap();
    let Event::Ready(first, _) = next(event_loop) else { panic!("readiness was expected") };
    let second = usize::from(first == ids[0]);
    assert_ne!(ids[second], first);
    (ids, [one, other], second)
}

#[test]
fn readiness_from_before_a_change_of_interest_is_not_delivered_in_the_same_turn() {
    let mut event_loop = new();
    let (ids, mut sockets, second) = two_ready(&mut event_loop);
    event_loop.reregister(ids[second], &mut sockets[second], Interest::Writable).unwrap();
    assert_eq!(turns(&mut event_loop, 1), []);
    let readiness = ready(&mut event_loop, ids[second]);
    assert!(readiness.is_writable() && !readiness.is_readable(), "{readiness}");
}

#[test]
fn source_switched_off_while_ready_is_silent_until_it_is_switched_on() {
    let mut event_loop = new();
    let (ids, mut sockets, second) = two_ready(&mut event_loop);
    event_loop.reregister(ids[second], &mut sockets[second], Interest::None).unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop.reregister(ids[second], &mut sockets[second], Interest::Readable).unwrap();
    assert!(ready(&mut event_loop, ids[second]).is_readable());
    assert_eq!(read(&sockets[second], 9), 1);
}

#[test]
fn source_switched_off_and_on_again_while_ready_is_delivered() {
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    let (mut socket, sender) = datagrams();
    let id = event_loop.register(&mut socket, Interest::None).unwrap();
    sender.send(b"news").unwrap();
    assert_rests(&mut event_loop, &steps);
    for _ in 0..3 {
        event_loop.reregister(id, &mut socket, Interest::Readable).unwrap();
        assert!(ready(&mut event_loop, id).is_readable());
        event_loop.reregister(id, &mut socket, Interest::None).unwrap();
        assert_rests(&mut event_loop, &steps);
        sender.send(b"more").unwrap();
        assert_rests(&mut event_loop, &steps);
    }
    // When the same is asked for again, what is ready is reported again.
    event_loop.reregister(id, &mut socket, Interest::Readable).unwrap();
    ready(&mut event_loop, id);
    event_loop.reregister(id, &mut socket, Interest::Readable).unwrap();
    ready(&mut event_loop, id);
    assert_eq!(read(&socket, 9), 4);
}

#[test]
fn source_deregistered_while_ready_is_not_delivered_nor_is_its_slots_next_owner() {
    let mut event_loop = new();
    let (ids, mut sockets, second) = two_ready(&mut event_loop);
    event_loop.deregister(ids[second], &mut sockets[second]).unwrap();
    let (mut quiet, to_quiet) = datagrams();
    let next_owner = event_loop.register(&mut quiet, Interest::Readable).unwrap();
    assert_eq!(slot(next_owner), slot(ids[second]));
    assert_eq!(turns(&mut event_loop, 3), []);
    to_quiet.send(b"its own").unwrap();
    assert!(ready(&mut event_loop, next_owner).is_readable());
}

#[test]
fn id_of_a_source_that_has_gone_is_not_found_and_touches_nobody() {
    let mut event_loop = new();
    let (mut socket, _) = datagrams();
    let stale = event_loop.register(&mut socket, Interest::Readable).unwrap();
    event_loop.deregister(stale, &mut socket).unwrap();
    let (mut other, to_other) = datagrams();
    let id = event_loop.register(&mut other, Interest::Readable).unwrap();
    assert_eq!(slot(id), slot(stale));
    let errors = [
        event_loop.reregister(stale, &mut other, Interest::None).unwrap_err(),
        event_loop.deregister(stale, &mut other).unwrap_err(),
        event_loop.deregister(stale, &mut socket).unwrap_err(),
    ];
    assert!(errors.iter().all(|error| error.kind() == ErrorKind::NotFound), "{errors:?}");
    to_other.send(b"news").unwrap();
    ready(&mut event_loop, id);
    event_loop.deregister(id, &mut other).unwrap();
    // The first can be registered anew.
    event_loop.register(&mut socket, Interest::Readable).unwrap();
}

/// A source that cannot be watched.
struct Unwatchable;

impl Source for Unwatchable {
    fn register(&mut self, _: &Registry, _: Token, _: mio::Interest) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn reregister(&mut self, _: &Registry, _: Token, _: mio::Interest) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        Err(ErrorKind::PermissionDenied.into())
    }
}

#[test]
fn registration_that_fails_is_an_error_and_leaves_its_slot_free() {
    let mut event_loop = new();
    let (mut socket, sender) = datagrams();
    let id = event_loop.register(&mut socket, Interest::Readable).unwrap();
    // Twice, and what cannot be watched at all.
    assert!(event_loop.register(&mut socket, Interest::Writable).is_err());
    let error = event_loop.register(&mut Unwatchable, Interest::Readable).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let (mut other, _) = datagrams();
    let next_owner = event_loop.register(&mut other, Interest::Readable).unwrap();
    assert_eq!((slot(id), slot(next_owner)), ("s0".to_owned(), "s1".to_owned()));

    // The one that was there before is watched as before.
    sender.send(b"news").unwrap();
    let readiness = ready(&mut event_loop, id);
    assert!(readiness.is_readable() && !readiness.is_writable(), "{readiness}");
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn deregistration_that_fails_frees_the_id_all_the_same() {
    let mut event_loop = new();
    let id = event_loop.register(&mut Unwatchable, Interest::None).unwrap();
    let error = event_loop.reregister(id, &mut Unwatchable, Interest::Readable).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    event_loop.deregister(id, &mut Unwatchable).unwrap(); // it was never watched

    let (mut socket, _) = datagrams();
    let id = event_loop.register(&mut socket, Interest::Readable).unwrap();
    let error = event_loop.deregister(id, &mut Unwatchable).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    let error = event_loop.deregister(id, &mut socket).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[cfg(unix)]
#[test]
fn turn_delivers_timers_wakes_sources_connections_and_accepts_in_this_order() {
    let (mut event_loop, listener, address) = listening::<()>();
    let (mut socket, sender) = datagrams();
    let mut talker = peer(address);
    let id = accepted(&mut event_loop);
    let source = event_loop.register(&mut socket, Interest::Readable).unwrap();
    assert_eq!(turns(&mut event_loop, 1), []);

    // Made ready from last to first.
    let _newcomer = peer(address);
    common::await_backlog(address, 1);
    talker.write_all(b"message").unwrap();
    common::await_arrival(&event_loop, id);
    sender.send(b"news").unwrap();
    event_loop.waker().wake().unwrap();
    let timer = event_loop.set_timer(Duration::ZERO);
    let events = turns(&mut event_loop, 1);
    let [
        Event::Timer(came),
        Event::Woken,
        Event::Ready(of, readiness),
        Event::Received(received),
        Event::Accepted(by, _),
    ] = events[..]
    else {
        panic!("not in order: {events:?}");
    };
    assert_eq!((came, of, received, by), (timer, source, id, listener));
    assert!(readiness.is_readable());
}

#[test]
fn more_ready_than_one_wait_takes_loses_and_starves_nobody() {
    const COUNT: usize = 50;
    const CAPACITY: usize = 4;
    let mut limits = Limits::default();
    limits.event_capacity = CAPACITY;
    let (mut event_loop, address) = common::listening_with::<()>(limits);
    let mut peers: Vec<_> = (0..COUNT).map(|_| peer(address)).collect();
    let mut awaited: HashSet<String> =
        (0..COUNT).map(|_| accepted(&mut event_loop).to_string()).collect();
    let mut sources = Vec::new();
    for _ in 0..COUNT {
        let (mut socket, sender) = datagrams();
        let id = event_loop.register(&mut socket, Interest::Readable).unwrap();
        awaited.insert(id.to_string());
        sources.push((socket, sender));
    }
    assert_eq!(turns(&mut event_loop, 1), []);
    let steps = Steps::of(&mut event_loop);
    for ((_, sender), peer) in sources.iter().zip(&mut peers) {
        sender.send(b"news").unwrap();
        peer.write_all(b"news").unwrap();
    }
    event_loop.waker().wake().unwrap();
    awaited.insert("woken".to_owned());
    let timer = event_loop.set_timer(Duration::ZERO);
    awaited.insert(timer.to_string());
    // None is read further, so that each is reported once.
    while !awaited.is_empty() {
        let name = match next(&mut event_loop) {
            Event::Ready(id, _) => id.to_string(),
            Event::Received(id) => id.to_string(),
            Event::Timer(id) => id.to_string(),
            Event::Woken => "woken".to_owned(),
            other => panic!("{other:?} was not expected"),
        };
        assert!(awaited.remove(&name), "event {name} was delivered twice");
    }
    let waited = |step: &Step| matches!(step, Step::Waited { .. });
    let full = |step: &Step| matches!(step, Step::Waited { events: CAPACITY, .. });
    let (waits, full) = (steps.count(waited), steps.count(full));
    assert!(full >= (2 * COUNT + 1) / CAPACITY - 1, "{full} waits were full");
    assert!(waits <= 2 * COUNT, "{waits} waits");
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn two_loops_know_nothing_of_each_other() {
    let mut loops = [listening::<()>(), listening::<()>()].map(|(one, _, address)| (one, address));
    let mut ends = Vec::new();
    for (event_loop, address) in &mut loops {
        let peer = peer(*address);
        let id = accepted(event_loop);
        let (mut socket, sender) = datagrams();
        let source = event_loop.register(&mut socket, Interest::Readable).unwrap();
        assert_eq!(turns(event_loop, 1), []);
        ends.push((peer, id, socket, sender, source));
    }
    // The ids are the same, but each loop has its own behind them.
    assert_eq!((ends[0].1, ends[0].4), (ends[1].1, ends[1].4));
    for (at, quiet) in [(0, 1), (1, 0)] {
        let (peer, id, socket, sender, source) = &mut ends[at];
        loops[at].0.waker().wake().unwrap();
        let timer = loops[at].0.set_timer(Duration::ZERO);
        sender.send(b"news").unwrap();
        peer.write_all(b"message").unwrap();
        assert_eq!(turns(&mut loops[quiet].0, 3), []);
        assert_eq!(next(&mut loops[at].0), Event::Timer(timer));
        assert_eq!(next(&mut loops[at].0), Event::Woken);
        ready(&mut loops[at].0, *source);
        assert_eq!(next(&mut loops[at].0), Event::Received(*id));
        // Watched by one, a source cannot be watched by the other.
        assert!(loops[quiet].0.register(socket, Interest::Readable).is_err());
        assert_eq!(turns(&mut loops[quiet].0, 3), []);
    }
    let [(one, _), (mut other, _)] = loops;
    drop(one);
    ends[1].0.write_all(b"message").unwrap();
    assert_eq!(next(&mut other), Event::Received(ends[1].1));
}
