//! Leaving gracefully: what had arrived is received and answered, what was sent leaves, and the
//! rest ends by the deadline.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use common::child::alone;
use common::steps::{Steps, assert_rests};
use common::talker::Talker;
use common::{
    PATIENCE, accepted, await_arrival, await_backlog, connection_limits, hold_little, listening,
    listening_with, next, pair, pair_with, pattern, peer, read_in_thread, turns, until,
};
use readiness::{CloseReason, ConnectionId, Event, EventLoop, Interest, Limits, Step};

fn new() -> EventLoop {
    EventLoop::new().unwrap()
}

/// Runs the loop until it has shut down, handing each event to `handle`. Returns the reasons of all
/// that closed, in order. Fails if anything but a timer, wake or source is delivered after it.
fn until_shut_down<T>(
    event_loop: &mut EventLoop<T>,
    mut handle: impl FnMut(&mut EventLoop<T>, Event),
) -> Vec<CloseReason> {
    let mut reasons = Vec::new();
    until(event_loop, |event_loop, event| {
        match event {
            Event::ShutDown => return Some(()),
            Event::Closed(_, reason) => reasons.push(reason),
            _ => {}
        }
        handle(event_loop, event);
        None
    });
    assert_eq!(event_loop.connection_count(), 0, "it is delivered after the last has closed");
    assert_eq!(turns(event_loop, 3), [], "it is delivered once, and last");
    reasons
}

