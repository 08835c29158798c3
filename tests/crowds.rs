//! Many connections at once: ends within one batch, slots used again, descriptors given back, and
//! random operations that must add up.
//!
//! These take turns, since each of them counts or needs the descriptors of the whole process.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::collections::{HashMap, HashSet};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use common::skipping::runs_in_part;
use common::{
    PATIENCE, accepted, connection_limits, hold_little, next, pattern, pattern_at, peer, reset,
    steps, turns, until,
};
use readiness::{CloseReason, ConnectionId, Event, EventLoop, Limits, Step};

static TURN: Mutex<()> = Mutex::new(());

/// Held while a test runs, so that no other opens or closes a descriptor in the meantime.
fn alone() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns how many descriptors the process has open, if the system reports it.
fn descriptors(test: &str) -> Option<usize> {
    let count = std::fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
    let less = || "descriptors are not counted: there is no /proc/self/fd here".to_owned();
    runs_in_part(test, count.is_none().then(less));
    count
}

/// Returns how many pairs of sockets are possible: as many as wanted, or as the limit of
/// descriptors allows.
fn pairs_allowed(test: &str, wanted: usize) -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3)?.parse::<usize>().ok());
    // 256 is the least that is usual where the limit cannot be read.
    let allowed = (soft.unwrap_or(256).saturating_sub(64) / 2).min(wanted);
    let less = || format!("{allowed} connections, not {wanted}: the descriptors allow no more");
    runs_in_part(test, (allowed < wanted).then(less));
    allowed
}

/// Listens on an address of this test's own, so that the ports of many clients suffice.
fn listening_at(event_loop: &mut EventLoop<impl Default + 'static>, host: u8) -> SocketAddr {
    let host = if cfg!(target_os = "linux") { host } else { 1 };
    let listener = event_loop.listen(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    event_loop.listener_addr(listener).unwrap()
}

/// This many peers with their connections, in the order of the ids.
fn crowd(
    event_loop: &mut EventLoop,
    address: SocketAddr,
    count: usize,
) -> Vec<(ConnectionId, TcpStream)> {
    let mut crowd = Vec::new();
    while crowd.len() < count {
        // No more than the backlog holds.
        let wave = (count - crowd.len()).min(200);
        let mut peers: HashMap<SocketAddr, TcpStream> = HashMap::new();
        for _ in 0..wave {
            let peer = peer(address);
            peers.insert(peer.local_addr().unwrap(), peer);
        }
        for _ in 0..wave {
            let id = accepted(event_loop);
            crowd.push((id, peers.remove(&event_loop[id].peer_addr().unwrap()).unwrap()));
        }
    }
    crowd.sort_by_key(|(id, _)| *id);
    crowd
}

/// Sends bytes from a peer, and waits until they have arrived, where that can be seen.
fn deliver(peer: &mut TcpStream, bytes: &[u8], event_loop: &EventLoop, id: ConnectionId) {
    peer.write_all(bytes).unwrap();
    #[cfg(unix)]
    common::await_arrival(event_loop, id);
    #[cfg(not(unix))]
    let _ = (event_loop, id);
}

#[test]
fn closing_the_others_of_a_batch_brings_no_event_of_theirs() {
    let _alone = alone();
    let count = pairs_allowed(test_name!(), 2_500);
    let mut limits = Limits::default();
    limits.event_capacity = 8_192;
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let address = listening_at(&mut event_loop, 2);
    let mut crowd = crowd(&mut event_loop, address, count);
    turns(&mut event_loop, 3);
    let steps = steps(&mut event_loop);
    for (id, peer) in &mut crowd {
        deliver(peer, b"x", &event_loop, *id);
    }
    let Event::Received(first) = next(&mut event_loop) else { panic!("bytes are there") };
    let batch = steps.try_iter().filter(|step| matches!(step, Step::Ready { .. })).count();
    assert_eq!(batch, count, "all are ready in one batch");
    for (id, _) in crowd.iter().filter(|(id, _)| *id != first) {
        event_loop[*id].abort();
    }
    let mut closed = HashSet::new();
    while closed.len() < count - 1 {
        match next(&mut event_loop) {
            Event::Closed(id, CloseReason::Aborted) => assert!(closed.insert(id), "{id} twice"),
            other => panic!("{other:?}"),
        }
    }
    assert!(!closed.contains(&first));
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 1);
    assert_eq!(event_loop[first].received(), b"x");
}

