//! Streaming: what was received goes on elsewhere, readers wait for writers, and the standard
//! traits take whole things or nothing.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use common::{
    accepted, connection_limits, drive_until_joined, flushed, hold_little, listening, next, pair,
    pair_with, pattern, peer, read_in_thread, steps, turns, until, until_closed, until_step,
};
use readiness::{
    CloseReason, ConnectionId, ConnectionLimits, Event, EventLoop, Interest, Limits, Step,
};

/// More than both kernels hold once [`hold_little`] was called.
const TOO_MUCH: usize = 4 * 1024 * 1024;

fn received<T>(event_loop: &mut EventLoop<T>, id: ConnectionId) {
    until(event_loop, |_, event| (event == Event::Received(id)).then_some(()));
}

/// Returns two accepted connections and their peers.
fn two() -> (EventLoop, [ConnectionId; 2], [TcpStream; 2]) {
    let (mut event_loop, _, address) = listening::<()>();
    let first = peer(address);
    let first_id = accepted(&mut event_loop);
    let second = peer(address);
    let second_id = accepted(&mut event_loop);
    (event_loop, [first_id, second_id], [first, second])
}

/// Sends until the peer, which reads nothing, leaves some of it unsent.
fn clog(event_loop: &mut EventLoop, id: ConnectionId, peer: &TcpStream) {
    hold_little(event_loop, id, peer);
    event_loop[id].send(&pattern(0, TOO_MUCH));
    let steps = steps(event_loop);
    until_step(event_loop, &steps, |step| *step == Step::WriteBlocked { id });
    assert!(event_loop[id].unsent() > 0);
}

fn read_exactly_in_thread(peer: &TcpStream, count: usize) -> thread::JoinHandle<Vec<u8>> {
    let mut peer = peer.try_clone().unwrap();
    thread::spawn(move || {
        let mut bytes = vec![0; count];
        peer.read_exact(&mut bytes).unwrap();
        bytes
    })
}

// Sending on what was received.

#[test]
fn send_received_returns_the_stream_whole_however_it_is_cut() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut writer = peer(address);
    let reader = read_in_thread(writer.try_clone().unwrap());
    let sent = pattern(0, TOO_MUCH);
    let expected = sent.clone();
    let writer = thread::spawn(move || {
        let (mut left, mut size) = (&sent[..], 1);
        while !left.is_empty() {
            let (piece, rest) = left.split_at(size.min(left.len()));
            writer.write_all(piece).unwrap();
            left = rest;
            size = size * 3 % 99_991;
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let (bytes, outcome) = drive_until_joined(&mut event_loop, reader, |event_loop, event| {
        if let Event::Received(id) = event {
            event_loop[id].send_received();
            assert!(event_loop[id].received().is_empty());
        }
    });
    outcome.unwrap();
    writer.join().unwrap();
    assert!(bytes == expected);
}

#[test]
fn send_received_after_finish_is_lost_and_consumed() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].finish();
    peer.write_all(b"late").unwrap();
    received(&mut event_loop, id);
    event_loop[id].send_received();
    assert_eq!(event_loop[id].lost(), 4);
    assert!(event_loop[id].received().is_empty());
}

#[test]
fn transfer_moves_all_and_to_itself_is_an_echo() {
    let (mut event_loop, [from, to], [mut sender, mut receiver]) = two();
    sender.write_all(b"for the other").unwrap();
    received(&mut event_loop, from);
    assert_eq!(event_loop.transfer(from, to), 13);
    assert_eq!(event_loop.transfer(from, to), 0, "nothing is left");
    assert_eq!(event_loop[to].unsent(), 13);
    turns(&mut event_loop, 1);
    receiver.read_exact(&mut [0; 13]).unwrap();

    sender.write_all(b"back").unwrap();
    received(&mut event_loop, from);
    assert_eq!(event_loop.transfer(from, from), 4);
    turns(&mut event_loop, 1);
    let mut back = [0; 4];
    sender.read_exact(&mut back).unwrap();
    assert_eq!(&back, b"back");
}