/// Sends back what was received.
fn echo<T>(event_loop: &mut EventLoop<T>, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

/// Checks that the loop comes to rest without an event, and so has not shut down.
fn assert_holds<T>(event_loop: &mut EventLoop<T>) {
    let steps = Steps::of(event_loop);
    assert_rests(event_loop, &steps);
}

#[test]
fn loop_with_nothing_shuts_down_at_once_and_once() {
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    event_loop.shutdown(Duration::MAX);
    assert_eq!(event_loop.next_event().unwrap(), Event::ShutDown);
    assert_eq!(
        steps.take(),
        [Step::ShuttingDown { connections: 0, deadline: Duration::MAX }, Step::ShutDown]
    );
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.next_timeout(), None);
    event_loop.shutdown(Duration::ZERO);
    assert_eq!(event_loop.next_event().unwrap(), Event::ShutDown, "and again when asked again");
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn idle_connections_close_at_once_with_a_clean_end() {
    const COUNT: usize = 20;
    let (mut event_loop, listener, address) = listening::<()>();
    let peers: Vec<TcpStream> = (0..COUNT).map(|_| peer(address)).collect();
    for _ in 0..COUNT {
        accepted(&mut event_loop);
    }
    assert_eq!(turns(&mut event_loop, 1), []);
    let readers: Vec<_> = peers.into_iter().map(read_in_thread).collect();
    event_loop.shutdown(Duration::MAX);
    let reasons = until_shut_down(&mut event_loop, |_, _| {});
    assert_eq!(reasons, vec![CloseReason::Closed; COUNT]);
    for reader in readers {
        let (bytes, outcome) = reader.join().unwrap();
        assert!(outcome.is_ok() && bytes.is_empty(), "{outcome:?}");
    }
    let error = event_loop.listener_addr(listener).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// Peers that have sent a message and their end, and are read to the end in threads.
fn askers(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let asker = |number: usize| {
        let mut peer = peer(address);
        peer.write_all(&pattern(number, 100)).unwrap();
        peer
    };
    (0..count).map(asker).collect()
}

/// Fails unless each has its answer, and a clean end behind it.
fn assert_answered(askers: Vec<TcpStream>, event_loop: &mut EventLoop) -> Vec<CloseReason> {
    let readers: Vec<_> = askers.into_iter().map(read_in_thread).collect();
    let reasons = until_shut_down(event_loop, echo);
    for (number, reader) in readers.into_iter().enumerate() {
        let (bytes, outcome) = reader.join().unwrap();
        assert!(outcome.is_ok(), "{number}: {outcome:?}");
        assert_eq!(bytes, pattern(number, 100));
    }
    reasons
}

#[test]
fn all_that_wait_to_be_accepted_are_also_beyond_the_budget_and_answered() {
    const COUNT: usize = 50;
    let mut limits = Limits::default();
    limits.accept_budget = 3;
    let (mut event_loop, address) = listening_with::<()>(limits);
    assert_eq!(turns(&mut event_loop, 1), []);
    let askers = askers(address, COUNT);
    await_backlog(address, COUNT);
    event_loop.shutdown(Duration::MAX);
    assert_eq!(assert_answered(askers, &mut event_loop).len(), COUNT);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn paused_listeners_accept_all_that_wait_and_close() {
    let mut event_loop = new();
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let listener = event_loop.listen("127.0.0.1:0").unwrap();
        let address = event_loop.listener_addr(listener).unwrap();
        event_loop.pause_accepting(listener).unwrap();
        waiting.extend(askers(address, 1));
        await_backlog(address, 1);
    }
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop.shutdown(Duration::MAX);
    let readers: Vec<_> = waiting.into_iter().map(read_in_thread).collect();
    assert_eq!(until_shut_down(&mut event_loop, echo), [CloseReason::Closed; 2]);
    for reader in readers {
        let (bytes, outcome) = reader.join().unwrap();
        assert!(outcome.is_ok());
        assert_eq!(bytes, pattern(0, 100));
    }
}

#[test]
fn cap_of_connections_holds_while_those_that_wait_are_accepted() {
    const COUNT: usize = 10;
    const MOST: usize = 3;
    let mut limits = Limits::default();
    limits.connections_max = Some(MOST);
    let (mut event_loop, address) = listening_with::<()>(limits);
    let askers = askers(address, COUNT);
    await_backlog(address, COUNT);
    // Some are accepted before, so that the listener waits for room when the shutdown begins.
    while event_loop.connection_count() < MOST {
        accepted(&mut event_loop);
    }
    event_loop.shutdown(Duration::MAX);
    let readers: Vec<_> = askers.into_iter().map(read_in_thread).collect();
    let reasons = until_shut_down(&mut event_loop, |event_loop, event| {
        assert!(event_loop.connection_count() <= MOST);
        echo(event_loop, event);
    });
    // Some had sent their message before they were accepted, and it was delivered before the
    // shutdown.
    assert_eq!(reasons, vec![CloseReason::Closed; COUNT]);
    for (number, reader) in readers.into_iter().enumerate() {
        let (bytes, outcome) = reader.join().unwrap();
        assert!(outcome.is_ok(), "{number}: {outcome:?}");
        assert_eq!(bytes, pattern(number, 100));
    }
}

#[test]
fn listener_out_of_descriptors_accepts_the_waiting_as_others_close() {
    const NAME: &str = "listener_out_of_descriptors_accepts_the_waiting_as_others_close";
    alone(NAME, "ulimit -n 40;", || {
        let mut limits = Limits::default();
        limits.accept_pause_min = PATIENCE;
        limits.accept_pause_max = PATIENCE;
        let (mut event_loop, address) = listening_with::<()>(limits);
        let mut peers = Vec::new();
        // As many as there are descriptors for, of which each accepted one takes another.
        let one_over = loop {
            match TcpStream::connect(address) {
                Ok(peer) => {
                    peer.set_read_timeout(Some(PATIENCE)).unwrap();
                    peers.push(peer);
                }
                Err(_) => break peers.len(),
            }
        };
        drop(peers.drain(one_over / 2 + 3..));
        for peer in &mut peers {
            peer.write_all(b"message").unwrap();
        }
        let mut messages = 0;
        until(&mut event_loop, |event_loop, event| {
            messages += usize::from(matches!(event, Event::Received(_)));
            echo(event_loop, event);
            matches!(event, Event::AcceptFailed(..)).then_some(())
        });
        let count = peers.len();
        let readers: Vec<_> = peers.into_iter().map(read_in_thread).collect();
        event_loop.shutdown(Duration::MAX);
        until_shut_down(&mut event_loop, |event_loop, event| {
            messages += usize::from(matches!(event, Event::Received(_)));
            echo(event_loop, event);
        });
        assert_eq!(messages, count, "each was accepted and read");
        for reader in readers {
            let (bytes, outcome) = reader.join().unwrap();
            assert!(outcome.is_ok(), "{outcome:?}");
            assert_eq!(bytes, b"message");
        }
    });
}

#[test]
fn what_had_come_unnoticed_is_received_and_answered_before_the_close() {
    const COUNT: usize = 5;
    let (mut event_loop, address) = listening_with::<()>(connection_limits(|limits| {
        limits.read_budget = 10; // so that it takes many turns
    }));
    let mut askers: Vec<TcpStream> = (0..COUNT).map(|_| peer(address)).collect();
    let ids: Vec<ConnectionId> = (0..COUNT).map(|_| accepted(&mut event_loop)).collect();
    assert_holds(&mut event_loop);
    for (number, (asker, id)) in askers.iter_mut().zip(ids).enumerate() {
        asker.write_all(&pattern(number, 100)).unwrap();
        await_arrival(&event_loop, id);
    }
    // The loop has not waited since, and for all that it knows they are quiet.
    event_loop.shutdown(Duration::MAX);
    assert_eq!(assert_answered(askers, &mut event_loop), [CloseReason::Closed; COUNT]);
}

#[test]
fn connection_paused_during_a_shutdown_until_its_answer_is_there_gives_the_answer() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"message").unwrap();
    await_arrival(&event_loop, id);
    event_loop.shutdown(Duration::MAX);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop[id].consume(7);
    event_loop[id].pause();
    assert_holds(&mut event_loop);
    let reader = read_in_thread(peer);
    event_loop[id].send(b"answer");
    event_loop[id].resume();
    assert_eq!(until_shut_down(&mut event_loop, echo), [CloseReason::Closed]);
    let (bytes, outcome) = reader.join().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(bytes, b"answer");
}

