//! `Received` follows progress: a handler may take one message for each event, and the rest is
//! announced without a new read. A full read buffer is an event too, and never a silent hang.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{self, BufRead, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::steps::{Steps, assert_rests};
use common::{
    accepted, connection_limits, drive, drive_until_joined, hold_little, listening_with, next,
    pair, pair_with, pattern, pattern_at, peer, read_in_thread, reset, turns, until, until_closed,
};
use readiness::{CloseReason, Connection, ConnectionId, Deadline, Event, EventLoop, Limits, Step};

const BLOCK: usize = 64 * 1024;

/// A handler of one message, in one of several ways.
type Take = fn(&mut Connection<()>) -> io::Result<()>;

/// Answers one line, and leaves the rest.
fn answer_one(connection: &mut Connection<()>) -> io::Result<()> {
    let (mut read, mut write) = connection.halves();
    if let Some(line) = read.take_line(1_000)? {
        write.send(line);
        write.send(b"!\n");
    }
    Ok(())
}

/// Returns a connection for which these bytes have arrived, but which was not served since.
fn sent(bytes: &[u8]) -> (EventLoop, ConnectionId, TcpStream) {
    let (event_loop, id, mut peer) = pair::<()>();
    peer.write_all(bytes).unwrap();
    await_bytes(&event_loop, id, bytes.len());
    (event_loop, id, peer)
}

/// Waits until the kernel has this many bytes for a connection.
#[cfg(unix)]
fn await_bytes(event_loop: &EventLoop, id: ConnectionId, count: usize) {
    let end = Instant::now() + common::PATIENCE;
    let socket = socket2::SockRef::from(&*event_loop[id]);
    let mut bytes = vec![std::mem::MaybeUninit::uninit(); count];
    while socket.peek(&mut bytes).ok() != Some(count) {
        assert!(Instant::now() < end, "{count} bytes do not arrive");
        thread::yield_now();
    }
}

/// Its socket cannot be reached elsewhere, but loopback delivers at once there.
#[cfg(not(unix))]
fn await_bytes(_: &EventLoop, _: ConnectionId, _: usize) {}

/// Numbered lines, from 1.
fn lines(count: usize) -> String {
    (1..=count).map(|number| format!("{number}\n")).collect()
}

// One message for each event.

#[test]
fn two_lines_in_one_segment_taken_one_for_each_event_are_both_answered() {
    let (mut server, id, mut client) = sent(b"one\ntwo\n");
    let steps = Steps::of(&mut server);
    for expected in [&b"one!\n"[..], b"one!\ntwo!\n"] {
        assert_eq!(next(&mut server), Event::Received(id));
        server[id].attend(answer_one);
        assert_eq!(server[id].unsent(), expected.len());
    }
    assert_rests(&mut server, &steps);
    let mut answers = [0; 10];
    client.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"one!\ntwo!\n");
}

/// However a handler takes its message, the next is announced.
#[test]
fn message_taken_in_any_way_is_followed_by_the_next() {
    let ways: [Take; 6] = [
        |one| one.halves().0.take_line(9).map(|_| ()),
        |one| one.halves().0.take_exact(2).map(|_| ()),
        |one| one.read_line(&mut String::new()).map(|_| ()),
        |one| one.read_exact(&mut [0; 2]),
        |one| one.read(&mut [0; 2]).map(|_| ()),
        |one| {
            one.consume(2);
            Ok(())
        },
    ];
    for (number, take) in ways.into_iter().enumerate() {
        let (mut server, id, _client) = sent(b"1\n2\n3\n");
        for left in [4, 2, 0] {
            assert_eq!(next(&mut server), Event::Received(id), "way {number}");
            server[id].attend(take);
            assert_eq!(server[id].received().len(), left, "way {number}");
        }
        assert_eq!(turns(&mut server, 3), [], "way {number}");
    }
}

