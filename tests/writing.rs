//! Writing: what a program sends leaves in order, the loop asks for room only when the kernel has
//! none, and every byte is counted.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use common::steps::Steps;
use common::{
    PATIENCE, accepted, connection_limits, drive, drive_until_joined, flushed, hold_little,
    left_overs, listening, next, pair, pair_with, pattern, peer, read_in_thread, reset, steps,
    turns, until, until_closed, until_step,
};
use readiness::{CloseReason, ConnectionId, Deadline, Event, EventLoop, Interest, Step};

/// More than both kernels hold once [`hold_little`] was called.
const TOO_MUCH: usize = 4 * 1024 * 1024;

/// Returns a pair whose peer reads nothing, clogged by [`TOO_MUCH`], after the kernel took what it
/// could.
fn clogged() -> (EventLoop, ConnectionId, TcpStream) {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    event_loop[id].send(&pattern(0, TOO_MUCH));
    let steps = steps(&mut event_loop);
    until_step(&mut event_loop, &steps, |step| *step == Step::WriteBlocked { id });
    assert!(event_loop[id].is_clogged());
    (event_loop, id, peer)
}

fn asks_for_writable(step: &Step) -> bool {
    matches!(step, Step::InterestChanged { to, .. } if to.is_writable())
}

#[test]
fn a_write_that_fits_never_asks_for_writable() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let steps = steps(&mut event_loop);
    let mut bytes = [0; 1000];
    for round in 0..20 {
        event_loop[id].send(&pattern(round, 1000));
        turns(&mut event_loop, 1);
        assert_eq!(event_loop[id].unsent(), 0);
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, pattern(round, 1000)[..]);
    }
    let steps: Vec<Step> = steps.try_iter().collect();
    assert_eq!(flushed(&steps, id), 20_000);
    assert!(!steps.iter().any(asks_for_writable), "{steps:?}");
    assert_eq!(event_loop[id].interest(), Interest::Readable);
}

#[test]
fn many_small_writes_leave_in_one_call() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let steps = steps(&mut event_loop);
    for byte in 0..100 {
        event_loop[id].send(&[byte]);
    }
    assert_eq!(event_loop[id].unsent(), 100);
    turns(&mut event_loop, 1);
    let mut bytes = [0; 100];
    peer.read_exact(&mut bytes).unwrap();
    assert!(bytes.iter().copied().eq(0..100));
    let steps = steps.try_iter().collect::<Vec<_>>();
    assert!(steps.contains(&Step::Queued { id, count: 100 }), "{steps:?}");
    assert!(steps.contains(&Step::Flushed { id, count: 100, unsent: 0 }), "{steps:?}");
}

#[test]
fn partial_write_keeps_the_order_and_the_exact_count() {
    const SIZE: usize = 10 * 1024 * 1024;
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    let steps = steps(&mut event_loop);
    let sent = pattern(0, SIZE);
    for piece in sent.chunks(10_000) {
        event_loop[id].send(piece);
    }
    let mut all = until_step(&mut event_loop, &steps, |step| *step == Step::WriteBlocked { id });
    let unsent = event_loop[id].unsent();
    assert!(unsent > 0, "the kernel did not take everything");
    assert_eq!(flushed(&all, id) + unsent as u64, SIZE as u64);

    event_loop[id].close();
    let reader = read_in_thread(peer);
    let (bytes, outcome) = drive_until_joined(&mut event_loop, reader, |_, _| {});
    outcome.unwrap();
    assert!(bytes == sent, "the peer read something else than was sent");
    all.extend(steps.try_iter());
    let mut left = SIZE;
    for step in &all {
        if let Step::Flushed { count, unsent, .. } = step {
            left -= count;
            assert_eq!(*unsent, left, "each flush reports what it left");
        }
    }
    assert_eq!(left, 0);
}

