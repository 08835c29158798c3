//! The programs of the course: each does what its chapter says, and fails as the next one says. The
//! loop of the last chapter passes the checks of the crate's own echo server.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]
// Linux reports what processes cost and what state they are in.
#![cfg(target_os = "linux")]

mod common;
#[path = "common/echo.rs"]
mod echo;
#[path = "common/programs.rs"]
mod programs;
#[expect(dead_code, reason = "what only its second server needs")]
#[path = "../docs/programs/tiny_loop.rs"]
mod tiny_loop;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{
    PATIENCE, await_end_acknowledged, await_unaccepted, child, measure, pattern, peer, reset,
};
use programs::{Program, TempFile, assert_succeeded};
use socket2::{Domain, SockRef, Socket, Type};
use tiny_loop::{Connection, RECEIVED_MAX, TinyLoop};

/// Starts a program of the course, on a port that the system has chosen.
fn start(name: &str) -> (Program, SocketAddr) {
    start_with(name, &[])
}

fn start_with(name: &str, arguments: &[&str]) -> (Program, SocketAddr) {
    Program::start(name, &[&["0"], arguments].concat()).listening()
}

// The loop that was built, and the crate.

mod built {
    use super::*;

    echo_checks!({
        let (program, address) = start("15_two_servers");
        let process = program.process_id();
        (program, address, process)
    });
}

mod of_the_crate {
    use super::*;

    echo_checks!({
        let (program, address) = programs::server("echo_server");
        let process = program.process_id();
        (program, address, process)
    });
}

/// Through buffers as small as the kernel makes them: of what the loop has read, nearly all is unsent
/// when it finds the client's end behind it.
#[test]
fn end_of_a_client_found_with_unsent_bytes_leaves_them_to_it() {
    const COUNT: usize = 50_000;
    let mut server = TinyLoop::listen("127.0.0.1:0").unwrap();
    SockRef::from(&server.listener).set_send_buffer_size(1).unwrap();
    let address = server.listener.local_addr().unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(1).unwrap();
    client.connect(&address.into()).unwrap();
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.write_all(&pattern(0, COUNT)).unwrap();
    await_unaccepted(address, &client, COUNT);
    client.shutdown(Shutdown::Write).unwrap();
    await_end_acknowledged(&client);
    thread::spawn(move || {
        loop {
            server.turn(Connection::send_received).unwrap();
        }
    });
    client.peek(&mut [0]).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    assert!(answer == pattern(0, COUNT), "{} bytes were echoed", answer.len());
}

/// Without the check for a full buffer the client would wait forever, and the loop would spin.
#[test]
fn handler_that_takes_nothing_from_a_full_buffer_loses_its_connection() {
    let mut server = TinyLoop::listen("127.0.0.1:0").unwrap();
    let mut client = peer(server.listener.local_addr().unwrap());
    thread::spawn(move || {
        loop {
            server.turn(|_| ()).unwrap();
        }
    });
    client.write_all(&[0; RECEIVED_MAX]).unwrap();
    let end = client.read(&mut [0]).map_err(|error| error.kind());
    assert!(matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)), "{end:?}");
}

#[test]
fn clients_of_the_crate_get_everything_back_from_the_loop_that_was_built() {
    let (_server, address) = start("15_two_servers");
    let address = address.to_string();
    let hello = "Received \"Hello, world\"\n12 bytes came back identical\n";
    assert_succeeded(&Program::run("echo_client", &[&address]), hello);
    let file = TempFile::new("course", &pattern(0, 3 * 1024 * 1024 + 1));
    let ended = Program::run("echo_client", &[&address, "--file", file.path()]);
    assert_succeeded(&ended, "3145729 bytes came back identical\n");
    let ended = Program::run("multi_connection_client", &[&address, "100"]);
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    assert!(ended.stdout.contains("\n100 of 100 connections got all back identical"), "{ended:?}");
}

// The client.