#[test]
fn transfer_goes_above_the_high_water_mark() {
    let (mut event_loop, [from, to], [mut sender, receiver]) = two();
    clog(&mut event_loop, to, &receiver);
    let unsent = event_loop[to].unsent();
    sender.write_all(b"more").unwrap();
    received(&mut event_loop, from);
    assert_eq!(event_loop.transfer(from, to), 4);
    assert_eq!(event_loop[to].unsent(), unsent + 4);
    let reader = read_exactly_in_thread(&receiver, TOO_MUCH + 4);
    let bytes = drive_until_joined(&mut event_loop, reader, |_, _| {});
    assert_eq!(bytes[TOO_MUCH..], *b"more", "behind what was there");
}

#[test]
fn transfer_to_one_that_has_finished_moves_nothing() {
    type End = fn(&mut readiness::Stream);
    let ends: [End; 3] =
        [readiness::Stream::finish, readiness::Stream::close, readiness::Stream::abort];
    for end in ends {
        let (mut event_loop, [from, to], [mut sender, _receiver]) = two();
        sender.write_all(b"kept").unwrap();
        received(&mut event_loop, from);
        end(&mut event_loop[to]);
        assert_eq!(event_loop.transfer(from, to), 0);
        assert_eq!(event_loop[from].received(), b"kept");
        assert_eq!(event_loop[to].lost(), 0);
        end(&mut event_loop[from]);
        assert_eq!(event_loop.transfer(from, from), 0);
    }
}

#[test]
fn transfer_beyond_the_hard_cap_moves_nothing_and_closes_the_target() {
    let limits = |most: usize| {
        let mut limits = ConnectionLimits::default();
        (limits.low_water, limits.high_water, limits.unsent_max) = (0, 4, most);
        limits
    };
    let (mut event_loop, [from, to], [mut sender, _receiver]) = two();
    event_loop[to].set_limits(limits(8)).unwrap();
    sender.write_all(b"too much for it").unwrap();
    received(&mut event_loop, from);
    event_loop[to].send(b"first");
    assert_eq!(event_loop.transfer(from, to), 0);
    assert_eq!(event_loop[from].received(), b"too much for it");
    assert_eq!(next(&mut event_loop), Event::Closed(to, CloseReason::Overflow));

    event_loop[from].set_limits(limits(8)).unwrap();
    event_loop[from].send(b"first");
    assert_eq!(event_loop.transfer(from, from), 0, "nor to itself");
    assert_eq!(event_loop[from].received(), b"too much for it");
    assert_eq!(next(&mut event_loop), Event::Closed(from, CloseReason::Overflow));
}

#[test]
fn transfer_or_send_into_an_empty_write_buffer_is_taken_whatever_its_size() {
    let mut limits = ConnectionLimits::default();
    (limits.low_water, limits.high_water, limits.unsent_max) = (0, 4, 8);
    let (mut event_loop, [from, to], [mut sender, mut receiver]) = two();
    event_loop[to].set_limits(limits).unwrap();
    sender.write_all(b"more than the limit").unwrap();
    received(&mut event_loop, from);
    assert_eq!(event_loop.transfer(from, to), 19);
    assert!(event_loop[to].is_clogged());
    assert_eq!(next(&mut event_loop), Event::Drained(to));
    event_loop[to].send(b" and once more");
    assert_eq!((event_loop[to].unsent(), event_loop[to].lost()), (14, 0));
    assert_eq!(next(&mut event_loop), Event::Drained(to));
    let mut bytes = [0; 33];
    receiver.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"more than the limit and once more");
}

#[test]
fn transfer_while_closed_is_handled_saves_what_was_left() {
    let (mut event_loop, [from, to], [mut sender, mut receiver]) = two();
    sender.write_all(b"left to the end").unwrap();
    drop(sender);
    until_closed(&mut event_loop, from);
    assert_eq!(event_loop.transfer(to, from), 0, "the closed one takes nothing");
    assert_eq!(event_loop.transfer(from, to), 15);
    assert_eq!(turns(&mut event_loop, 1), []);
    assert_eq!(event_loop.transfer(from, to), 0, "it has gone");
    let mut bytes = [0; 15];
    receiver.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"left to the end");
}