#[test]
fn slot_used_again_within_a_batch_hears_nothing_of_its_former_owner() {
    let _alone = alone();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let address = listening_at(&mut event_loop, 3);
    let mut crowd = crowd(&mut event_loop, address, 2);
    turns(&mut event_loop, 2);
    // Both have bytes, and the deadlines of both pass at once, so that one turn brings all of it.
    for (id, peer) in &mut crowd {
        deliver(peer, b"for the old owner", &event_loop, *id);
        event_loop[*id].set_deadline(Some(Duration::from_nanos(1)));
    }
    let steps = steps(&mut event_loop);
    let Event::Deadline(stale) = next(&mut event_loop) else {
        panic!("deadlines are delivered first")
    };
    let other = if stale == crowd[0].0 { crowd[1].0 } else { crowd[0].0 };
    event_loop[stale].abort();
    assert_eq!(next(&mut event_loop), Event::Closed(stale, CloseReason::Aborted));
    assert_eq!(next(&mut event_loop), Event::Deadline(other));
    // The slot was freed by the last call and is among those to be served in this turn.
    let waits = steps.try_iter().filter(|step| matches!(step, Step::Waited { .. })).count();
    assert_eq!(waits, 1, "it is one turn");
    let new = event_loop.connect(address, ());
    let slot = |id: ConnectionId| id.to_string().split_once('.').unwrap().0.to_owned();
    assert_eq!(slot(new), slot(stale));
    event_loop[new].send(b"new");

    let (mut heard, mut server) = (Vec::new(), None);
    until(&mut event_loop, |event_loop, event| match event {
        Event::Accepted(_, id) => {
            server = Some(id);
            None
        }
        Event::Received(id) if Some(id) == server => {
            assert_eq!(event_loop[id].received(), b"new");
            event_loop[id].send_received();
            None
        }
        event => {
            heard.push(event);
            (event == Event::Received(new)).then_some(())
        }
    });
    assert_eq!(heard, [Event::Received(other), Event::Connected(new), Event::Received(new)]);
    assert_eq!(event_loop[new].received(), b"new");
    assert!(event_loop.get(stale).is_none());
}

#[test]
fn dropping_the_loop_closes_everything() {
    let _alone = alone();
    let before = descriptors(test_name!());
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let address = listening_at(&mut event_loop, 4);
    let mut crowd = crowd(&mut event_loop, address, 12);
    let foreign = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connecting = event_loop.connect(foreign.local_addr().unwrap(), ());
    event_loop[connecting].send(b"unsent");
    for (number, (id, peer)) in crowd.iter_mut().enumerate() {
        match number % 6 {
            0 => event_loop[*id].send(b"unsent"),
            1 => deliver(peer, b"read, not consumed", &event_loop, *id),
            2 => event_loop[*id].pause(),
            3 => event_loop[*id].finish(),
            4 => {
                hold_little(&event_loop, *id, peer);
                event_loop[*id].send(&pattern(0, 4 << 20));
                event_loop[*id].close();
            }
            _ => event_loop[*id].set_deadline(Some(PATIENCE)),
        }
    }
    // What was sent last stays unsent.
    turns(&mut event_loop, 2);
    event_loop[crowd[0].0].send(b"unsent");
    // What the paused ones do not read has the kernel answer the close with a reset.
    for (id, peer) in crowd.iter_mut().skip(2).step_by(6) {
        deliver(peer, b"unread", &event_loop, *id);
    }
    drop(event_loop);
    for (number, (_, peer)) in crowd.iter_mut().enumerate() {
        let outcome = peer.read_to_end(&mut Vec::new());
        let is_reset = outcome.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset);
        assert_eq!(is_reset, number % 6 == 2, "a reset just where bytes were unread: {number}");
    }
    let error = TcpStream::connect(address).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    drop((crowd, foreign));
    assert_eq!(descriptors(test_name!()), before);
}

