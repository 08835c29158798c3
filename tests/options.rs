//! The options of sockets: what the limits say reaches every connection. On Linux accepted sockets
//! have them from their listener, and the loop sets nothing; here this is proved.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use common::{accepted, next, peer, turns, until};
use readiness::{CloseReason, ConnectionId, ConnectionLimits, Deadline, Event, EventLoop, Limits};
use socket2::SockRef;

/// A loop with an accepted and an outgoing connection, and a change of its limits.
fn pair(change: impl FnOnce(&mut Limits)) -> (EventLoop, ConnectionId, ConnectionId) {
    let mut limits = Limits::default();
    change(&mut limits);
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    let outgoing = event_loop.connect(address, ());
    let (mut incoming, mut is_connected) = (None, false);
    let incoming = until(&mut event_loop, |_, event| {
        match event {
            Event::Accepted(_, id) => incoming = Some(id),
            Event::Connected(_) => is_connected = true,
            _ => {}
        }
        incoming.filter(|_| is_connected)
    });
    (event_loop, incoming, outgoing)
}

#[test]
fn no_delay_is_on_for_every_connection_by_default() {
    let (event_loop, incoming, outgoing) = pair(|_| {});
    for id in [incoming, outgoing] {
        assert!(SockRef::from(&*event_loop[id]).tcp_nodelay().unwrap());
        assert!(!SockRef::from(&*event_loop[id]).keepalive().unwrap());
    }
}

#[test]
fn no_delay_turned_off_is_off_for_every_connection() {
    let (event_loop, incoming, outgoing) = pair(|limits| limits.connection.nodelay = false);
    for id in [incoming, outgoing] {
        assert!(!SockRef::from(&*event_loop[id]).tcp_nodelay().unwrap());
    }
}

#[test]
fn keepalive_turned_on_is_on_for_every_connection_with_its_time() {
    let after = Duration::from_secs(75);
    let (event_loop, incoming, outgoing) = pair(|limits| limits.connection.keepalive = Some(after));
    for id in [incoming, outgoing] {
        assert!(SockRef::from(&*event_loop[id]).keepalive().unwrap());
        assert_eq!(SockRef::from(&*event_loop[id]).tcp_keepalive_time().unwrap(), after);
    }
}

#[test]
fn keepalive_of_one_connection_is_set_and_taken_back() {
    let (mut event_loop, incoming, outgoing) = pair(|_| {});
    event_loop[incoming].set_keepalive(Some(Duration::from_secs(40))).unwrap();
    assert!(SockRef::from(&*event_loop[incoming]).keepalive().unwrap());
    assert!(!SockRef::from(&*event_loop[outgoing]).keepalive().unwrap());
    event_loop[incoming].set_keepalive(None).unwrap();
    assert!(!SockRef::from(&*event_loop[incoming]).keepalive().unwrap());
}

#[test]
fn keepalive_below_one_second_is_refused_where_it_is_set() {
    let too_short = Duration::from_millis(999);
    let mut limits = Limits::default();
    limits.connection.keepalive = Some(too_short);
    let (mut event_loop, incoming, outgoing) = pair(|_| {});
    let refusals = [
        EventLoop::<()>::with_limits(limits.clone()).map(drop),
        event_loop[incoming].set_limits(limits.connection.clone()),
        event_loop[outgoing].set_limits(limits.connection.clone()),
    ];
    for refusal in refusals {
        let error = refusal.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("keepalive"), "{error}");
    }
    assert!(!SockRef::from(&*event_loop[incoming]).keepalive().unwrap());

    let shortest = Duration::from_secs(1);
    let (event_loop, incoming, _) = pair(|limits| limits.connection.keepalive = Some(shortest));
    let socket = SockRef::from(&*event_loop[incoming]);
    assert_eq!(socket.tcp_keepalive_time().unwrap(), shortest);
}

#[test]
fn options_among_new_limits_are_set_on_that_connection_alone() {
    let after = Duration::from_secs(40);
    let (mut event_loop, incoming, outgoing) = pair(|_| {});
    for (id, other) in [(incoming, outgoing), (outgoing, incoming)] {
        let mut limits = ConnectionLimits::default();
        limits.nodelay = false;
        limits.keepalive = Some(after);
        event_loop[id].set_limits(limits).unwrap();
        turns(&mut event_loop, 1);
        let socket = SockRef::from(&*event_loop[id]);
        assert!(!socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), after);
        let socket = SockRef::from(&*event_loop[other]);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());

        event_loop[id].set_limits(ConnectionLimits::default()).unwrap();
        turns(&mut event_loop, 1);
        let socket = SockRef::from(&*event_loop[id]);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());
    }
}

#[test]
fn idle_timeout_among_new_limits_counts_for_that_connection_alone() {
    let (mut event_loop, incoming, outgoing) = pair(|_| {});
    let mut limits = ConnectionLimits::default();
    limits.idle_timeout = Some(Duration::from_millis(60));
    event_loop[outgoing].set_limits(limits).unwrap();
    // Ends the wait if the timeout never comes.
    event_loop[incoming].set_deadline(Some(Duration::from_secs(5)));
    let idle = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(next(&mut event_loop), Event::Closed(outgoing, idle));
    // The end of one is the other's too, by a reset.
    assert_eq!(next(&mut event_loop), Event::Closed(incoming, CloseReason::Reset));
}

#[test]
fn new_limits_without_an_idle_timeout_take_it_back() {
    let (mut event_loop, incoming, outgoing) = pair(|limits| {
        limits.connection.idle_timeout = Some(Duration::from_secs(3600));
    });
    // Set by a call of its own or by the limits of the loop: both are taken back.
    let short = Duration::from_millis(60);
    event_loop[incoming].set_idle_timeout(Some(short));
    let mut limits = ConnectionLimits::default();
    limits.idle_timeout = Some(short);
    event_loop[outgoing].set_limits(limits).unwrap();
    for id in [incoming, outgoing] {
        event_loop[id].set_limits(ConnectionLimits::default()).unwrap();
    }
    turns(&mut event_loop, 1);
    event_loop[incoming].set_deadline(Some(4 * short));
    assert_eq!(next(&mut event_loop), Event::Deadline(incoming));
}

#[test]
fn new_limits_take_back_what_calls_of_their_own_have_set_also_where_the_limits_are_the_same() {
    let (mut event_loop, incoming, outgoing) = pair(|_| {});
    let short = Duration::from_millis(60);
    event_loop[incoming].set_idle_timeout(Some(short));
    event_loop[incoming].set_keepalive(Some(Duration::from_secs(10))).unwrap();
    turns(&mut event_loop, 1);
    event_loop[incoming].set_limits(ConnectionLimits::default()).unwrap();
    assert!(!SockRef::from(&*event_loop[incoming]).keepalive().unwrap());
    event_loop[outgoing].set_deadline(Some(4 * short));
    assert_eq!(next(&mut event_loop), Event::Deadline(outgoing));
}

#[test]
fn connections_of_an_adopted_listener_have_the_options_too() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    event_loop.adopt_listener(socket, || ()).unwrap();
    let _peer = peer(address);
    let id = accepted(&mut event_loop);
    assert!(SockRef::from(&*event_loop[id]).tcp_nodelay().unwrap());
}