// Coupling.

#[test]
fn coupled_reader_reads_only_while_the_writer_has_nothing_unsent() {
    let (mut event_loop, [reader, writer], [mut talker, listener]) = two();
    clog(&mut event_loop, writer, &listener);
    event_loop.couple(reader, writer);
    turns(&mut event_loop, 1);
    talker.write_all(b"wait").unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop[reader].interest(), Interest::None);

    // All leaves without any other event, and the loop is in a wait without a timeout: the reader
    // must be resumed in spite of that.
    let low = read_exactly_in_thread(&listener, TOO_MUCH);
    let mut drained = false;
    until(&mut event_loop, |event_loop, event| match event {
        Event::Drained(id) => {
            assert_eq!(id, writer);
            drained = true;
            None
        }
        Event::Received(id) => {
            assert_eq!((id, event_loop[writer].unsent()), (reader, 0));
            Some(())
        }
        other => panic!("{other:?}"),
    });
    assert!(drained);
    low.join().unwrap();
    assert_eq!(event_loop[reader].received(), b"wait");
}

#[test]
fn reader_goes_on_when_the_writers_last_bytes_leave_without_an_event() {
    let (mut event_loop, [reader, writer], [mut talker, mut listener]) = two();
    // Below the high-water mark there is no Drained, so only the coupling resumes the reader.
    let mut limits = ConnectionLimits::default();
    limits.unsent_max = 2 * TOO_MUCH;
    limits.high_water = 2 * TOO_MUCH;
    event_loop[writer].set_limits(limits).unwrap();
    clog(&mut event_loop, writer, &listener);
    assert!(!event_loop[writer].is_clogged());
    event_loop.couple(reader, writer);
    talker.write_all(b"wait").unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    let drain = thread::spawn(move || {
        let mut bytes = vec![0; TOO_MUCH];
        listener.read_exact(&mut bytes).map(|()| listener)
    });
    assert_eq!(next(&mut event_loop), Event::Received(reader));
    drain.join().unwrap().unwrap();
}

#[test]
fn couple_ends_with_the_writers_closed() {
    let (mut event_loop, [reader, writer], [mut talker, listener]) = two();
    clog(&mut event_loop, writer, &listener);
    event_loop.couple(reader, writer);
    talker.write_all(b"wait").unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop[writer].abort();
    assert_eq!(next(&mut event_loop), Event::Closed(writer, CloseReason::Aborted));
    assert_eq!(next(&mut event_loop), Event::Received(reader));
}

#[test]
fn uncoupled_reader_reads_whatever_is_unsent() {
    let (mut event_loop, [reader, writer], [mut talker, mut listener]) = two();
    clog(&mut event_loop, writer, &listener);
    event_loop.couple(reader, writer);
    talker.write_all(b"wait").unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop.uncouple(reader);
    assert_eq!(next(&mut event_loop), Event::Received(reader));

    // An accepted one is coupled to itself at first.
    listener.write_all(b"me too").unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop[writer].interest(), Interest::Writable);
    event_loop.uncouple(writer);
    assert_eq!(next(&mut event_loop), Event::Received(writer));
    assert_eq!(event_loop[writer].interest(), Interest::ReadableWritable);
    event_loop.couple(writer, writer);
    turns(&mut event_loop, 1);
    assert_eq!(event_loop[writer].interest(), Interest::Writable);
}

#[test]
fn couple_to_another_takes_the_place_of_the_one_before() {
    let (mut event_loop, [reader, writer], [mut talker, listener]) = two();
    clog(&mut event_loop, writer, &listener);
    event_loop.couple(reader, writer);
    talker.write_all(b"wait").unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop.couple(reader, reader);
    assert_eq!(next(&mut event_loop), Event::Received(reader));
}

