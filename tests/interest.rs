//! The interest rule as an observer sees it from outside: what the kernel is asked while bytes
//! flow, stall and flow again, and that a connection with nothing to do costs no turns.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
#[cfg(unix)]
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[cfg(unix)]
use common::await_arrival;
use common::steps::{Steps, assert_rests};
use common::talker::Talker;
use common::{PATIENCE, accepted, listening, next, pattern, peer, reset, turns, until};
#[cfg(target_os = "linux")]
use common::{await_end_acknowledged, await_unaccepted, until_closed};
use readiness::{CloseReason, ConnectionId, ConnectionLimits, Event, EventLoop, Interest, Step};

fn echo(event_loop: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

/// Echoes until the loop has nothing to do at once.
fn echo_on(event_loop: &mut EventLoop) {
    while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
        echo(event_loop, event);
    }
}

/// Returns a peer that sends until neither kernel nor loop takes more, and reads nothing.
fn clogging_peer(
    address: std::net::SocketAddr,
    event_loop: &mut EventLoop,
) -> (ConnectionId, Talker) {
    let mut talker = Talker::connect(address);
    let id = accepted(event_loop);
    let end = Instant::now() + PATIENCE;
    let mut idle_rounds = 0;
    while idle_rounds < 20 {
        assert!(Instant::now() < end, "{} bytes do not clog it", talker.written);
        let taken = talker.write_to(usize::MAX / 2);
        echo_on(event_loop);
        let has_nothing = event_loop.poll_event(Some(Duration::from_millis(1))).unwrap();
        match has_nothing {
            None if taken == 0 => idle_rounds += 1,
            None => idle_rounds = 0,
            Some(event) => {
                idle_rounds = 0;
                echo(event_loop, event);
            }
        }
    }
    (id, talker)
}

#[test]
fn echo_that_always_fits_never_asks_for_writable() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    let message = [7; 64];
    for _ in 0..200 {
        peer.write_all(&message).unwrap();
        let event = next(&mut event_loop);
        assert_eq!(event, Event::Received(id));
        echo(&mut event_loop, event);
        assert_eq!(turns(&mut event_loop, 1), []);
        let mut answer = [0; 64];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message);
        assert_eq!(event_loop[id].interest(), Interest::Readable);
    }
    // The registration is changed once in all.
    assert_eq!(steps.interests(id), [(Interest::None, Interest::Readable)]);
    assert_eq!(steps.count(|step| matches!(step, Step::WriteBlocked { .. })), 0);
}

#[test]
fn one_message_costs_one_fill_one_flush_and_one_wait() {
    const MESSAGES: usize = 100;
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    assert_rests(&mut event_loop, &steps);
    steps.take();
    for _ in 0..MESSAGES {
        peer.write_all(&[7; 64]).unwrap();
        let event = next(&mut event_loop);
        echo(&mut event_loop, event);
        // The next call sends the answer, and would wait for the next message.
        event_loop.poll_event(Some(Duration::ZERO)).unwrap();
        peer.read_exact(&mut [0; 64]).unwrap();
    }
    assert_eq!(steps.count(|step| *step == Step::Filled { id, count: 64 }), MESSAGES);
    assert_eq!(steps.count(|step| *step == Step::Flushed { id, count: 64, unsent: 0 }), MESSAGES);
    let fruitful = steps.count(|step| matches!(step, Step::Waited { events: 1.., .. }));
    assert_eq!(fruitful, MESSAGES);
    // A short read shows that nothing is left: the socket is not asked again.
    assert_eq!(steps.interests(id), []);
}

#[cfg(unix)] // where a test can look for what has arrived
#[test]
fn fifty_messages_that_are_there_cost_one_wait_together() {
    const COUNT: usize = 50;
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut peers: Vec<TcpStream> = (0..COUNT).map(|_| peer(address)).collect();
    let ids: Vec<ConnectionId> = (0..COUNT).map(|_| accepted(&mut event_loop)).collect();
    assert_rests(&mut event_loop, &steps);
    for _ in 0..20 {
        steps.take();
        peers.iter_mut().for_each(|peer| peer.write_all(&[7; 64]).unwrap());
        ids.iter().for_each(|id| await_arrival(&event_loop, *id));
        echo_on(&mut event_loop);
        assert_eq!(steps.waits(), 1, "{:?}", steps.all());
        for id in &ids {
            assert_eq!(steps.count(|step| *step == Step::Filled { id: *id, count: 64 }), 1);
            assert_eq!(
                steps.count(|step| *step == Step::Flushed { id: *id, count: 64, unsent: 0 }),
                1
            );
        }
        peers.iter_mut().for_each(|peer| peer.read_exact(&mut [0; 64]).unwrap());
    }
}

