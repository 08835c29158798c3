//! `Write` is honest: it takes what fits and says how much that was, or acts whole, and never reports
//! success for bytes that are lost.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]

mod common;

use std::fmt;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::thread;

use common::steps::Steps;
use common::{
    accepted, connection_limits, drive_until_joined, flushed, hold_little, listening_with, next,
    pair, pair_with, pattern, pattern_at, peer, turns, until, until_closed,
};
use readiness::{CloseReason, ConnectionId, Event, EventLoop, Limits, Stream};

/// The pattern from its beginning, as long as it is asked for.
struct Source {
    place: usize,
    end: usize,
}

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = into.len().min(self.end - self.place);
        for (byte, place) in into[..count].iter_mut().zip(self.place..) {
            *byte = pattern_at(place);
        }
        self.place += count;
        Ok(count)
    }
}

/// Reads to the end, and checks that it is the pattern. Returns how much it was.
fn verify(mut peer: TcpStream) -> usize {
    let (mut place, mut bytes) = (0, vec![0; 64 * 1024]);
    loop {
        let count = peer.read(&mut bytes).unwrap();
        if count == 0 {
            return place;
        }
        assert_eq!(bytes[..count], pattern(place, count), "behind {place}");
        place += count;
    }
}

/// Limits with these marks.
fn marks(low_water: usize, high_water: usize, unsent_max: usize) -> Limits {
    connection_limits(|limits| {
        (limits.low_water, limits.high_water, limits.unsent_max) =
            (low_water, high_water, unsent_max);
    })
}

/// Returns a connection for whose peer the kernel takes no more, although bytes are unsent.
fn stuffed(limits: Limits) -> (EventLoop, ConnectionId, TcpStream, usize) {
    let (mut event_loop, id, peer) = pair_with::<()>(limits);
    hold_little(&event_loop, id, &peer);
    let mut sent = 0;
    // What is under way to the peer makes room for more, until nothing moves.
    let mut quiet = 0;
    while quiet < 20 {
        if event_loop[id].unsent() == 0 {
            event_loop[id].send(&pattern(sent, 1 << 20));
            (sent, quiet) = (sent + (1 << 20), 0);
        }
        let before = event_loop[id].unsent();
        event_loop.poll_event(Some(std::time::Duration::from_millis(1))).unwrap();
        quiet = if event_loop[id].unsent() == before { quiet + 1 } else { 0 };
    }
    (event_loop, id, peer, sent)
}

// Copying from elsewhere.

/// `std`'s own copy acts by `write_all`, which is whole or an error.
#[test]
fn copying_more_than_ever_fits_to_a_peer_that_does_not_read_is_an_error() {
    const MUCH: usize = 64 << 20;
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    let steps = Steps::of(&mut event_loop);
    let mut source = Source { place: 0, end: MUCH };
    let error = io::copy(&mut source, &mut *event_loop[id]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    let accepted = event_loop[id].unsent();
    let unsent_max = readiness::ConnectionLimits::default().unsent_max;
    assert!(accepted <= unsent_max && source.place > accepted);
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Overflow);
    let counted = flushed(&steps.all(), id) + event_loop[id].unsent() as u64;
    assert_eq!(counted + event_loop[id].lost(), accepted as u64);
}

/// Writes what the source has, until the stream takes no more. What `write` did not take is kept.
fn copy(source: &mut Source, stream: &mut Stream) -> io::Result<()> {
    let mut bytes = [0; 8 * 1024];
    loop {
        let begin = source.place;
        match source.read(&mut bytes)? {
            0 => return Ok(()),
            count => {
                // It is read again from where the stream stopped.
                source.place = begin;
                source.place += stream.write(&bytes[..count])?;
            }
        }
    }
}

