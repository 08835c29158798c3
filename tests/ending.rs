//! Ending: every way in which a connection reaches its one `Closed`, what the peer sees of it, and
//! what is counted.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use common::await_arrival;
#[cfg(target_os = "linux")]
use common::await_end_acknowledged;
use common::{
    PATIENCE, accepted, connection_limits, drive, drive_until_joined, flushed, hold_little,
    listening, listening_with, next, pair, pair_with, pattern, peer, read_in_thread,
    refusing_address, reset, steps, turns, until, until_closed, until_step,
};
use readiness::{CloseReason, ConnectionId, Deadline, Event, EventLoop, Limits, Step};

/// More than both kernels hold once [`hold_little`] was called.
const TOO_MUCH: usize = 4 * 1024 * 1024;

fn assert_reads_nothing_but_the_end(peer: &mut TcpStream) {
    assert_eq!(peer.read(&mut [0; 16]).unwrap(), 0);
}

fn assert_reads_a_reset(peer: &mut TcpStream) {
    let error = peer.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

/// Checks that only this `Closed` is delivered, and nothing after it.
fn assert_closes_alone(event_loop: &mut EventLoop, id: ConnectionId, reason: CloseReason) {
    let (events, _) = until_closed(event_loop, id);
    assert_eq!(events, [Event::Closed(id, reason)]);
    assert_eq!(turns(event_loop, 3), []);
    assert!(event_loop.get(id).is_none());
}

// Closing.

#[test]
fn close_after_a_large_send_delivers_every_byte_and_then_the_end() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    let sent = pattern(0, TOO_MUCH);
    event_loop[id].send(&sent);
    event_loop[id].close();
    let steps = steps(&mut event_loop);
    let reader = read_in_thread(peer);
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Closed));
    let (bytes, outcome) = reader.join().unwrap();
    outcome.unwrap();
    assert!(bytes == sent);
    // The end of our direction follows the last byte.
    let steps: Vec<Step> = steps.try_iter().collect();
    let finished = steps.iter().position(|step| *step == Step::Finished { id }).unwrap();
    assert_eq!(flushed(&steps[..finished], id), TOO_MUCH as u64);
    assert_eq!(flushed(&steps[finished..], id), 0);
}

#[test]
fn close_twice_gives_one_closed() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].close();
    event_loop[id].close();
    turns(&mut event_loop, 2);
    event_loop[id].close();
    assert_reads_nothing_but_the_end(&mut peer);
    drop(peer);
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
}

#[test]
fn close_while_its_own_event_is_handled_drops_what_is_queued() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"hello").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].send(b"bye");
    event_loop[id].close();
    // The peer's end was read with its bytes, and would have been the next event.
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"bye");
}

#[test]
fn close_while_accepted_is_handled_drops_what_has_come() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut peer = peer(address);
    peer.write_all(b"hello").unwrap();
    let id = accepted(&mut event_loop);
    event_loop[id].close();
    let steps = steps(&mut event_loop);
    until_step(&mut event_loop, &steps, |step| *step == Step::Discarded { id, count: 5 });
    peer.shutdown(Shutdown::Write).unwrap();
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
    assert_reads_nothing_but_the_end(&mut peer);
}

#[test]
fn close_lifts_a_pause_and_a_couple() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    event_loop[id].send(&pattern(0, TOO_MUCH));
    event_loop[id].pause();
    turns(&mut event_loop, 2);
    event_loop[id].close();
    turns(&mut event_loop, 1);
    assert!(event_loop[id].interest().is_readable(), "it reads and throws away");
    // The peer writes before it reads: were its bytes left unread, both would wait forever.
    let talker = thread::spawn(move || {
        let mut peer = peer;
        peer.write_all(&pattern(0, TOO_MUCH)).unwrap();
        peer.shutdown(Shutdown::Write).unwrap();
        let mut bytes = Vec::new();
        peer.read_to_end(&mut bytes).map(|_| bytes)
    });
    let reason = until_closed(&mut event_loop, id).1;
    assert_eq!(reason, CloseReason::Closed);
    let bytes = drive_until_joined(&mut event_loop, talker, |_, _| {}).unwrap();
    assert!(bytes == pattern(0, TOO_MUCH));
}

#[test]
fn the_tail_of_a_reply_survives_unread_input() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    peer.write_all(&pattern(0, 100_000)).unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    let reply = pattern(7, TOO_MUCH);
    event_loop[id].send(&reply);
    event_loop[id].close();
    turns(&mut event_loop, 3);
    // Late bytes, which a socket that was closed already would answer with a reset.
    peer.write_all(&pattern(0, 100_000)).unwrap();
    let reader = read_in_thread(peer);
    let (bytes, outcome) = drive_until_joined(&mut event_loop, reader, |_, event| {
        assert_eq!(event, Event::Closed(id, CloseReason::Closed));
    });
    outcome.unwrap();
    assert!(bytes == reply);
}

// Finishing.

