//! The examples, as a newcomer meets them: started, talked to, and given what they must refuse.
//!
//! The servers listen on a port that the system chooses. Where a test must know how far a client
//! has come, it reads the trace that the client prints.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/programs.rs"]
mod programs;

use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
#[cfg(unix)]
use std::sync::mpsc::channel;
use std::thread;

use common::skipping::runs_in_part;
use common::{NO_IPV6, PATIENCE, has_ipv6, pattern, peer, reset};
use programs::{
    CLIENTS, Program, SERVERS, SPECIAL_SERVERS, TempFile, accept, assert_echoes, assert_failed,
    assert_succeeded, server, serving,
};
use socket2::{Domain, Socket, Type};

/// What the client prints of its message when all is well.
const HELLO: &str = "Received \"Hello, world\"\n12 bytes came back identical\n";

// The servers.

#[test]
fn server_on_port_zero_prints_its_address_and_echoes_client_after_client() {
    for name in SERVERS {
        let (_server, address) = server(name);
        assert_ne!(address.port(), 0);
        for round in 0..2 {
            let mut client = peer(address);
            assert_echoes(&mut client, b"Hello, world");
            assert_echoes(&mut client, &pattern(round, 10_000));
            client.shutdown(Shutdown::Write).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap(), 0, "{name} ends when its client does");
        }
    }
}

#[test]
fn server_without_an_address_takes_the_default_one() {
    const DEFAULT: &str = "127.0.0.1:65432";
    for name in SERVERS {
        let mut program = Program::start(name, &[]);
        let line = program.stdout.next();
        if line.is_none() {
            // The server says which address it has tried.
            let ended = program.ended();
            assert_eq!(ended.status, Some(1), "{ended:?}");
            assert!(ended.stderr.contains(DEFAULT), "{ended:?}");
        }
        skip_unless!(line.is_some(), "another program has the port 65432");
        assert_eq!(line.unwrap(), format!("Listening on {DEFAULT}"));
    }
}

#[test]
fn server_at_ipv6_loopback_prints_the_address_as_clients_take_it() {
    skip_unless!(has_ipv6(), NO_IPV6);
    for name in SERVERS {
        let (_server, address) = Program::start(name, &["[::1]:0"]).listening();
        let ended = Program::run("echo_client", &[&address.to_string()]);
        assert_succeeded(&ended, HELLO);
    }
}

#[test]
fn silent_client_connected_others_are_echoed_at_once() {
    for name in ["echo_server", "threaded_echo_server"] {
        let (_server, address) = server(name);
        let mut silent = peer(address);
        assert_echoes(&mut silent, b"here");
        assert_echoes(&mut peer(address), b"meanwhile");
        assert_echoes(&mut silent, b"still here");
    }
}

#[test]
fn blocking_server_with_a_client_leaves_the_next_waiting_until_it_leaves() {
    let (_server, address) = server("blocking_echo_server");
    let (mut first, mut second) = (peer(address), peer(address));
    second.write_all(b"waiting").unwrap();
    for _ in 0..100 {
        assert_echoes(&mut first, b"first");
    }
    second.set_nonblocking(true).unwrap();
    let error = second.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "the second was served beside the first");
    second.set_nonblocking(false).unwrap();
    drop(first);
    let mut answer = [0; 7];
    second.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"waiting");
}

#[test]
fn client_reset_server_serves_the_others() {
    for name in SERVERS {
        let (_server, address) = server(name);
        let mut client = peer(address);
        assert_echoes(&mut client, b"soon gone");
        reset(client);
        assert_echoes(&mut peer(address), b"next");
    }
}

#[test]
fn traced_server_with_a_slow_reader_shows_the_interest_switch_and_back() {
    let (mut server, address) = Program::start_traced("echo_server", &["127.0.0.1:0"]).listening();
    let mut client = peer(address);
    assert_echoes(&mut client, b"Hello");
    for step in ["listens at", "accepted by", "filled 5", "queued 5", "flushed 5, all is sent"] {
        let line = std::iter::from_fn(|| server.stderr.next()).find(|line| line.contains(step));
        assert!(line.is_some_and(|line| line.contains("readiness]")), "no step {step:?}");
    }

    const COUNT: usize = 32 * 1024 * 1024;
    let mut sender = client.try_clone().unwrap();
    let sender = thread::spawn(move || {
        let block = pattern(0, 1 << 20);
        (0..COUNT / block.len()).for_each(|_| sender.write_all(&block).unwrap());
    });
    server.stderr.until("interest readable -> writable");
    let block = pattern(0, 1 << 20);
    let mut answer = vec![0; block.len()];
    for _ in 0..COUNT / block.len() {
        client.read_exact(&mut answer).unwrap();
        assert!(answer == block, "what came back is not what was sent");
    }
    server.stderr.until("interest writable -> readable");
    sender.join().unwrap();
}