#[cfg(unix)]
#[test]
fn first_write_would_block_is_queued_and_asks_for_writable() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    // Fills the kernel behind the loop's back, which still believes that the socket is writable.
    let mut twin = twin(&event_loop, id);
    let mut ahead = 0;
    loop {
        match twin.write(&[0; 4096]) {
            Ok(count) => ahead += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => panic!("{error}"),
        }
    }
    drop(twin);
    let steps = steps(&mut event_loop);
    event_loop[id].send(b"queued");
    turns(&mut event_loop, 1);
    assert_eq!(event_loop[id].unsent(), 6);
    let seen: Vec<Step> = steps.try_iter().collect();
    assert_eq!(flushed(&seen, id), 0);
    assert!(seen.contains(&Step::WriteBlocked { id }), "{seen:?}");
    assert_eq!(event_loop[id].interest(), Interest::Writable, "coupled to itself: reads no more");

    let reader = thread::spawn(move || {
        let mut bytes = vec![0; ahead + 6];
        peer.read_exact(&mut bytes).map(|()| bytes.split_off(ahead))
    });
    let bytes = drive_until_joined(&mut event_loop, reader, |_, _| {});
    assert_eq!(bytes.unwrap(), b"queued");
}

#[cfg(unix)]
/// Another handle of a connection's socket.
fn twin(event_loop: &EventLoop, id: ConnectionId) -> TcpStream {
    use std::os::fd::AsFd;
    event_loop[id].as_fd().try_clone_to_owned().unwrap().into()
}

#[test]
fn writable_is_dropped_when_drained_and_wakes_nobody_later() {
    let (mut event_loop, id, mut peer) = clogged();
    assert!(event_loop[id].interest().is_writable());
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; TOO_MUCH];
        peer.read_exact(&mut bytes).map(|()| peer)
    });
    let mut peer = drive_until_joined(&mut event_loop, reader, |_, _| {}).unwrap();
    drive_until_unsent_is_zero(&mut event_loop, id);
    turns(&mut event_loop, 2);
    assert_eq!(event_loop[id].interest(), Interest::Readable);

    let steps = steps(&mut event_loop);
    peer.write_all(b"hello").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].send_received();
    turns(&mut event_loop, 3);
    peer.read_exact(&mut [0; 5]).unwrap();
    for step in steps.try_iter() {
        let is_writable = matches!(step, Step::Ready { readiness, .. } if readiness.is_writable());
        assert!(!is_writable && !asks_for_writable(&step), "{step}");
    }
}

fn drive_until_unsent_is_zero(event_loop: &mut EventLoop, id: ConnectionId) {
    let end = Instant::now() + PATIENCE;
    while event_loop[id].unsent() > 0 {
        assert!(Instant::now() < end, "the bytes do not leave");
        event_loop.poll_event(Some(Duration::from_millis(1))).unwrap();
    }
}

/// A pattern that is cheap to make and to compare, repeated after a prime number of bytes, so that
/// no buffer's size divides it.
struct Tile(Vec<u8>);

impl Tile {
    fn new() -> Self {
        Self(pattern(0, 1_000_003))
    }

    /// Returns the longest run of bytes at this place, of at most `max`.
    fn at(&self, place: usize, max: usize) -> &[u8] {
        let start = place % self.0.len();
        &self.0[start..self.0.len().min(start + max)]
    }
}

/// As many bytes as the largest write that a peer's test suite makes.
const LARGE: usize = 123_000_000;

/// Reads to the end and compares with the tile; how much it was.
fn verify_in_thread(mut peer: TcpStream) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let tile = Tile::new();
        let mut bytes = vec![0; 1 << 20];
        let mut place = 0;
        loop {
            let count = peer.read(&mut bytes).unwrap();
            if count == 0 {
                return place;
            }
            let mut left = &bytes[..count];
            while !left.is_empty() {
                let expected = tile.at(place, left.len());
                assert!(left.starts_with(expected), "other bytes after {place}");
                left = &left[expected.len()..];
                place += expected.len();
            }
        }
    })
}

#[test]
fn large_write_fed_by_drained_arrives_whole() {
    let (mut event_loop, id, peer) = pair::<()>();
    let reader = verify_in_thread(peer);
    let tile = Tile::new();
    let mut place = 0;
    let mut feed = |event_loop: &mut EventLoop| {
        let connection = &mut event_loop[id];
        while !connection.is_clogged() && place < LARGE {
            let piece = tile.at(place, (LARGE - place).min(256 * 1024));
            connection.send(piece);
            place += piece.len();
        }
        let most = connection.unsent();
        assert!(most <= 64 * 1024 + 256 * 1024, "unsent grew to {most}");
        if place == LARGE {
            connection.close();
        }
    };
    feed(&mut event_loop);
    let count = drive_until_joined(&mut event_loop, reader, |event_loop, event| match event {
        Event::Drained(_) => feed(event_loop),
        Event::Closed(_, reason) => assert_eq!(reason, CloseReason::Closed),
        other => panic!("{other:?}"),
    });
    assert_eq!(count, LARGE);
}