#[test]
fn finish_after_a_queued_write_sends_the_end_behind_the_last_byte() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    let steps = steps(&mut event_loop);
    let sent = pattern(0, TOO_MUCH);
    event_loop[id].send(&sent);
    event_loop[id].finish();
    let before = until_step(&mut event_loop, &steps, |step| *step == Step::WriteBlocked { id });
    assert!(!before.contains(&Step::Finished { id }), "bytes are unsent yet");
    let reader = read_in_thread(peer.try_clone().unwrap());
    let (bytes, outcome) = drive_until_joined(&mut event_loop, reader, |_, _| {});
    outcome.unwrap();
    assert!(bytes == sent);
    assert!(event_loop.get(id).is_some(), "the peer has not finished yet");
    drop(peer);
}

#[test]
fn half_close_exchange_gives_one_closed() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].send(b"question");
    event_loop[id].finish();
    turns(&mut event_loop, 1);
    let mut question = Vec::new();
    peer.read_to_end(&mut question).unwrap();
    assert_eq!(question, b"question");
    peer.write_all(b"answer").unwrap();
    drop(peer);
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::Finished);
    assert_eq!(event_loop[id].received(), b"answer", "unconsumed bytes stay until the end");
    assert_eq!(
        events,
        [Event::Received(id), Event::PeerFinished(id), Event::Closed(id, CloseReason::Finished)]
    );
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn both_finish_at_once_and_both_close() {
    let (mut event_loop, _, address) = listening::<()>();
    let client = event_loop.connect(address, ());
    let server = accepted(&mut event_loop);
    event_loop[client].send(b"ping");
    event_loop[server].send(b"pong");
    event_loop[client].finish();
    event_loop[server].finish();
    let mut closed = Vec::new();
    until(&mut event_loop, |event_loop, event| {
        if let Event::Closed(id, reason) = event {
            assert_eq!(reason, CloseReason::Finished);
            let expected: &[u8] = if id == client { b"pong" } else { b"ping" };
            assert_eq!(event_loop[id].received(), expected);
            closed.push(id);
        }
        (closed.len() == 2).then_some(())
    });
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 0);
}

#[test]
fn finish_twice_sends_one_end() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let steps = steps(&mut event_loop);
    event_loop[id].finish();
    event_loop[id].finish();
    turns(&mut event_loop, 2);
    event_loop[id].finish();
    turns(&mut event_loop, 2);
    assert_reads_nothing_but_the_end(&mut peer);
    drop(peer);
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Finished);
    assert_eq!(steps.try_iter().filter(|step| *step == Step::Finished { id }).count(), 1);
}

#[test]
fn finish_then_close_gives_one_closed() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].send(b"last");
    event_loop[id].finish();
    turns(&mut event_loop, 1);
    event_loop[id].close();
    turns(&mut event_loop, 1);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"last");
    peer.write_all(b"thrown away").unwrap();
    drop(peer);
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
}

#[test]
fn finish_after_a_reset_is_swallowed() {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].pause();
    turns(&mut event_loop, 1);
    reset(peer);
    event_loop[id].finish();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].resume();
    assert_closes_alone(&mut event_loop, id, CloseReason::Reset);
}

#[test]
fn peer_finishes_first_and_still_reads_everything() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    event_loop[id].allow_half_open(true);
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    let sent = pattern(0, TOO_MUCH);
    let mut pieces = sent.chunks(100_000);
    let mut write = |event_loop: &mut EventLoop| {
        while !event_loop[id].is_clogged() {
            match pieces.next() {
                Some(piece) => event_loop[id].send(piece),
                None => return event_loop[id].finish(),
            }
        }
    };
    write(&mut event_loop);
    let reader = read_in_thread(peer);
    let mut heard = Vec::new();
    let (bytes, outcome) = drive_until_joined(&mut event_loop, reader, |event_loop, event| {
        heard.push(event);
        if event == Event::Drained(id) {
            write(event_loop);
        }
    });
    outcome.unwrap();
    assert!(bytes == sent);
    heard.extend(turns(&mut event_loop, 3));
    assert_eq!(heard.last(), Some(&Event::Closed(id, CloseReason::Finished)));
    assert_eq!(heard.iter().filter(|event| matches!(event, Event::Closed(..))).count(), 1);
    assert!(!heard.contains(&Event::PeerFinished(id)), "{heard:?}");
}

#[test]
fn unsent_bytes_leave_before_a_connection_closes_by_itself() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    let sent = pattern(0, TOO_MUCH);
    event_loop[id].send(&sent);
    let reader = read_in_thread(peer);
    let reason = until_closed(&mut event_loop, id).1;
    assert_eq!(reason, CloseReason::Finished);
    turns(&mut event_loop, 1);
    let (bytes, outcome) = reader.join().unwrap();
    outcome.unwrap();
    assert!(bytes == sent);
}

#[test]
fn half_closed_connection_gives_one_event_and_costs_no_turns() {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].allow_half_open(true);
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    let steps = steps(&mut event_loop);
    assert_eq!(event_loop.poll_event(Some(Duration::from_millis(50))).unwrap(), None);
    let waits = steps.try_iter().filter(|step| matches!(step, Step::Waited { .. })).count();
    assert!(waits <= 2, "{waits} waits for a connection that has nothing to do");
    assert!(event_loop.get(id).is_some(), "half-open was asked for");
    event_loop[id].allow_half_open(false);
    assert_closes_alone(&mut event_loop, id, CloseReason::Finished);
}