// The echo client.

#[test]
fn client_with_a_message_prints_what_came_back_from_each_server() {
    for name in SERVERS {
        let (_server, address) = server(name);
        let address = address.to_string();
        let ended = Program::run("echo_client", &[&address]);
        assert_succeeded(&ended, HELLO);
        let ended = Program::run("echo_client", &[&address, "Grüße"]);
        assert_succeeded(&ended, "Received \"Grüße\"\n7 bytes came back identical\n");
        let ended = Program::run("echo_client", &[&address, ""]);
        assert_succeeded(&ended, "Received \"\"\n0 bytes came back identical\n");
        let long = "0123456789".repeat(10_000);
        let ended = Program::run("echo_client", &[&address, &long]);
        let all = format!("Received \"{long}\"\n100000 bytes came back identical\n");
        assert_succeeded(&ended, &all);
    }
}

#[test]
fn message_cut_into_single_bytes_is_received_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::start_traced("echo_client", &[&address]);
    let mut server = accept(&listener);
    let mut message = Vec::new();
    server.read_to_end(&mut message).unwrap();
    for byte in message {
        server.write_all(&[byte]).unwrap();
        client.stderr.until("filled 1");
    }
    drop(server);
    let ended = client.ended();
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), HELLO));
}

#[test]
fn file_streamed_through_each_server_comes_back_identical() {
    let content = pattern(0, 3 * 1024 * 1024 + 1);
    let file = TempFile::new("streamed", &content);
    let empty = TempFile::new("empty", &[]);
    for name in SERVERS {
        let (_server, address) = server(name);
        let address = address.to_string();
        let ended = Program::run("echo_client", &[&address, "--file", file.path()]);
        assert_succeeded(&ended, "3145729 bytes came back identical\n");
        let ended = Program::run("echo_client", &["--file", empty.path(), &address]);
        assert_succeeded(&ended, "0 bytes came back identical\n");
    }
}

#[test]
fn file_to_a_server_that_reads_late_is_held_in_pieces_and_goes_on_when_it_drains() {
    const HIGH_WATER: usize = 64 * 1024;
    const PIECE: usize = 64 * 1024;
    const COUNT: usize = 48;
    let mut block = pattern(0, 1 << 20);
    block.push(1); // no multiple of any buffer
    let file = TempFile::new("late", &block.repeat(COUNT));

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::start_traced("echo_client", &[&address, "--file", file.path()]);
    let server = accept(&listener);
    client.stderr.until("has no more room to write");
    assert_peak_below(test_name!(), client.process_id(), 16 * 1024 * 1024);

    let echo = thread::spawn(move || {
        let (mut from, mut to) = (&server, &server);
        io::copy(&mut from, &mut to).unwrap()
    });
    let mut drained = 0;
    while let Some(line) = client.stderr.next() {
        let words: Vec<&str> = line.split(' ').collect();
        if let [.., unsent, "unsent"] = words[..] {
            let unsent: usize = unsent.parse().unwrap();
            assert!(unsent <= HIGH_WATER + PIECE, "the client ran ahead: {line}");
            drained += 1;
        }
    }
    assert!(drained > 1, "the client was never clogged");
    let ended = client.ended();
    let count = COUNT * block.len();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert_eq!(ended.stdout, format!("{count} bytes came back identical\n"));
    assert_eq!(echo.join().unwrap(), count as u64);
}

/// The most memory that a process has had so far, where the system tells.
fn assert_peak_below(test: &str, process: u32, most: usize) {
    let status = fs::read_to_string(format!("/proc/{process}/status"));
    let less = || "this system does not tell a process's memory".to_owned();
    runs_in_part(test, status.is_err().then(less));
    let Ok(status) = status else { return };
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let kilobytes: usize = line.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kilobytes * 1024 < most, "the process had {kilobytes} kB");
}

// The client of many connections.