#[test]
fn sixteen_requests_in_one_segment_taken_one_for_each_event_leave_in_one_send() {
    let (mut server, id, mut client) = sent(lines(16).as_bytes());
    let steps = Steps::of(&mut server);
    let mut events = 0;
    while events < 16 {
        assert_eq!(next(&mut server), Event::Received(id));
        server[id].attend(answer_one);
        events += 1;
    }
    assert_eq!(turns(&mut server, 3), [], "none is announced twice");
    let of = |wanted: fn(&Step) -> bool| steps.count(wanted);
    assert_eq!(of(|step| matches!(step, Step::Filled { .. })), 1);
    assert_eq!(of(|step| matches!(step, Step::Flushed { .. })), 1);
    let expected = lines(16).replace('\n', "!\n");
    let mut answers = vec![0; expected.len()];
    client.read_exact(&mut answers).unwrap();
    assert_eq!(answers, expected.as_bytes());
}

/// As the guide has it: a message in two parts, and one and a half messages in one segment.
#[test]
fn partial_message_costs_at_most_one_extra_event() {
    let whole = b"message\n";
    let takes: [Take; 3] = [
        answer_one,
        |one| {
            let mut line = String::new();
            one.read_line(&mut line)?;
            writeln!(one, "{}!", line.trim_end())
        },
        |one| {
            let end = one.received().iter().position(|byte| *byte == b'\n');
            let Some(end) = end else { return Ok(()) };
            let line = one.received()[..end].to_vec();
            one.consume(end + 1);
            one.send(&line);
            one.send(b"!\n");
            Ok(())
        },
    ];
    for take in takes {
        for cut in 1..whole.len() {
            let (mut server, id, mut client) = pair::<()>();
            let events = |server: &mut EventLoop, received: usize| {
                let mut events = 0;
                let mut total = 0;
                while total < received {
                    assert_eq!(next(server), Event::Received(id));
                    total = server[id].received().len();
                    server[id].attend(take);
                    events += 1;
                }
                while let Some(event) = server.poll_event(Some(Duration::ZERO)).unwrap() {
                    assert_eq!(event, Event::Received(id));
                    server[id].attend(take);
                    events += 1;
                    assert!(events < 9, "it is announced again and again");
                }
                events
            };
            // A message in two parts.
            client.write_all(&whole[..cut]).unwrap();
            let first = events(&mut server, cut);
            client.write_all(&whole[cut..]).unwrap();
            assert_eq!((first, events(&mut server, whole.len())), (1, 1), "cut at {cut}");
            // A message and a part of the next.
            client.write_all(&[whole, &whole[..cut]].concat()).unwrap();
            let both = events(&mut server, whole.len() + cut);
            assert!(both <= 2, "{both} events for one message and a part, cut at {cut}");
            client.write_all(&whole[cut..]).unwrap();
            assert_eq!(events(&mut server, whole.len()), 1, "cut at {cut}");
            let mut answers = [0; 27];
            client.read_exact(&mut answers).unwrap();
            assert_eq!(&answers, b"message!\nmessage!\nmessage!\n");
        }
    }
}

#[test]
fn program_that_consumes_nothing_hears_nothing_until_more_arrives() {
    let (mut server, id, mut client) = sent(b"1\n2\n");
    assert_eq!(next(&mut server), Event::Received(id));
    assert_eq!(turns(&mut server, 5), []);
    client.write_all(b"3\n").unwrap();
    assert_eq!(next(&mut server), Event::Received(id));
    server[id].consume(0);
    assert_eq!(turns(&mut server, 5), [], "to consume nothing is no progress");
    // In whatever handler it consumes, and outside of all.
    server[id].consume(2);
    assert_eq!(next(&mut server), Event::Received(id));
    assert_eq!(server[id].received(), b"2\n3\n");
}

#[test]
fn rest_waits_while_paused_and_is_announced_once_at_resume() {
    let (mut server, id, _client) = sent(b"1\n2\n3\n");
    assert_eq!(next(&mut server), Event::Received(id));
    server[id].consume(2);
    server[id].pause();
    assert_eq!(turns(&mut server, 5), []);
    server[id].resume();
    assert_eq!(next(&mut server), Event::Received(id));
    assert_eq!(server[id].received(), b"2\n3\n");
    assert_eq!(turns(&mut server, 5), []);
}