#[test]
fn paused_connection_does_not_close_by_itself() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"request").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    event_loop[id].pause();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].send(b"reply");
    event_loop[id].resume();
    let events = until_closed(&mut event_loop, id).0;
    let closed = Event::Closed(id, CloseReason::Finished);
    assert_eq!(events, [Event::Received(id), Event::PeerFinished(id), closed], "left announced");
    turns(&mut event_loop, 1);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"reply");
}

#[test]
fn paused_while_peer_finished_is_handled_stays_until_resumed() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
    event_loop[id].pause();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[id].send(b"reply");
    event_loop[id].resume();
    assert_closes_alone(&mut event_loop, id, CloseReason::Finished);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"reply");
}

// Aborting.

#[test]
fn abort_with_unsent_bytes_reports_them_with_closed() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let steps = steps(&mut event_loop);
    event_loop[id].send(b"never sent");
    event_loop[id].abort();
    event_loop[id].send(b"lost");
    assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Aborted));
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (10, 4));
    assert_eq!(turns(&mut event_loop, 3), []);
    let steps: Vec<Step> = steps.try_iter().collect();
    assert!(
        steps.contains(&Step::Closed { id, reason: CloseReason::Aborted, unsent: 10, lost: 4 }),
        "{steps:?}"
    );
    assert_eq!(flushed(&steps, id), 0);
    assert_reads_a_reset(&mut peer);
}

#[test]
fn abort_while_its_own_event_is_handled_drops_what_is_queued() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"hello").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].abort();
    assert_closes_alone(&mut event_loop, id, CloseReason::Aborted);
}

#[test]
fn abort_overrides_close() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].send(b"sent");
    event_loop[id].close();
    turns(&mut event_loop, 2);
    event_loop[id].abort();
    assert_closes_alone(&mut event_loop, id, CloseReason::Aborted);
    // A socket that was only closed would take one more byte, and answer it with the reset.
    let error = peer.write_all(b"x").unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
}

/// Checks that the peer reads a reset, even though the loop is dropped before another call frees
/// the connection whose `Closed` was just delivered.
fn assert_loop_dropped_at_closed_resets(
    (mut event_loop, id, mut peer): (EventLoop, ConnectionId, TcpStream),
    reason: CloseReason,
) {
    assert_eq!(until_closed(&mut event_loop, id).1, reason);
    drop(event_loop);
    assert_reads_a_reset(&mut peer);
}

#[test]
fn loop_dropped_while_closed_of_an_abort_is_handled_resets() {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].send(b"half of it");
    turns(&mut event_loop, 1);
    assert_eq!(event_loop[id].unsent(), 0);
    event_loop[id].abort();
    assert_loop_dropped_at_closed_resets((event_loop, id, peer), CloseReason::Aborted);
}

#[test]
fn loop_dropped_while_closed_of_an_overflow_is_handled_resets() {
    let limits = connection_limits(|limits| limits.unsent_max = 1 << 20);
    let (mut event_loop, id, peer) = pair_with::<()>(limits);
    event_loop[id].send(&pattern(0, 100_000));
    event_loop[id].send(&pattern(0, 1 << 20));
    assert_loop_dropped_at_closed_resets((event_loop, id, peer), CloseReason::Overflow);
}

#[test]
fn loop_dropped_while_closed_of_a_passed_deadline_is_handled_resets() {
    let limits = connection_limits(|limits| {
        limits.stalled_write_deadline = Duration::from_millis(20);
    });
    let (mut event_loop, id, peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    event_loop[id].send(&pattern(0, TOO_MUCH));
    let reason = CloseReason::TimedOut(Deadline::StalledWrite);
    assert_loop_dropped_at_closed_resets((event_loop, id, peer), reason);

    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    event_loop[id].set_idle_timeout(Some(Duration::from_millis(20))).unwrap();
    event_loop[id].send(&pattern(0, TOO_MUCH));
    let reason = CloseReason::TimedOut(Deadline::Idle);
    assert_loop_dropped_at_closed_resets((event_loop, id, peer), reason);
}

#[test]
fn close_after_abort_changes_nothing() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].abort();
    event_loop[id].close();
    event_loop[id].finish();
    assert_closes_alone(&mut event_loop, id, CloseReason::Aborted);
    assert_reads_a_reset(&mut peer);
}

#[test]
fn resumed_after_abort_announces_nothing_but_closed() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"left").unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    event_loop[id].pause();
    event_loop[id].abort();
    event_loop[id].resume();
    assert_closes_alone(&mut event_loop, id, CloseReason::Aborted);
}

// While connecting.

/// Returns an address whose backlog is full, so that a connect to it stays under way, and what
/// fills it. It is full only as long as that is kept.
#[cfg(target_os = "linux")]
fn full_address() -> (socket2::Socket, Vec<TcpStream>, std::net::SocketAddr) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut fill = Vec::new();
    while let Ok(peer) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        fill.push(peer);
    }
    (listener, fill, address)
}