#[test]
fn client_reads_once_and_has_the_h_the_next_one_reads_on_and_has_all() {
    for (name, whole) in [("02_client", false), ("03_client", true)] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let client = Program::start(name, &[&port]);
        let mut server = programs::accept(&listener);
        server.read_exact(&mut [0; 12]).unwrap();
        server.write_all(b"H").unwrap();
        if whole {
            await_sent(&server);
            server.write_all(b"ello, world").unwrap();
        }
        let expected = if whole { "Received \"Hello, world\"\n" } else { "Received \"H\"\n" };
        assert_succeeded(&client.ended(), expected);
    }
}

/// Waits until the peer's kernel has acknowledged everything: our second queue is empty.
fn await_sent(stream: &TcpStream) {
    let ours = format!(":{:04X} ", stream.local_addr().unwrap().port());
    let theirs = format!(":{:04X} ", stream.peer_addr().unwrap().port());
    let end = Instant::now() + PATIENCE;
    loop {
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let is_it = |line: &&str| {
            line.find(&ours).is_some_and(|at| line[at..].contains(&format!("{theirs}01")))
        };
        let line = table.lines().find(is_it).expect("the connection is there");
        if line.contains(" 00000000:") {
            return;
        }
        assert!(Instant::now() < end, "{line}");
        thread::yield_now();
    }
}

// One client, one after the other, all at once.

#[test]
fn first_server_serves_one_client_and_exits() {
    let (program, address) = start("02_one_client");
    let mut client = peer(address);
    assert_echoes(&mut client, b"Hello");
    drop(client);
    assert_eq!(program.ended().status, Some(0));
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

fn assert_echoes(client: &mut TcpStream, message: &[u8]) {
    programs::assert_echoes(client, message);
}

/// Fails if anything arrives within a while. Nothing ever does where this is used, so that a slow
/// machine cannot make it fail.
fn assert_no_answer(client: &mut TcpStream) {
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let kind = client.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut), "{kind}");
    client.set_read_timeout(Some(PATIENCE)).unwrap();
}

#[test]
fn silent_client_the_second_waits_until_it_leaves() {
    for name in ["02_in_turn", "04_send_all", "07_poll"] {
        let (_program, address) = start(name);
        let mut first = peer(address);
        assert_echoes(&mut first, b"first");
        let mut second = peer(address);
        second.write_all(b"me too").unwrap();
        assert_no_answer(&mut second);
        drop(first);
        let mut answer = [0; 6];
        second.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"me too", "{name}");
    }
}

#[test]
fn silent_client_the_others_are_served() {
    for name in ["05_threads", "06_busy", "08_slab"] {
        let (_program, address) = start(name);
        let mut silent = peer(address);
        assert_echoes(&mut silent, b"here");
        for _ in 0..20 {
            assert_echoes(&mut peer(address), b"me too");
        }
        assert_echoes(&mut silent, b"still here");
    }
}

/// Waits until a server has accepted its next client.
fn await_accepted(program: &mut Program) {
    let line = program.stdout.next().unwrap();
    assert!(line.starts_with("A client from"), "{line}");
}

// Time.

#[test]
fn idle_client_some_burn_a_core_and_the_others_sleep() {
    let servers = [
        ("02_in_turn", true),
        ("05_threads", true),
        ("06_busy", false),
        ("07_poll", true),
        ("08_slab", true),
        ("09_lines", true),
        ("10_write_buffer", false),
        ("11_interest", true),
        ("12_readiness", true),
        ("13_limits", true),
        ("14_endings", true),
    ];
    for (name, sleeps) in servers {
        let (mut program, address) = start(name);
        let _client = peer(address);
        await_accepted(&mut program);
        if sleeps {
            echo::assert_rests(program.process_id());
        } else {
            echo::assert_burns(program.process_id());
        }
    }
}

// Lines.

/// Checks what a server answers to pieces. Each has been read before the next is sent, as far as
/// `answers` says that it answers it.
fn answered(address: SocketAddr, pieces: &[(&str, &str)]) {
    let mut client = peer(address);
    for (piece, answer) in pieces {
        client.write_all(piece.as_bytes()).unwrap();
        let mut bytes = vec![0; answer.len()];
        client.read_exact(&mut bytes).unwrap();
        assert_eq!(String::from_utf8_lossy(&bytes), *answer);
    }
}

const LINE_SERVERS: [&str; 5] =
    ["09_lines", "10_write_buffer", "11_interest", "13_limits", "14_endings"];

