//! What the tests share: a loop with a listener, driving it, peers of plain `std`, and a pattern
//! that tells every byte's place.
//!
//! Nothing here sleeps to wait for something that it could observe. [`PATIENCE`] only bounds how
//! long a test that fails takes.

#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use readiness::{ConnectionId, Event, EventLoop, ListenerId};

/// After so long a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A loop that listens on a free port of IPv4 loopback.
pub fn listening<T: Default + 'static>() -> (EventLoop<T>, ListenerId, SocketAddr) {
    let mut event_loop = EventLoop::new().unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    (event_loop, listener, address)
}

/// A blocking peer that fails rather than hangs.
pub fn peer(address: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer.set_nodelay(true).unwrap();
    peer
}

/// The next event; panics if none comes.
pub fn next<T>(event_loop: &mut EventLoop<T>) -> Event {
    let event = event_loop.poll_event(Some(PATIENCE)).unwrap();
    event.expect("an event in time")
}

/// Hands each event to `handle` until it answers with something.
pub fn until<T, R>(
    event_loop: &mut EventLoop<T>,
    mut handle: impl FnMut(&mut EventLoop<T>, Event) -> Option<R>,
) -> R {
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "what the test waits for did not come");
        let event = next(event_loop);
        if let Some(outcome) = handle(event_loop, event) {
            return outcome;
        }
    }
}

/// Runs turns, handing each event to `handle`, until `done` says so.
pub fn drive<T>(
    event_loop: &mut EventLoop<T>,
    mut handle: impl FnMut(&mut EventLoop<T>, Event),
    mut done: impl FnMut() -> bool,
) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "what the test waits for did not come");
        if let Some(event) = event_loop.poll_event(Some(Duration::from_millis(1))).unwrap() {
            handle(event_loop, event);
        }
    }
}

/// The events of at most `count` turns that do not wait. Ends early only by `count`.
pub fn turns<T>(event_loop: &mut EventLoop<T>, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..count {
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            events.push(event);
        }
    }
    events
}

/// Waits for the next accepted connection, ignoring everything else.
pub fn accepted<T>(event_loop: &mut EventLoop<T>) -> ConnectionId {
    until(event_loop, |_, event| match event {
        Event::Accepted(_, id) => Some(id),
        _ => None,
    })
}

/// `count` bytes of a stream, from `offset` on, in which each byte tells its place.
pub fn pattern(offset: usize, count: usize) -> Vec<u8> {
    (offset..offset + count).map(pattern_at).collect()
}

/// The byte at one place of the pattern: no short period, so that bytes that were moved show.
pub fn pattern_at(place: usize) -> u8 {
    let mixed = (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8
}