/// Echoes to its one client until that finishes.
fn backend() -> (SocketAddr, thread::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let echo = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let (mut bytes, mut all) = (vec![0; 1 << 16], 0);
        loop {
            let count = stream.read(&mut bytes).unwrap();
            if count == 0 {
                return all;
            }
            stream.write_all(&bytes[..count]).unwrap();
            all += count;
        }
    });
    (address, echo)
}

#[test]
fn proxy_of_coupled_halves_passes_everything_and_both_ends() {
    const SIZE: usize = 16 * 1024 * 1024;
    let (target, echo) = backend();
    let mut proxy: EventLoop<Option<ConnectionId>> = EventLoop::new().unwrap();
    let listener = proxy.listen("127.0.0.1:0").unwrap();
    let client = peer(proxy.listener_addr(listener).unwrap());
    let mut writer = client.try_clone().unwrap();
    let writer = thread::spawn(move || {
        writer.write_all(&pattern(0, SIZE)).unwrap();
        writer.shutdown(Shutdown::Write).unwrap();
    });
    let reader = read_in_thread(client);
    let (mut most, mut closed) = (0, 0);
    let (bytes, outcome) = drive_until_joined(&mut proxy, reader, |proxy, event| match event {
        Event::Accepted(_, front) => {
            let back = proxy.connect(target, Some(front));
            proxy[front].data = Some(back);
            for (half, other) in [(front, back), (back, front)] {
                proxy.couple(half, other);
                proxy[half].allow_half_open(true);
            }
        }
        Event::Received(id) => {
            let other = proxy[id].data.unwrap();
            assert!(proxy.transfer(id, other) > 0);
            most = most.max(proxy[other].unsent());
        }
        Event::PeerFinished(id) => {
            let other = proxy[id].data.unwrap();
            proxy[other].finish();
        }
        Event::Closed(_, reason) => {
            assert_eq!(reason, CloseReason::Finished);
            closed += 1;
        }
        _ => {}
    });
    outcome.unwrap();
    writer.join().unwrap();
    assert_eq!(echo.join().unwrap(), SIZE);
    assert!(bytes == pattern(0, SIZE));
    assert!(most <= 64 * 1024, "no more than one read of each half is held: {most}");
    while closed < 2 {
        match next(&mut proxy) {
            Event::Closed(_, reason) => assert_eq!(reason, CloseReason::Finished),
            _ => continue,
        }
        closed += 1;
    }
}

/// Sends `answer` once its one client has ended its direction, and ends. Returns what the client
/// sent.
fn server_that_answers_at_the_end(answer: Vec<u8>) -> (SocketAddr, thread::JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut question = Vec::new();
        stream.read_to_end(&mut question).unwrap();
        stream.write_all(&answer).unwrap();
        question
    });
    (address, server)
}

/// Handles an event as a proxy whose halves pass on the other's end: each connection's data is its
/// other half.
fn pass_on(proxy: &mut EventLoop<Option<ConnectionId>>, event: Event, target: SocketAddr) {
    match event {
        Event::Accepted(_, front) => {
            let back = proxy.connect(target, Some(front));
            proxy[front].data = Some(back);
            for (half, other) in [(front, back), (back, front)] {
                proxy.couple(half, other);
                proxy[half].allow_half_open(true);
            }
        }
        Event::Received(id) => {
            if let Some(other) = proxy[id].data {
                proxy.transfer(id, other);
            }
        }
        Event::PeerFinished(id) => {
            if let Some(other) = proxy[id].data.and_then(|other| proxy.get_mut(other)) {
                other.finish();
            }
        }
        Event::Closed(id, reason) => {
            if let Some(other) = proxy[id].data.and_then(|other| proxy.get_mut(other)) {
                match reason {
                    CloseReason::Finished | CloseReason::Closed => other.close(),
                    _ => other.abort(),
                }
            }
        }
        _ => {}
    }
}