#[test]
fn many_connections_each_get_all_their_messages_back_from_each_server() {
    const COUNT: usize = 100; // fewer than the shortest backlog among the servers
    for name in SERVERS {
        let (_server, address) = server(name);
        let arguments = [&address.to_string(), &COUNT.to_string()];
        let ended = Program::run("multi_connection_client", &arguments.map(|text| text.as_str()));
        let mut expected = 0;
        let mut lines: Vec<&str> = ended.stdout.lines().collect();
        let summary = lines.pop().unwrap_or_default();
        lines.sort_by_key(|line| line.split([' ', ':']).nth(1)?.parse::<usize>().ok());
        assert_eq!(lines.len(), COUNT, "{ended:?}");
        for (number, line) in (1..).zip(lines) {
            let bytes = 3 * format!("Message 1 of connection {number}").len();
            expected += bytes;
            let head = format!("Connection {number}: 3 of 3 messages came back, ");
            let whole = format!("{head}{bytes} of {bytes} bytes identical; closed by us");
            assert_eq!(line, whole, "{name}");
        }
        let all = format!(
            "{COUNT} of {COUNT} connections got all back identical, {expected} bytes in all"
        );
        assert_eq!((ended.status, summary, ended.stderr.as_str()), (Some(0), all.as_str(), ""));
    }
}

#[test]
fn message_that_comes_back_in_two_parts_is_awaited_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut client = Program::start_traced("multi_connection_client", &[&address, "1"]);
    let mut server = accept(&listener);
    let mut message = [0; 25];
    for number in 1..=3 {
        server.read_exact(&mut message).unwrap();
        assert_eq!(message, *format!("Message {number} of connection 1").as_bytes());
        server.write_all(&message[..9]).unwrap();
        client.stderr.until("filled 9");
        server.write_all(&message[9..]).unwrap();
    }
    assert_eq!(server.read(&mut message).unwrap(), 0, "after the last message the client ends");
    drop(server);
    let ended = client.ended();
    assert_eq!(ended.status, Some(0), "{ended:?}");
    assert!(ended.stdout.starts_with("Connection 1: 3 of 3 messages came back, 75 of 75 bytes"));
}

/// Echoes whole messages; what `treat` makes of the first is sent in its place, or a reset.
fn echo_but(mut client: TcpStream, treat: impl Fn(String) -> Option<String>) {
    let mut message = [0; 25];
    for number in 1.. {
        // The end, or the reset of a client that gave up.
        if client.read_exact(&mut message).is_err() {
            return;
        }
        let text = String::from_utf8(message.to_vec()).unwrap();
        let answer = if number == 1 { treat(text) } else { Some(text) };
        match answer {
            Some(answer) => client.write_all(answer.as_bytes()).unwrap(),
            None => return reset(client),
        }
    }
}

#[test]
fn one_connection_reset_the_others_go_on_and_the_failure_is_told() {
    let (address, server) = serving(4, |client| {
        echo_but(client, |text| (!text.ends_with("connection 2")).then_some(text));
    });
    let ended = Program::run("multi_connection_client", &[&address, "4"]);
    server.join().unwrap();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    let broken =
        "Connection 2: 0 of 3 messages came back, 0 of 75 bytes identical; reset by the peer";
    assert_eq!(ended.stdout.lines().filter(|line| *line == broken).count(), 1, "{ended:?}");
    assert_eq!(ended.stdout.matches(": 3 of 3 messages").count(), 3, "{ended:?}");
    assert!(ended.stderr.contains(&address) && ended.stderr.contains("only 3 of 4"), "{ended:?}");
}

#[test]
fn one_message_changed_the_others_go_on_and_the_difference_is_told() {
    let (address, server) = serving(4, |client| {
        echo_but(client, |text| Some(text.replace("of connection 3", "of connection ?")));
    });
    let ended = Program::run("multi_connection_client", &[&address, "4"]);
    server.join().unwrap();
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert!(ended.stderr.contains("only 3 of 4"), "{ended:?}");
    let given_up = "Connection 3: 0 of 3 messages came back, 24 of 75 bytes identical; \
                    the first difference is at offset 24: 0x33 was sent, 0x3f came back\n";
    assert!(ended.stdout.contains(given_up), "{ended:?}");
    assert_eq!(ended.stdout.matches(": 3 of 3 messages").count(), 3, "{ended:?}");
}

// What everybody waits for.

#[cfg(unix)]
#[test]
fn signal_prints_what_each_client_waits_for_and_the_server_goes_on() {
    let (mut server, address) = server("echo_server");
    let mut clients = [peer(address), peer(address)];
    clients.iter_mut().for_each(|client| assert_echoes(client, b"here"));
    for _ in 0..2 {
        server.signal("USR1");
        assert_eq!(server.stdout.next().unwrap(), "2 connections, 1 listener");
        let listener = format!("  l0.1 at {address}: waits for a peer to connect");
        assert_eq!(server.stdout.next().unwrap(), listener);
        for (client, id) in clients.iter_mut().zip(["c0.1", "c1.2"]) {
            let line = server.stdout.next().unwrap();
            let peer = client.local_addr().unwrap();
            assert!(line.starts_with(&format!("  {id} with {peer}: Open, ")), "{line}");
            assert!(line.ends_with("waits for the peer to send or to finish"), "{line}");
            assert_echoes(client, b"still here");
        }
    }
    let help = Program::run("echo_server", &["--help"]).stdout;
    assert!(help.contains("USR1"), "{help}");
}