#[test]
fn rest_waits_while_clogged_and_follows_drained() {
    let limits = connection_limits(|limits| (limits.high_water, limits.low_water) = (99, 9));
    let (mut server, id, mut client) = pair_with::<()>(limits);
    client.write_all(b"1\n2\n").unwrap();
    await_bytes(&server, id, 4);
    assert_eq!(next(&mut server), Event::Received(id));
    server[id].consume(2);
    server[id].send(&[7; 100]);
    assert_eq!(next(&mut server), Event::Drained(id));
    assert_eq!(next(&mut server), Event::Received(id));
    assert_eq!(server[id].received(), b"2\n");
    client.read_exact(&mut [0; 100]).unwrap();
}

/// More lines than one service announces, so that others would be served before the last.
const MANY: usize = 200;

/// All that has arrived is announced before the end is.
#[test]
fn peer_finished_waits_until_no_message_is_left() {
    let (mut server, id, client) = sent(lines(MANY).as_bytes());
    client.shutdown(Shutdown::Write).unwrap();
    for line in 1..=MANY {
        assert_eq!(next(&mut server), Event::Received(id), "line {line}");
        server[id].attend(answer_one);
    }
    assert_eq!(next(&mut server), Event::PeerFinished(id));
    let (events, reason) = until_closed(&mut server, id);
    assert_eq!((events.len(), reason), (1, CloseReason::Finished));
    let (answers, outcome) = read_in_thread(client).join().unwrap();
    outcome.unwrap();
    assert_eq!(answers, lines(MANY).replace('\n', "!\n").as_bytes());
}

#[test]
fn closed_by_a_reset_waits_until_no_message_is_left() {
    let (mut server, id, client) = sent(lines(MANY).as_bytes());
    reset(client);
    let mut count = 0;
    let reason = until(&mut server, |server, event| match event {
        Event::Received(_) => {
            count += 1;
            let line = server[id].halves().0.take_line(9).map(|line| line.map(<[u8]>::to_vec));
            assert_eq!(line.unwrap().unwrap(), count.to_string().as_bytes());
            None
        }
        Event::Closed(_, reason) => Some(reason),
        other => panic!("{other:?} was not expected"),
    });
    assert_eq!((reason, server[id].received()), (CloseReason::Reset, &b""[..]));
    // Other kernels throw away what was not read.
    if cfg!(target_os = "linux") {
        assert_eq!(count, MANY);
    }
}

#[test]
fn one_that_has_closed_hears_nothing_of_what_is_left() {
    for end in [|one: &mut Connection<()>| one.close(), |one: &mut Connection<()>| one.abort()] {
        let (mut server, id, client) = sent(b"1\n2\n3\n");
        assert_eq!(next(&mut server), Event::Received(id));
        server[id].consume(2);
        end(&mut server[id]);
        drop(client);
        assert_eq!(until_closed(&mut server, id).0.len(), 1);
    }
}

#[test]
fn many_messages_of_one_do_not_hold_up_another_for_longer_than_a_budget() {
    /// The first event, and as many repeats as a service has.
    const EVENTS_MAX: usize = 65;
    let (mut server, address) = listening_with::<()>(Limits::default());
    let mut busy = peer(address);
    let busy_id = accepted(&mut server);
    let mut other = peer(address);
    let other_id = accepted(&mut server);
    busy.write_all(lines(MANY).as_bytes()).unwrap();
    await_bytes(&server, busy_id, lines(MANY).len());
    other.write_all(b"x\n").unwrap();
    await_bytes(&server, other_id, 2);
    let mut order = Vec::new();
    until(&mut server, |server, event| {
        let Event::Received(id) = event else { panic!("{event:?} was not expected") };
        server[id].attend(answer_one);
        order.push(id);
        (order.len() > MANY).then_some(())
    });
    let before = order.iter().position(|id| *id == other_id).unwrap();
    assert!(before <= EVENTS_MAX, "the other was served after {before} events");
    let runs = order.chunk_by(|one, next| one == next).map(<[_]>::len);
    let longest = runs.max().unwrap();
    assert!(longest >= EVENTS_MAX.min(MANY - before), "repeats are delivered within one service");
}