#[test]
fn shutdown_while_received_is_handled_lets_the_answer_leave() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"message").unwrap();
    until(&mut event_loop, |_, event| (event == Event::Received(id)).then_some(()));
    event_loop.shutdown(Duration::MAX);
    event_loop[id].send_received();
    let reader = read_in_thread(peer);
    assert_eq!(until_shut_down(&mut event_loop, echo), [CloseReason::Closed]);
    let (bytes, outcome) = reader.join().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(bytes, b"message");
}

#[test]
fn paused_connection_holds_the_shutdown_until_it_is_resumed_and_answered() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].pause();
    assert_eq!(turns(&mut event_loop, 1), []);
    peer.write_all(b"message").unwrap();
    await_arrival(&event_loop, id);
    event_loop.shutdown(Duration::MAX);
    assert_holds(&mut event_loop);
    let reader = read_in_thread(peer);
    event_loop[id].send(b"answer to ");
    event_loop[id].resume();
    assert_eq!(until_shut_down(&mut event_loop, echo), [CloseReason::Closed]);
    let (bytes, outcome) = reader.join().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(bytes, b"answer to message");
}

#[test]
fn received_bytes_that_are_not_consumed_hold_the_shutdown() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    peer.write_all(b"half").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    event_loop.shutdown(Duration::MAX);
    assert_holds(&mut event_loop);
    peer.write_all(b" and half\n").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
    assert_eq!(event_loop[id].received(), b"half and half\n");
    assert_holds(&mut event_loop);
    event_loop[id].send_received();
    let reader = read_in_thread(peer);
    assert_eq!(until_shut_down(&mut event_loop, echo), [CloseReason::Closed]);
    assert_eq!(reader.join().unwrap().0, b"half and half\n");
}

