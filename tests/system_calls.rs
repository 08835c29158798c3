//! The system calls of the fast path, as `strace` sees them.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::{env, fs};

use common::measure::{NO_TRACE, aloud, can_trace, has_played};
use common::peer;
use common::server::{Protocol, Server};

const MESSAGES: usize = 10_000;
const MESSAGE: [u8; 64] = [5; 64];
const VISITS: usize = 1_000;

/// What a kernel may do beyond the rule: report an event that nothing is behind.
const SPURIOUS: usize = 4;

/// The calls of the loop's thread by their names.
#[derive(Debug)]
struct Calls(BTreeMap<String, usize>);

impl Calls {
    /// Takes out those that go by one of these names.
    fn take(&mut self, names: &[&str]) -> usize {
        names.iter().filter_map(|name| self.0.remove(*name)).sum()
    }
}

/// The calls that an echo server makes between two questions, while `talk` goes on with so many
/// connections that have talked before. The first question's answer and the wait for the
/// second are among them.
fn calls_during(test: &str, connections: usize, talk: impl FnOnce(&mut [TcpStream])) -> Calls {
    let file = format!("{}/{test}-{}.strace", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let under_strace = format!("exec strace -f -qq -o '{file}' \"$0\" \"$@\";");
    let mut server = Server::start(test, &under_strace, Protocol::Echo);
    let mut peers: Vec<TcpStream> = (0..connections).map(|_| peer(server.address)).collect();
    talk_at_once(&mut peers);
    server.told();
    talk(&mut peers);
    server.told();
    server.end();

    let trace = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let question = |line: &&str| line.contains("\"counts\"");
    let thread = trace.lines().find(question).and_then(|line| line.split(' ').next()).unwrap();
    let of_loop = trace.lines().filter(|line| line.split(' ').next() == Some(thread));
    let between = of_loop.skip_while(|line| !question(line)).skip(1);
    let mut calls = BTreeMap::new();
    for line in between.take_while(|line| !question(line)) {
        // A call that was interrupted by another thread's is printed in two lines.
        let call = line[thread.len()..].trim_start();
        if let Some((name, _)) = call.split_once('(').filter(|_| !call.starts_with("<...")) {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    aloud(format!("{test}: {calls:?}"));
    Calls(calls)
}

/// Each peer says a message, and then each reads it back.
fn talk_at_once(peers: &mut [TcpStream]) {
    for peer in &mut *peers {
        peer.write_all(&MESSAGE).unwrap();
    }
    for peer in peers {
        let mut answer = [0; 64];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, MESSAGE);
    }
}

/// Fails unless there was one read and one write for each message, no more waits than messages,
/// and nothing else.
fn assert_fast(mut calls: Calls) {
    let reads = calls.take(&["recvfrom", "recv", "read", "recvmsg", "readv"]);
    let writes = calls.take(&["sendto", "send", "write", "sendmsg", "writev"]);
    let waits = calls.take(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
    assert!(reads >= MESSAGES && writes > MESSAGES, "the trace lacks what was echoed");
    assert!(reads <= MESSAGES + SPURIOUS, "{reads} reads");
    assert!(writes <= MESSAGES + 1, "{writes} writes, one of them an answer to the question");
    assert!(waits <= MESSAGES + 1 + SPURIOUS, "{waits} waits");
    assert!(calls.0.is_empty(), "calls that the fast path has no use for: {calls:?}");
}

#[test]
fn one_busy_connection_costs_one_read_one_write_and_one_wait_for_each_message() {
    let name = "one_busy_connection_costs_one_read_one_write_and_one_wait_for_each_message";
    if has_played(name) {
        return;
    }
    skip_unless!(can_trace(), NO_TRACE);
    assert_fast(calls_during(name, 1, |peers| {
        for _ in 0..MESSAGES {
            talk_at_once(peers);
        }
    }));
}

#[test]
fn fifty_busy_connections_cost_one_read_and_one_write_for_each_message_and_share_waits() {
    let name =
        "fifty_busy_connections_cost_one_read_and_one_write_for_each_message_and_share_waits";
    if has_played(name) {
        return;
    }
    skip_unless!(can_trace(), NO_TRACE);
    assert_fast(calls_during(name, 50, |peers| {
        for _ in 0..MESSAGES / peers.len() {
            talk_at_once(peers);
        }
    }));
}

#[test]
fn short_connection_costs_two_accepts_one_registration_two_reads_one_write_and_one_close() {
    let name =
        "short_connection_costs_two_accepts_one_registration_two_reads_one_write_and_one_close";
    if has_played(name) {
        return;
    }
    skip_unless!(can_trace(), NO_TRACE);
    let mut calls = calls_during(name, 1, |peers| {
        let address = peers[0].peer_addr().unwrap();
        for _ in 0..VISITS {
            talk_at_once(&mut [peer(address)]);
        }
    });
    // The second accept finds nobody, and the second read the end.
    let most: [(&[&str], usize); 5] = [
        (&["accept4", "accept"], 2),
        (&["epoll_ctl"], 1),
        (&["recvfrom", "recv", "read", "recvmsg", "readv"], 2),
        (&["sendto", "send", "write", "sendmsg", "writev"], 1),
        (&["close"], 1),
    ];
    for (names, each) in most {
        let count = calls.take(names);
        assert!(count + SPURIOUS >= VISITS, "the trace lacks {names:?}: {count}");
        assert!(count <= each * VISITS + SPURIOUS, "{count} calls of {names:?}");
    }
    // One for the peer, one for its message, one for its end, of which two may come at once.
    let waits = calls.take(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
    assert!(
        10 * waits <= 27 * VISITS,
        "{waits} waits: with the others more than 9.7 calls a visit"
    );
    // Where the standard library has debug assertions, it looks at what it closes.
    calls.take(&["fcntl"]);
    assert!(calls.0.is_empty(), "calls that a short connection has no use for: {calls:?}");
}