#[test]
fn client_of_a_proxy_that_ends_its_direction_first_gets_the_whole_answer() {
    let answer = pattern(7, TOO_MUCH);
    for question in [pattern(0, 5), pattern(0, TOO_MUCH), Vec::new()] {
        let (target, server) = server_that_answers_at_the_end(answer.clone());
        let mut proxy: EventLoop<Option<ConnectionId>> = EventLoop::new().unwrap();
        let listener = proxy.listen("127.0.0.1:0").unwrap();
        let mut client = peer(proxy.listener_addr(listener).unwrap());
        let said = question.clone();
        let client = thread::spawn(move || {
            client.write_all(&said).unwrap();
            client.shutdown(Shutdown::Write).unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).map(|_| answer)
        });
        let mut closed = 0;
        let received = drive_until_joined(&mut proxy, client, |proxy, event| {
            pass_on(proxy, event, target);
            closed += usize::from(matches!(event, Event::Closed(..)));
        });
        assert!(received.unwrap() == answer);
        assert!(server.join().unwrap() == question);
        while closed < 2 {
            let event = next(&mut proxy);
            pass_on(&mut proxy, event, target);
            closed += usize::from(matches!(event, Event::Closed(..)));
        }
        assert_eq!(proxy.connection_count(), 0);
    }
}

#[test]
fn client_of_a_proxy_whose_server_resets_reads_a_reset() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let target_address = target.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut stream = target.accept().unwrap().0;
        stream.read_exact(&mut [0; 8]).unwrap();
        common::reset(stream);
    });
    let mut proxy: EventLoop<Option<ConnectionId>> = EventLoop::new().unwrap();
    let listener = proxy.listen("127.0.0.1:0").unwrap();
    let mut client = peer(proxy.listener_addr(listener).unwrap());
    client.write_all(b"question").unwrap();
    let reader = read_in_thread(client);
    let (bytes, outcome) = drive_until_joined(&mut proxy, reader, |proxy, event| {
        pass_on(proxy, event, target_address);
    });
    assert_eq!((bytes.len(), outcome.unwrap_err().kind()), (0, ErrorKind::ConnectionReset));
    server.join().unwrap();
}

// Pausing.

#[test]
fn resumed_connection_announces_again_what_was_left() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"some").unwrap();
    received(&mut event_loop, id);
    assert_eq!(turns(&mut event_loop, 3), [], "what was left is not announced by itself");
    event_loop[id].pause();
    peer.write_all(b" more").unwrap();
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop[id].interest(), Interest::None);
    assert_eq!(event_loop[id].received(), b"some");
    event_loop[id].resume();
    let mut announced = 0;
    until(&mut event_loop, |event_loop, event| {
        assert_eq!(event, Event::Received(id));
        announced += 1;
        (event_loop[id].received() == b"some more").then_some(())
    });
    assert!(announced <= 2, "once for what was left and once for more: {announced}");
    event_loop[id].resume();
    assert_eq!(turns(&mut event_loop, 3), [], "it was not paused");
}

#[test]
fn paused_connection_still_sends() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].pause();
    event_loop[id].send(b"out");
    turns(&mut event_loop, 1);
    let mut bytes = [0; 3];
    peer.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"out");
}

// Limits.

#[test]
fn limits_that_contradict_are_refused_and_nothing_changes() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let mut wrong = ConnectionLimits::default();
    wrong.read_buffer_max = 4;
    wrong.low_water = wrong.high_water + 1;
    let error = event_loop[id].set_limits(wrong.clone()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("low_water"), "{error}");
    peer.write_all(b"five!").unwrap();
    received(&mut event_loop, id);
    assert_eq!(event_loop[id].received(), b"five!", "the limits are still the old ones");

    let mut limits = Limits::default();
    limits.connection = wrong;
    let error = EventLoop::<()>::with_limits(limits).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn limits_of_one_connections_own_hold_for_it_alone() {
    let (mut event_loop, [own, other], mut peers) = two();
    let mut limits = ConnectionLimits::default();
    limits.read_buffer_max = 4;
    event_loop[own].set_limits(limits).unwrap();
    for peer in &mut peers {
        peer.write_all(b"longer").unwrap();
    }
    let mut heard = Vec::new();
    until(&mut event_loop, |_, event| {
        heard.push(event);
        let received = [own, other].map(Event::Received);
        received.iter().all(|event| heard.contains(event)).then_some(())
    });
    assert_eq!(event_loop[own].received(), b"long");
    assert_eq!(event_loop[other].received(), b"longer");
    event_loop[own].consume(4);
    assert_eq!(next(&mut event_loop), Event::Received(own));
    assert_eq!(event_loop[own].received(), b"er");
}