#[test]
fn unsent_bytes_hold_the_shutdown_until_a_slow_reader_has_them_all() {
    const SIZE: usize = 4 << 20;
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop.uncouple(id);
    hold_little(&event_loop, id, &peer);
    event_loop[id].send(&pattern(0, SIZE));
    while event_loop[id].interest() != Interest::ReadableWritable {
        assert_eq!(turns(&mut event_loop, 1), []);
    }
    event_loop.shutdown(Duration::MAX);
    assert_holds(&mut event_loop);
    assert!(event_loop[id].unsent() > 0);
    peer.write_all(b"late").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id), "it lives on");
    event_loop[id].consume(4);
    peer.set_nonblocking(true).unwrap();
    let mut talker = Talker { stream: peer, written: 0, read: 0, at_end: false };
    let (mut reasons, mut is_over) = (Vec::new(), false);
    let end = Instant::now() + PATIENCE;
    while !is_over {
        assert!(Instant::now() < end, "{} of {SIZE} arrive", talker.read);
        talker.read_on();
        if talker.at_end {
            // It answers our end by its own.
            let _ = talker.stream.shutdown(std::net::Shutdown::Both);
        }
        match event_loop.poll_event(Some(Duration::from_millis(1))).unwrap() {
            Some(Event::Closed(_, reason)) => reasons.push(reason),
            Some(Event::ShutDown) => is_over = true,
            _ => {}
        }
    }
    assert_eq!((talker.read, talker.at_end), (SIZE, true));
    assert_eq!(reasons, [CloseReason::Closed]);
}

#[test]
fn connect_that_is_under_way_is_delivered_and_sends_what_it_has_before_it_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut event_loop = new();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    event_loop[id].send(b"request");
    event_loop.shutdown(Duration::MAX);
    let (peer, _) = listener.accept().unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let reader = read_in_thread(peer);
    let mut events = Vec::new();
    let reasons = until_shut_down(&mut event_loop, |_, event| events.push(event));
    assert_eq!(reasons, [CloseReason::Closed]);
    assert_eq!(events, [Event::Connected(id), Event::Closed(id, CloseReason::Closed)]);
    let (bytes, outcome) = reader.join().unwrap();
    assert!(outcome.is_ok());
    assert_eq!(bytes, b"request");
}

#[test]
fn connect_begun_during_a_shutdown_is_delivered_before_it_closes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut event_loop = new();
    event_loop.shutdown(Duration::MAX);
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    let (peer, _) = listener.accept().unwrap();
    let reader = read_in_thread(peer);
    let mut events = Vec::new();
    until_shut_down(&mut event_loop, |_, event| events.push(event));
    assert_eq!(events, [Event::Connected(id), Event::Closed(id, CloseReason::Closed)]);
    assert!(reader.join().unwrap().1.is_ok());
}

#[test]
fn connect_that_fails_during_a_shutdown_is_its_own_closed() {
    let mut event_loop = new();
    let id = event_loop.connect(common::refusing_address(), ());
    event_loop.shutdown(Duration::MAX);
    let mut events = Vec::new();
    until_shut_down(&mut event_loop, |_, event| events.push(event));
    assert_eq!(events, [Event::Closed(id, CloseReason::Refused)]);
}

#[test]
fn half_open_connections_close_when_they_are_quiet_and_those_we_finished_too() {
    let (mut event_loop, _, address) = listening::<()>();
    // A connection whose peer has finished, and which was to write on.
    let ended = peer(address);
    let half_open = accepted(&mut event_loop);
    event_loop[half_open].allow_half_open(true);
    ended.shutdown(std::net::Shutdown::Write).unwrap();
    until(&mut event_loop, |_, event| (event == Event::PeerFinished(half_open)).then_some(()));
    // A connection that we have finished, and whose peer goes on.
    let goes_on = peer(address);
    let finished = accepted(&mut event_loop);
    event_loop[finished].finish();
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.connection_count(), 2);

    let readers = [read_in_thread(ended), read_in_thread(goes_on)];
    event_loop[half_open].send(b"late answer");
    event_loop.shutdown(Duration::MAX);
    let mut at = HashMap::new();
    until_shut_down(&mut event_loop, |_, event| {
        if let Event::Closed(id, reason) = event {
            at.insert(id, reason);
        }
    });
    assert_eq!(at[&half_open], CloseReason::Closed);
    // Its peer has our end, and may send its own before or after the shutdown reaches the
    // connection.
    assert!(matches!(at[&finished], CloseReason::Closed | CloseReason::Finished));
    let [late, nothing] = readers.map(|reader| reader.join().unwrap());
    assert!(late.1.is_ok() && nothing.1.is_ok());
    assert_eq!((late.0, nothing.0), (b"late answer".to_vec(), Vec::new()));
}