#[test]
fn copying_by_write_stops_where_it_would_block_and_goes_on_at_drained_until_all_arrived() {
    const MUCH: usize = 8 << 20;
    const UNSENT_MAX: usize = 1 << 20;
    let (mut event_loop, id, peer) = pair_with::<()>(marks(1 << 14, 1 << 16, UNSENT_MAX));
    hold_little(&event_loop, id, &peer);
    let mut source = Source { place: 0, end: MUCH };
    let error = copy(&mut source, &mut event_loop[id]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    assert_eq!((event_loop[id].unsent(), source.place), (UNSENT_MAX, UNSENT_MAX));
    assert_eq!(turns(&mut event_loop, 3), []);
    // Only now does the peer read.
    let peer = thread::spawn(move || verify(peer));
    let (mut drained, mut blocked) = (0, 1);
    let reason = until(&mut event_loop, |event_loop, event| {
        if let Event::Closed(_, reason) = event {
            return Some(reason);
        }
        if let Event::Drained(id) = event {
            drained += 1;
            match copy(&mut source, &mut event_loop[id]) {
                Ok(()) => event_loop[id].finish(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    blocked += 1;
                }
            }
        }
        None
    });
    assert_eq!((reason, event_loop[id].lost()), (CloseReason::Finished, 0));
    assert_eq!(peer.join().unwrap(), MUCH);
    assert!(blocked >= 3, "it was full {blocked} times");
    assert_eq!(drained, blocked, "each time it was full it drained once");
}

// Short writes.

#[test]
fn short_or_refused_write_clogs_and_drained_follows() {
    // The high-water mark is not passed, since it is as high as the limit.
    let (mut event_loop, id, mut peer) = pair_with::<()>(marks(2, 8, 8));
    let stream = &mut *event_loop[id];
    assert_eq!(stream.write(b"").unwrap(), 0);
    assert_eq!(stream.write(b"12345").unwrap(), 5);
    assert!(!stream.is_clogged());
    assert_eq!(stream.write(b"6789").unwrap(), 3);
    assert!(stream.is_clogged(), "short");
    assert_eq!(stream.write(b"9").unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(stream.write(b"").unwrap(), 0, "nothing fits always");
    assert_eq!(next(&mut event_loop), Event::Drained(id));

    // Just what fits is no short one; the next is refused.
    let stream = &mut *event_loop[id];
    assert_eq!(stream.write(b"abcdefgh").unwrap(), 8);
    assert!(!stream.is_clogged());
    assert_eq!(stream.write(b"i").unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(stream.is_clogged(), "refused");
    assert_eq!(next(&mut event_loop), Event::Drained(id));
    assert_eq!(turns(&mut event_loop, 3), []);
    let mut bytes = [0; 16];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"12345678abcdefgh");
}

#[test]
fn vectored_write_is_short_where_no_more_fits() {
    let (mut event_loop, id, mut peer) = pair_with::<()>(marks(2, 8, 8));
    let slices =
        [IoSlice::new(b"123"), IoSlice::new(b""), IoSlice::new(b"456789"), IoSlice::new(b"0")];
    let stream = &mut *event_loop[id];
    assert_eq!(stream.write_vectored(&slices).unwrap(), 8);
    assert_eq!(stream.write_vectored(&slices).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert!(stream.is_clogged());
    assert_eq!(next(&mut event_loop), Event::Drained(id));
    let mut bytes = [0; 8];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"12345678");
}

#[test]
fn short_write_before_connected_drains_behind_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut event_loop: EventLoop = EventLoop::with_limits(marks(2, 8, 8)).unwrap();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    assert_eq!(event_loop[id].write(b"0123456789").unwrap(), 8);
    assert_eq!(next(&mut event_loop), Event::Connected(id));
    assert_eq!(next(&mut event_loop), Event::Drained(id));
    let mut bytes = [0; 8];
    listener.accept().unwrap().0.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"01234567");
}

// Whole or not at all.

/// Fails when it is shown, behind some bytes.
struct Unshowable;

impl fmt::Display for Unshowable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half")?;
        Err(fmt::Error)
    }
}

#[test]
fn write_all_and_write_fmt_take_all_or_nothing() {
    type WriteTen = fn(&mut Stream) -> io::Result<()>;
    let ways: [WriteTen; 3] = [
        |stream| stream.write_all(b"0123456789"),
        |stream| write!(stream, "{:0>5}{}", 1234, 56_789),
        |stream| stream.halves().1.write_all(b"0123456789"),
    ];
    for write_ten in ways {
        let (mut event_loop, id, mut peer) = pair_with::<()>(marks(2, 8, 16));
        // Into an empty buffer: any size.
        event_loop[id].set_limits(marks(2, 8, 8).connection).unwrap();
        write_ten(&mut event_loop[id]).unwrap();
        assert_eq!(event_loop[id].unsent(), 10);
        assert_eq!(next(&mut event_loop), Event::Drained(id));
        let mut bytes = [0; 10];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"0123456789");

        // Up to the limit, and not beyond.
        event_loop[id].set_limits(marks(2, 8, 16).connection).unwrap();
        event_loop[id].send(b"abcdef");
        write_ten(&mut event_loop[id]).unwrap();
        assert_eq!(event_loop[id].unsent(), 16);
        let error = write_ten(&mut event_loop[id]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (16, 0), "nothing of it");
        let again = write_ten(&mut event_loop[id]).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::BrokenPipe);
        assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Overflow));
    }
}

