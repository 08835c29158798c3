//! Reading, on real sockets. The signals of one test make it for Unix.

#![cfg(unix)]
#![cfg_attr(
    not(target_os = "linux"),
    allow(unused_imports, reason = "some tests are for certain systems only")
)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use common::child::{self, Child};
use common::steps::{Steps, assert_rests};
use common::talker::Talker;
use common::{
    NO_IPV6, PATIENCE, accepted, drive, has_ipv6, left_overs, listening, next, pattern, peer,
    reset, turns, until,
};
use readiness::{
    CloseReason, ConnectionId, ConnectionLimits, Event, EventLoop, Interest, Limits, Step,
};
use socket2::SockRef;

/// Returns a loop with one accepted connection and its peer.
fn connected() -> (EventLoop, ConnectionId, TcpStream) {
    let (mut event_loop, _, address) = listening();
    let peer = peer(address);
    let id = accepted(&mut event_loop);
    (event_loop, id, peer)
}

/// Returns a pair with limits of its own for each connection.
fn connected_with(
    change: impl FnOnce(&mut ConnectionLimits),
) -> (EventLoop, ConnectionId, TcpStream) {
    let (mut event_loop, id, peer) = connected();
    let mut limits = ConnectionLimits::default();
    change(&mut limits);
    event_loop[id].set_limits(limits).unwrap();
    (event_loop, id, peer)
}

fn echo<T>(event_loop: &mut EventLoop<T>, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

/// Takes what was received, as one that only reads does.
fn take<T>(event_loop: &mut EventLoop<T>, id: ConnectionId) -> Vec<u8> {
    let bytes = event_loop[id].received().to_vec();
    event_loop[id].consume(bytes.len());
    bytes
}

/// Takes all that arrives until `count` bytes are there; no other event may be delivered until
/// then.
fn take_count(event_loop: &mut EventLoop, id: ConnectionId, count: usize) -> Vec<u8> {
    let mut bytes = take(event_loop, id);
    while bytes.len() < count {
        assert_eq!(next(event_loop), Event::Received(id));
        bytes.extend(take(event_loop, id));
    }
    bytes
}

// Echo.

/// Echoes over the loopback of this address.
fn assert_echo_is_identical(at: &str) {
    const COUNT: usize = 3_000_000;
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let listener = event_loop.listen(at).unwrap();
    let mut talker = Talker::connect(event_loop.listener_addr(listener).unwrap());
    let id = accepted(&mut event_loop);
    assert_eq!(event_loop[id].peer_addr().unwrap(), talker.stream.local_addr().unwrap());
    assert_eq!(event_loop[id].local_addr().unwrap(), talker.stream.peer_addr().unwrap());
    let end = Instant::now() + PATIENCE;
    while talker.read < COUNT {
        assert!(Instant::now() < end, "only {} bytes were echoed", talker.read);
        talker.write_to(COUNT);
        talker.read_on();
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            echo(&mut event_loop, event);
        }
    }
}

#[test]
fn echo_over_ipv4_is_identical() {
    assert_echo_is_identical("127.0.0.1:0");
}

#[test]
fn echo_over_ipv6_is_identical() {
    skip_unless!(has_ipv6(), NO_IPV6);
    assert_echo_is_identical("[::1]:0");
}