#[cfg(unix)]
#[test]
fn as_fd_reaches_the_sockets_options() {
    let (event_loop, id, _peer) = pair::<()>();
    let socket = socket2::SockRef::from(&event_loop[id]);
    assert!(socket.tcp_nodelay().unwrap());
    socket.set_tcp_nodelay(false).unwrap();
    assert!(!socket.tcp_nodelay().unwrap());
    let local = socket.local_addr().unwrap().as_socket();
    assert_eq!(local, Some(event_loop[id].local_addr().unwrap()));
}

// The standard traits.

#[test]
fn reading_from_nothing_would_block_and_is_zero_at_the_end() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let stream = &mut *event_loop[id];
    assert_eq!(stream.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(stream.fill_buf().unwrap_err().kind(), ErrorKind::WouldBlock);
    event_loop[id].allow_half_open(true);
    peer.write_all(b"abc").unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    until(&mut event_loop, |_, event| (event == Event::PeerFinished(id)).then_some(()));
    let stream = &mut *event_loop[id];
    let mut bytes = [0; 2];
    assert_eq!(stream.read(&mut bytes).unwrap(), 2);
    assert_eq!(&bytes, b"ab");
    assert_eq!(stream.fill_buf().unwrap(), b"c");
    assert_eq!(stream.read(&mut bytes).unwrap(), 1);
    assert_eq!(stream.read(&mut bytes).unwrap(), 0);
    assert!(stream.fill_buf().unwrap().is_empty());
}

#[test]
fn a_line_in_fragments_is_read_whole_or_not_at_all() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let mut line = String::from("so far: ");
    for fragment in ["hal", "f a li", "ne"] {
        peer.write_all(fragment.as_bytes()).unwrap();
        received(&mut event_loop, id);
        let error = event_loop[id].read_line(&mut line).unwrap_err();
        assert_eq!((error.kind(), line.as_str()), (ErrorKind::WouldBlock, "so far: "));
        let mut bytes = Vec::new();
        let error = event_loop[id].read_until(b'\n', &mut bytes).unwrap_err();
        assert_eq!((error.kind(), bytes.len()), (ErrorKind::WouldBlock, 0));
        let error = event_loop[id].skip_until(b'\n').unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
    assert_eq!(event_loop[id].received(), b"half a line");
    peer.write_all(b"\nand\nthe next").unwrap();
    received(&mut event_loop, id);
    assert_eq!(event_loop[id].read_line(&mut line).unwrap(), 12);
    assert_eq!(line, "so far: half a line\n");
    assert_eq!(event_loop[id].skip_until(b'\n').unwrap(), 4);
    assert_eq!(event_loop[id].received(), b"the next");

    // The end of the peer ends the last line too.
    event_loop[id].allow_half_open(true);
    peer.shutdown(Shutdown::Write).unwrap();
    until(&mut event_loop, |_, event| (event == Event::PeerFinished(id)).then_some(()));
    line.clear();
    assert_eq!(event_loop[id].read_line(&mut line).unwrap(), 8);
    assert_eq!(line, "the next");
    assert_eq!(event_loop[id].read_line(&mut line).unwrap(), 0);
}