/// The message and the end have arrived when the loop looks. Otherwise the number of waits depends on
/// the speed of the machine.
#[cfg(target_os = "linux")] // where a test can look for what has arrived before an accept
#[test]
fn visit_whose_message_is_there_costs_two_waits_and_its_end_one() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    assert_rests(&mut event_loop, &steps);
    for _ in 0..20 {
        steps.take();
        let mut peer = peer(address);
        peer.write_all(&[7; 64]).unwrap();
        await_unaccepted(address, &peer, 64);
        let Event::Accepted(_, id) = next(&mut event_loop) else { panic!("it is delivered first") };
        let received = next(&mut event_loop);
        assert_eq!(received, Event::Received(id));
        echo(&mut event_loop, received);
        assert_eq!(turns(&mut event_loop, 1), []);
        assert_eq!(waits(&steps), [1, 1], "{:?}", steps.all());
        peer.read_exact(&mut [0; 64]).unwrap();

        peer.shutdown(Shutdown::Write).unwrap();
        await_end_acknowledged(&peer);
        let (_, reason) = until_closed(&mut event_loop, id);
        assert_eq!(reason, CloseReason::Finished);
        assert_eq!(waits(&steps), [1, 1, 1], "{:?}", steps.all());
        assert_eq!(turns(&mut event_loop, 1), []);
    }
}

/// Returns how many events each wait has reported so far.
#[cfg(target_os = "linux")]
fn waits(steps: &Steps) -> Vec<usize> {
    let waited = |step: &Step| match step {
        Step::Waited { events, .. } => Some(*events),
        _ => None,
    };
    steps.all().iter().filter_map(waited).collect()
}

#[test]
fn slow_reader_switches_the_interest_to_writable_and_back_each_time() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let (id, mut talker) = clogging_peer(address, &mut event_loop);
    assert_eq!(event_loop[id].interest(), Interest::Writable);
    assert!(event_loop[id].unsent() > 0);
    assert_eq!(event_loop[id].received(), b"", "it reads nothing while it has unsent bytes");

    let all = talker.written;
    let end = Instant::now() + PATIENCE;
    while talker.read < all {
        assert!(Instant::now() < end, "only {} of {all} were echoed", talker.read);
        talker.read_on();
        echo_on(&mut event_loop);
    }
    let changes = steps.interests(id);
    assert_eq!(changes[0], (Interest::None, Interest::Readable));
    assert!(changes.len() >= 3, "{changes:?}");
    for (place, change) in changes[1..].iter().enumerate() {
        let expected = match place % 2 {
            0 => (Interest::Readable, Interest::Writable),
            _ => (Interest::Writable, Interest::Readable),
        };
        assert_eq!(*change, expected);
    }
    assert_eq!(changes.last(), Some(&(Interest::Writable, Interest::Readable)));
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].interest(), Interest::Readable);
}

#[test]
fn uncoupled_clogged_connection_asks_for_both_and_goes_on_reading() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut talker = Talker::connect(address);
    let id = accepted(&mut event_loop);
    event_loop.uncouple(id);
    while !event_loop[id].is_clogged() {
        event_loop[id].send(&[0; 64 * 1024]);
        turns(&mut event_loop, 20);
    }
    assert_eq!(event_loop[id].interest(), Interest::ReadableWritable);
    assert_rests(&mut event_loop, &steps);
    talker.write_to(5);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].consume(5);
    // A coupling withdraws the question to read, and its end puts it again.
    event_loop.couple(id, id);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].interest(), Interest::Writable);
    event_loop.uncouple(id);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].interest(), Interest::ReadableWritable);
}

