//! An error in one connection's handler ends that connection alone, with a reason that is delivered
//! to the program; and a connection is closed before its `Closed` is delivered.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]

mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use common::{
    PATIENCE, accepted, connection_limits, listening_with, next, pair, peer, read_in_thread, reset,
    turns, until, until_closed,
};
use log::{Level, LevelFilter, Log, Metadata, Record};
use readiness::{CloseReason, Connection, Event, EventLoop, Limits};

fn rejected(kind: ErrorKind) -> CloseReason {
    CloseReason::Rejected(kind.into())
}

/// Doubles the number of each line.
fn answer(connection: &mut Connection<()>) -> io::Result<()> {
    let (mut read, mut write) = connection.halves();
    while let Some(line) = read.take_line(20)? {
        let number = std::str::from_utf8(line).ok().and_then(|line| line.parse::<i64>().ok());
        let Some(number) = number else {
            writeln!(write, "error: no number")?;
            return Err(ErrorKind::InvalidInput.into());
        };
        writeln!(write, "{}", 2 * number)?;
    }
    Ok(())
}

#[test]
fn error_of_one_handler_ends_that_connection_alone_and_its_answer_arrives() {
    let (mut server, address) = listening_with::<()>(Limits::default());
    let mut wrong = peer(address);
    let wrong_id = accepted(&mut server);
    let mut right = peer(address);
    let right_id = accepted(&mut server);
    right.write_all(b"1\n").unwrap();
    wrong.write_all(b"2\nx\n3\nand more that is not read").unwrap();
    let wrong = read_in_thread(wrong);
    let reason = until(&mut server, |server, event| match event {
        Event::Received(id) => {
            server[id].attend(answer);
            None
        }
        Event::Closed(id, reason) => {
            assert_eq!(id, wrong_id);
            Some(reason)
        }
        other => panic!("{other:?} was not expected"),
    });
    assert_eq!(reason, rejected(ErrorKind::InvalidInput));
    let (answer_of_wrong, outcome) = wrong.join().unwrap();
    outcome.expect("it is closed gracefully");
    assert_eq!(answer_of_wrong, b"4\nerror: no number\n");

    right.write_all(b"4\n").unwrap();
    until(&mut server, |server, event| {
        assert_eq!(event, Event::Received(right_id));
        server[right_id].attend(answer);
        (server[right_id].received().is_empty()).then_some(())
    });
    turns(&mut server, 1);
    let mut answers = [0; 4];
    right.read_exact(&mut answers).unwrap();
    assert_eq!(&answers, b"2\n8\n");
}

#[test]
fn would_block_means_go_on() {
    let (mut server, id, mut client) = pair::<()>();
    server[id].attend(|_| Err(ErrorKind::WouldBlock.into()));
    server[id].attend(|one| one.read(&mut [0]).map(|_| ()));
    client.write_all(b"x").unwrap();
    assert_eq!(next(&mut server), Event::Received(id));
    // Nor does an error of which the program knows what to do.
    server[id].attend(|one| one.read_exact(&mut [0; 2]).or(Ok(())));
    server[id].send_received();
    assert_eq!(turns(&mut server, 3), []);
    client.read_exact(&mut [0]).unwrap();
}

#[test]
fn number_of_the_operating_systems_error_is_kept() {
    let (mut server, id, client) = pair::<()>();
    server[id].attend(|_| Err(io::Error::from_raw_os_error(28)));
    drop(client);
    let (events, reason) = until_closed(&mut server, id);
    assert_eq!(events.len(), 1, "only the end is delivered");
    let CloseReason::Rejected(failure) = reason else { panic!("{reason:?}") };
    assert_eq!(failure.raw_os_error(), Some(28));
    assert_eq!(reason.to_string(), format!("rejected by us: {failure}"));
}

/// Keeps every line that is logged.
struct Lines(Mutex<Vec<(Level, String)>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        self.0.lock().unwrap().push((record.level(), record.args().to_string()));
    }

    fn flush(&self) {}
}

#[test]
fn message_of_the_error_is_logged_at_debug_and_nothing_louder() {
    log::set_logger(&LINES).unwrap();
    log::set_max_level(LevelFilter::Debug);
    let (mut server, id, _client) = pair::<()>();
    server[id].attend(|_| Err(io::Error::new(ErrorKind::InvalidData, "no such verb: HELO")));
    server[id].attend(|_| Err(ErrorKind::WouldBlock.into()));
    let lines = LINES.0.lock().unwrap();
    let rejected =
        |line: &&(Level, String)| line.1 == format!("{id} is rejected: no such verb: HELO");
    let found: Vec<_> = lines.iter().filter(rejected).collect();
    assert_eq!(found.len(), 1, "{lines:?}");
    assert_eq!(found[0].0, Level::Debug);
}

#[test]
fn read_behind_a_rejection_is_its_error() {
    let (mut server, id, mut client) = pair::<()>();
    client.write_all(b"received").unwrap();
    assert_eq!(next(&mut server), Event::Received(id));
    server[id].attend(|_| Err(ErrorKind::PermissionDenied.into()));
    drop(client);
    until_closed(&mut server, id);
    let mut bytes = [0; 8];
    server[id].read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"received");
    assert_eq!(server[id].read(&mut bytes).unwrap_err().kind(), ErrorKind::PermissionDenied);
}