/// Cuts a message in every way, each time over a connection to a loop that listens at this address.
fn assert_every_cutting_is_the_same_stream(at: &str) {
    const MESSAGE: &[u8; 8] = b"cuttings";
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let listener = event_loop.listen(at).unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    // Bit n of the mask: there is a cut behind byte n.
    for mask in 0..1_u32 << (MESSAGE.len() - 1) {
        let mut peer = peer(address);
        let id = accepted(&mut event_loop);
        let mut answer = Vec::new();
        let is_cut = |place: &usize| *place == MESSAGE.len() || mask >> (place - 1) & 1 == 1;
        let mut begin = 0;
        for end in (1..=MESSAGE.len()).filter(is_cut) {
            let piece = &MESSAGE[begin..end];
            begin = end;
            peer.write_all(piece).unwrap();
            assert_eq!(next(&mut event_loop), Event::Received(id), "mask {mask:b}");
            assert_eq!(event_loop[id].received(), piece, "mask {mask:b}");
            event_loop[id].send_received();
            turns(&mut event_loop, 1);
            let mut echoed = vec![0; piece.len()];
            peer.read_exact(&mut echoed).unwrap();
            answer.extend(echoed);
        }
        assert_eq!(answer, MESSAGE, "mask {mask:b}");
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
        assert_eq!(turns(&mut event_loop, 1), []);
        assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn every_cutting_of_a_short_exchange_over_ipv4_is_the_same_stream() {
    assert_every_cutting_is_the_same_stream("127.0.0.1:0");
}

#[test]
fn every_cutting_of_a_short_exchange_over_ipv6_is_the_same_stream() {
    skip_unless!(has_ipv6(), NO_IPV6);
    assert_every_cutting_is_the_same_stream("[::1]:0");
}

#[test]
fn every_cutting_is_put_together_where_the_program_waits_for_the_whole() {
    const MESSAGE: &[u8; 8] = b"cuttings";
    let (mut event_loop, id, mut peer) = connected();
    for mask in 0..1_u32 << (MESSAGE.len() - 1) {
        let is_cut = |place: &usize| *place == MESSAGE.len() || mask >> (place - 1) & 1 == 1;
        let mut begin = 0;
        for end in (1..=MESSAGE.len()).filter(is_cut) {
            let mut whole = [0; MESSAGE.len()];
            let early = event_loop[id].read_exact(&mut whole).unwrap_err();
            assert_eq!(early.kind(), ErrorKind::WouldBlock);
            peer.write_all(&MESSAGE[begin..end]).unwrap();
            begin = end;
            assert_eq!(next(&mut event_loop), Event::Received(id));
            assert_eq!(event_loop[id].received(), &MESSAGE[..end], "mask {mask:b}");
        }
        let mut whole = [0; MESSAGE.len()];
        event_loop[id].read_exact(&mut whole).unwrap();
        assert_eq!(&whole, MESSAGE, "mask {mask:b}");
    }
}

// Budgets and caps.

#[test]
fn reading_stops_at_its_budget_and_goes_on_without_a_new_packet() {
    const COUNT: usize = 1000;
    let (mut event_loop, id, mut peer) = connected_with(|limits| limits.read_budget = 7);
    let steps = Steps::of(&mut event_loop);
    peer.write_all(&pattern(0, COUNT)).unwrap();
    assert_eq!(take_count(&mut event_loop, id, COUNT), pattern(0, COUNT));
    for turn in steps.take().split(|step| matches!(step, Step::Waited { .. })) {
        let filled = turn.iter().map(|step| match step {
            Step::Filled { count, .. } => *count,
            _ => 0,
        });
        assert!(filled.sum::<usize>() <= 7);
    }
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn fire_hoses_hold_up_neither_a_small_talker_nor_each_other() {
    const HOSES: usize = 4;
    let mut limits = Limits::default();
    limits.connection.read_budget = 1024;
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    let mut talker = peer(address);
    let talker_id = accepted(&mut event_loop);
    let mut hoses: Vec<Talker> = (0..HOSES).map(|_| Talker::connect(address)).collect();
    let ids: Vec<ConnectionId> = (0..HOSES).map(|_| accepted(&mut event_loop)).collect();
    for hose in &mut hoses {
        assert!(hose.write_to(1 << 20) > 64 * 1024, "enough for all the turns below");
    }
    let steps = Steps::of(&mut event_loop);
    for round in 0..80 {
        talker.write_all(&[round]).unwrap();
        until(&mut event_loop, |event_loop, event| {
            let Event::Received(id) = event else { panic!("{event:?} was not expected") };
            assert!(!event_loop[id].received().is_empty());
            take(event_loop, id);
            (id == talker_id).then_some(())
        });
    }
    let steps = steps.take();
    let turns: Vec<&[Step]> = steps.split(|step| matches!(step, Step::Waited { .. })).collect();
    for turn in &turns[..turns.len() - 1] {
        let was_ready =
            turn.iter().any(|s| matches!(s, Step::Ready { id, .. } if *id == talker_id));
        let was_served =
            turn.iter().any(|s| matches!(s, Step::Filled { id, .. } if *id == talker_id));
        assert_eq!(was_ready, was_served, "the talker is served in the turn it is ready in");
    }
    // From the second turn on each hose has stopped at a budget: one of them is served in a turn,
    // so that a talker never waits for more than one; the same for eight turns, then the next.
    let turns = &turns[2..turns.len() - 1];
    let served = turns.iter().map(|turn| {
        let hose = |step: &Step| match step {
            Step::Filled { id, .. } => ids.iter().position(|hose| hose == id),
            _ => None,
        };
        let served: Vec<usize> = turn.iter().filter_map(hose).collect();
        assert_eq!(served.len(), 1, "{turn:?}");
        served[0]
    });
    let served: Vec<usize> = served.collect();
    let rows: Vec<&[usize]> = served.chunk_by(|one, next| one == next).collect();
    assert!(rows.len() > 2 * HOSES, "{served:?} are too few to judge");
    assert!(rows[..rows.len() - 1].iter().all(|row| row.len() == 8), "{served:?}");
    for round in rows.windows(HOSES) {
        for hose in 0..HOSES {
            assert!(round.iter().any(|row| row[0] == hose), "{hose} starves: {served:?}");
        }
    }
}

/// Takes what arrives until this event. Returns how often the loop has waited by then.
fn waits_until(event_loop: &mut EventLoop, awaited: Event) -> usize {
    let steps = Steps::of(event_loop);
    until(event_loop, |event_loop, event| {
        if let Event::Received(id) = event {
            take(event_loop, id);
        }
        (event == awaited).then_some(())
    });
    steps.waits()
}

#[test]
fn deferred_connection_is_resumed_and_gets_soon_what_was_left() {
    let (mut event_loop, ids, _peers) = left_overs(20);
    let id = ids[10];
    // What arrives next stays with it.
    until(&mut event_loop, |event_loop, event| {
        let Event::Received(of) = event else { panic!("{event:?} was not expected") };
        if of != id {
            take(event_loop, of);
        }
        (of == id).then_some(())
    });
    turns(&mut event_loop, 1);
    let left = event_loop[id].received().len();
    assert!(left > 0);
    event_loop[id].pause();
    turns(&mut event_loop, 1);
    event_loop[id].resume();
    let waits = waits_until(&mut event_loop, Event::Received(id));
    assert!(waits <= 2, "it was delivered after {waits} waits");
}

#[test]
fn connection_that_had_stopped_early_is_served_as_fresh_when_resumed() {
    let (mut event_loop, ids, _peers) = left_overs(20);
    let id = ids[10];
    until(&mut event_loop, |event_loop, event| {
        let Event::Received(of) = event else { panic!("{event:?} was not expected") };
        take(event_loop, of);
        (of == id).then(|| event_loop[id].pause())
    });
    // Long enough for its place among the deferred connections to be taken and left.
    for event in turns(&mut event_loop, 3 * ids.len()) {
        let Event::Received(of) = event else { panic!("{event:?} was not expected") };
        assert_ne!(of, id, "it is paused");
        take(&mut event_loop, of);
    }
    assert!(event_loop[id].received().is_empty(), "nothing but what it reads now is announced");
    event_loop[id].resume();
    let waits = waits_until(&mut event_loop, Event::Received(id));
    assert!(waits <= 2, "it was served after {waits} waits");
}

#[test]
fn connection_that_many_handlers_resume_in_a_turn_reads_no_more_than_its_budget() {
    const BUDGET: usize = 1000;
    const TALKERS: usize = 20;
    let mut limits = Limits::default();
    limits.connection.read_budget = BUDGET;
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    let mut hose = peer(address);
    let id = accepted(&mut event_loop);
    let mut talkers: Vec<TcpStream> = (0..TALKERS).map(|_| peer(address)).collect();
    for _ in 0..TALKERS {
        accepted(&mut event_loop);
    }
    hose.write_all(&pattern(0, 100 * BUDGET)).unwrap();
    let steps = Steps::of(&mut event_loop);
    let mut resumed = 0;
    for round in 0..4 {
        for talker in &mut talkers {
            talker.write_all(b"go").unwrap();
        }
        until(&mut event_loop, |event_loop, event| {
            let Event::Received(of) = event else { panic!("{event:?} was not expected") };
            take(event_loop, of);
            if of != id {
                event_loop[id].pause();
                event_loop[id].resume();
                resumed += 1;
            }
            (resumed >= (round + 1) * TALKERS).then_some(())
        });
    }
    for turn in steps.take().split(|step| matches!(step, Step::Waited { .. })) {
        let filled = turn.iter().map(|step| match step {
            Step::Filled { id: of, count } if *of == id => *count,
            _ => 0,
        });
        assert!(filled.sum::<usize>() <= BUDGET);
    }
}

#[test]
fn idle_program_stops_the_reading_at_the_cap_and_consuming_resumes_it() {
    const COUNT: usize = 1000;
    const CAP: usize = 100;
    let (mut event_loop, id, mut peer) = connected_with(|limits| limits.read_buffer_max = CAP);
    let steps = Steps::of(&mut event_loop);
    peer.write_all(&pattern(0, COUNT)).unwrap();
    let mut place = 0;
    while place < COUNT {
        assert_eq!(next(&mut event_loop), Event::Received(id));
        assert_eq!(event_loop[id].received(), pattern(place, CAP));
        assert_eq!(next(&mut event_loop), Event::Full(id));
        assert_rests(&mut event_loop, &steps);
        assert_eq!(event_loop[id].received().len(), CAP);
        // After the last byte the end may still arrive.
        let is_last = place + CAP == COUNT;
        let interest = if is_last { Interest::Readable } else { Interest::None };
        assert_eq!(event_loop[id].interest(), interest);
        event_loop[id].consume(CAP);
        place += CAP;
    }
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].interest(), Interest::Readable);
}

#[test]
fn room_of_no_bytes_is_not_taken_for_the_end() {
    let (mut event_loop, id, mut peer) = connected_with(|limits| limits.read_buffer_max = 8);
    peer.write_all(b"0123456789abcdef").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    // The buffer is full, so that whatever were read now would be read into nothing.
    assert_eq!(turns(&mut event_loop, 5), [Event::Full(id)]);
    assert_eq!(event_loop[id].read(&mut []).unwrap(), 0);
    assert_eq!(take(&mut event_loop, id), b"01234567");
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(take(&mut event_loop, id), b"89abcdef");
    assert_eq!(turns(&mut event_loop, 5), []);
    let nothing_yet = event_loop[id].read(&mut [0; 8]).unwrap_err();
    assert_eq!(nothing_yet.kind(), ErrorKind::WouldBlock);
    peer.write_all(b"more").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
}

#[test]
fn readable_that_proves_wrong_is_no_event_and_no_error() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    // One read is tried because readable is newly asked for; there is nothing yet.
    assert_rests_after(&mut event_loop, &steps, Step::ReadBlocked { id });
    // What was read already is announced once more by a separate edge.
    peer.write_all(b"a").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].pause();
    peer.write_all(b"b").unwrap();
    assert_rests(&mut event_loop, &steps);
    event_loop[id].resume();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].received(), b"ab");
}