#[test]
fn lines_are_counted_by_reads_in_the_first_attempt_and_by_their_ends_then() {
    let (_program, address) = start("09_each_read");
    answered(address, &[("first\nsecond\n", "1 first\nsecond\n"), ("fir", "2 fir")]);
    for (name, argument) in LINE_SERVERS
        .map(|name| (name, None))
        .into_iter()
        .chain([("12_readiness", None), ("15_two_servers", Some("lines"))])
    {
        let (_program, address) = start_with(name, argument.as_slice());
        answered(address, &[("first\nsecond\n", "1 first\n2 second\n"), ("third\n", "3 third\n")]);
        // Half a line has no answer, and delays no other client.
        let mut half = peer(address);
        half.write_all(b"fir").unwrap();
        answered(address, &[("other\n", "1 other\n")]);
        half.write_all(b"st\nand ha").unwrap();
        let mut answer = [0; 8];
        half.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"1 first\n", "{name}");
    }
}

// A client that does not read.

/// Returns a client that has written lines until the kernels took no more. What it reads later
/// begins with the number of its first line.
fn stuck(address: SocketAddr, most: usize) -> TcpStream {
    let mut client = peer(address);
    client.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    let line = format!("{}\n", "x".repeat(999)).repeat(64);
    let mut written = 0;
    while written < most {
        match client.write(line.as_bytes()) {
            Ok(count) => written += count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                break;
            }
            Err(error) => panic!("the client cannot write: {error}"),
        }
    }
    client
}

#[test]
fn client_that_never_reads_stops_all_until_there_is_a_write_buffer() {
    for name in ["04_send_all", "06_busy", "08_slab", "09_lines"] {
        let (_program, address) = start(name);
        let _stuck = stuck(address, usize::MAX);
        let mut other = peer(address);
        other.write_all(b"Hello\n").unwrap();
        assert_no_answer(&mut other);
    }
    for name in ["10_write_buffer", "11_interest", "12_readiness", "13_limits", "14_endings"] {
        let (_program, address) = start(name);
        let mut stuck = stuck(address, 16_000_000);
        answered(address, &[("Hello\n", "1 Hello\n")]);
        let mut answer = vec![0; 5_000_000];
        stuck.read_exact(&mut answer).unwrap();
        assert!(answer.starts_with(b"1 xxx"), "{name}");
        let count = answer.split(|byte| *byte == b'\n').count();
        let last = format!("\n{} x", count - 1);
        assert!(answer.windows(last.len()).any(|part| part == last.as_bytes()), "{name}");
    }
}

#[test]
fn memory_grows_with_what_is_sent_until_there_are_limits() {
    const SENT: usize = 30_000_000;
    for (name, grows) in [("12_readiness", true), ("13_limits", false), ("14_endings", false)] {
        let (program, address) = start(name);
        let before = measure::user_memory(program.process_id());
        let _stuck = stuck(address, SENT);
        answered(address, &[("Hello\n", "1 Hello\n")]);
        let grown = measure::user_memory(program.process_id()) - before;
        let bound = 2_000_000;
        assert_eq!(grown > bound, grows, "{name} has grown by {grown}");
    }
}

// What was left unread.

#[test]
fn budget_without_memory_forgets_what_it_left() {
    const COUNT: usize = 50_000;
    let lines = format!("{}\n", "0".repeat(999)).repeat(COUNT / 1000);
    for (name, forgets) in [("12_budget", true), ("12_readiness", false), ("13_limits", false)] {
        let (program, address) = start(name);
        program.signal("STOP");
        let mut client = peer(address);
        client.write_all(lines.as_bytes()).unwrap();
        await_unaccepted(address, &client, COUNT);
        program.signal("CONT");
        // The numbers are 9 of two bytes with their blanks, and 41 of three.
        let (all, by_budget) = (COUNT + 9 * 2 + 41 * 3, 16 * (1000 + 3) - 9);
        let mut answer = vec![0; if forgets { by_budget } else { all }];
        client.read_exact(&mut answer).unwrap();
        assert_no_answer(&mut client);
        if forgets {
            // Anything new is an edge, and brings what was left to mind.
            client.write_all(b"\n").unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 1);
        }
    }
}

