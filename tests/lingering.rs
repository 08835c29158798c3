//! The linger time of a socket (`SO_LINGER`), by whichever way it got one.
//!
//! Above zero it makes `close(2)` wait until the peer has acknowledged everything, although the
//! socket does not block; zero turns a close into a reset. So it is taken off before a close that is
//! not meant as one. What a socket had when it was closed shows in a duplicate of its descriptor.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use common::{
    PATIENCE, accepted, connection_limits, hold_little, next, pattern, peer, read_in_thread, turns,
    until_closed,
};
use readiness::{ConnectionId, Event, EventLoop, Limits};
use socket2::SockRef;

/// Longer than a test waits for anything.
const LONG: Duration = Duration::from_secs(2 * PATIENCE.as_secs());

fn linger(socket: &impl AsFd) -> Option<Duration> {
    SockRef::from(socket).linger().unwrap()
}

fn set_linger(socket: &impl AsFd, time: Duration) {
    SockRef::from(socket).set_linger(Some(time)).unwrap();
}

/// A way for a connection to get a linger time. Returns the connection and its peer.
type Way = fn(&mut EventLoop, Duration) -> (ConnectionId, TcpStream);

fn adopted_stream(event_loop: &mut EventLoop, time: Duration) -> (ConnectionId, TcpStream) {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
    set_linger(&stream, time);
    let id = event_loop.adopt_stream(stream, ()).unwrap();
    assert_eq!(next(event_loop), Event::Connected(id));
    (id, elsewhere.accept().unwrap().0)
}

fn adopted_listener(event_loop: &mut EventLoop, time: Duration) -> (ConnectionId, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_linger(&listener, time);
    let peer = peer(listener.local_addr().unwrap());
    event_loop.adopt_listener(listener, |_| ()).unwrap();
    (accepted(event_loop), peer)
}

fn set_by_the_program(event_loop: &mut EventLoop, time: Duration) -> (ConnectionId, TcpStream) {
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let peer = peer(event_loop.listener_addr(listener).unwrap());
    let id = accepted(event_loop);
    set_linger(&*event_loop[id], time);
    (id, peer)
}

const WAYS: [Way; 3] = [adopted_stream, adopted_listener, set_by_the_program];

/// Returns a connection with a linger time, a duplicate of its descriptor, and its peer.
fn lingering(way: Way, limits: Limits) -> (EventLoop, ConnectionId, OwnedFd, TcpStream) {
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let (id, peer) = way(&mut event_loop, LONG);
    let duplicate = event_loop[id].as_fd().try_clone_to_owned().unwrap();
    assert_eq!(linger(&duplicate), Some(LONG));
    (event_loop, id, duplicate, peer)
}

#[test]
fn linger_time_is_taken_off_before_a_close() {
    for way in WAYS {
        let (mut event_loop, id, duplicate, peer) = lingering(way, Limits::default());
        event_loop[id].close();
        turns(&mut event_loop, 1);
        drop(peer);
        until_closed(&mut event_loop, id);
        assert_eq!(linger(&duplicate), None);
    }
}

#[test]
fn linger_time_is_replaced_by_zero_before_an_abort() {
    for way in WAYS {
        let (mut event_loop, id, duplicate, _peer) = lingering(way, Limits::default());
        event_loop[id].abort();
        until_closed(&mut event_loop, id);
        assert_eq!(linger(&duplicate), Some(Duration::ZERO));
    }
}

#[test]
fn linger_time_is_taken_off_where_a_loop_is_dropped() {
    for way in WAYS {
        let (event_loop, _, duplicate, _peer) = lingering(way, Limits::default());
        drop(event_loop);
        assert_eq!(linger(&duplicate), None);
    }
}

#[test]
fn linger_time_of_a_stream_that_cannot_be_adopted_is_taken_off() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    // As a stream it is of the wrong kind.
    let listener: TcpStream = socket2::Socket::from(elsewhere.try_clone().unwrap()).into();
    set_linger(&listener, LONG);
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let error = event_loop.adopt_stream(listener, ()).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(linger(&elsewhere), None);
}

/// The peer reads nothing, and the loop gives up on it, while the kernel still has bytes for it.
#[test]
fn loop_with_a_lingering_connection_does_not_block_in_close_or_drop() {
    for way in WAYS {
        let limits = connection_limits(|limits| {
            limits.close_quiet_deadline = Duration::from_millis(20);
        });
        let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
        let begin = Instant::now();
        let (closed, peer_of_closed) = way(&mut event_loop, LONG);
        let (dropped, peer_of_dropped) = way(&mut event_loop, LONG);
        for (id, peer) in [(closed, &peer_of_closed), (dropped, &peer_of_dropped)] {
            hold_little(&event_loop, id, peer);
            event_loop[id].send(&pattern(0, 100_000));
        }
        turns(&mut event_loop, 2);
        event_loop[closed].close();
        until_closed(&mut event_loop, closed);
        drop(event_loop);
        assert!(begin.elapsed() < PATIENCE, "a close waits for the peer");
    }
}

#[test]
fn linger_time_of_zero_on_a_listener_resets_no_complete_answer() {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let (id, peer) = adopted_listener(&mut event_loop, Duration::ZERO);
    let answer = pattern(0, 60_000);
    event_loop[id].send(&answer);
    event_loop[id].close();
    turns(&mut event_loop, 1);
    // It has closed before the peer reads the first byte.
    peer.shutdown(std::net::Shutdown::Write).unwrap();
    until_closed(&mut event_loop, id);
    let (read, end) = read_in_thread(peer).join().unwrap();
    assert!(read == answer, "{} bytes arrived, {end:?}", read.len());
    assert!(end.is_ok(), "{end:?}");
}