/// Checks that the loop comes to rest without an event, and that this step is taken on the way.
fn assert_rests_after(event_loop: &mut EventLoop, steps: &Steps, step: Step) {
    assert_eq!(turns(event_loop, 3), []);
    assert!(steps.take().contains(&step), "{step:?} was expected");
    assert_rests(event_loop, steps);
}

// Signals.

const INTERRUPTED: &str = "child_of_wait_that_is_interrupted_goes_on";

/// Not a test by itself: the server of the test below, in its own process.
#[test]
#[ignore = "it is run by wait_that_is_interrupted_goes_on"]
fn child_of_wait_that_is_interrupted_goes_on() {
    if !child::is_child(INTERRUPTED) {
        return;
    }
    let (mut event_loop, _, address) = listening::<()>();
    // Waiting forever, a loop that finds nothing was interrupted.
    event_loop.set_observer(|step: Step| {
        if step == (Step::Waited { at_most: None, events: 0 }) {
            child::report("interrupted", "");
        }
    });
    child::report("address", address);
    loop {
        let event = event_loop.next_event().unwrap();
        echo(&mut event_loop, event);
    }
}

/// A process that is stopped and continued finds its wait interrupted on Linux, without having a
/// handler for a signal.
#[test]
#[cfg(target_os = "linux")]
fn wait_that_is_interrupted_goes_on() {
    let child = Child::start(INTERRUPTED, "");
    let mut peer = peer(child.report("address").parse().unwrap());
    let mut serves = || {
        let mut answer = [0; 4];
        peer.write_all(b"ping").unwrap();
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"ping");
    };
    serves();
    let signal = |name: &str| {
        let number = child.id().to_string();
        let status = std::process::Command::new("kill").args([name, &number]).status().unwrap();
        assert!(status.success());
    };
    let is_stopped = || {
        let state = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        state.rsplit(") ").next().unwrap().starts_with('T')
    };
    let end = Instant::now() + PATIENCE;
    while !child.has_reported("interrupted") {
        assert!(Instant::now() < end, "no wait was interrupted");
        signal("-STOP");
        while !is_stopped() {
            assert!(Instant::now() < end, "the child does not stop");
            std::thread::yield_now();
        }
        signal("-CONT");
        serves();
    }
    serves();
}