#[cfg(target_os = "linux")]
#[test]
fn close_while_connecting_with_nothing_unsent_gives_up_at_once() {
    let (_listener, _fill, address) = full_address();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(address, ());
    turns(&mut event_loop, 2);
    event_loop[id].close();
    assert_eq!(turns(&mut event_loop, 1), [Event::Closed(id, CloseReason::Closed)]);
    assert_eq!(turns(&mut event_loop, 3), []);
    let id = event_loop.connect(address, ());
    event_loop[id].finish();
    turns(&mut event_loop, 2);
    event_loop[id].close();
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
}

#[cfg(target_os = "linux")]
#[test]
fn close_while_connecting_with_unsent_bytes_waits_for_the_connect() {
    let (_listener, _fill, address) = full_address();
    let limits = connection_limits(|limits| limits.connect_deadline = Duration::from_millis(50));
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let id = event_loop.connect(address, ());
    event_loop[id].send(b"unsent");
    event_loop[id].close();
    event_loop[id].send(b"lost");
    assert_eq!(turns(&mut event_loop, 2), []);
    let reason = until_closed(&mut event_loop, id).1;
    assert_eq!(reason, CloseReason::TimedOut(Deadline::Connect));
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (6, 4));
}

#[cfg(target_os = "linux")]
#[test]
fn abort_while_connecting_gives_up_at_once_with_or_without_unsent_bytes() {
    let (_listener, _fill, address) = full_address();
    for bytes in [&b""[..], b"unsent"] {
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let id = event_loop.connect(address, ());
        event_loop[id].send(bytes);
        turns(&mut event_loop, 2);
        event_loop[id].abort();
        assert_eq!(turns(&mut event_loop, 1), [Event::Closed(id, CloseReason::Aborted)]);
        assert_eq!(turns(&mut event_loop, 3), []);
    }
}

#[test]
fn close_while_connecting_with_unsent_bytes_sends_them_and_then_the_end() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    event_loop[id].send(b"hello");
    event_loop[id].close();
    event_loop[id].send(b"too late");
    let (peer, _) = listener.accept().unwrap();
    let reader = read_in_thread(peer);
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Closed), "no Connected: {events:?}");
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (0, 8));
    assert_eq!(reader.join().unwrap().0, b"hello");
}

#[test]
fn finish_while_connecting_sends_what_is_unsent_and_then_the_end() {
    for bytes in [&b""[..], b"hello"] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let id = event_loop.connect(listener.local_addr().unwrap(), ());
        event_loop[id].send(bytes);
        event_loop[id].finish();
        let (mut peer, _) = listener.accept().unwrap();
        assert_eq!(next(&mut event_loop), Event::Connected(id));
        turns(&mut event_loop, 1);
        let mut read = Vec::new();
        peer.read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);
        peer.write_all(b"answer").unwrap();
        drop(peer);
        let (events, _) = until_closed(&mut event_loop, id);
        let closed = Event::Closed(id, CloseReason::Finished);
        assert_eq!(events, [Event::Received(id), Event::PeerFinished(id), closed]);
    }
}

#[test]
fn finish_or_close_of_a_connect_that_is_refused_gives_closed_alone() {
    type End = fn(&mut readiness::Stream);
    let ends: [End; 2] = [readiness::Stream::finish, readiness::Stream::close];
    for end in ends {
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let id = event_loop.connect(refusing_address(), ());
        event_loop[id].send(b"unsent");
        end(&mut event_loop[id]);
        let (events, reason) = until_closed(&mut event_loop, id);
        assert_eq!((events.len(), reason), (1, CloseReason::Refused), "{events:?}");
        assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (6, 0));
    }
}

// Deadlines.

#[test]
fn silent_peer_after_close_is_given_up_after_the_quiet_deadline() {
    const QUIET: Duration = Duration::from_millis(100);
    let limits = connection_limits(|limits| limits.close_quiet_deadline = QUIET);
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    let start = Instant::now();
    event_loop[id].close();
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::TimedOut(Deadline::Close)));
    assert!(start.elapsed() >= QUIET, "never early");
    assert!(start.elapsed() < Limits::default().connection.close_deadline);
    // Nothing was given up, so that the peer reads an end and no reset.
    assert_reads_nothing_but_the_end(&mut peer);
}

#[test]
fn talking_peer_after_close_is_given_up_after_the_whole_deadline() {
    const WHOLE: Duration = Duration::from_millis(300);
    let limits = connection_limits(|limits| {
        limits.close_quiet_deadline = WHOLE;
        limits.close_deadline = WHOLE;
    });
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    peer.write_all(b"one thing").unwrap();
    let talker = thread::spawn(move || {
        while peer.write_all(b"and another thing").is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
    });
    let start = Instant::now();
    event_loop[id].close();
    let steps = steps(&mut event_loop);
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::TimedOut(Deadline::Close)));
    assert!(start.elapsed() >= WHOLE, "never early");
    let discarded = steps.try_iter().filter(|step| matches!(step, Step::Discarded { .. })).count();
    assert!(discarded > 0, "the peer did talk");
    turns(&mut event_loop, 1);
    talker.join().unwrap();
}