#[test]
fn large_write_at_once_under_a_raised_cap_arrives_whole() {
    let limits = connection_limits(|limits| limits.unsent_max = LARGE);
    let (mut event_loop, id, peer) = pair_with::<()>(limits);
    let reader = verify_in_thread(peer);
    let tile = Tile::new();
    let mut whole = tile.0.repeat(LARGE.div_ceil(tile.0.len()));
    whole.truncate(LARGE);
    event_loop[id].send(&whole);
    drop(whole);
    assert_eq!(event_loop[id].unsent(), LARGE);
    event_loop[id].close();
    let count = drive_until_joined(&mut event_loop, reader, |_, event| {
        assert_eq!(event, Event::Closed(id, CloseReason::Closed));
    });
    assert_eq!(count, LARGE);
}

#[test]
fn ten_thousand_writes_then_close_arrive_in_order_and_add_up() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    let steps = steps(&mut event_loop);
    let mut expected = Vec::new();
    for number in 0..10_000_u64 {
        let line = format!("{number} {}\n", "-".repeat(number as usize % 300));
        event_loop[id].send(line.as_bytes());
        expected.extend_from_slice(line.as_bytes());
    }
    event_loop[id].close();
    event_loop[id].send(b"too late");
    let reader = read_in_thread(peer);
    let mut closed = None;
    drive(
        &mut event_loop,
        |event_loop, event| {
            assert_eq!(event, Event::Closed(id, CloseReason::Closed));
            closed = Some((event_loop[id].unsent(), event_loop[id].lost()));
        },
        || reader.is_finished(),
    );
    let (bytes, outcome) = reader.join().unwrap();
    outcome.unwrap();
    assert!(bytes == expected, "the peer read something else than was sent");
    if closed.is_none() {
        until_closed(&mut event_loop, id);
        closed = Some((event_loop[id].unsent(), event_loop[id].lost()));
    }
    assert_eq!(closed, Some((0, 8)));
    let all: Vec<Step> = steps.try_iter().collect();
    assert_eq!(flushed(&all, id), expected.len() as u64);
}

#[test]
fn what_is_sent_while_any_event_is_handled_leaves_in_order() {
    let limits = connection_limits(|limits| {
        limits.high_water = 1;
        limits.low_water = 0;
    });
    let (mut event_loop, address) = common::listening_with::<()>(limits);
    let client = event_loop.connect(address, ());
    let mut server = None;
    let mut heard = Vec::new();
    let read = until(&mut event_loop, |event_loop, event| {
        let (id, word) = match event {
            Event::Accepted(_, id) => {
                server = Some(id);
                event_loop[id].set_deadline(Some(Duration::from_millis(1)));
                (id, "accepted ")
            }
            Event::Connected(id) => (id, "connected "),
            Event::Received(id) if Some(id) == server => {
                let count = event_loop[id].received().len();
                event_loop[id].consume(count);
                (id, "received ")
            }
            Event::Drained(id) if Some(id) == server && !heard.contains(&"drained ") => {
                (id, "drained ")
            }
            Event::Deadline(id) => {
                event_loop[client].finish();
                (id, "deadline ")
            }
            Event::PeerFinished(id) if Some(id) == server => (id, "peer finished "),
            Event::Closed(id, reason) => {
                assert_eq!(reason, CloseReason::Finished);
                let lost = event_loop[id].lost();
                event_loop[id].send(b"closed");
                assert_eq!(event_loop[id].lost(), lost + 6, "it can no longer leave");
                if id != client {
                    return None;
                }
                return Some(String::from_utf8(event_loop[id].received().to_vec()).unwrap());
            }
            _ => return None,
        };
        if Some(id) == server {
            heard.push(word);
        }
        event_loop[id].send(word.as_bytes());
        None
    });
    assert_eq!(read, heard.concat());
    for word in ["accepted ", "received ", "drained ", "deadline ", "peer finished "] {
        assert!(heard.contains(&word), "{word}was not delivered: {heard:?}");
    }
}