// Ends and resets.

#[test]
fn peer_that_resets_closes_once() {
    let (mut event_loop, id, peer) = connected();
    reset(peer);
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Reset));
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 0);
}

#[test]
fn peer_that_resets_hurts_no_other() {
    let (mut event_loop, _, address) = listening::<()>();
    let (mut one, other) = (peer(address), peer(address));
    let one_id = accepted(&mut event_loop);
    let other_id = accepted(&mut event_loop);
    one.write_all(b"to").unwrap();
    reset(other);
    one.write_all(b"gether").unwrap();
    let mut events = Vec::new();
    until(&mut event_loop, |event_loop, event| {
        events.push(event);
        let has_all = event_loop.get(one_id).is_some_and(|one| one.received() == b"together");
        (has_all && events.contains(&Event::Closed(other_id, CloseReason::Reset))).then_some(())
    });
    assert_eq!(event_loop.connection_count(), 1);
}

#[test]
fn data_then_a_reset_gives_what_the_kernel_still_has_and_then_closed() {
    let (mut event_loop, id, mut peer) = connected();
    peer.write_all(b"last words").unwrap();
    reset(peer);
    let mut received = Vec::new();
    let reason = until(&mut event_loop, |event_loop, event| match event {
        Event::Received(_) => {
            received.extend(take(event_loop, id));
            None
        }
        Event::Closed(_, reason) => Some(reason),
        other => panic!("{other:?} was not expected"),
    });
    assert_eq!(reason, CloseReason::Reset);
    // Other kernels throw away what was not read.
    if cfg!(target_os = "linux") {
        assert_eq!(received, b"last words");
    }
    assert!(b"last words".starts_with(&received));
}