/// Waits until the kernel of a peer has handed over all that it was given, so that ours has it.
#[cfg(target_os = "linux")]
fn await_sent(peer: &TcpStream) {
    let port = format!(":{:04X}", peer.local_addr().unwrap().port());
    let is_left = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && !fields[4].starts_with("00000000:")
    };
    let end = Instant::now() + PATIENCE;
    while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().skip(1).any(is_left) {
        assert!(Instant::now() < end, "what the peer sends does not arrive");
        std::thread::yield_now();
    }
}

/// A proxy: what one half receives goes to the other.
#[cfg(target_os = "linux")]
fn proxy(event_loop: &mut EventLoop, event: Event, halves: &HashMap<ConnectionId, ConnectionId>) {
    match event {
        Event::Received(id) => {
            event_loop.transfer(id, halves[&id]);
        }
        Event::PeerFinished(id) => {
            if let Some(other) = event_loop.get_mut(halves[&id]) {
                other.finish();
            }
        }
        Event::Closed(id, _) => {
            event_loop.transfer(id, halves[&id]);
            if let Some(other) = event_loop.get_mut(halves[&id]) {
                other.close();
            }
        }
        _ => {}
    }
}

#[cfg(target_os = "linux")]
#[test]
fn bytes_on_their_way_through_a_proxy_get_through_before_it_closes() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut event_loop, client_half, mut client) = pair::<()>();
    let server_half = event_loop.connect(upstream.local_addr().unwrap(), ());
    event_loop.couple(client_half, server_half);
    event_loop.couple(server_half, client_half);
    let halves = HashMap::from([(client_half, server_half), (server_half, client_half)]);
    let (server, _) = upstream.accept().unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    until(&mut event_loop, |_, event| (event == Event::Connected(server_half)).then_some(()));
    hold_little(&event_loop, server_half, &server);

    // The kernels on the way to a server that does not read are filled, and so is the proxy: then
    // it does not read on, and what the client sends stays in our kernel.
    let mut written = 0;
    let mut write = |count: usize| {
        client.write_all(&pattern(written, count)).unwrap();
        written += count;
    };
    let end = Instant::now() + PATIENCE;
    while event_loop[server_half].unsent() == 0 {
        assert!(Instant::now() < end, "nothing stalls");
        write(10_000);
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            proxy(&mut event_loop, event, &halves);
        }
    }
    assert!(event_loop[server_half].interest().is_writable());
    write(20_000);
    await_sent(&client);

    event_loop.shutdown(Duration::MAX);
    let (at_server, at_client) = (read_in_thread(server), read_in_thread(client));
    let reasons =
        until_shut_down(&mut event_loop, |event_loop, event| proxy(event_loop, event, &halves));
    assert_eq!(reasons, [CloseReason::Closed; 2]);
    let (bytes, outcome) = at_server.join().unwrap();
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(bytes.len(), written);
    assert!(bytes == pattern(0, written));
    assert!(at_client.join().unwrap().1.is_ok());
}