#[test]
fn one_crossing_of_high_water_gives_one_drained_at_low_water() {
    // Small steps, so that each mark is passed by little.
    let limits = connection_limits(|limits| limits.write_budget = 1_000);
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    event_loop[id].send(&pattern(0, 64 * 1024));
    assert!(!event_loop[id].is_clogged(), "at the mark is not above it");
    event_loop[id].send(b"!");
    assert!(event_loop[id].is_clogged());
    event_loop[id].send(&pattern(0, TOO_MUCH));

    let reader = thread::spawn(move || {
        let mut bytes = vec![0; TOO_MUCH + 64 * 1024 + 1];
        peer.read_exact(&mut bytes).map(|()| peer)
    });
    let mut drained = 0;
    let peer = drive_until_joined(&mut event_loop, reader, |event_loop, event| {
        assert_eq!(event, Event::Drained(id));
        assert!(!event_loop[id].is_clogged());
        assert!(event_loop[id].unsent() <= 16 * 1024);
        drained += 1;
    });
    assert_eq!(drained, 1);

    event_loop[id].send(b"below the mark");
    assert_eq!(turns(&mut event_loop, 3), []);
    drop(peer);
}

#[test]
fn below_the_high_water_nothing_drains() {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].send(&pattern(0, 64 * 1024));
    event_loop[id].close();
    let reader = read_in_thread(peer);
    let events = until_closed(&mut event_loop, id).0;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(reader.join().unwrap().0.len(), 64 * 1024);
}

#[test]
fn sent_until_clogged_before_connected_drained_follows_connected() {
    let (mut event_loop, _, address) = listening::<()>();
    let id = event_loop.connect(address, ());
    let mut sent = 0;
    while !event_loop[id].is_clogged() {
        event_loop[id].send(&pattern(sent, 1000));
        sent += 1000;
    }
    assert_eq!(event_loop[id].unsent(), sent);
    let mut events = Vec::new();
    until(&mut event_loop, |_, event| {
        events.extend((event.connection() == Some(id)).then_some(event));
        (event == Event::Drained(id)).then_some(())
    });
    assert_eq!(events, [Event::Connected(id), Event::Drained(id)]);
    assert!(!event_loop[id].is_clogged());
}

#[test]
fn a_send_beyond_the_hard_cap_takes_nothing_and_resets() {
    let limits = connection_limits(|limits| {
        limits.unsent_max = 200_000;
        limits.high_water = 100_000;
    });
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    event_loop[id].send(&pattern(0, 150_000));
    event_loop[id].send(&pattern(0, 50_000));
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (200_000, 0), "up to the cap");
    let steps = steps(&mut event_loop);
    event_loop[id].send(b"!");
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (200_000, 1));
    event_loop[id].send(&pattern(0, 1_000_000));
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (200_000, 1_000_001));
    assert!(event_loop[id].is_clogged());

    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Overflow));
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (200_000, 1_000_001));
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(flushed(&steps.try_iter().collect::<Vec<_>>(), id), 0);
    let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[test]
fn an_overflow_while_the_kernel_takes_no_more_adds_up() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    let steps = steps(&mut event_loop);
    let (piece, mut sent) = (pattern(0, 1024 * 1024), 0);
    let mut most = 0;
    let (unsent, lost) = loop {
        event_loop[id].send(&piece);
        sent += piece.len() as u64;
        most = most.max(event_loop[id].unsent());
        let event = event_loop.poll_event(Some(Duration::ZERO)).unwrap();
        if let Some(Event::Closed(_, reason)) = event {
            assert_eq!(reason, CloseReason::Overflow);
            break (event_loop[id].unsent() as u64, event_loop[id].lost());
        }
        assert!(sent < 1 << 30, "a peer that reads nothing is given up");
    };
    assert!(most <= 16 * 1024 * 1024, "the default cap holds");
    let flushed = flushed(&steps.try_iter().collect::<Vec<_>>(), id);
    assert!(flushed > 0);
    assert_eq!(flushed + unsent + lost, sent);
}