#[test]
fn data_then_a_reset_that_a_write_meets_first_gives_the_data_all_the_same() {
    let (mut event_loop, id, mut peer) = connected();
    event_loop[id].send(b"?");
    turns(&mut event_loop, 1);
    peer.read_exact(&mut [0]).unwrap();
    peer.write_all(b"last words").unwrap();
    reset(peer);
    // Flushed before anything is read; the kernel reports the reset to the first call that asks.
    event_loop[id].send(b"what?");
    let mut received = Vec::new();
    let reason = until(&mut event_loop, |event_loop, event| match event {
        Event::Received(_) => {
            received.extend(take(event_loop, id));
            None
        }
        Event::Closed(_, reason) => Some(reason),
        other => panic!("{other:?} was not expected"),
    });
    assert_eq!(reason, CloseReason::Reset);
    if cfg!(target_os = "linux") {
        assert_eq!(received, b"last words");
    }
    assert!(b"last words".starts_with(&received));
}

#[test]
fn end_of_the_peer_s_stream_is_delivered_once_and_writing_may_go_on() {
    let (mut event_loop, id, mut peer) = connected();
    let steps = Steps::of(&mut event_loop);
    event_loop[id].allow_half_open(true);
    peer.write_all(b"a question").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(take(&mut event_loop, id), b"a question");
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    assert_rests(&mut event_loop, &steps);
    for number in 0..10 {
        event_loop[id].send(&[number]);
        assert_eq!(turns(&mut event_loop, 2), []);
        let mut answer = [0];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, [number]);
    }
    assert_eq!(event_loop[id].read(&mut [0; 8]).unwrap(), 0);
    event_loop[id].finish();
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
    // The socket goes with the slot, at the next call.
    assert_eq!(turns(&mut event_loop, 1), []);
    assert_eq!(peer.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn data_and_the_end_at_once_give_all_the_data_first() {
    const COUNT: usize = 300_000;
    let (mut event_loop, id, mut peer) = connected();
    let writer = std::thread::spawn(move || peer.write_all(&pattern(0, COUNT)).unwrap());
    let bytes = take_count(&mut event_loop, id, COUNT);
    writer.join().unwrap();
    assert!(bytes == pattern(0, COUNT));
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));

    // Data, end and hang-up are all there before the loop first looks.
    for count in [1, 1000, 60_000] {
        let (mut event_loop, _, address) = listening::<()>();
        let mut peer = common::peer(address);
        peer.write_all(&pattern(0, count)).unwrap();
        drop(peer);
        let id = accepted(&mut event_loop);
        assert!(take_count(&mut event_loop, id, count) == pattern(0, count));
        assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
    }
}