#[test]
fn flush_that_stops_at_its_budget_asks_nothing_and_goes_on() {
    const COUNT: usize = 50_000;
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut talker = Talker::connect(address);
    let id = accepted(&mut event_loop);
    let mut limits = ConnectionLimits::default();
    limits.write_budget = 1000;
    event_loop[id].set_limits(limits).unwrap();
    event_loop.uncouple(id);
    event_loop[id].send(&pattern(0, COUNT));
    let end = Instant::now() + PATIENCE;
    while talker.read < COUNT {
        assert!(Instant::now() < end, "only {} of {COUNT} arrived", talker.read);
        assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
        talker.read_on();
    }
    assert!(steps.count(|step| matches!(step, Step::Flushed { .. })) >= COUNT / 1000);
    // The kernel has room all the time.
    assert_eq!(steps.interests(id), [(Interest::None, Interest::Readable)]);
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn idle_connections_cost_no_turns() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    assert_rests(&mut event_loop, &steps);
    let _peers: Vec<_> = (0..50).map(|_| peer(address)).collect();
    for _ in 0..50 {
        accepted(&mut event_loop);
    }
    assert_rests(&mut event_loop, &steps);
    let outgoing = event_loop.connect(address, ());
    let (mut has_connected, mut was_accepted) = (false, false);
    while !(has_connected && was_accepted) {
        match next(&mut event_loop) {
            Event::Connected(id) => has_connected = id == outgoing,
            Event::Accepted(..) => was_accepted = true,
            other => panic!("{other:?} was not expected"),
        }
    }
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn paused_connection_costs_no_turns_whatever_its_peer_does() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    event_loop[id].pause();
    assert_rests(&mut event_loop, &steps);
    peer.write_all(&[0; 10_000]).unwrap();
    assert_rests(&mut event_loop, &steps);
    peer.shutdown(Shutdown::Write).unwrap();
    assert_rests(&mut event_loop, &steps);
    reset(peer);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[id].interest(), Interest::None);
}

#[test]
fn clogged_connection_costs_no_turns_and_others_are_served() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let (id, talker) = clogging_peer(address, &mut event_loop);
    assert_rests(&mut event_loop, &steps);
    let mut other = peer(address);
    let other_id = accepted(&mut event_loop);
    other.write_all(b"ping").unwrap();
    let event = next(&mut event_loop);
    assert_eq!(event, Event::Received(other_id));
    echo(&mut event_loop, event);
    turns(&mut event_loop, 1);
    other.read_exact(&mut [0; 4]).unwrap();
    assert_rests(&mut event_loop, &steps);
    // What the kernel still holds of a peer that resets is read before it has ended.
    reset(talker.stream);
    let reason = until(&mut event_loop, |event_loop, event| match event {
        Event::Received(_) => {
            let count = event_loop[id].received().len();
            event_loop[id].consume(count);
            None
        }
        Event::Closed(_, reason) => Some(reason),
        // Its unsent bytes are lost with it.
        Event::Drained(_) => None,
        other => panic!("{other:?} was not expected"),
    });
    assert_eq!(reason, CloseReason::Reset);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop.connection_count(), 1);
}

#[test]
fn clogged_and_paused_connection_whose_peer_resets_costs_no_turns() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let (id, talker) = clogging_peer(address, &mut event_loop);
    event_loop[id].pause();
    assert_rests(&mut event_loop, &steps);
    reset(talker.stream);
    assert_rests(&mut event_loop, &steps);
    event_loop[id].abort();
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Aborted));
}

#[test]
fn half_closed_connection_costs_no_turns_in_either_direction() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let (peer_ends, mut we_end) = (peer(address), peer(address));
    let (peer_ended, we_ended) = (accepted(&mut event_loop), accepted(&mut event_loop));

    event_loop[peer_ended].allow_half_open(true);
    peer_ends.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::PeerFinished(peer_ended));
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[peer_ended].interest(), Interest::None);

    event_loop[we_ended].finish();
    assert_rests(&mut event_loop, &steps);
    assert_eq!(we_end.read(&mut [0; 8]).unwrap(), 0);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop[we_ended].interest(), Interest::Readable);
    we_end.write_all(b"still talking").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(we_ended));
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn closed_connection_whose_peer_stays_costs_no_turns() {
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    event_loop[id].close();
    assert_rests(&mut event_loop, &steps);
    peer.write_all(&[0; 10_000]).unwrap();
    assert_rests(&mut event_loop, &steps);
    drop(peer);
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Closed));
}
