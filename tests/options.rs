//! The options of sockets: what the limits say reaches every connection. On Linux accepted sockets
//! have them from their listener, and the loop sets nothing; here this is proved.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::net::TcpListener;
use std::time::Duration;

use common::{accepted, peer, until};
use readiness::{ConnectionId, Event, EventLoop, Limits};
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
fn connections_of_an_adopted_listener_have_the_options_too() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    event_loop.adopt_listener(socket, || ()).unwrap();
    let _peer = peer(address);
    let id = accepted(&mut event_loop);
    assert!(SockRef::from(&*event_loop[id]).tcp_nodelay().unwrap());
}