#[test]
fn received_bytes_outlive_the_end() {
    let (mut event_loop, id, mut peer) = connected();
    peer.write_all(b"unread").unwrap();
    drop(peer);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    assert_eq!(event_loop[id].received(), b"unread");
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
    assert_eq!(event_loop[id].received(), b"unread");
    let mut text = String::new();
    event_loop[id].read_to_string(&mut text).unwrap();
    assert_eq!(text, "unread");
}

// Pauses.

#[test]
fn paused_reader_whose_peer_goes_on_sending_is_bounded_at_rest_and_loses_nothing() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut talker = Talker::connect(address);
    let id = accepted(&mut event_loop);
    talker.write_to(10);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].pause();
    // As much as both kernels' buffers hold.
    while talker.write_to(usize::MAX / 2) > 0 {
        assert_eq!(turns(&mut event_loop, 10), []);
    }
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].received(), pattern(0, 10));
    assert_eq!(event_loop[id].interest(), Interest::None);
    event_loop[id].resume();
    let count = talker.written;
    assert!(take_count(&mut event_loop, id, count) == pattern(0, count));
}

#[test]
fn resume_finds_what_came_during_the_pause_without_a_new_packet() {
    let (mut event_loop, id, mut peer) = connected();
    let steps = Steps::of(&mut event_loop);
    for round in 0..3 {
        event_loop[id].pause();
        peer.write_all(&[round; 5]).unwrap();
        assert_rests(&mut event_loop, &steps);
        event_loop[id].resume();
        assert_eq!(next(&mut event_loop), Event::Received(id));
        assert_eq!(take(&mut event_loop, id), [round; 5]);
    }
}

#[test]
fn resume_announces_again_what_the_program_had_left() {
    let (mut event_loop, id, mut peer) = connected();
    peer.write_all(b"later").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].pause();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].resume();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(take(&mut event_loop, id), b"later");
    // A connection that was not paused has nothing to announce.
    event_loop[id].resume();
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn connection_paused_while_accepted_is_handled_gives_nothing_until_resume() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut peer = peer(address);
    peer.write_all(b"early").unwrap();
    let id = accepted(&mut event_loop);
    event_loop[id].pause();
    peer.write_all(b" bird").unwrap();
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].received(), b"");
    event_loop[id].resume();
    assert_eq!(take_count(&mut event_loop, id, 10), b"early bird");
}

#[test]
fn connection_paused_while_received_is_handled_gives_nothing_until_resume() {
    let (mut event_loop, id, mut peer) = connected_with(|limits| limits.read_budget = 4);
    let steps = Steps::of(&mut event_loop);
    peer.write_all(b"stop and go").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(take(&mut event_loop, id), b"stop");
    event_loop[id].pause();
    peer.write_all(b" on").unwrap();
    drop(peer);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].received(), b"");
    event_loop[id].resume();
    assert_eq!(take_count(&mut event_loop, id, 10), b" and go on");
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
}

#[test]
fn peer_that_closes_during_a_pause_costs_no_turns_and_no_data() {
    const COUNT: usize = 50_000;
    let (mut event_loop, id, mut peer) = connected();
    let steps = Steps::of(&mut event_loop);
    event_loop[id].pause();
    peer.write_all(&pattern(0, COUNT)).unwrap();
    drop(peer);
    assert_rests(&mut event_loop, &steps);
    event_loop[id].resume();
    assert!(take_count(&mut event_loop, id, COUNT) == pattern(0, COUNT));
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
}