#[test]
fn closing_with_unsent_bytes_waits_for_a_slow_reader_longer_than_the_close_deadlines() {
    const CLOSE: Duration = Duration::from_millis(30);
    let limits = connection_limits(|limits| {
        limits.close_quiet_deadline = CLOSE;
        limits.close_deadline = CLOSE;
    });
    let (mut event_loop, id, peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    let sent = pattern(0, TOO_MUCH);
    event_loop[id].send(&sent);
    event_loop[id].close();
    assert_eq!(event_loop.poll_event(Some(5 * CLOSE)).unwrap(), None);
    assert!(event_loop[id].unsent() > 0);
    let reader = read_in_thread(peer);
    let mut outcome = None;
    drive(
        &mut event_loop,
        |_, event| match event {
            Event::Closed(_, reason) => outcome = Some(reason),
            other => panic!("{other:?}"),
        },
        || reader.is_finished(),
    );
    let bytes = reader.join().unwrap().0;
    assert!(bytes == sent, "{} bytes, {outcome:?}", bytes.len());
}

#[test]
fn idle_connection_ends_by_its_timeout_and_not_before() {
    const IDLE: Duration = Duration::from_millis(120);
    let limits = connection_limits(|limits| limits.idle_timeout = Some(IDLE));
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    // An activity in between puts the end off.
    event_loop[id].set_deadline(Some(IDLE / 2));
    assert_eq!(next(&mut event_loop), Event::Deadline(id));
    let active = Instant::now();
    peer.write_all(b"still here").unwrap();
    let (events, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::TimedOut(Deadline::Idle));
    assert_eq!(events.len(), 2, "Received, Closed: {events:?}");
    assert!(active.elapsed() >= IDLE, "never early");
}

#[test]
fn idle_timeout_that_was_taken_back_stays_so() {
    let limits = connection_limits(|limits| {
        limits.idle_timeout = Some(Duration::from_millis(60));
    });
    let (mut event_loop, id, _peer) = pair_with::<()>(limits);
    event_loop[id].set_idle_timeout(None).unwrap();
    turns(&mut event_loop, 2);
    event_loop[id].set_deadline(Some(Duration::from_millis(200)));
    assert_eq!(next(&mut event_loop), Event::Deadline(id));
}

#[test]
fn idle_timeout_passes_while_a_close_is_still_sending_and_everything_arrives() {
    const IDLE: Duration = Duration::from_millis(100);
    let limits = connection_limits(|limits| limits.idle_timeout = Some(IDLE));
    let (mut event_loop, id, peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    let sent = pattern(0, TOO_MUCH);
    event_loop[id].send(&sent);
    event_loop[id].close();
    // The peer reads nothing, and nothing moves until the timeout has passed.
    assert_eq!(event_loop.poll_event(Some(4 * IDLE)).unwrap(), None);
    assert!(event_loop[id].unsent() > 0);
    let reader = read_in_thread(peer);
    let mut reasons = Vec::new();
    let (bytes, outcome) = drive_until_joined(&mut event_loop, reader, |_, event| match event {
        Event::Closed(_, reason) => reasons.push(reason),
        other => panic!("{other:?}"),
    });
    outcome.unwrap();
    assert!(bytes == sent, "{} bytes, {reasons:?}", bytes.len());
}

#[test]
fn close_that_is_still_sending_to_one_who_never_reads_ends_by_the_stalled_write_alone() {
    const IDLE: Duration = Duration::from_millis(20);
    let limits = connection_limits(|limits| {
        limits.idle_timeout = Some(IDLE);
        limits.stalled_write_deadline = 10 * IDLE;
    });
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    let start = Instant::now();
    event_loop[id].send(&pattern(0, TOO_MUCH));
    event_loop[id].close();
    assert_closes_alone(&mut event_loop, id, CloseReason::TimedOut(Deadline::StalledWrite));
    assert!(start.elapsed() >= 10 * IDLE, "never early");
    assert_reads_a_reset(&mut peer);
}

#[cfg(unix)]
/// Limits with which a connection that waits for its peer's end has done so for too long already.
fn no_time_to_close() -> readiness::ConnectionLimits {
    let mut limits = Limits::default().connection;
    limits.close_quiet_deadline = Duration::from_nanos(1);
    limits.close_deadline = Duration::from_nanos(1);
    limits
}

#[cfg(unix)]
#[test]
fn close_deadline_passes_with_the_peers_end_in_our_kernel_and_the_close_is_clean() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].send(b"bye");
    event_loop[id].close();
    assert_eq!(turns(&mut event_loop, 1), []);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"bye");
    // The program is busy, and does not return to the loop before the deadline has passed.
    peer.shutdown(Shutdown::Write).unwrap();
    await_arrival(&event_loop, id);
    event_loop[id].set_limits(no_time_to_close()).unwrap();
    let steps = steps(&mut event_loop);
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
    let passed = steps.try_iter().find(|step| matches!(step, Step::DeadlinePassed { .. }));
    assert_eq!(passed, None);
}

