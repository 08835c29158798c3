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

/// How often a call was made, and its outcomes.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    all: usize,
    /// There was nothing to do: the call would have blocked, or a wait has reported nothing.
    in_vain: usize,
    /// The events that waits have reported, and how many of the waits could have blocked forever.
    events: usize,
    endless: usize,
}

/// The calls of the loop's thread by their names.
#[derive(Debug, Default)]
struct Calls(BTreeMap<String, Count>);

impl Calls {
    /// Takes in a line of the trace, without the number of its thread. A call that another thread's
    /// interrupts is printed in two lines, of which the second has the outcome.
    fn see(&mut self, line: &str) {
        let resumed = line.strip_prefix("<... ");
        let Some((name, _)) = resumed.unwrap_or(line).split_once(['(', ' ']) else { return };
        let is_call = resumed.is_some() || line[name.len()..].starts_with('(');
        if !is_call {
            return; // a signal, say
        }
        let count = self.0.entry(name.to_owned()).or_default();
        count.all += usize::from(resumed.is_none());
        // In the line with the outcome, where there are two.
        count.endless += usize::from(line.contains(", -1) "));
        let Some((_, outcome)) = line.rsplit_once(" = ") else { return };
        if name.starts_with("epoll_") && name.contains("wait") {
            let events = outcome.parse().unwrap_or(0);
            count.events += events;
            count.in_vain += usize::from(events == 0);
        } else {
            count.in_vain += usize::from(outcome.starts_with("-1 EAGAIN"));
        }
    }

    /// Takes out the calls that have one of these names.
    fn take(&mut self, names: &[&str]) -> Count {
        names.iter().filter_map(|name| self.0.remove(*name)).fold(Count::default(), |sum, count| {
            Count {
                all: sum.all + count.all,
                in_vain: sum.in_vain + count.in_vain,
                events: sum.events + count.events,
                endless: sum.endless + count.endless,
            }
        })
    }

    fn take_reads(&mut self) -> Count {
        self.take(&["recvfrom", "recv", "read", "recvmsg", "readv"])
    }

    fn take_writes(&mut self) -> Count {
        self.take(&["sendto", "send", "write", "sendmsg", "writev"])
    }

    fn take_waits(&mut self) -> Count {
        self.take(&["epoll_wait", "epoll_pwait", "epoll_pwait2"])
    }
}

/// Returns the calls that an echo server makes between two questions, while `talk` goes on with
/// this many connections that have talked before. The first question's answer and the wait for the
/// second are among them.
fn calls_during(test: &str, connections: usize, talk: impl FnOnce(&mut [TcpStream])) -> Calls {
    calls_of(Protocol::Echo, test, connections, talk)
}

fn calls_of(
    protocol: Protocol,
    test: &str,
    connections: usize,
    talk: impl FnOnce(&mut [TcpStream]),
) -> Calls {
    let file = format!("{}/{test}-{}.strace", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let under_strace = format!("exec strace -f -qq -o '{file}' \"$0\" \"$@\";");
    let mut server = Server::start(test, &under_strace, protocol);
    let mut peers: Vec<TcpStream> = (0..connections).map(|_| peer(server.address)).collect();
    talk_at_once(&mut peers);
    server.report();
    talk(&mut peers);
    server.report();
    server.end();

    let trace = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let question = |line: &&str| line.contains("\"counts\"");
    let thread = trace.lines().find(question).and_then(|line| line.split(' ').next()).unwrap();
    let of_loop = trace.lines().filter(|line| line.split(' ').next() == Some(thread));
    let between = of_loop.skip_while(|line| !question(line)).skip(1);
    let mut calls = Calls::default();
    for line in between.take_while(|line| !question(line)) {
        calls.see(line[thread.len()..].trim_start());
    }
    aloud(format!("{test}: {calls:?}"));
    calls
}

/// Lets each peer send a message, and then each read it back.
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
    let (reads, writes, waits) = (calls.take_reads(), calls.take_writes(), calls.take_waits());
    let lacks = reads.all < MESSAGES || writes.all <= MESSAGES || waits.events < MESSAGES;
    assert!(!lacks, "the trace lacks what was echoed");
    assert!(reads.all <= MESSAGES + SPURIOUS, "{reads:?}");
    assert!(writes.all <= MESSAGES + 1, "{writes:?}, one of them an answer to the question");
    assert!(waits.all <= MESSAGES + 1 + SPURIOUS, "{waits:?}");
    assert!(waits.in_vain <= SPURIOUS, "{waits:?}");
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
fn fifty_busy_connections_cost_one_read_and_one_write_for_each_message() {
    let name = "fifty_busy_connections_cost_one_read_and_one_write_for_each_message";
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
fn loop_that_spins_finds_each_message_without_a_wait_that_blocks() {
    let name = "loop_that_spins_finds_each_message_without_a_wait_that_blocks";
    if has_played(name) {
        return;
    }
    skip_unless!(can_trace(), NO_TRACE);
    const MESSAGES: usize = 100;
    let mut calls = calls_of(Protocol::SpinningEcho, name, 1, |peers| {
        for _ in 0..MESSAGES {
            talk_at_once(peers);
        }
    });
    let waits = calls.take_waits();
    assert!(waits.events >= MESSAGES, "the trace lacks what was echoed: {waits:?}");
    assert_eq!(waits.endless, 0, "{waits:?}");
    let reads = calls.take_reads();
    assert!(reads.all - reads.in_vain <= MESSAGES + SPURIOUS, "{reads:?}");
}

#[test]
fn short_connection_costs_two_accepts_two_registrations_two_reads_one_write_and_one_close() {
    let name =
        "short_connection_costs_two_accepts_two_registrations_two_reads_one_write_and_one_close";
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
    // The second accept finds no peer. A read finds the message, and one its end; one before them
    // may find nothing yet.
    let most: [(&[&str], usize, usize); 5] = [
        (&["accept4", "accept"], 1, 1),
        (&["epoll_ctl"], 2, 0),
        (&["recvfrom", "recv", "read", "recvmsg", "readv"], 2, 1),
        (&["sendto", "send", "write", "sendmsg", "writev"], 1, 0),
        (&["close"], 1, 0),
    ];
    for (names, each, each_in_vain) in most {
        let count = calls.take(names);
        let fruitful = count.all - count.in_vain;
        assert!(fruitful + SPURIOUS >= each * VISITS, "the trace lacks {names:?}: {count:?}");
        assert!(fruitful <= each * VISITS + SPURIOUS, "{names:?}: {count:?}");
        assert!(count.in_vain <= each_in_vain * VISITS + SPURIOUS, "{names:?}: {count:?}");
    }
    // Of the peer, its message and its end, or two of them at once. As the message is looked for
    // before the loop would sleep, that look may be too early.
    let waits = calls.take_waits();
    assert!(waits.events <= 3 * VISITS + SPURIOUS, "{waits:?}");
    assert!(waits.in_vain <= VISITS + SPURIOUS, "{waits:?}");
    // Where the standard library has debug assertions, it looks at what it closes.
    calls.take(&["fcntl"]);
    assert!(calls.0.is_empty(), "calls that a short connection has no use for: {calls:?}");
}