#[test]
fn pause_while_the_end_is_handled_keeps_the_connection_until_resume() {
    let (mut event_loop, id, mut peer) = connected();
    let steps = Steps::of(&mut event_loop);
    peer.write_all(b"ask").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    event_loop[id].pause();
    assert_rests(&mut event_loop, &steps);
    event_loop[id].send(b"answer");
    event_loop[id].resume();
    // What was left is announced again before the end.
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Finished));
    assert_eq!(turns(&mut event_loop, 1), []);
    let mut answer = String::new();
    peer.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "answer");
}

// The unusual.

#[test]
fn loop_of_data_that_is_send_moves_to_another_thread_and_serves_there() {
    fn assert_send<T: Send>(_: &T) {}
    // Data that is `Send` and nothing more.
    let mut event_loop: EventLoop<std::cell::Cell<u8>> = EventLoop::new().unwrap();
    assert_send(&event_loop);
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let mut peer = peer(event_loop.listener_addr(listener).unwrap());
    accepted(&mut event_loop);
    event_loop.set_observer(|_: Step| {});
    let server = std::thread::spawn(move || {
        until(&mut event_loop, |event_loop, event| {
            echo(event_loop, event);
            matches!(event, Event::Closed(..)).then_some(())
        });
    });
    peer.write_all(b"hello").unwrap();
    let mut answer = [0; 5];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"hello");
    drop(peer);
    server.join().unwrap();
}

#[test]
fn urgent_data_breaks_neither_the_stream_nor_the_rest() {
    let (mut event_loop, id, mut peer) = connected();
    let steps = Steps::of(&mut event_loop);
    let mut received = Vec::new();
    for _ in 0..5 {
        peer.write_all(b"before").unwrap();
        SockRef::from(&peer).send_out_of_band(b"!").unwrap();
        peer.write_all(b"after").unwrap();
        received.extend(take_count(&mut event_loop, id, 11));
        // The urgent byte is outside the stream.
        assert_eq!(received, b"beforeafter");
        received.clear();
        assert_rests(&mut event_loop, &steps);
    }
    // Alone, and last.
    SockRef::from(&peer).send_out_of_band(b"!").unwrap();
    assert_rests(&mut event_loop, &steps);
    peer.write_all(b"end").unwrap();
    drop(peer);
    assert_eq!(take_count(&mut event_loop, id, 3), b"end");
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
}

#[test]
fn program_that_panics_between_calls_leaves_a_loop_that_serves_all() {
    const PEERS: usize = 3;
    let (mut event_loop, _, address) = listening::<()>();
    let mut peers: Vec<TcpStream> = (0..PEERS).map(|_| peer(address)).collect();
    let first = accepted(&mut event_loop);
    for _ in 1..PEERS {
        accepted(&mut event_loop);
    }
    let mut panics = 0;
    for round in 0..4 {
        for peer in &mut peers {
            peer.write_all(&[round; 100]).unwrap();
        }
        let mut echoed = 0;
        while echoed < PEERS * 100 {
            // One call into the loop, and what the program does with what it brings.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                let event = next(&mut event_loop);
                let Event::Received(id) = event else { panic!("{event:?} was not expected") };
                echoed += event_loop[id].received().len();
                event_loop[id].send_received();
                if id == first {
                    let _lent = event_loop.get_mut(id).unwrap();
                    std::panic::resume_unwind(Box::new("a fault of the program"));
                }
            }));
            panics += usize::from(outcome.is_err());
        }
        turns(&mut event_loop, 1);
        for peer in &mut peers {
            let mut answer = [0; 100];
            peer.read_exact(&mut answer).unwrap();
            assert_eq!(answer, [round; 100]);
        }
    }
    assert!(panics >= 4);
    assert_eq!(event_loop.connection_count(), PEERS);
}

#[test]
fn panic_while_closed_is_handled_leaves_the_slot_to_be_freed() {
    let (mut event_loop, id, peer) = connected();
    let address: SocketAddr = event_loop[id].local_addr().unwrap();
    reset(peer);
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Reset));
        event_loop[id].send(b"lost");
        std::panic::resume_unwind(Box::new("a fault of the program"));
    }));
    assert!(outcome.is_err());
    let _other = common::peer(address);
    let other = accepted(&mut event_loop);
    assert!(event_loop.get(id).is_none());
    assert_ne!(other, id);
    drive(&mut event_loop, |_, event| panic!("{event:?} was not expected"), || true);
}