#[test]
fn stalled_write_ends_by_its_deadline_and_not_before() {
    const DEADLINE: Duration = Duration::from_millis(150);
    let limits = connection_limits(|limits| limits.stalled_write_deadline = DEADLINE);
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    let steps = steps(&mut event_loop);
    let start = Instant::now();
    event_loop[id].send(&pattern(0, TOO_MUCH));
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::TimedOut(Deadline::StalledWrite));
    assert!(start.elapsed() >= DEADLINE);
    assert_eq!(events.len(), 1, "{events:?}");
    let unsent = event_loop[id].unsent() as u64;
    let all: Vec<Step> = steps.try_iter().collect();
    assert!(all.contains(&Step::DeadlinePassed { id, deadline: Deadline::StalledWrite }));
    assert_eq!(flushed(&all, id) + unsent + event_loop[id].lost(), TOO_MUCH as u64);
    turns(&mut event_loop, 1);
    let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "it was given up by a reset");
}

#[test]
fn a_peer_that_only_sends_does_not_put_off_the_stalled_write_deadline() {
    let limits = connection_limits(|limits| {
        limits.stalled_write_deadline = Duration::from_millis(300);
    });
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    event_loop.uncouple(id);
    event_loop[id].send(&pattern(0, TOO_MUCH));
    peer.write_all(b"x").unwrap();
    let sender = thread::spawn(move || {
        while peer.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    let mut received = 0;
    let reason = until(&mut event_loop, |event_loop, event| {
        if let Event::Closed(_, reason) = event {
            return Some(reason);
        }
        received += event_loop[id].received().len();
        let count = event_loop[id].received().len();
        event_loop[id].consume(count);
        None
    });
    assert_eq!(reason, CloseReason::TimedOut(Deadline::StalledWrite));
    assert!(received > 0, "the peer did send in the meantime");
    drop(event_loop);
    sender.join().unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn stalled_write_passes_with_a_little_room_in_the_kernel_and_goes_on() {
    let (mut event_loop, id, mut peer) = clogged();
    // The peer reads until the kernel takes a byte more, which is long before it reports room. The
    // byte goes behind the loop's back into the stream, of which only the length counts here.
    let mut twin = twin(&event_loop, id);
    let mut read = 0;
    let end = Instant::now() + PATIENCE;
    let mut piece = [0; 4096];
    while let Err(error) = twin.write(&[0]) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(Instant::now() < end, "the kernel takes nothing more");
        read += peer.read(&mut piece).unwrap();
    }
    let mut limits = readiness::ConnectionLimits::default();
    limits.stalled_write_deadline = Duration::from_nanos(1);
    event_loop[id].set_limits(limits).unwrap();
    let steps = steps(&mut event_loop);
    assert_eq!(turns(&mut event_loop, 1), []);
    let seen: Vec<Step> = steps.try_iter().collect();
    assert!(flushed(&seen, id) > 0, "{seen:?}");
    let passed = seen.iter().find(|step| matches!(step, Step::DeadlinePassed { .. }));
    assert_eq!(passed, None);

    event_loop[id].set_limits(readiness::ConnectionLimits::default()).unwrap();
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; TOO_MUCH + 1 - read];
        peer.read_exact(&mut bytes).map(|()| peer)
    });
    drive_until_joined(&mut event_loop, reader, |_, event| {
        assert_eq!(event, Event::Drained(id));
    })
    .unwrap();
}

// Among connections that wait to read on.

#[test]
fn overflow_of_a_deferred_connection_is_delivered_soon() {
    let (mut event_loop, ids, _peers) = left_overs(20);
    let unsent_max = readiness::ConnectionLimits::default().unsent_max;
    event_loop[ids[10]].send(b"first");
    event_loop[ids[10]].send(&vec![0; unsent_max]);
    assert_closes_soon(&mut event_loop, ids[10], CloseReason::Overflow);
}

#[test]
fn abort_of_a_deferred_connection_is_delivered_soon() {
    let (mut event_loop, ids, _peers) = left_overs(20);
    event_loop[ids[10]].abort();
    assert_closes_soon(&mut event_loop, ids[10], CloseReason::Aborted);
}

fn assert_closes_soon(event_loop: &mut EventLoop, id: ConnectionId, reason: CloseReason) {
    let steps = Steps::of(event_loop);
    assert_eq!(until_closed(event_loop, id).1, reason);
    assert!(steps.waits() <= 2, "it was delivered after {} waits", steps.waits());
}