#[test]
fn read_exact_is_all_or_nothing() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"abcdef").unwrap();
    received(&mut event_loop, id);
    let mut bytes = [b'.'; 8];
    let error = event_loop[id].read_exact(&mut bytes).unwrap_err();
    assert_eq!((error.kind(), &bytes), (ErrorKind::WouldBlock, b"........"));
    event_loop[id].read_exact(&mut bytes[..4]).unwrap();
    assert_eq!(&bytes, b"abcd....");
    event_loop[id].allow_half_open(true);
    peer.shutdown(Shutdown::Write).unwrap();
    until(&mut event_loop, |_, event| (event == Event::PeerFinished(id)).then_some(()));
    let error = event_loop[id].read_exact(&mut bytes).unwrap_err();
    assert_eq!((error.kind(), &bytes), (ErrorKind::UnexpectedEof, b"abcd...."));
    assert_eq!(event_loop[id].received(), b"ef");
    event_loop[id].read_exact(&mut bytes[..2]).unwrap();
    event_loop[id].read_exact(&mut []).unwrap();
    let error = event_loop[id].read_exact(&mut bytes[..1]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
}

#[test]
fn read_exact_of_the_whole_read_buffer_waits_for_it_and_takes_it() {
    let (mut event_loop, id, mut peer) =
        pair_with::<()>(connection_limits(|limits| limits.read_buffer_max = 8));
    let mut bytes = [0; 8];
    for part in [&b"seven b"[..], b"y"] {
        let error = event_loop[id].read_exact(&mut bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        peer.write_all(part).unwrap();
        received(&mut event_loop, id);
    }
    event_loop[id].read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"seven by");
}

/// Takes the next word through the trait alone. On a connection itself, its own `consume` would be
/// called.
fn take_word(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let word = reader.fill_buf()?.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
    reader.consume(word.len() + 1);
    Ok(word)
}

#[test]
fn consume_through_the_trait_takes_what_it_says() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"one two ").unwrap();
    received(&mut event_loop, id);
    let connection = &mut *event_loop[id];
    assert_eq!(take_word(connection).unwrap(), b"one");
    assert_eq!(connection.received(), b"two ");
    assert_eq!(take_word(connection).unwrap(), b"two");
    assert_eq!(take_word(connection).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn reading_to_the_end_waits_for_the_end() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"whole").unwrap();
    received(&mut event_loop, id);
    let (mut bytes, mut text) = (b"> ".to_vec(), String::from("> "));
    let error = event_loop[id].read_to_end(&mut bytes).unwrap_err();
    assert_eq!((error.kind(), bytes.as_slice()), (ErrorKind::WouldBlock, &b"> "[..]));
    let error = event_loop[id].read_to_string(&mut text).unwrap_err();
    assert_eq!((error.kind(), text.as_str()), (ErrorKind::WouldBlock, "> "));
    peer.shutdown(Shutdown::Write).unwrap();
    until(&mut event_loop, |_, event| (event == Event::PeerFinished(id)).then_some(()));
    assert_eq!(event_loop[id].read_to_string(&mut text).unwrap(), 5);
    assert_eq!(text, "> whole");
    assert_eq!(event_loop[id].read_to_end(&mut bytes).unwrap(), 0);
}

#[test]
fn a_line_that_fills_the_read_buffer_is_invalid_and_consumes_nothing() {
    let (mut event_loop, id, mut peer) =
        pair_with::<()>(connection_limits(|limits| limits.read_buffer_max = 8));
    peer.write_all(b"longer than eight\n").unwrap();
    received(&mut event_loop, id);
    let mut line = String::new();
    let error = event_loop[id].read_line(&mut line).unwrap_err();
    assert_eq!((error.kind(), line.as_str()), (ErrorKind::InvalidData, ""));
    let error = event_loop[id].read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    let error = event_loop[id].read_exact(&mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(event_loop[id].received(), b"longer t");

    // A line that just fits is none of that.
    event_loop[id].consume(8);
    received(&mut event_loop, id);
    event_loop[id].consume(8);
    received(&mut event_loop, id);
    peer.write_all(b"1234567\n").unwrap();
    let mut lines = Vec::new();
    until(&mut event_loop, |event_loop, event| {
        assert_eq!(event, Event::Received(id));
        while event_loop[id].read_line(&mut line).is_ok() {
            lines.push(std::mem::take(&mut line));
        }
        (lines.last()? == "1234567\n").then_some(())
    });
    assert_eq!(lines.concat(), "t\n1234567\n");
}

#[test]
fn invalid_text_consumes_nothing() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"\xffoops\nfine\n").unwrap();
    received(&mut event_loop, id);
    let mut line = String::from("kept");
    let error = event_loop[id].read_line(&mut line).unwrap_err();
    assert_eq!((error.kind(), line.as_str()), (ErrorKind::InvalidData, "kept"));
    assert_eq!(event_loop[id].received(), b"\xffoops\nfine\n");
    assert_eq!(event_loop[id].skip_until(b'\n').unwrap(), 6);
    event_loop[id].read_line(&mut line).unwrap();
    assert_eq!(line, "keptfine\n");
}