/// The lesson names what was answered and why a connection ends, and folds what is common.
#[test]
fn lesson_tells_in_a_few_lines_what_the_server_does() {
    let mut server = Program::start("echo_server", &["--lesson", "127.0.0.1:0"]);
    let line = server.stdout.next().unwrap();
    let address = line.rsplit("listens at ").next().unwrap().parse().unwrap();
    let mut client = peer(address);
    assert_echoes(&mut client, b"Hello, world");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    server.stdout.until_with("interest none -> readable: its bytes are wanted");
    server.stdout.until_with("12 bytes arrive");
    server.stdout.until_with("read the peer's end (EOF)");
    server.stdout.until_with("closed: finished by both sides (0 unsent, 0 lost)");
}

// Leaving by Ctrl-C.

/// Those that Ctrl-C has leave.
#[cfg(unix)]
fn leaving() -> impl Iterator<Item = &'static str> {
    SPECIAL_SERVERS.into_iter().chain(["echo_server"])
}

#[cfg(unix)]
#[test]
fn ctrl_c_with_an_idle_client_ends_the_server_and_the_client_gracefully() {
    for name in leaving() {
        for signal in ["INT", "TERM"] {
            let (mut server, address) = server(name);
            let mut client = peer(address);
            // Any server answers some of these, and then it has accepted.
            client.write_all(b"+1\n").unwrap();
            client.read_exact(&mut [0]).unwrap();
            server.signal(signal);
            server.stdout.until("to finish. Ctrl-C again aborts the rest");
            client.read_to_end(&mut Vec::new()).unwrap();
            drop(client);
            let ended = server.ended();
            assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{name}: {ended:?}");
        }
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_without_a_client_ends_the_server_at_once_and_says_nothing_of_seconds() {
    for name in leaving() {
        let (server, _) = server(name);
        server.signal("INT");
        let ended = server.ended();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{name}: {ended:?}");
        let said = ended.stdout.contains("Shutting down\n") && !ended.stdout.contains("10s");
        assert!(said, "{name}: {ended:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_before_a_client_was_accepted_tells_of_its_seconds_too() {
    let (mut server, address) = server("echo_server");
    // It finds both at once.
    server.signal("STOP");
    let mut client = peer(address);
    client.write_all(b"Hello").unwrap();
    server.signal("INT");
    server.signal("CONT");
    server.stdout.until("to finish. Ctrl-C again aborts the rest");
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert_eq!(back, b"Hello");
    drop(client);
    assert_eq!(server.ended().status, Some(0));
}

#[cfg(unix)]
#[test]
fn client_that_never_finishes_is_ended_by_the_close_deadline_and_named_with_it() {
    let served = |name| {
        let (server, address) = server(name);
        let mut client = peer(address);
        client.write_all(b"+1\n").unwrap();
        client.read_exact(&mut [0]).unwrap();
        server.signal("INT");
        (name, server, client)
    };
    // All at once, so that their five seconds are the same.
    let servers: Vec<_> = leaving().map(served).collect();
    for (name, server, client) in servers {
        let ended = server.ended();
        let peer = client.local_addr().unwrap();
        let line = format!(" of {peer} was ended by the close deadline: the peer did not finish\n");
        assert!(ended.stdout.contains(&line), "{name}: {ended:?}");
        assert_eq!(ended.status, Some(0), "{name}: {ended:?}");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_with_a_client_that_reads_late_gives_it_everything_that_had_come_from_it() {
    let (mut server, address) = Program::start_traced("echo_server", &["127.0.0.1:0"]).listening();
    let mut client = peer(address);
    let content = pattern(0, 8 << 20);
    let (mut writer, sent) = (client.try_clone().unwrap(), content.clone());
    // The last of it may find the server already closing.
    let writer = thread::spawn(move || writer.write_all(&sent));
    let mut filled = 0;
    let clogged = std::iter::from_fn(|| server.stderr.next()).find(|line| {
        let count = line.split(" filled ").nth(1);
        filled += count.map_or(0, |count| count.parse().unwrap());
        line.ends_with("interest readable -> writable")
    });
    assert!(clogged.is_some());
    server.signal("INT");
    server.stdout.until("to finish. Ctrl-C again aborts the rest");
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    assert!(content.starts_with(&back), "what came back is not what was sent");
    assert!(back.len() >= filled, "{} of {filled} bytes came back", back.len());
    client.shutdown(Shutdown::Both).unwrap();
    let _ = writer.join().unwrap();
    assert_eq!(server.ended().status, Some(0));
}

#[cfg(unix)]
#[test]
fn second_ctrl_c_aborts_a_client_that_the_first_one_waits_for() {
    let (mut server, address) = Program::start_traced("echo_server", &["127.0.0.1:0"]).listening();
    // It reads nothing, so that the server cannot finish.
    let client = peer(address);
    let mut writer = client.try_clone().unwrap();
    let writer = thread::spawn(move || writer.write_all(&vec![0; 64 << 20]));
    server.stderr.until("interest readable -> writable");
    server.signal("INT");
    let line = "Shutting down: 10s for 1 connection to finish. Ctrl-C again aborts the rest";
    assert_eq!(server.stdout.next().as_deref(), Some(line));
    server.signal("INT");
    assert_eq!(server.stdout.next().as_deref(), Some("Aborting 1 connection"));
    let error = writer.join().unwrap().unwrap_err();
    assert!([ErrorKind::ConnectionReset, ErrorKind::BrokenPipe].contains(&error.kind()), "{error}");
    drop(client);
    assert_eq!(server.ended().status, Some(0));
}

// The worker pool.

/// Reads lines, as many as there are expected.
fn assert_answers(client: &mut TcpStream, expected: &[&str]) {
    let expected = expected.join("\n") + "\n";
    let mut answer = vec![0; expected.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), expected);
}

#[test]
fn requests_are_answered_in_their_order_however_long_each_takes() {
    let (_server, address) = Program::start("worker_pool", &["127.0.0.1:0", "4"]).listening();
    let mut client = peer(address);
    client.write_all(b"300000\n10\n\n  100 \nmany\n-1\n10000001\n0").unwrap();
    assert_answers(
        &mut client,
        &[
            "25997 primes below 300000",
            "4 primes below 10",
            "\"\" is not a number up to 10000000",
            "25 primes below 100",
            "\"many\" is not a number up to 10000000",
            "\"-1\" is not a number up to 10000000",
            "\"10000001\" is not a number up to 10000000",
        ],
    );
    client.write_all(b"\n").unwrap(); // the rest of a line that had no end
    assert_answers(&mut client, &["0 primes below 0"]);
}

#[test]
fn peer_that_has_finished_gets_its_answers_also_to_a_line_without_an_end() {
    let (_server, address) = Program::start("worker_pool", &["127.0.0.1:0", "2"]).listening();
    for _ in 0..3 {
        let mut client = peer(address);
        client.write_all(b"100000\n10").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        assert_eq!(answers, "9592 primes below 100000\n4 primes below 10\n");
    }
}

#[test]
fn client_with_long_work_leaves_the_others_their_answers() {
    let (_server, address) = Program::start("worker_pool", &["127.0.0.1:0", "2"]).listening();
    let mut slow = peer(address);
    slow.write_all(b"10000000\n").unwrap();
    let mut quick = peer(address);
    for _ in 0..10 {
        quick.write_all(b"10\n").unwrap();
        assert_answers(&mut quick, &["4 primes below 10"]);
    }
    slow.set_nonblocking(true).unwrap();
    let error = slow.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WouldBlock, "the slow one was not that slow");
}

#[test]
fn answer_to_a_connection_that_has_closed_meanwhile_reaches_nobody() {
    let arguments = ["127.0.0.1:0", "1"];
    let (mut server, address) =
        Program::start_logged("worker_pool", &arguments, "debug").listening();
    let mut closed = peer(address);
    // The second line is no text, for which the server closes a connection.
    closed.write_all(b"300000\n\xff\n").unwrap();
    assert_eq!(closed.read(&mut [0]).unwrap(), 0);
    drop(closed);
    server.stderr.until("closed: rejected by us: invalid data (0 unsent, 0 lost)");
    let mut next = peer(address);
    next.write_all(b"10\n").unwrap();
    server.stderr.until("c0.1 has gone before its answer came");
    // It has the same slot, and only its own answer.
    assert_answers(&mut next, &["4 primes below 10"]);
}

/// An error of one connection ends that connection, and no server.
#[test]
fn line_of_one_client_that_is_too_long_leaves_the_others_their_answers() {
    let (_server, address) = Program::start("worker_pool", &["127.0.0.1:0", "1"]).listening();
    let mut wrong = peer(address);
    wrong.write_all(&[b'1'; 2_000]).unwrap();
    assert_eq!(wrong.read(&mut [0]).unwrap(), 0);
    let mut right = peer(address);
    right.write_all(b"10\n").unwrap();
    assert_answers(&mut right, &["4 primes below 10"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_with_a_request_at_work_waits_for_its_answer() {
    let (mut server, address) = Program::start("worker_pool", &["127.0.0.1:0", "1"]).listening();
    let mut client = peer(address);
    client.write_all(b"10\n").unwrap();
    assert_answers(&mut client, &["4 primes below 10"]);
    client.write_all(b"300000\n").unwrap();
    server.signal("INT");
    server.stdout.until("to finish. Ctrl-C again aborts the rest");
    assert_answers(&mut client, &["25997 primes below 300000"]);
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    assert_eq!(server.ended().status, Some(0));
}

// UDP beside TCP.

/// The server over both, and where its datagrams go.
fn udp_echo() -> (Program, SocketAddr, SocketAddr) {
    let (mut server, address) = server("udp_echo");
    let line = server.stdout.next().unwrap();
    let datagrams = line.strip_prefix("Datagrams at ").unwrap().parse().unwrap();
    (server, address, datagrams)
}

fn udp_peer(server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[test]
fn datagrams_of_several_peers_and_a_tcp_client_are_echoed_in_one_loop() {
    let (_server, address, datagrams) = udp_echo();
    let mut client = peer(address);
    let peers = [udp_peer(datagrams), udp_peer(datagrams)];
    let mut answer = [0; 70_000];
    for length in [0, 1, 1_000, 60_000] {
        assert_echoes(&mut client, b"beside");
        for (number, peer) in peers.iter().enumerate() {
            let datagram = pattern(number, length);
            peer.send(&datagram).unwrap();
            let count = peer.recv(&mut answer).unwrap();
            assert!(answer[..count] == datagram);
        }
    }
}

#[cfg(unix)]
#[test]
fn burst_of_datagrams_beyond_what_is_read_at_once_is_echoed_to_the_last() {
    const COUNT: u32 = 100; // no more than the kernels hold
    let (server, _, datagrams) = udp_echo();
    let peer = udp_peer(datagrams);
    let mut answer = [0; 8];
    for round in 0..3 {
        // It finds all of them there, as one change.
        server.signal("STOP");
        for number in 0..COUNT {
            peer.send(&(round * COUNT + number).to_be_bytes()).unwrap();
        }
        server.signal("CONT");
        for number in 0..COUNT {
            assert_eq!(peer.recv(&mut answer).unwrap(), 4, "datagram {number} of round {round}");
            assert_eq!(answer[..4], (round * COUNT + number).to_be_bytes());
        }
    }
}

// Child processes.

#[cfg(unix)]
fn command_server(command: &str) -> (Program, SocketAddr) {
    Program::start("child_process", &["127.0.0.1:0", command]).listening()
}

#[cfg(unix)]
#[test]
fn each_client_has_a_command_of_its_own_and_hears_what_it_prints() {
    let (mut server, address) = server("child_process");
    let (mut one, mut other) = (peer(address), peer(address));
    for _ in 0..3 {
        assert_echoes(&mut one, b"one");
        assert_echoes(&mut other, b"other");
    }
    one.shutdown(Shutdown::Write).unwrap();
    assert_eq!(one.read(&mut [0]).unwrap(), 0);
    server.stdout.until("c0.1: the command ended: exit status: 0");
    assert_echoes(&mut other, b"other");
}

#[cfg(unix)]
#[test]
fn command_that_answers_at_the_end_of_its_input_is_awaited() {
    let (mut server, address) = command_server("sort; exit 3");
    let mut client = peer(address);
    client.write_all(b"b\nc\na\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut sorted = String::new();
    client.read_to_string(&mut sorted).unwrap();
    assert_eq!(sorted, "a\nb\nc\n");
    server.stdout.until("c0.1: the command ended: exit status: 3");
}

#[cfg(unix)]
#[test]
fn stream_through_a_command_comes_back_whole_also_to_a_client_that_reads_late() {
    const COUNT: usize = 16 * 1024 * 1024;
    let (server, address) = server("child_process");
    let mut client = peer(address);
    let content = pattern(0, COUNT);
    let (mut writer, sent) = (client.try_clone().unwrap(), content.clone());
    let (half, is_half) = channel();
    let writer = thread::spawn(move || {
        for (number, piece) in sent.chunks(1 << 16).enumerate() {
            if number == 16 {
                half.send(()).unwrap();
            }
            writer.write_all(piece).unwrap();
        }
        writer.shutdown(Shutdown::Write).unwrap();
    });
    is_half.recv_timeout(PATIENCE).unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    writer.join().unwrap();
    assert!(back == content, "{} of {COUNT} bytes came back", back.len());
    assert_peak_below(test_name!(), server.process_id(), 16 * 1024 * 1024);
}

#[cfg(unix)]
#[test]
fn command_that_prints_without_end_waits_for_its_client_and_is_killed_with_it() {
    let (mut server, address) = command_server("exec yes");
    let (mut client, mut other) = (peer(address), peer(address));
    for client in [&mut client, &mut other] {
        let mut printed = vec![0; 1 << 20];
        client.read_exact(&mut printed).unwrap();
        assert!(printed == b"y\n".repeat(1 << 19));
    }
    reset(client);
    server.stdout.until("c0.1: the command ended: signal: 9 (SIGKILL)");
    other.read_exact(&mut vec![0; 1 << 20]).unwrap();
    assert_peak_below(test_name!(), server.process_id(), 16 * 1024 * 1024);
}

#[cfg(unix)]
#[test]
fn command_that_takes_no_input_ends_its_client_s_connection() {
    let (mut server, address) = command_server("head -c 3");
    let mut client = peer(address);
    client.write_all(&[b'x'; 100_000]).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut printed = Vec::new();
    client.read_to_end(&mut printed).unwrap();
    assert_eq!(printed, b"xxx");
    server.stdout.until("c0.1: the command ended: exit status: 0");
}

#[cfg(unix)]
#[test]
fn second_ctrl_c_kills_the_commands_that_the_first_one_waits_for() {
    let (mut server, address) = command_server("cat > /dev/null; exec sleep 3600");
    let mut client = peer(address);
    client.write_all(b"the last word").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    server.signal("INT");
    server.stdout.until("to finish. Ctrl-C again aborts the rest");
    server.signal("INT");
    server.stdout.until("c0.1: the command ended: signal: 9 (SIGKILL)");
    assert!(client.read(&mut [0]).is_err(), "it was reset");
    assert_eq!(server.ended().status, Some(0));
}

// A loop for each core.

#[cfg(unix)]
#[test]
fn connections_are_spread_over_the_loops_and_each_is_echoed() {
    const COUNT: u64 = 200;
    let (server, address) =
        Program::start("multi_core_echo_server", &["127.0.0.1:0", "3"]).listening();
    let mut clients: Vec<TcpStream> = (0..COUNT).map(|_| peer(address)).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_echoes(client, &pattern(number, 1_000));
    }
    drop(clients);
    server.signal("INT");
    let ended = server.ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    let served = ended.stdout.lines().filter_map(|line| {
        line.strip_prefix("A thread served ")?.strip_suffix(" connections")?.parse().ok()
    });
    let served: Vec<u64> = served.collect();
    assert_eq!((served.len(), served.iter().sum::<u64>()), (3, COUNT), "{ended:?}");
    // Elsewhere one may have them all.
    assert!(!cfg!(target_os = "linux") || !served.contains(&0), "{ended:?}");
}

// Hosts: what the checks of the contract do not show. They are in `tests/hosts.rs`.

#[test]
fn players_of_the_frame_loop_are_told_where_all_stand_also_beside_one_who_floods() {
    let (_game, address) = server("frame_loop");
    let mut players = [peer(address), peer(address)];
    let mut flooding = players[1].try_clone().unwrap();
    thread::spawn(move || while flooding.write_all(&[b'+'; 1 << 16]).is_ok() {});
    players[0].write_all(b"+--x-").unwrap();
    let mut pictures = BufReader::new(&players[0]).lines().map(Result::unwrap);
    // Frame after frame, though there is always more to read.
    let mut last = 0;
    let mut count = 0;
    let mut has_moved = false;
    while count < 10 || !has_moved {
        let picture = pictures.next().unwrap();
        let (frame, places) = picture.strip_prefix("frame ").unwrap().split_once(": ").unwrap();
        let frame: u64 = frame.parse().unwrap();
        assert!(frame > last, "{picture} came after frame {last}");
        (last, count) = (frame, count + 1);
        has_moved |= places.trim_matches(['[', ']']).split(", ").any(|place| place == "-2");
    }
}

#[test]
fn frame_loop_that_nobody_plays_sleeps_without_a_frame() {
    let (mut game, address) = Program::start_traced("frame_loop", &["127.0.0.1:0"]).listening();
    let mut player = peer(address);
    player.write_all(b"+").unwrap();
    let mut picture = String::new();
    BufReader::new(&player).read_line(&mut picture).unwrap();
    assert!(picture.ends_with(": [1]\n"), "{picture:?}");
    drop(player);
    game.stderr.until("closed: finished by both sides (0 unsent, 0 lost)");
    // As long as ten frames would take: one that comes all the same has a wait of its own.
    thread::sleep(std::time::Duration::from_secs(1) / 6);
    let _next_player = peer(address);
    let lines = std::iter::from_fn(|| game.stderr.next());
    let until_accepted: Vec<String> =
        lines.take_while(|line| !line.contains(" accepted by ")).collect();
    let waits: Vec<&String> =
        until_accepted.iter().filter(|line| line.contains("loop waited")).collect();
    assert_eq!(waits.len(), 1, "{until_accepted:#?}");
    assert!(waits[0].contains("loop waited, 1 ready"), "{waits:#?}");
}

#[cfg(unix)]
#[test]
fn nested_loops_serve_each_its_own_clients() {
    let (mut servers, outer) = server("nested_loops");
    let line = servers.stdout.next().unwrap();
    let inner = line.strip_prefix("Inner loop at ").unwrap().parse().unwrap();
    let (mut inner, mut outer) = (peer(inner), peer(outer));
    for _ in 0..10 {
        assert_echoes(&mut inner, b"Hello");
        outer.write_all(b"Hello").unwrap();
        let mut answer = [0; 5];
        outer.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HELLO");
    }
}

// Bad input, and help.

#[test]
fn port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for name in SERVERS.into_iter().chain(SPECIAL_SERVERS) {
        assert_failed(name, &[&address], &address);
    }
}

#[test]
fn address_that_is_not_ours_is_named() {
    for name in SERVERS {
        assert_failed(name, &["192.0.2.1:7"], "192.0.2.1:7");
    }
}

#[test]
fn address_where_nobody_listens_is_named_by_the_clients() {
    // Bound and never listening, so that no other test can be given the port.
    let taken = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    taken.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let address = taken.local_addr().unwrap().as_socket().unwrap().to_string();
    assert_failed("echo_client", &[&address], &format!("{address} failed: refused"));

    let ended = Program::run("multi_connection_client", &[&address, "2"]);
    assert_eq!(ended.status, Some(1), "{ended:?}");
    assert_eq!(ended.stdout.matches("0 of 75 bytes identical; refused").count(), 2);
    assert!(ended.stderr.contains(&address) && ended.stderr.contains("only 0 of 2"), "{ended:?}");
}

#[test]
fn argument_too_many_is_named() {
    for name in SERVERS {
        assert_failed(name, &["127.0.0.1:0", "excess"], "\"excess\"");
    }
    assert_failed("echo_client", &["127.0.0.1:1", "message", "excess"], "\"excess\"");
    assert_failed("multi_connection_client", &["127.0.0.1:1", "1", "excess"], "\"excess\"");
}

#[test]
fn unknown_option_is_named() {
    for name in SERVERS.into_iter().chain(CLIENTS) {
        assert_failed(name, &["--unknown"], "'--unknown'");
        assert_failed(name, &["127.0.0.1:0", "-x"], "'-x'");
    }
    for name in SERVERS.into_iter().chain([CLIENTS[1]]) {
        assert_failed(name, &["--file", "path"], "'--file'");
    }
}

#[test]
fn file_that_cannot_be_sent_is_named() {
    let directory = env!("CARGO_TARGET_TMPDIR");
    let missing = format!("{directory}/missing");
    assert_failed("echo_client", &["127.0.0.1:1", "--file", &missing], &missing);
    assert_failed("echo_client", &["127.0.0.1:1", "--file", directory], directory);
    assert_failed("echo_client", &["127.0.0.1:1", "--file"], "'--file'");
    let both = ["127.0.0.1:1", "message", "--file", &missing];
    assert_failed("echo_client", &both, "either a message or a file");
}

#[test]
fn number_of_connections_or_threads_that_is_none_is_named() {
    for count in ["0", "many", "65536", "1.5", ""] {
        assert_failed("multi_connection_client", &["127.0.0.1:1", count], &format!("{count:?}"));
        assert_failed("worker_pool", &["127.0.0.1:0", count], &format!("{count:?}"));
        #[cfg(unix)]
        assert_failed("multi_core_echo_server", &["127.0.0.1:0", count], &format!("{count:?}"));
    }
}

#[test]
fn help_is_printed_with_the_usage_and_status_zero() {
    for name in SERVERS.into_iter().chain(SPECIAL_SERVERS).chain(CLIENTS) {
        for arguments in [&["--help"][..], &["-h"], &["127.0.0.1:0", "--help"]] {
            let ended = Program::run(name, arguments);
            assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
            let usage = format!("\nUsage: {name} [ADDRESS]");
            assert!(ended.stdout.contains(&usage), "{ended:?}");
            assert!(ended.stdout.contains("default: 127.0.0.1:65432"), "{ended:?}");
        }
    }
}