#[cfg(target_os = "linux")]
#[test]
fn connection_that_waits_for_a_reader_closes_when_that_has_ended() {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let (mut event_loop, reader, mut client) = pair::<()>();
    let writer = event_loop.connect(upstream.local_addr().unwrap(), ());
    event_loop.couple(reader, writer);
    let (server, _) = upstream.accept().unwrap();
    until(&mut event_loop, |_, event| (event == Event::Connected(writer)).then_some(()));
    client.write_all(b"message").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    common::await_end_acknowledged(&client);
    event_loop.shutdown(Duration::MAX);
    let at_server = read_in_thread(server);
    let mut closed = Vec::new();
    until_shut_down(&mut event_loop, |event_loop, event| match event {
        Event::Received(id) => assert_eq!(event_loop.transfer(id, writer), 7),
        Event::Closed(id, reason) => closed.push((id, reason)),
        _ => {}
    });
    assert_eq!(closed, [(reader, CloseReason::Finished), (writer, CloseReason::Closed)]);
    let (bytes, outcome) = at_server.join().unwrap();
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(bytes, b"message");
}

#[test]
fn deadline_aborts_the_rest_by_reset_and_shut_down_comes_once_behind_them() {
    const AFTER: Duration = Duration::from_millis(30);
    let (mut event_loop, _, address) = listening::<()>();
    let mut peers: Vec<TcpStream> = (0..4).map(|_| peer(address)).collect();
    let ids: Vec<ConnectionId> = (0..4).map(|_| accepted(&mut event_loop)).collect();
    // One is paused, one has received bytes, one has unsent bytes, one is quiet.
    event_loop[ids[0]].pause();
    peers[1].write_all(b"half").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(ids[1]));
    hold_little(&event_loop, ids[2], &peers[2]);
    event_loop[ids[2]].send(&pattern(0, 4 << 20));
    assert_eq!(turns(&mut event_loop, 1), []);
    peers[3].shutdown(std::net::Shutdown::Write).unwrap();

    let start = event_loop.now();
    event_loop.shutdown(AFTER);
    let mut at = HashMap::new();
    until_shut_down(&mut event_loop, |event_loop, event| {
        if let Event::Closed(id, reason) = event {
            at.insert(id, (reason, event_loop.now() - start));
        }
    });
    assert!(event_loop.now() >= start + AFTER);
    for id in &ids[..3] {
        let (reason, after) = at[id];
        assert_eq!(reason, CloseReason::Aborted);
        assert!(after >= AFTER, "{id} early: {after:?}");
    }
    assert!(matches!(at[&ids[3]].0, CloseReason::Closed | CloseReason::Finished));
    for peer in &mut peers[..2] {
        let error = peer.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let (_, outcome) = read_in_thread(peers.remove(2)).join().unwrap();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(peers[2].read(&mut [0]).unwrap(), 0, "a clean end");
}

#[test]
fn peers_that_wait_while_the_deadline_passes_are_reset() {
    let mut limits = Limits::default();
    limits.connections_max = Some(1);
    let (mut event_loop, address) = listening_with::<()>(limits);
    let _holds = peer(address);
    let id = accepted(&mut event_loop);
    event_loop[id].pause();
    let mut waits = peer(address);
    await_backlog(address, 1);
    assert_eq!(turns(&mut event_loop, 3), []);
    event_loop.shutdown(Duration::from_millis(20));
    assert_eq!(until_shut_down(&mut event_loop, |_, _| {}), [CloseReason::Aborted]);
    assert_eq!(waits.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn second_call_with_zero_aborts_at_once() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].pause();
    event_loop.shutdown(Duration::MAX);
    assert_holds(&mut event_loop);
    event_loop.shutdown(Duration::ZERO);
    assert_eq!(until_shut_down(&mut event_loop, |_, _| {}), [CloseReason::Aborted]);
    assert_eq!(peer.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert_eq!(event_loop.next_timeout(), None, "the first deadline is forgotten");
}

#[test]
fn program_that_connects_anew_at_each_closed_gets_shut_down_soon_after_the_deadline() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = target.local_addr().unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    let id = event_loop.connect(address, ());
    event_loop[id].pause();
    event_loop.shutdown(Duration::from_millis(20));
    let mut closed = 0;
    while let event = event_loop.next_event().unwrap()
        && event != Event::ShutDown
    {
        if let Event::Closed(..) = event {
            closed += 1;
            let id = event_loop.connect(address, ());
            event_loop[id].pause();
        }
    }
    assert_eq!((closed, event_loop.connection_count()), (1, 1));
}