#[test]
fn small_reply_of_a_deferred_connection_leaves_before_the_next_wait() {
    let (mut event_loop, ids, mut peers) = left_overs(20);
    for place in [0, 10, 19] {
        let steps = Steps::of(&mut event_loop);
        event_loop[ids[place]].send(b"reply");
        turns(&mut event_loop, 1);
        let steps = steps.take();
        let before = steps.split(|step| matches!(step, Step::Waited { .. })).next().unwrap();
        assert!(
            before.contains(&Step::Flushed { id: ids[place], count: 5, unsent: 0 }),
            "{place}: {steps:?}"
        );
        let mut reply = [0; 5];
        peers[place].read_exact(&mut reply).unwrap();
        assert_eq!(&reply, b"reply");
    }
}

#[test]
fn many_handlers_that_send_to_one_in_a_turn_share_its_write_budget() {
    const BUDGET: usize = 10_000;
    const TALKERS: usize = 20;
    let limits = connection_limits(|limits| limits.write_budget = BUDGET);
    let (mut event_loop, address) = common::listening_with::<()>(limits);
    let mut listener = peer(address);
    let id = accepted(&mut event_loop);
    let mut talkers: Vec<TcpStream> = (0..TALKERS).map(|_| peer(address)).collect();
    for _ in 0..TALKERS {
        accepted(&mut event_loop);
    }
    let steps = steps(&mut event_loop);
    let reader = thread::spawn(move || {
        let mut bytes = vec![0; TALKERS * BUDGET];
        listener.read_exact(&mut bytes).map(|()| (bytes, listener))
    });
    for talker in &mut talkers {
        talker.write_all(b"go").unwrap();
    }
    let mut sent = 0;
    let (bytes, _listener) = drive_until_joined(&mut event_loop, reader, |event_loop, event| {
        // It is delivered because enough has left to be below the mark.
        let Event::Received(of) = event else { return assert_eq!(event, Event::Drained(id)) };
        let count = event_loop[of].received().len();
        event_loop[of].consume(count);
        event_loop[id].send(&pattern(sent, BUDGET));
        sent += BUDGET;
    })
    .unwrap();
    assert!(bytes == pattern(0, TALKERS * BUDGET), "in order and whole");
    let steps: Vec<Step> = steps.try_iter().collect();
    for turn in steps.split(|step| matches!(step, Step::Waited { .. })) {
        let flushed = flushed(turn, id);
        assert!(flushed <= BUDGET as u64, "{flushed} bytes left in a turn");
    }
}

#[test]
fn reset_while_flushing_gives_one_closed_and_frees_the_queue() {
    let (mut event_loop, id, peer) = clogged();
    let steps = steps(&mut event_loop);
    let before = event_loop[id].unsent() as u64;
    reset(peer);
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::Reset);
    assert_eq!(events.len(), 1, "{events:?}");
    let flushed = flushed(&steps.try_iter().collect::<Vec<_>>(), id);
    let left = event_loop[id].unsent() as u64 + event_loop[id].lost();
    assert_eq!(flushed + left, before);
    assert_eq!(event_loop.connection_count(), 0);
    assert_eq!(turns(&mut event_loop, 3), []);
    assert!(event_loop.get(id).is_none());
}

#[test]
fn sending_to_a_peer_that_has_gone_ends_with_one_closed() {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].pause();
    turns(&mut event_loop, 1);
    reset(peer);
    // Paused with nothing unsent it is not watched: the reset is learnt by the send.
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].send(b"anyone there?");
    assert_eq!(turns(&mut event_loop, 3), [], "while paused it does not close by itself");
    event_loop[id].resume();
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::Reset);
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(event_loop[id].unsent() as u64 + event_loop[id].lost(), 13);
}

#[test]
fn a_stale_id_is_refused_and_the_slots_new_owner_is_untouched() {
    let (mut event_loop, _, address) = listening::<u32>();
    let first = peer(address);
    let stale = accepted(&mut event_loop);
    event_loop[stale].abort();
    until_closed(&mut event_loop, stale);
    turns(&mut event_loop, 1);
    let mut second = peer(address);
    let id = accepted(&mut event_loop);
    let slot = |id: ConnectionId| id.to_string().split_once('.').unwrap().0.to_owned();
    assert_eq!(slot(id), slot(stale), "the slot is used again");

    assert!(event_loop.get(stale).is_none());
    assert!(event_loop.get_mut(stale).is_none());
    event_loop[id].send(b"mine");
    second.write_all(b"theirs").unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    assert_eq!(event_loop.transfer(stale, id), 0);
    assert_eq!(event_loop.transfer(id, stale), 0);
    assert_eq!(event_loop[id].received(), b"theirs");
    event_loop.couple(id, stale);
    event_loop.couple(stale, id);
    event_loop.uncouple(stale);
    event_loop[id].close();
    second.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Closed);
    let mut bytes = Vec::new();
    second.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"mine");
    drop(first);
}