#[test]
fn four_thousand_connections_leave_no_descriptor_behind() {
    let _alone = alone();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let addresses: Vec<SocketAddr> =
        (5..9).map(|host| listening_at(&mut event_loop, host)).collect();
    let before = descriptors(test_name!());
    for round in 0..40 {
        let mut crowd = crowd(&mut event_loop, addresses[round % 4], 100);
        for (number, (id, peer)) in crowd.iter_mut().enumerate() {
            match number % 5 {
                0 => event_loop[*id].close(),
                1 => event_loop[*id].abort(),
                2 => peer.write_all(b"unread").unwrap(),
                3 => event_loop[*id].send(b"unread"),
                _ => {}
            }
        }
        // Half of the peers end by a reset, which also leaves their ports free.
        for (number, (_, peer)) in crowd.into_iter().enumerate() {
            if number % 2 == 0 { reset(peer) } else { drop(peer) }
        }
        let end = Instant::now() + PATIENCE;
        while event_loop.connection_count() > 0 {
            assert!(Instant::now() < end, "a connection does not end");
            next(&mut event_loop);
        }
    }
    turns(&mut event_loop, 1);
    assert_eq!(descriptors(test_name!()), before);
}

// Random operations.

/// A generator of random numbers that gives the same ones each time (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }
}

/// What the program knows of one connection; both ends of all live in one loop.
#[derive(Default)]
struct End {
    is_client: bool,
    /// How many bytes were given to `send`.
    sent: usize,
    /// How many were received and consumed.
    consumed: usize,
}

/// What was received in all.
#[derive(Default)]
struct Heard {
    connected: usize,
    accepted: usize,
    closed: HashMap<ConnectionId, CloseReason>,
    closed_clients: usize,
    failed_connects: usize,
    open: HashSet<ConnectionId>,
    bytes: usize,
}

/// Both ends send the same pattern, each from its beginning, and the other end verifies it.
fn verify(event_loop: &mut EventLoop<End>, id: ConnectionId, heard: &mut Heard) {
    let (end, stream) = event_loop[id].split();
    for (place, byte) in stream.received().iter().enumerate() {
        assert_eq!(*byte, pattern_at(end.consumed + place), "{id} at {}", end.consumed + place);
    }
    let count = stream.received().len();
    end.consumed += count;
    heard.bytes += count;
    stream.consume(count);
}

fn say(event_loop: &mut EventLoop<End>, id: ConnectionId, count: usize) {
    if let Some(connection) = event_loop.get_mut(id) {
        let (end, stream) = connection.split();
        stream.send(&pattern(end.sent, count));
        end.sent += count;
    }
}

fn hear(
    event_loop: &mut EventLoop<End>,
    event: Event,
    heard: &mut Heard,
    flushed: &Mutex<HashMap<ConnectionId, u64>>,
) {
    match event {
        Event::Accepted(_, id) => {
            heard.accepted += 1;
            assert!(heard.open.insert(id), "{id} twice");
            event_loop.uncouple(id);
        }
        Event::Connected(id) => {
            heard.connected += 1;
            assert!(heard.open.insert(id), "{id} twice");
        }
        Event::Received(id) => {
            assert!(heard.open.contains(&id));
            verify(event_loop, id, heard);
        }
        Event::Closed(id, reason) => {
            // A connection that closed while connecting was never open.
            let was_open = heard.open.remove(&id);
            let is_client = event_loop[id].data.is_client;
            assert!(was_open || is_client);
            heard.failed_connects += usize::from(!was_open);
            heard.closed_clients += usize::from(is_client);
            verify(event_loop, id, heard);
            let connection = &event_loop[id];
            let flushed = flushed.lock().unwrap().remove(&id).unwrap_or(0);
            let left = connection.unsent() as u64 + connection.lost();
            assert_eq!(flushed + left, connection.data.sent as u64, "{id} closed: {reason}");
            assert!(heard.closed.insert(id, reason).is_none(), "{id} closed twice");
        }
        Event::PeerFinished(id) | Event::Drained(id) => assert!(heard.open.contains(&id)),
        other => panic!("{other:?}"),
    }
}