#[test]
fn second_call_sets_another_deadline_also_a_later_one() {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].pause();
    event_loop.shutdown(Duration::from_millis(10));
    event_loop.shutdown(Duration::from_secs(1_000));
    let start = event_loop.now();
    while event_loop.now() < start + Duration::from_millis(30) {
        assert_eq!(event_loop.poll_event(Some(Duration::from_millis(10))).unwrap(), None);
    }
    event_loop[id].resume();
    drop(peer);
    assert_eq!(until_shut_down(&mut event_loop, |_, _| {}).len(), 1);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn timers_wakes_and_sources_go_on_during_a_shutdown_and_behind_it() {
    let (mut event_loop, id, peer) = pair::<()>();
    let mut socket = mio::net::UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.connect(socket.local_addr().unwrap()).unwrap();
    let source = event_loop.register(&mut socket, Interest::Readable).unwrap();
    event_loop[id].pause();
    assert_eq!(turns(&mut event_loop, 1), []);
    event_loop.shutdown(Duration::MAX);
    for is_over in [false, true] {
        let timer = event_loop.set_timer(Duration::ZERO);
        event_loop.waker().wake().unwrap();
        sender.send(b"news").unwrap();
        let events = turns(&mut event_loop, 2);
        let [Event::Timer(came), Event::Woken, Event::Ready(of, _)] = events[..] else {
            panic!("the events were {events:?}");
        };
        assert_eq!((came, of), (timer, source));
        if !is_over {
            event_loop[id].resume();
            peer.shutdown(std::net::Shutdown::Both).unwrap();
            until_shut_down(&mut event_loop, |_, _| {});
        }
    }
}

#[test]
fn loop_can_be_used_anew_after_a_shutdown() {
    let mut event_loop = new();
    for _ in 0..3 {
        let listener = event_loop.listen("127.0.0.1:0").unwrap();
        let mut peer = peer(event_loop.listener_addr(listener).unwrap());
        let id = accepted(&mut event_loop);
        peer.write_all(b"message").unwrap();
        assert_eq!(next(&mut event_loop), Event::Received(id));
        event_loop[id].send_received();
        assert_holds(&mut event_loop); // nothing closes by itself any more
        peer.read_exact(&mut [0; 7]).unwrap();
        event_loop.shutdown(Duration::MAX);
        drop(peer);
        assert_eq!(until_shut_down(&mut event_loop, echo).len(), 1);
    }
}

#[test]
fn shutdown_while_the_last_closed_is_handled_ends_at_the_next_call() {
    let (mut event_loop, id, peer) = pair::<()>();
    let listener = event_loop[id].listener().unwrap();
    drop(peer);
    until(&mut event_loop, |_, event| matches!(event, Event::Closed(..)).then_some(()));
    event_loop.close_listener(listener).unwrap();
    event_loop.shutdown(Duration::MAX);
    assert_eq!(turns(&mut event_loop, 1), [Event::ShutDown]);
}

#[test]
fn silent_peers_end_by_the_deadlines_of_a_close() {
    let limits = connection_limits(|limits| {
        limits.close_quiet_deadline = Duration::from_millis(20);
    });
    let (mut event_loop, _, mut peer) = pair_with::<()>(limits);
    assert_eq!(turns(&mut event_loop, 1), []);
    event_loop.shutdown(Duration::MAX);
    let reasons = until_shut_down(&mut event_loop, |_, _| {});
    assert!(matches!(reasons[..], [CloseReason::TimedOut(readiness::Deadline::Close)]));
    assert_eq!(peer.read(&mut [0]).unwrap(), 0, "our end had arrived before");
}