#[test]
fn indexing_by_a_stale_id_panics_with_the_id() {
    let (mut event_loop, id, _peer) = pair::<()>();
    event_loop[id].abort();
    until_closed(&mut event_loop, id);
    assert!(event_loop.get(id).is_some(), "while Closed is handled it is there");
    turns(&mut event_loop, 1);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        event_loop[id].send(b"nobody");
    }));
    let message = panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains(&id.to_string()), "{message}");
}

#[test]
fn what_is_sent_after_finish_is_lost_and_never_leaves() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let steps = steps(&mut event_loop);
    event_loop[id].send(b"before");
    event_loop[id].finish();
    event_loop[id].send(b"after");
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (6, 5));
    assert!(event_loop[id].is_clogged(), "so that sending until clogged ends");
    turns(&mut event_loop, 1);
    event_loop[id].send(b"later");
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (0, 10));
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"before");
    drop(peer);
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Finished);
    assert_eq!(event_loop[id].lost(), 10);
    assert_eq!(flushed(&steps.try_iter().collect::<Vec<_>>(), id), 6);
}

#[test]
fn an_empty_write_does_nothing() {
    let (mut event_loop, id, _peer) = pair::<()>();
    turns(&mut event_loop, 2);
    let steps = steps(&mut event_loop);
    event_loop[id].send(b"");
    event_loop[id].write_all(b"").unwrap();
    event_loop[id].flush().unwrap();
    event_loop[id].send_received();
    assert_eq!(turns(&mut event_loop, 2), []);
    for step in steps.try_iter() {
        assert!(matches!(step, Step::Waited { .. }), "{step}");
    }
    event_loop[id].finish();
    event_loop[id].send(b"");
    assert_eq!(event_loop[id].lost(), 0);
}

#[test]
fn both_sides_only_write_and_the_loop_stays_live_and_bounded() {
    const PIECE: usize = 16 * 1024;
    let (mut event_loop, _, address) = listening::<()>();
    let client = event_loop.connect(address, ());
    let mut writers = vec![client];
    writers.push(accepted(&mut event_loop));
    let piece = [7; PIECE];
    let write = |event_loop: &mut EventLoop, id: ConnectionId| {
        while !event_loop[id].is_clogged() {
            event_loop[id].send(&piece);
        }
    };
    for id in &writers {
        write(&mut event_loop, *id);
    }
    // Nothing is consumed, so that at last nothing moves and nothing is ready.
    let steps = steps(&mut event_loop);
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "the loop spins");
        while let Some(event) = event_loop.poll_event(Some(Duration::from_millis(20))).unwrap() {
            if let Event::Drained(id) = event {
                write(&mut event_loop, id);
            }
        }
        let last_wait = steps.try_iter().filter(|step| matches!(step, Step::Waited { .. })).last();
        if matches!(last_wait, Some(Step::Waited { at_most: Some(most), events: 0 }) if !most.is_zero())
        {
            break;
        }
    }
    for id in &writers {
        assert!(event_loop[*id].unsent() <= 64 * 1024 + PIECE);
        assert!(event_loop[*id].received().len() <= 64 * 1024);
        assert!(event_loop[*id].is_clogged());
    }
    // The loop serves another one in the meantime.
    let mut other = peer(address);
    other.write_all(b"still there?").unwrap();
    let echo = read_in_thread(other.try_clone().unwrap());
    other.shutdown(std::net::Shutdown::Write).unwrap();
    let (bytes, _) = drive_until_joined(&mut event_loop, echo, |event_loop, event| {
        if let Event::Received(id) = event
            && !writers.contains(&id)
        {
            event_loop[id].send_received();
        }
    });
    assert_eq!(bytes, b"still there?");
}
