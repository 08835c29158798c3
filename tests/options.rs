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

/// Returns a loop with an accepted and an outgoing connection, and a change of its limits.
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
    // Ends the wait if the timeout never passes.
    event_loop[incoming].set_deadline(Some(Duration::from_secs(5)));
    let idle = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(next(&mut event_loop), Event::Closed(outgoing, idle));
    // The end of one is the other's too.
    assert_eq!(next(&mut event_loop), Event::PeerFinished(incoming));
}

#[test]
fn new_limits_without_an_idle_timeout_take_it_back() {
    let (mut event_loop, incoming, outgoing) = pair(|limits| {
        limits.connection.idle_timeout = Some(Duration::from_secs(3600));
    });
    // Set by a call on the connection or by the limits of the loop: both are cancelled.
    let short = Duration::from_millis(60);
    event_loop[incoming].set_idle_timeout(Some(short)).unwrap();
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
    event_loop[incoming].set_idle_timeout(Some(short)).unwrap();
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
    event_loop.adopt_listener(socket, |_| ()).unwrap();
    let _peer = peer(address);
    let id = accepted(&mut event_loop);
    assert!(SockRef::from(&*event_loop[id]).tcp_nodelay().unwrap());
}

// Setters refuse what the limits refuse, and then change nothing.

fn assert_refused(outcome: std::io::Result<()>, field: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().starts_with(field), "{error}");
}

#[test]
fn keepalive_out_of_range_is_refused_by_its_setter_and_stays_as_it_was() {
    let out_of_range = [
        Duration::ZERO,
        Duration::from_millis(100),
        Duration::from_secs(32_768),
        Duration::from_secs(24 * 3600),
        Duration::MAX,
    ];
    let (mut event_loop, off, on) = pair(|_| {});
    let before = Duration::from_secs(40);
    event_loop[on].set_keepalive(Some(before)).unwrap();
    for after in out_of_range {
        assert_refused(event_loop[off].set_keepalive(Some(after)), "keepalive");
        assert_refused(event_loop[on].set_keepalive(Some(after)), "keepalive");
        let mut limits = ConnectionLimits::default();
        limits.keepalive = Some(after);
        assert_refused(event_loop[off].set_limits(limits.clone()), "keepalive");
        let mut of_loop = Limits::default();
        of_loop.connection = limits;
        assert_refused(EventLoop::<()>::with_limits(of_loop).map(drop), "keepalive");
    }
    assert!(!SockRef::from(&*event_loop[off]).keepalive().unwrap());
    assert!(SockRef::from(&*event_loop[on]).keepalive().unwrap());
    assert_eq!(SockRef::from(&*event_loop[on]).tcp_keepalive_time().unwrap(), before);
    // The longest that is taken works.
    let longest = Duration::from_secs(32_767);
    event_loop[off].set_keepalive(Some(longest)).unwrap();
    assert_eq!(SockRef::from(&*event_loop[off]).tcp_keepalive_time().unwrap(), longest);
}

#[test]
fn idle_timeout_of_zero_is_refused_by_its_setter_and_stays_as_it_was() {
    let (mut event_loop, incoming, outgoing) = pair(|_| {});
    event_loop[incoming].set_idle_timeout(Some(Duration::from_millis(30))).unwrap();
    for id in [incoming, outgoing] {
        assert_refused(event_loop[id].set_idle_timeout(Some(Duration::ZERO)), "idle_timeout");
    }
    let idle = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(next(&mut event_loop), Event::Closed(incoming, idle));
}

#[test]
fn event_capacity_beyond_all_descriptors_is_refused_and_the_largest_works() {
    for capacity in [(1 << 20) + 1, 178_956_971, 1 << 31, usize::MAX] {
        let mut limits = Limits::default();
        limits.event_capacity = capacity;
        assert_refused(EventLoop::<()>::with_limits(limits).map(drop), "event_capacity");
    }
    let (mut event_loop, incoming, outgoing) = pair(|limits| limits.event_capacity = 1 << 20);
    event_loop[outgoing].send(b"hello");
    until(&mut event_loop, |_, event| (event == Event::Received(incoming)).then_some(()));
}

#[test]
fn new_marks_are_compared_with_the_unsent_bytes_at_once() {
    const UNSENT: usize = 10_000_000;
    let (mut event_loop, id, _peer) = common::pair::<()>();
    event_loop[id].send(&vec![1; UNSENT]);
    turns(&mut event_loop, 2);
    assert!(event_loop[id].is_clogged());
    let mut wide = ConnectionLimits::default();
    (wide.low_water, wide.high_water) = (UNSENT, UNSENT + 1);
    event_loop[id].set_limits(wide).unwrap();
    assert!(!event_loop[id].is_clogged());
    assert_eq!(next(&mut event_loop), Event::Drained(id));
    event_loop[id].set_limits(ConnectionLimits::default()).unwrap();
    assert!(event_loop[id].is_clogged(), "lowered below the unsent bytes");
    assert_eq!(turns(&mut event_loop, 2), []);
}

#[test]
fn adopting_changes_no_option_that_the_limits_do_not_ask_for() {
    let after = Duration::from_secs(50);
    let set_options = |socket: SockRef<'_>| {
        let keepalive = socket2::TcpKeepalive::new().with_time(after);
        socket.set_tcp_keepalive(&keepalive).unwrap();
        socket.set_tcp_nodelay(true).unwrap();
    };
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    set_options(SockRef::from(&elsewhere));
    let stream = std::net::TcpStream::connect(elsewhere.local_addr().unwrap()).unwrap();
    set_options(SockRef::from(&stream));
    let mut limits = Limits::default();
    limits.connection.nodelay = false;
    let mut event_loop: EventLoop = EventLoop::with_limits(limits).unwrap();
    let address = elsewhere.local_addr().unwrap();
    let adopted = event_loop.adopt_stream(stream, ()).unwrap();
    event_loop.adopt_listener(elsewhere, |_| ()).unwrap();
    let _peer = peer(address);
    let accepted = accepted(&mut event_loop);
    for id in [adopted, accepted] {
        let socket = SockRef::from(&*event_loop[id]);
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), after);
        assert!(socket.tcp_nodelay().unwrap());
    }
}

#[test]
fn descriptor_of_a_connection_without_a_socket_is_an_error_and_no_panic() {
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    // Never a socket: the address cannot be connected to.
    let id = event_loop.connect_unix("", ());
    assert_eq!(event_loop[id].try_as_fd().unwrap_err().kind(), ErrorKind::NotConnected);
    assert!(matches!(next(&mut event_loop), Event::Closed(closed, _) if closed == id));
    assert_eq!(event_loop[id].try_as_fd().unwrap_err().kind(), ErrorKind::NotConnected);

    let (mut event_loop, id, peer) = common::pair::<()>();
    event_loop[id].try_as_fd().unwrap();
    drop(peer);
    common::until_closed(&mut event_loop, id);
    assert_eq!(event_loop[id].try_as_fd().unwrap_err().kind(), ErrorKind::NotConnected);
}