#[test]
fn writing_through_the_traits_appends_in_order_and_never_takes_what_is_lost() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    let steps = steps(&mut event_loop);
    let stream = &mut *event_loop[id];
    assert_eq!(stream.write(b"one ").unwrap(), 4);
    write!(stream, "{} ", 2).unwrap();
    let slices = [IoSlice::new(b"th"), IoSlice::new(b""), IoSlice::new(b"ree")];
    assert_eq!(stream.write_vectored(&slices).unwrap(), 5);
    stream.flush().unwrap();
    assert_eq!(stream.unsent(), 11, "flush does nothing: it leaves at a later call");
    stream.finish();
    let refused = [
        stream.write(b"late").unwrap_err(),
        stream.write_all(b"late").unwrap_err(),
        write!(stream, "late").unwrap_err(),
        stream.write_vectored(&slices).unwrap_err(),
    ];
    assert_eq!(refused.map(|error| error.kind()), [ErrorKind::BrokenPipe; 4]);
    stream.flush().unwrap();
    assert_eq!(stream.lost(), 0, "the program got the error, and still has the bytes");
    turns(&mut event_loop, 1);
    let mut bytes = Vec::new();
    peer.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"one 2 three");
    assert_eq!(flushed(&steps.try_iter().collect::<Vec<_>>(), id), 11);
}

#[test]
fn waiting_for_a_couple_costs_no_turns() {
    let (mut event_loop, [reader, writer], [mut talker, listener]) = two();
    clog(&mut event_loop, writer, &listener);
    event_loop.couple(reader, writer);
    talker.write_all(&pattern(0, 10_000)).unwrap();
    turns(&mut event_loop, 20);
    let steps = steps(&mut event_loop);
    assert_eq!(event_loop.poll_event(Some(Duration::from_millis(50))).unwrap(), None);
    let steps: Vec<Step> = steps.try_iter().collect();
    let count = |wanted: fn(&Step) -> bool| steps.iter().filter(|step| wanted(step)).count();
    // The kernel may still find room for a little of what is unsent.
    let moved = count(|step| matches!(step, Step::Flushed { .. }));
    let waits = count(|step| matches!(step, Step::Waited { .. }));
    assert!(waits <= 2 + moved, "{waits} waits while nothing can move");
}

#[test]
fn peer_finished_before_a_streamed_answer_still_gets_all_of_it() {
    const WHOLE: usize = 1 << 20;
    let (mut server, _, address) = listening::<usize>();
    let client = thread::spawn(move || {
        let mut client = peer(address);
        client.write_all(b"all of it, please").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    let (reason, lost) = until(&mut server, |server, event| match event {
        Event::PeerFinished(id) | Event::Drained(id) => {
            let (sent, stream) = server[id].split();
            while *sent < WHOLE && !stream.is_clogged() {
                stream.send(&pattern(*sent, 4096));
                *sent += 4096;
            }
            None
        }
        Event::Closed(id, reason) => Some((reason, server[id].lost())),
        _ => None,
    });
    assert_eq!((reason, lost), (CloseReason::Finished, 0));
    server.poll_event(Some(Duration::ZERO)).unwrap();
    assert!(client.join().unwrap() == pattern(0, WHOLE), "the answer, whole and in order");
}