#[test]
fn close_with_is_graceful_and_abort_with_a_reset_and_both_give_the_reason() {
    let (mut server, id, client) = pair::<()>();
    server[id].send(b"goodbye");
    server[id].close_with(ErrorKind::PermissionDenied);
    let client = read_in_thread(client);
    assert_eq!(until_closed(&mut server, id).1, rejected(ErrorKind::PermissionDenied));
    let (bytes, outcome) = client.join().unwrap();
    outcome.unwrap();
    assert_eq!(bytes, b"goodbye");

    let (mut server, id, mut client) = pair::<()>();
    server[id].send(b"never sent");
    server[id].abort_with(io::Error::new(ErrorKind::InvalidData, "nonsense"));
    assert_eq!(next(&mut server), Event::Closed(id, rejected(ErrorKind::InvalidData)));
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset);
}

/// What has ended a connection first stays the reason.
#[test]
fn first_cause_stays_the_reason() {
    let reject = |one: &mut Connection<()>| one.close_with(ErrorKind::Other);
    let (mut server, id, client) = pair::<()>();
    server[id].close();
    reject(&mut server[id]);
    drop(client);
    assert_eq!(until_closed(&mut server, id).1, CloseReason::Closed);

    let (mut server, id, client) = pair::<()>();
    reset(client);
    let reason = until(&mut server, |server, event| {
        reject(&mut server[id]); // while `Closed` is handled
        if let Event::Closed(_, reason) = event { Some(reason) } else { None }
    });
    assert_eq!(reason, CloseReason::Reset);

    // A rejection is still the reason when the connection then ends by a reset.
    let (mut server, id, client) = pair::<()>();
    reject(&mut server[id]);
    server[id].abort();
    assert_eq!(until_closed(&mut server, id).1, rejected(ErrorKind::Other));
    drop(client);

    // Too much was sent before the handler failed.
    let mut limits = Limits::default().connection;
    (limits.low_water, limits.high_water, limits.unsent_max) = (0, 1, 1);
    let (mut server, id, _client) = pair::<()>();
    server[id].set_limits(limits).unwrap();
    server[id].attend(|one| {
        one.send(b"x");
        one.write_all(b"more")
    });
    assert_eq!(until_closed(&mut server, id).1, CloseReason::Overflow);
}

#[test]
fn rejection_while_a_connect_is_under_way_is_its_closed_alone() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client: EventLoop = EventLoop::new().unwrap();
    let id = client.connect(listener.local_addr().unwrap(), ());
    client[id].close_with(ErrorKind::Interrupted);
    assert_eq!(
        until_closed(&mut client, id).0,
        [Event::Closed(id, rejected(ErrorKind::Interrupted))]
    );
}

// Closed is delivered after the close.

/// Returns a client that says something and reads until its connection ends, in whatever way.
fn client(address: std::net::SocketAddr) -> JoinHandle<ErrorKind> {
    thread::spawn(move || {
        let mut client = peer(address);
        client.write_all(b"?").unwrap();
        let outcome = client.read_to_end(&mut Vec::new());
        outcome.map_or_else(|error| error.kind(), |_| ErrorKind::UnexpectedEof)
    })
}

/// The program waits for its client while it handles `Closed`: the end must have reached the
/// client.
#[test]
fn program_that_joins_its_client_while_closed_is_handled_does_not_hang() {
    type Act = fn(&mut EventLoop, Event);
    let (ended, was_reset) = (ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset);
    let cases: [(&str, Act, ErrorKind); 5] = [
        ("abort", |server, event| of(server, event, |one| one.abort()), was_reset),
        (
            "abort with a reason",
            |server, event| of(server, event, |one| one.abort_with(ErrorKind::Other)),
            was_reset,
        ),
        (
            "overflow",
            |server, event| {
                of(server, event, |one| {
                    one.send(b"x");
                    one.send(&[0; 100]);
                });
            },
            was_reset,
        ),
        ("idle", |_, _| (), ended),
        (
            "closed, and the client goes on",
            |server, event| of(server, event, |one| one.close()),
            ended,
        ),
    ];
    for (name, act, expected) in cases {
        let limits = connection_limits(|limits| {
            (limits.low_water, limits.high_water, limits.unsent_max) = (0, 50, 99);
            limits.idle_timeout = Some(Duration::from_millis(50));
            limits.close_quiet_deadline = Duration::from_millis(50);
        });
        let (mut server, address) = listening_with::<()>(limits);
        let mut client = Some(client(address));
        until(&mut server, |server, event| {
            act(server, event);
            let Event::Closed(..) = event else { return None };
            let begin = std::time::Instant::now();
            let heard = client.take().unwrap().join().unwrap();
            assert_eq!(heard, expected, "{name}");
            assert!(begin.elapsed() < PATIENCE / 2, "{name}: the client received nothing in time");
            Some(())
        });
    }
}

fn of(server: &mut EventLoop, event: Event, act: fn(&mut Connection<()>)) {
    if let Event::Received(id) = event {
        act(&mut server[id]);
    }
}

/// A connection whose peer has closed has no socket any more, but keeps what it has received.
#[test]
fn received_bytes_and_the_end_can_be_read_while_closed_is_handled() {
    let (mut server, id, mut client): (EventLoop, _, TcpStream) = pair();
    client.write_all(b"left").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    until_closed(&mut server, id);
    let mut bytes = Vec::new();
    server[id].read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"left");
    assert_eq!(server[id].read(&mut [0]).unwrap(), 0);
    assert_eq!(client.read(&mut [0]).unwrap(), 0, "the end has reached the peer");
}