#[cfg(target_os = "linux")]
#[test]
fn close_deadline_passes_with_late_bytes_and_the_end_in_our_kernel_and_the_close_is_clean() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].close();
    assert_eq!(turns(&mut event_loop, 1), []);
    peer.write_all(b"too late").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    // The end is behind the bytes, where our socket does not show it.
    await_end_acknowledged(&peer);
    event_loop[id].set_limits(no_time_to_close()).unwrap();
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
}

#[cfg(unix)]
#[test]
fn idle_timeout_passes_with_a_request_in_our_kernel_and_the_request_is_received() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    turns(&mut event_loop, 1);
    // The program is busy, and does not return to the loop before the timeout has passed.
    peer.write_all(b"request").unwrap();
    await_arrival(&event_loop, id);
    event_loop[id].set_idle_timeout(Some(Duration::from_nanos(1))).unwrap();
    let steps = steps(&mut event_loop);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(event_loop[id].received(), b"request");
    event_loop[id].set_idle_timeout(None).unwrap();
    assert_eq!(turns(&mut event_loop, 3), [], "it lives on");
    let passed = steps.try_iter().find(|step| matches!(step, Step::DeadlinePassed { .. }));
    assert_eq!(passed, None);
}

#[test]
fn deadline_set_to_zero_whenever_it_comes_lets_turns_end_and_others_be_served() {
    const ROUNDS: usize = 50;
    let (mut event_loop, _, address) = listening::<()>();
    let (_peer, mut talker) = (peer(address), peer(address));
    let restless = accepted(&mut event_loop);
    let other = accepted(&mut event_loop);
    event_loop[restless].set_deadline(Some(Duration::ZERO));
    let (mut delivered, mut received) = (0, 0);
    let end = Instant::now() + PATIENCE;
    while delivered < ROUNDS || received < ROUNDS {
        assert!(Instant::now() < end, "delivered {delivered} times, received {received} bytes");
        talker.write_all(b"x").unwrap();
        let mut delivered_in_turn = 0;
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            match event {
                Event::Deadline(id) => {
                    assert_eq!(id, restless);
                    event_loop[id].set_deadline(Some(Duration::ZERO));
                    delivered_in_turn += 1;
                    assert!(delivered_in_turn <= 1, "the turn does not end");
                }
                Event::Received(id) => {
                    assert_eq!(id, other);
                    received += event_loop[id].received().len();
                    let count = event_loop[id].received().len();
                    event_loop[id].consume(count);
                }
                other => panic!("{other:?}"),
            }
        }
        delivered += delivered_in_turn;
    }
}

#[test]
fn idle_timeout_of_one_connection_ends_it_alone() {
    let (mut event_loop, _, address) = listening::<()>();
    let _peers = [peer(address), peer(address)];
    let (first, second) = (accepted(&mut event_loop), accepted(&mut event_loop));
    event_loop[first].set_idle_timeout(Some(Duration::from_millis(30))).unwrap();
    event_loop[second].set_deadline(Some(Duration::from_millis(200)));
    assert_eq!(next(&mut event_loop), Event::Closed(first, CloseReason::TimedOut(Deadline::Idle)));
    assert_eq!(next(&mut event_loop), Event::Deadline(second));
}

#[test]
fn deadline_of_the_program_comes_once_and_not_early() {
    const AFTER: Duration = Duration::from_millis(40);
    let (mut event_loop, _, address) = listening::<()>();
    let _peers = [peer(address), peer(address), peer(address)];
    let once = accepted(&mut event_loop);
    let taken_back = accepted(&mut event_loop);
    let replaced = accepted(&mut event_loop);
    let start = Instant::now();
    event_loop[once].set_deadline(Some(AFTER));
    event_loop[taken_back].set_deadline(Some(AFTER));
    event_loop[replaced].set_deadline(Some(AFTER));
    turns(&mut event_loop, 1);
    event_loop[taken_back].set_deadline(None);
    event_loop[replaced].set_deadline(Some(4 * AFTER));
    assert_eq!(next(&mut event_loop), Event::Deadline(once));
    assert!(start.elapsed() >= AFTER);
    assert_eq!(next(&mut event_loop), Event::Deadline(replaced));
    assert!(start.elapsed() >= 4 * AFTER);
    assert_eq!(event_loop.poll_event(Some(2 * AFTER)).unwrap(), None);
}

#[test]
fn deadline_beyond_the_clock_never_comes() {
    let (mut event_loop, id, _peer) = pair::<()>();
    event_loop[id].set_deadline(Some(Duration::MAX));
    event_loop[id].set_idle_timeout(Some(Duration::MAX)).unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn deadline_of_the_program_does_not_come_after_close() {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].set_deadline(Some(Duration::from_millis(20)));
    turns(&mut event_loop, 1);
    event_loop[id].close();
    assert_eq!(event_loop.poll_event(Some(Duration::from_millis(100))).unwrap(), None);
    drop(peer);
    assert_closes_alone(&mut event_loop, id, CloseReason::Closed);
}