/// Limits that are reached often.
fn small_limits() -> Limits {
    let mut limits = connection_limits(|limits| {
        limits.read_budget = 3_000;
        limits.write_budget = 5_000;
        limits.high_water = 20_000;
        limits.low_water = 1_000;
        limits.close_quiet_deadline = Duration::from_millis(200);
        limits.close_deadline = Duration::from_millis(400);
    });
    limits.event_capacity = 32;
    limits
}

fn assert_adds_up(heard: &Heard, connects: usize) {
    assert_eq!(heard.closed_clients, connects, "each connect has its one end");
    let opened = heard.connected + heard.accepted + heard.failed_connects;
    assert_eq!(opened, heard.closed.len(), "opened = closed");
    assert!(heard.open.is_empty());
    assert!(heard.bytes > 1_000_000, "only {} bytes were verified", heard.bytes);
    let reasons: HashSet<CloseReason> = heard.closed.values().copied().collect();
    for reason in [CloseReason::Finished, CloseReason::Closed, CloseReason::Aborted] {
        assert!(reasons.contains(&reason), "no connection was {reason}");
    }
    assert!(reasons.contains(&CloseReason::Reset));
}

#[test]
fn random_operations_open_as_many_as_they_close_and_keep_the_data() {
    const CONNECTS: usize = 2_000;
    let _alone = alone();
    let before = descriptors(test_name!());
    let seed = 0x5EED_1234_5678_9ABC;
    let mut random = Random(seed);
    let mut event_loop: EventLoop<End> = EventLoop::with_limits(small_limits()).unwrap();
    let address = listening_at(&mut event_loop, 9);
    let flushed = Arc::new(Mutex::new(HashMap::new()));
    let sums = flushed.clone();
    event_loop.set_observer(move |step: Step| {
        if let Step::Flushed { id, count, .. } = step {
            *sums.lock().unwrap().entry(id).or_insert(0) += count as u64;
        }
    });
    let mut heard = Heard::default();
    let mut ids: Vec<ConnectionId> = Vec::new();
    let mut connects = 0;
    while connects < CONNECTS {
        if event_loop.connection_count() < 120 {
            ids.push(event_loop.connect(address, End { is_client: true, ..End::default() }));
            connects += 1;
        }
        for _ in 0..random.below(8) {
            if ids.len() > 60 {
                ids.swap_remove(random.below(20));
            }
            ids.extend(event_loop.connections().nth(random.below(60)).map(|some| some.id()));
            let id = ids[random.below(ids.len())];
            operate(&mut event_loop, id, &mut random);
        }
        for _ in 0..random.below(12) {
            if let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
                hear(&mut event_loop, event, &mut heard, &flushed);
            }
        }
    }
    // All that is still there is brought to its end, also a peer that is accepted when it has left.
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "seed {seed:#x}: {} left", event_loop.connection_count());
        for connection in event_loop.connections_mut() {
            connection.close();
        }
        match event_loop.poll_event(Some(Duration::from_millis(5))).unwrap() {
            Some(event) => hear(&mut event_loop, event, &mut heard, &flushed),
            None if event_loop.connection_count() > 0 || heard.closed_clients < CONNECTS => {}
            None => break,
        }
    }
    assert_adds_up(&heard, CONNECTS);
    drop(event_loop);
    assert_eq!(descriptors(test_name!()), before);
}

/// Does one thing that a program may do at any time to any connection, also to one that has closed.
fn operate(event_loop: &mut EventLoop<End>, id: ConnectionId, random: &mut Random) {
    let choice = random.below(32);
    if choice < 16 {
        let count = random.below(if choice == 0 { 60_000 } else { 3_000 });
        return say(event_loop, id, count);
    }
    let Some(connection) = event_loop.get_mut(id) else { return };
    match choice {
        16..19 => connection.finish(),
        19 | 20 => connection.close(),
        21 => connection.abort(),
        22 | 23 => connection.pause(),
        24..27 => connection.resume(),
        27 => connection.allow_half_open(true),
        28 => connection.allow_half_open(false),
        29 => event_loop.couple(id, id),
        30 => event_loop.uncouple(id),
        _ => connection.consume(0),
    }
}
