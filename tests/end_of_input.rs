//! Reading where nothing more will arrive: after the peer's end, after our own close, and while
//! `Closed` is handled.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use common::{
    connection_limits, next, pair, pair_with, pattern, reset, turns, until, until_closed,
};
use readiness::{CloseReason, ConnectionId, Event, EventLoop};

/// Reads in every way, until nothing is left: the bytes, and how the input ends.
fn read_out(event_loop: &mut EventLoop, id: ConnectionId) -> (Vec<u8>, Result<(), ErrorKind>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 3]);
    let end = loop {
        match event_loop[id].read(&mut piece) {
            Ok(0) => break Ok(()),
            Ok(count) => bytes.extend(&piece[..count]),
            Err(error) => break Err(error.kind()),
        }
    };
    let connection = &mut event_loop[id];
    let (mut rest, mut text) = (Vec::new(), String::new());
    let again = [
        connection.fill_buf().map(<[u8]>::len),
        connection.read_until(b'\n', &mut rest),
        connection.skip_until(b'\n'),
        connection.read_line(&mut text),
        connection.read_to_end(&mut rest),
        connection.read_to_string(&mut text),
    ];
    for outcome in again {
        assert_eq!(outcome.map_err(|error| error.kind()), end.map(|()| 0));
    }
    let exact = connection.read_exact(&mut piece).unwrap_err().kind();
    assert_eq!(exact, end.err().unwrap_or(ErrorKind::UnexpectedEof));
    (bytes, end)
}

/// Returns a connection that has received something, and its peer.
fn having_received(bytes: &[u8]) -> (EventLoop, ConnectionId, TcpStream) {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(bytes).unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    (event_loop, id, peer)
}

fn assert_read_at_closed(
    (mut event_loop, id): (EventLoop, ConnectionId),
    reason: CloseReason,
    end: Result<(), ErrorKind>,
) {
    assert_eq!(until_closed(&mut event_loop, id).1, reason);
    assert_eq!(read_out(&mut event_loop, id), (b"received".to_vec(), end));
}

#[test]
fn closed_by_both_sides_reads_what_was_received_and_then_the_end() {
    let (event_loop, id, peer) = having_received(b"received");
    peer.shutdown(Shutdown::Write).unwrap();
    assert_read_at_closed((event_loop, id), CloseReason::Finished, Ok(()));
}

#[test]
fn reset_reads_what_was_received_and_then_the_reset() {
    let (event_loop, id, peer) = having_received(b"received");
    reset(peer);
    let end = Err(ErrorKind::ConnectionReset);
    assert_read_at_closed((event_loop, id), CloseReason::Reset, end);
}

#[test]
fn closed_aborted_and_timed_out_read_what_was_received_and_then_why() {
    let (mut event_loop, id, peer) = having_received(b"received");
    event_loop[id].close();
    drop(peer);
    assert_read_at_closed((event_loop, id), CloseReason::Closed, Ok(()));

    let (mut event_loop, id, _peer) = having_received(b"received");
    event_loop[id].abort();
    let end = Err(ErrorKind::ConnectionAborted);
    assert_read_at_closed((event_loop, id), CloseReason::Aborted, end);

    let (mut event_loop, id, _peer) = having_received(b"received");
    event_loop[id].set_idle_timeout(Some(Duration::from_millis(5))).unwrap();
    let reason = CloseReason::TimedOut(readiness::Deadline::Idle);
    assert_read_at_closed((event_loop, id), reason, Err(ErrorKind::TimedOut));
}

#[test]
fn half_a_line_before_a_reset_is_no_line_and_stays() {
    let (mut event_loop, id, peer) = having_received(b"a line\nhalf of");
    reset(peer);
    until_closed(&mut event_loop, id);
    let mut line = String::new();
    assert_eq!(event_loop[id].read_line(&mut line).unwrap(), 7);
    let error = event_loop[id].read_line(&mut line).unwrap_err();
    assert_eq!((error.kind(), line.as_str()), (ErrorKind::ConnectionReset, "a line\n"));
    let error = event_loop[id].read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert_eq!(event_loop[id].received(), b"half of");
}

#[test]
fn behind_our_own_close_there_is_nothing_to_wait_for() {
    let (mut event_loop, id, _peer) = having_received(b"received");
    event_loop[id].close();
    assert_eq!(read_out(&mut event_loop, id), (b"received".to_vec(), Ok(())));
    turns(&mut event_loop, 2);
    assert_eq!(read_out(&mut event_loop, id), (Vec::new(), Ok(())));
}

#[test]
fn reading_into_nothing_reads_nothing_and_never_blocks() {
    let (mut event_loop, id, peer) = pair::<()>();
    assert_eq!(event_loop[id].read(&mut []).unwrap(), 0);
    event_loop[id].read_exact(&mut []).unwrap();
    drop(peer);
    until_closed(&mut event_loop, id);
    assert_eq!(event_loop[id].read(&mut []).unwrap(), 0);
}

/// What fills the read buffer exactly to its last byte is complete if the end follows it.
#[test]
fn message_of_just_the_read_buffer_and_an_end_is_read_to_the_end() {
    for size in [1, 8, 1000, 64 * 1024] {
        let limits = connection_limits(|limits| limits.read_buffer_max = size);
        let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
        event_loop[id].allow_half_open(true);
        peer.write_all(&pattern(0, size)).unwrap();
        let mut bytes = Vec::new();
        until(&mut event_loop, |event_loop, _| {
            let received = event_loop[id].received().len();
            (received == size).then_some(())
        });
        let error = event_loop[id].read_to_end(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "the end may still arrive");
        assert_eq!(next(&mut event_loop), Event::Full(id));
        peer.shutdown(Shutdown::Write).unwrap();
        assert_eq!(next(&mut event_loop), Event::PeerFinished(id));
        assert_eq!(event_loop[id].read_to_end(&mut bytes).unwrap(), size);
        assert!(bytes == pattern(0, size));
    }
}

#[test]
fn read_exact_of_just_the_read_buffer_takes_it() {
    const SIZE: usize = 1000;
    let limits = connection_limits(|limits| limits.read_buffer_max = SIZE);
    let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
    peer.write_all(&pattern(0, 3 * SIZE)).unwrap();
    let mut bytes = vec![0; SIZE];
    for round in 0..3 {
        until(&mut event_loop, |event_loop, _| {
            (event_loop[id].received().len() == SIZE).then_some(())
        });
        let error = event_loop[id].read_exact(&mut vec![0; SIZE + 1]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData);
        event_loop[id].read_exact(&mut bytes).unwrap();
        assert!(bytes == pattern(round * SIZE, SIZE));
    }
}