#[test]
fn deadline_of_the_program_does_not_come_between_abort_and_closed() {
    let (mut event_loop, id, _peer) = pair::<()>();
    event_loop[id].set_deadline(Some(Duration::from_millis(5)));
    turns(&mut event_loop, 1);
    thread::sleep(Duration::from_millis(10));
    event_loop[id].abort();
    assert_closes_alone(&mut event_loop, id, CloseReason::Aborted);
}

#[cfg(target_os = "linux")]
#[test]
fn deadline_that_passes_while_connecting_does_not_come_before_a_failed_connects_closed() {
    let (_listener, _fill, address) = full_address();
    let limits = connection_limits(|limits| limits.connect_deadline = Duration::from_millis(80));
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let id = event_loop.connect(address, ());
    event_loop[id].set_deadline(Some(Duration::from_millis(20)));
    assert_closes_alone(&mut event_loop, id, CloseReason::TimedOut(Deadline::Connect));
}

#[cfg(target_os = "linux")]
#[test]
fn deadline_that_passes_while_connecting_comes_behind_connected() {
    let (listener, fill, address) = full_address();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(address, ());
    event_loop[id].set_deadline(Some(Duration::from_millis(20)));
    assert_eq!(event_loop.poll_event(Some(Duration::from_millis(60))).unwrap(), None);
    // Makes room for the one that waits.
    for _ in 0..fill.len() {
        listener.accept().unwrap();
    }
    assert_eq!(next(&mut event_loop), Event::Connected(id));
    assert_eq!(next(&mut event_loop), Event::Deadline(id));
}

// The order at the end.

/// Counts how many of it were dropped.
#[derive(Default)]
struct Counted(std::sync::Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_end_comes_in_order_and_data_is_dropped_at_the_next_call() {
    let (mut event_loop, id, peer) = pair::<Counted>();
    let dropped = event_loop[id].data.0.clone();
    let steps = steps(&mut event_loop);
    event_loop[id].send(b"last words");
    event_loop[id].close();
    let reader = read_in_thread(peer);
    let (_, reason) = until_closed(&mut event_loop, id);
    assert_eq!(reason, CloseReason::Closed);
    // While Closed is handled: no longer counted, but there.
    assert_eq!(event_loop.connection_count(), 0);
    assert_eq!(event_loop.connections().count(), 0);
    assert_eq!(event_loop.connections_mut().count(), 0);
    assert!(event_loop.get(id).is_some());
    assert_eq!(dropped.load(Ordering::Relaxed), 0);
    event_loop.poll_event(Some(Duration::ZERO)).unwrap();
    assert_eq!(dropped.load(Ordering::Relaxed), 1);
    assert!(event_loop.get(id).is_none());

    let steps: Vec<Step> = steps.try_iter().collect();
    let at = |step: Step| steps.iter().position(|seen| *seen == step).unwrap();
    let order = [
        at(Step::Flushed { id, count: 10, unsent: 0 }),
        at(Step::Finished { id }),
        at(Step::Closed { id, reason: CloseReason::Closed, unsent: 0, lost: 0 }),
    ];
    assert!(order.is_sorted(), "{steps:?}");
    assert_eq!(reader.join().unwrap().0, b"last words");
}

#[test]
fn data_may_be_taken_while_closed_is_handled() {
    let (mut event_loop, id, mut peer) = pair::<Vec<u8>>();
    peer.write_all(b"kept").unwrap();
    drop(peer);
    until_closed(&mut event_loop, id);
    let (data, stream) = event_loop[id].split();
    stream.read_to_end(data).unwrap();
    assert_eq!(std::mem::take(data), b"kept");
}

#[test]
fn reset_by_the_peer_is_closed_once_with_what_came_before() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"before").unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    reset(peer);
    assert_closes_alone_keeping(&mut event_loop, id, b"before");
}

fn assert_closes_alone_keeping(event_loop: &mut EventLoop, id: ConnectionId, bytes: &[u8]) {
    let (events, reason) = until_closed(event_loop, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Reset));
    assert_eq!(event_loop[id].received(), bytes);
    assert_eq!(turns(event_loop, 3), []);
}

#[test]
fn a_panic_of_the_program_between_calls_leaves_the_loop_usable() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut peers = [peer(address), peer(address)];
    let (panics, other) = (accepted(&mut event_loop), accepted(&mut event_loop));
    peers[0].write_all(b"boom").unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(panics)).then_some(()));
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let connection = &mut event_loop[panics];
        connection.send(b"half an ans");
        connection.consume(1_000);
    }));
    assert!(panic.is_err());
    peers[1].write_all(b"hello").unwrap();
    until(&mut event_loop, |event_loop, event| {
        assert_eq!(event, Event::Received(other));
        event_loop[other].send_received();
        Some(())
    });
    assert_eq!(event_loop[panics].received(), b"boom");
    event_loop[panics].send_received();
    turns(&mut event_loop, 1);
    let mut echo = [0; 5];
    peers[1].read_exact(&mut echo).unwrap();
    assert_eq!(&echo, b"hello");
    let mut answer = [0; 15];
    peers[0].read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"half an ansboom");
}