// Ends.

#[test]
fn reset_ends_the_server_until_a_failure_belongs_to_its_connection() {
    for name in ["02_in_turn", "08_slab", "11_interest", "13_limits"] {
        let (program, address) = start(name);
        let mut client = peer(address);
        client.write_all(b"Hello\n").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        reset(client);
        let ended = program.ended();
        assert_eq!(ended.status, Some(1), "{name}: {ended:?}");
        assert!(ended.stderr.contains("ConnectionReset"), "{name}: {ended:?}");
    }
    for name in ["05_threads", "14_endings"] {
        let (_program, address) = start(name);
        let mut other = peer(address);
        let mut client = peer(address);
        client.write_all(b"Hello\n").unwrap();
        client.read_exact(&mut [0; 6]).unwrap();
        reset(client);
        other.write_all(b"still there?\n").unwrap();
        other.read_exact(&mut [0; 13]).unwrap();
    }
}

/// As many lines as have answers that no kernel holds.
const MANY: usize = 1_500_000;

fn bytes_in_answers() -> usize {
    (1..=MANY).map(|number| number.to_string().len() + 2).sum()
}

#[test]
fn client_that_ends_before_it_reads_loses_answers() {
    for name in ["10_write_buffer", "12_readiness"] {
        let (mut program, address) = start(name);
        let mut client = peer(address);
        await_accepted(&mut program);
        let with_client = measure::descriptors(program.process_id());
        client.write_all(&[b'\n'; MANY]).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let end = Instant::now() + PATIENCE;
        while measure::descriptors(program.process_id()) >= with_client {
            assert!(Instant::now() < end, "{name} does not close");
            thread::yield_now();
        }
        let mut answer = Vec::new();
        // A reset ends it too.
        let _ = client.read_to_end(&mut answer);
        assert!(answer.len() < bytes_in_answers(), "{name}");
    }
}

#[test]
fn client_that_ends_before_it_reads_has_all_answers_once_both_directions_have_an_end() {
    for (name, argument) in [("14_endings", None), ("15_two_servers", Some("lines"))] {
        let (_program, address) = start_with(name, argument.as_slice());
        let mut client = peer(address);
        let mut writer = client.try_clone().unwrap();
        let writer = thread::spawn(move || {
            writer.write_all(&[b'\n'; MANY]).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        writer.join().unwrap();
        assert_eq!(answer.len(), bytes_in_answers(), "{name}");
        assert!(answer.ends_with(format!("\n{MANY} \n").as_bytes()));
    }
}

#[test]
fn line_that_is_too_long_is_answered_once_both_directions_have_an_end() {
    for (name, argument, expected) in [
        ("13_limits", None, ""),
        ("14_endings", None, "line too long\n"),
        ("15_two_servers", Some("lines"), "line too long\n"),
    ] {
        let (_program, address) = start_with(name, argument.as_slice());
        let mut client = peer(address);
        // The server may close before all of it is written.
        let _ = client.write_all(&[b'x'; 300_000]);
        let _ = client.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = client.read_to_string(&mut answer);
        assert_eq!(answer, expected, "{name}");
        answered(address, &[("Hello\n", "1 Hello\n")]);
    }
}

#[test]
fn connection_beyond_the_limit_waits_until_another_leaves() {
    child::with_descriptors(test_name!(), 1_100, || {
        for name in ["13_limits", "14_endings", "15_two_servers"] {
            let (_program, address) = start(name);
            let answer_count = if name == "15_two_servers" { 6 } else { 8 };
            let mut clients = Vec::new();
            for _ in 0..20 {
                // Never more than fit into the backlog.
                clients.extend((0..50).map(|_| peer(address)));
                let last = clients.last_mut().unwrap();
                last.write_all(b"Hello\n").unwrap();
                last.read_exact(&mut vec![0; answer_count]).unwrap();
            }
            let mut next = peer(address);
            next.write_all(b"Hello\n").unwrap();
            assert_no_answer(&mut next);
            drop(clients.pop());
            next.read_exact(&mut vec![0; answer_count]).unwrap();
        }
    });
}