/// Panics when it is shown, after some bytes.
struct Panicking;

impl fmt::Display for Panicking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("half")?;
        panic!("this cannot be shown")
    }
}

/// Fails unless nothing follows `before ` in the write buffer, and what is written next arrives.
#[track_caller]
fn assert_goes_on(event_loop: &mut EventLoop, id: ConnectionId, peer: &mut TcpStream) {
    assert_eq!(event_loop[id].unsent(), 7);
    write!(event_loop[id], "and after").unwrap();
    assert_eq!(turns(event_loop, 2), []);
    let mut bytes = [0; 16];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"before and after");
}

#[test]
fn panic_while_formatting_appends_nothing_and_the_connection_goes_on() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].send(b"before ");
    let stream: &mut Stream = &mut event_loop[id];
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        write!(stream, "some {Panicking}")
    }));
    assert!(outcome.is_err());
    assert_goes_on(&mut event_loop, id, &mut peer);
}

#[test]
fn what_cannot_be_formatted_appends_nothing_and_the_connection_goes_on() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].send(b"before ");
    let error = write!(event_loop[id], "some {Unshowable}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert_goes_on(&mut event_loop, id, &mut peer);
}

#[test]
fn send_into_an_empty_write_buffer_is_taken_whatever_its_size() {
    const MUCH: usize = 20 << 20;
    let (mut event_loop, id, peer) = pair::<()>();
    assert!(MUCH > readiness::ConnectionLimits::default().unsent_max);
    event_loop[id].send(&pattern(0, MUCH));
    assert_eq!((event_loop[id].unsent(), event_loop[id].lost()), (MUCH, 0));
    // A write takes what fits, and that is nothing.
    assert_eq!(event_loop[id].write(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
    event_loop[id].finish();
    let peer = thread::spawn(move || verify(peer));
    assert_eq!(until_closed(&mut event_loop, id).1, CloseReason::Finished);
    assert_eq!(peer.join().unwrap(), MUCH);
}

// Marks that change.

#[test]
fn changed_limits_clog_and_drain_at_once() {
    let (mut event_loop, id, peer, sent) = stuffed(Limits::default());
    let unsent = event_loop[id].unsent();
    assert!(event_loop[id].is_clogged() && unsent > 2);
    // What is unsent is below these.
    let far = 4 * unsent;
    event_loop[id].set_limits(marks(2 * unsent, far, far).connection).unwrap();
    assert!(!event_loop[id].is_clogged());
    assert_eq!(next(&mut event_loop), Event::Drained(id));
    // And above these.
    event_loop[id].set_limits(marks(0, 1, far).connection).unwrap();
    assert!(event_loop[id].is_clogged());
    assert_eq!(turns(&mut event_loop, 3), []);
    let reader = thread::spawn(move || {
        let mut peer = peer;
        peer.read_exact(&mut vec![0; sent]).unwrap();
        peer
    });
    let mut events = Vec::new();
    let _peer = drive_until_joined(&mut event_loop, reader, |_, event| events.push(event));
    events.extend(turns(&mut event_loop, 2));
    assert_eq!(events, [Event::Drained(id)]);
}

// To many.

#[test]
fn send_each_reaches_all_that_are_named_and_skips_those_that_have_gone() {
    let (mut event_loop, address) = listening_with::<()>(Limits::default());
    let mut peers: Vec<TcpStream> = Vec::new();
    let ids: Vec<ConnectionId> = (0..4)
        .map(|_| {
            peers.push(peer(address));
            accepted(&mut event_loop)
        })
        .collect();
    drop(peers.remove(1));
    until(&mut event_loop, |_, event| matches!(event, Event::Closed(..)).then_some(()));
    // Its slot has a new owner, which is not named.
    turns(&mut event_loop, 1);
    let other = peer(address);
    let other_id = accepted(&mut event_loop);
    assert!(event_loop.get(ids[1]).is_none());
    assert_eq!(event_loop.send_each([ids[0], ids[1], ids[2]], b"to some"), 2);
    assert_eq!(event_loop.send_each([], b"to none"), 0);
    event_loop[other_id].send(b"x");
    event_loop[ids[3]].send(b"x");
    turns(&mut event_loop, 2);
    peers.push(other);
    for (peer, expected) in peers.iter_mut().zip([&b"to some"[..], b"to some", b"x", b"x"]) {
        let mut bytes = vec![0; expected.len()];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(bytes, expected);
    }
}