#[test]
fn connections_that_were_swapped_are_caught() {
    let (mut event_loop, _, address) = listening::<()>();
    let _peers = [peer(address), peer(address)];
    let (first, second) = (accepted(&mut event_loop), accepted(&mut event_loop));
    turns(&mut event_loop, 1);
    let mut both = event_loop.connections_mut();
    let (one, other) = (both.next().unwrap(), both.next().unwrap());
    std::mem::swap(one, other);
    drop(both);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        event_loop.poll_event(Some(Duration::ZERO))
    }));
    let message = panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("swapped"), "{message}");
    let names_one = [first, second].iter().any(|id| message.contains(&id.to_string()));
    assert!(names_one, "{message}");
}

#[test]
fn connection_that_is_swapped_with_one_of_another_loop_is_caught() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut peers = [peer(address), peer(address)];
    let ids = [accepted(&mut event_loop), accepted(&mut event_loop)];
    let (mut other_loop, other, _client) = pair::<()>();
    turns(&mut event_loop, 1);
    turns(&mut other_loop, 3);
    for (peer, id) in peers.iter_mut().zip(ids) {
        peer.write_all(b"hello").unwrap();
        assert_eq!(next(&mut event_loop), Event::Received(id));
    }
    std::mem::swap(&mut event_loop[ids[1]], &mut other_loop[other]);
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        event_loop.poll_event(Some(Duration::ZERO))
    }));
    let message = panic.unwrap_err().downcast::<String>().unwrap();
    assert!(message.contains("swapped"), "{message}");
}

// Accounting.

#[test]
fn reasons_add_up() {
    let limits = connection_limits(|limits| {
        limits.unsent_max = 100_000;
        limits.stalled_write_deadline = Duration::from_millis(30);
        limits.close_quiet_deadline = Duration::from_millis(30);
    });
    let (mut event_loop, address) = listening_with::<()>(limits);
    let mut expected = std::collections::HashMap::new();
    let mut kept = Vec::new();
    for (reason, count) in [
        (CloseReason::Finished, 7),
        (CloseReason::Closed, 6),
        (CloseReason::Aborted, 5),
        (CloseReason::Reset, 4),
        (CloseReason::Overflow, 3),
        (CloseReason::TimedOut(Deadline::Idle), 2),
        (CloseReason::TimedOut(Deadline::Close), 1),
    ] {
        expected.insert(reason, count);
        for _ in 0..count {
            let peer = peer(address);
            let id = accepted_among_others(&mut event_loop, &mut kept);
            end(&mut event_loop, id, peer, reason, &mut kept);
        }
    }
    expected.insert(CloseReason::Refused, 8);
    for _ in 0..8 {
        event_loop.connect(refusing_address(), ());
    }
    let all: usize = expected.values().sum();
    let mut heard = std::collections::HashMap::<CloseReason, usize>::new();
    for event in &kept {
        count_reason(&mut heard, *event);
    }
    while heard.values().sum::<usize>() < all {
        count_reason(&mut heard, next(&mut event_loop));
    }
    assert_eq!(heard, expected);
    assert_eq!(event_loop.connection_count(), 0);
    let late = turns(&mut event_loop, 3);
    assert_eq!(late, []);
}

/// What the events hold, and peers that must stay until the end.
type Kept = Vec<Event>;

fn accepted_among_others(event_loop: &mut EventLoop, kept: &mut Kept) -> ConnectionId {
    until(event_loop, |_, event| match event {
        Event::Accepted(_, id) => Some(id),
        other => {
            kept.push(other);
            None
        }
    })
}

fn count_reason(heard: &mut std::collections::HashMap<CloseReason, usize>, event: Event) {
    if let Event::Closed(_, reason) = event {
        *heard.entry(reason).or_default() += 1;
    }
}

/// Brings a connection to its end for this reason.
fn end(
    event_loop: &mut EventLoop,
    id: ConnectionId,
    peer: TcpStream,
    reason: CloseReason,
    kept: &mut Kept,
) {
    let connection = &mut event_loop[id];
    match reason {
        CloseReason::Finished => peer.shutdown(Shutdown::Write).unwrap(),
        CloseReason::Closed => {
            connection.close();
            peer.shutdown(Shutdown::Write).unwrap();
        }
        CloseReason::Aborted => connection.abort(),
        CloseReason::Reset => return reset(peer),
        CloseReason::Overflow => {
            connection.send(&[0]);
            connection.send(&[0; 100_000]);
        }
        CloseReason::TimedOut(Deadline::Idle) => {
            connection.set_idle_timeout(Some(Duration::from_millis(20))).unwrap();
        }
        CloseReason::TimedOut(Deadline::Close) => connection.close(),
        other => panic!("{other} is not made here"),
    }
    // The peer must not end by itself what is to end in another way.
    until(event_loop, |_, event| {
        kept.push(event);
        matches!(event, Event::Closed(closed, _) if closed == id).then_some(())
    });
    drop(peer);
}