/// A client that asks for much in few bytes, and reads it all.
#[test]
fn pipelined_requests_for_large_answers_are_all_answered_one_at_a_time_in_memory() {
    const ANSWER: usize = 1 << 20;
    const REQUESTS: usize = 16;
    let (mut server, id, client) = pair::<()>();
    hold_little(&server, id, &client);
    let client = thread::spawn(move || {
        let mut client = client;
        client.write_all(&b"ask1\n".repeat(REQUESTS)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answers = Vec::new();
        client.read_to_end(&mut answers).unwrap();
        answers
    });
    let mut unsent_most = 0;
    let reason = until(&mut server, |server, event| match event {
        Event::Received(_) => {
            server[id].attend(|one| {
                let (mut read, mut write) = one.halves();
                if read.take_line(100)?.is_some() {
                    write.send(&pattern(0, ANSWER));
                }
                unsent_most = unsent_most.max(write.unsent());
                Ok(())
            });
            None
        }
        Event::Closed(_, reason) => Some(reason),
        _ => None,
    });
    assert_eq!(reason, CloseReason::Finished);
    let answers = client.join().unwrap();
    assert_eq!(answers.len(), REQUESTS * ANSWER);
    let is_right = |(place, byte): (usize, &u8)| *byte == pattern_at(place % ANSWER);
    assert!(answers.iter().enumerate().all(is_right), "the answers arrive in order");
    assert_eq!(unsent_most, ANSWER, "no more than one answer is unsent at once");
}

// A client that writes everything before it reads.

/// Much more than the kernels hold between the two.
const MUCH: usize = 16 << 20;

#[test]
fn one_that_reads_while_unsent_takes_all_from_a_peer_that_reads_nothing_yet() {
    let mut limits = connection_limits(|limits| limits.reads_while_unsent = true);
    limits.connection.unsent_max = 2 * MUCH;
    let (mut server, id, client) = pair_with::<()>(limits);
    hold_little(&server, id, &client);
    // More than the kernels hold: it can only write it all if the server reads on.
    let client = thread::spawn(move || {
        let mut client = client;
        client.write_all(&pattern(0, MUCH)).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    let mut unsent_most = 0;
    let answer = drive_until_joined(&mut server, client, |server, event| {
        if let Event::Received(id) = event {
            server[id].send_received();
            unsent_most = unsent_most.max(server[id].unsent());
        }
    });
    assert!(answer == pattern(0, MUCH), "the echo is what was sent");
    assert!(unsent_most > MUCH / 4, "only {unsent_most} bytes were unsent: it proves nothing");
}

#[test]
fn one_that_does_not_read_while_unsent_holds_no_more_than_a_read_buffer() {
    let (mut server, id, client) = pair::<()>();
    hold_little(&server, id, &client);
    client.set_nonblocking(true).unwrap();
    let mut written = 0;
    let bytes = pattern(0, MUCH);
    let mut rests = 0;
    drive(
        &mut server,
        |server, event| {
            if let Event::Received(id) = event {
                server[id].send_received();
                assert!(server[id].unsent() <= BLOCK);
            }
        },
        || {
            let count = (&client).write(&bytes[written..]).unwrap_or(0);
            written += count;
            rests = if count > 0 { 0 } else { rests + 1 };
            rests > 50
        },
    );
    assert!(written < MUCH, "the peer could write on while nothing was read back");
    assert!(server[id].unsent() > 0);
}

// A full read buffer.

fn stalling(deadline: Duration) -> Limits {
    connection_limits(|limits| limits.stalled_read_deadline = deadline)
}

/// Hears of bytes and does nothing with them, as long as a line is not whole.
fn await_line(server: &mut EventLoop, event: Event) {
    if let Event::Received(id) = event
        && let Some(end) = server[id].received().iter().position(|byte| *byte == b'\n')
    {
        server[id].consume(end + 1);
    }
}

#[test]
fn read_buffer_full_without_a_delimiter_is_delivered_once_and_ends_by_its_deadline() {
    const DEADLINE: Duration = Duration::from_millis(60);
    let (mut server, id, mut client) = pair_with::<()>(stalling(DEADLINE));
    client.write_all(&[b'x'; BLOCK]).unwrap();
    let begin = Instant::now();
    let mut full = 0;
    let reason = until(&mut server, |server, event| {
        await_line(server, event);
        full += usize::from(event == Event::Full(id));
        match event {
            Event::Received(_) | Event::Full(_) => None,
            Event::Closed(_, reason) => Some(reason),
            other => panic!("{other:?} was not expected"),
        }
    });
    assert_eq!(reason, CloseReason::TimedOut(Deadline::StalledRead));
    assert_eq!(full, 1);
    assert!(begin.elapsed() >= DEADLINE, "it ended early, after {:?}", begin.elapsed());
    assert_eq!(server[id].received().len(), BLOCK, "what was received can be read");
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "an end and no reset");
}

#[test]
fn full_read_buffer_costs_no_turns() {
    let (mut server, id, mut client) = pair::<()>();
    let steps = Steps::of(&mut server);
    client.write_all(&[b'x'; BLOCK + 1]).unwrap();
    until(&mut server, |_, event| (event == Event::Full(id)).then_some(()));
    assert_rests(&mut server, &steps);
}

#[test]
fn one_that_makes_room_lives_on_and_gets_full_again_when_it_is_full_again() {
    const DEADLINE: Duration = Duration::from_millis(300);
    const ROUNDS: usize = 4;
    let (mut server, id, client) = pair_with::<()>(stalling(DEADLINE));
    let begin = Instant::now();
    let client = thread::spawn(move || {
        let mut client = client;
        client.write_all(&vec![b'x'; ROUNDS * BLOCK]).unwrap();
        client
    });
    let mut full = 0;
    until(&mut server, |server, event| {
        if event == Event::Full(id) {
            full += 1;
            thread::sleep(DEADLINE / 3);
            server[id].consume(BLOCK);
        }
        assert!(!matches!(event, Event::Closed(..)), "{event:?}");
        (full == ROUNDS).then_some(())
    });
    assert!(begin.elapsed() > DEADLINE, "no deadline would have passed");
    drop(client.join().unwrap());
}

#[test]
fn one_that_pauses_when_it_is_full_has_all_the_time_it_wants() {
    const DEADLINE: Duration = Duration::from_millis(20);
    let (mut server, id, mut client) = pair_with::<()>(stalling(DEADLINE));
    client.write_all(&[b'x'; BLOCK]).unwrap();
    until(&mut server, |_, event| (event == Event::Full(id)).then_some(()));
    server[id].pause();
    assert_eq!(server.poll_event(Some(5 * DEADLINE)).unwrap(), None);
    server[id].resume();
    let (events, reason) = until_closed(&mut server, id);
    assert_eq!(reason, CloseReason::TimedOut(Deadline::StalledRead));
    // It announces what was left; that the buffer is full was delivered already.
    assert_eq!(events[0], Event::Received(id), "{events:?}");
}

/// Each sends a read buffer full, or one byte more, and closes.
#[test]
fn many_that_fill_the_read_buffer_and_leave_are_all_closed() {
    const PEERS: usize = 300;
    let limits = stalling(Duration::from_millis(50));
    let (mut server, address) = listening_with::<()>(limits);
    let peers = thread::spawn(move || {
        for number in 0..PEERS {
            let mut peer = peer(address);
            // The server may have given it up before it has written all.
            let _ = peer.write_all(&vec![b'x'; BLOCK + number % 2]);
        }
    });
    let (mut closed, mut others) = (0, 0);
    until(&mut server, |server, event| {
        await_line(server, event);
        if let Event::Closed(_, reason) = event {
            closed += 1;
            let is_expected = matches!(
                reason,
                CloseReason::TimedOut(Deadline::StalledRead)
                    | CloseReason::Finished
                    | CloseReason::Reset
            );
            others += usize::from(!is_expected);
        }
        (closed == PEERS).then_some(())
    });
    peers.join().unwrap();
    assert_eq!((server.connection_count(), others), (0, 0));
}
