//! What connections cost: memory and descriptors, of a server in its own process.
//!
//! The bounds are of the entry of a connection and of the blocks that it holds; see the constants.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use common::crowd::Crowd;
use common::measure::{ALL_DESCRIPTORS, NO_MEASURE, aloud, can_measure, has_played};
use common::server::{Protocol, REPLY, Server};
use common::skipping::runs_in_part;
use common::talker::Talker;
use common::{PATIENCE, peer};

/// What an idle connection may cost: its entry in the slab. A debug build of mio adds a word to
/// each socket, and so does the feature `simulation`, for the other kind of socket.
const IDLE_COST: i64 = match (cfg!(debug_assertions), cfg!(feature = "simulation")) {
    (false, false) => 112,
    (true, false) | (false, true) => 120,
    (true, true) => 128,
};

/// What a second crowd may cost in addition to its entries: another page for them, and one for each
/// of the two ready queues, where more connections are ready at once than ever before.
const PAGES: i64 = 3 * 4096;

/// What any number of connections may cost once: pages that are used in part, and the pool's
/// blocks that are in use at the moment.
const FIXED_COST: i64 = 256 * 1024;

/// What one read or one write takes at most by default, and so the largest block of a buffer.
const BLOCK: i64 = 64 * 1024;

/// A stalled client's receive buffer: small, so that it stalls soon, but not so small that the
/// kernel drops what should fit and waits forever longer before it tries again.
const RECEIVE_BUFFER: usize = 4 * 1024;

/// How many clients leave at once what they have begun; also ten times as many.
const CROWD: usize = 1_000;

/// Says a message and reads it back.
fn talk(peer: &mut TcpStream) {
    const MESSAGE: [u8; 64] = [5; 64];
    peer.write_all(&MESSAGE).unwrap();
    let mut answer = [0; 64];
    peer.read_exact(&mut answer).unwrap();
    assert_eq!(answer, MESSAGE);
}

/// Returns how many clients are possible: as many as wanted, or as the descriptors allow.
fn at_most(test: &str, wanted: usize, server: &Server, crowd: &Crowd) -> usize {
    let descriptors = server.descriptors_max().min(crowd.descriptors_max());
    let count = wanted.min(descriptors.saturating_sub(64));
    let less = || format!("{count} clients, not {wanted}, for {descriptors} descriptors");
    runs_in_part(test, (count < wanted).then(less));
    count
}

#[test]
fn idle_connections_cost_their_entries_alone() {
    let name = "idle_connections_cost_their_entries_alone";
    if has_played(name) {
        return;
    }
    skip_unless!(can_measure(), NO_MEASURE);
    let mut server = Server::start(name, ALL_DESCRIPTORS, Protocol::Echo);
    let mut first = Crowd::start(name, ALL_DESCRIPTORS);
    let mut crowd = Crowd::start(name, ALL_DESCRIPTORS);
    let count = at_most(test_name!(), 10_000, &server, &crowd) / 2;
    // A crowd costs once, whichever connects first: the ready queues, the room for the events of a
    // wait, the pool's blocks. So as many connect before those that are measured.
    first.connect(server.address, count, None);
    server.until(|report| report.connections == count as u64);
    for _ in 0..4 {
        talk_all(&mut server, &mut first, count);
    }

    let before = server.memory();
    crowd.connect(server.address, count, None);
    server.until(|report| report.connections == 2 * count as u64);
    let cost = server.memory() - before;
    aloud(format!("{count} idle connections: {:.1} bytes each", cost as f64 / count as f64));
    let most = IDLE_COST * count as i64 + PAGES;
    assert!(cost <= most, "{count} idle connections cost {cost} bytes");

    // The same holds once each of them has said something and was answered.
    talk_all(&mut server, &mut crowd, count);
    let cost = server.memory() - before;
    aloud(format!("idle again after a message: {:.1} bytes each", cost as f64 / count as f64));
    assert!(cost <= most, "{count} answered connections cost {cost} bytes");
}

/// Sends a message from each of a crowd, and waits until all are answered.
fn talk_all(server: &mut Server, crowd: &mut Crowd, count: usize) {
    let report = server.report();
    crowd.send(64);
    server.until(|now| now.flushes - report.flushes == count as u64);
}

#[test]
fn half_messages_left_by_a_crowd_are_held_in_blocks_of_their_size() {
    let name = "half_messages_left_by_a_crowd_are_held_in_blocks_of_their_size";
    if has_played(name) {
        return;
    }
    skip_unless!(can_measure(), NO_MEASURE);
    // The entry; the block's own description (three words of a vector and two places, with the
    // allocator's two words: 56) and its bytes, rounded up (112 + 16); and half as much again for
    // what lies between them.
    const HALF: usize = 100;
    const COST: i64 = (IDLE_COST + 56 + 128) * 3 / 2;
    for wanted in [CROWD, 10 * CROWD] {
        let mut server = Server::start(name, ALL_DESCRIPTORS, Protocol::Lines);
        let mut crowd = Crowd::start(name, ALL_DESCRIPTORS);
        let count = at_most(test_name!(), wanted, &server, &crowd);
        let mut first = peer(server.address);
        first.write_all(b"a line\n").unwrap();
        first.read_exact(&mut [0; 7]).unwrap();

        let before = (server.report(), server.memory());
        crowd.connect(server.address, count, None);
        crowd.send(HALF);
        server.until(|now| now.fills - before.0.fills == count as u64);
        let cost = server.memory() - before.1;
        aloud(format!("{count} half messages: {:.1} bytes each", cost as f64 / count as f64));
        assert!(cost <= COST * count as i64 + FIXED_COST, "{count} half messages cost {cost}");
    }
}

#[test]
fn replies_that_a_crowd_does_not_read_are_held_in_blocks_of_their_size() {
    let name = "replies_that_a_crowd_does_not_read_are_held_in_blocks_of_their_size";
    if has_played(name) {
        return;
    }
    skip_unless!(can_measure(), NO_MEASURE);
    for wanted in [CROWD, 10 * CROWD] {
        stall(name, Protocol::NarrowReply, wanted, |count, _| count * REPLY);
    }
}

#[test]
fn echoes_that_a_crowd_does_not_read_are_held_in_blocks_of_their_size() {
    let name = "echoes_that_a_crowd_does_not_read_are_held_in_blocks_of_their_size";
    if has_played(name) {
        return;
    }
    skip_unless!(can_measure(), NO_MEASURE);
    // A block is given up for a smaller one when a quarter of it is used, so that it is four times
    // as large as what is unsent at most.
    for wanted in [CROWD, 10 * CROWD] {
        stall(name, Protocol::NarrowEcho, wanted, |_, unsent| 4 * unsent);
    }
}

/// Lets a crowd send and not read until the server owes something to each of them. Fails if that
/// costs more than blocks of the bytes that `blocks_max` makes of how many clients there are and of
/// how much is unsent.
fn stall(
    test: &str,
    protocol: Protocol,
    wanted: usize,
    blocks_max: impl Fn(usize, usize) -> usize,
) {
    // The entry; the block's own description; the deadlines of a stalled write with their alarm
    // (less than 256 bytes).
    const COST: i64 = IDLE_COST + 56 + 256;
    let mut server = Server::start(test, ALL_DESCRIPTORS, protocol);
    let mut crowd = Crowd::start(test, ALL_DESCRIPTORS);
    let count = at_most(&format!("memory::{test}"), wanted, &server, &crowd);
    let mut first = peer(server.address);
    first.write_all(b"?").unwrap();
    first.read_exact(&mut [0]).unwrap();

    let before = server.memory();
    crowd.connect(server.address, count, Some(RECEIVE_BUFFER));
    // What the kernel takes is its own affair: send until it takes no more. The server reads
    // nothing more from a client that it owes something.
    let end = Instant::now() + PATIENCE;
    let unsent = loop {
        crowd.send(1024);
        let (stalled, unsent) = server.stalled();
        if stalled == count {
            break unsent;
        }
        assert!(Instant::now() < end, "{stalled} of {count} stalled");
    };
    let cost = server.memory() - before;
    let each = |bytes: i64| bytes as f64 / count as f64;
    let owed = each(unsent as i64);
    aloud(format!("{count} stalled clients, owed {owed:.1} bytes each: {:.1} each", each(cost)));
    let most = COST * count as i64 + blocks_max(count, unsent) as i64 + FIXED_COST;
    assert!(cost <= most, "{count} stalled clients cost {cost} bytes, above {most}");
}

#[test]
fn short_connections_leave_no_descriptor_and_no_memory_behind() {
    let name = "short_connections_leave_no_descriptor_and_no_memory_behind";
    if has_played(name) {
        return;
    }
    skip_unless!(can_measure(), NO_MEASURE);
    const PORTION: usize = 5_000;
    const PORTIONS: usize = 20;
    let mut server = Server::start(name, "", Protocol::Echo);
    let mut crowd = Crowd::start(name, "");
    crowd.come_and_go(server.address, PORTION);
    await_nobody(&mut server);

    let before = (server.descriptors(), server.memory());
    for _ in 0..PORTIONS {
        crowd.come_and_go(server.address, PORTION);
    }
    await_nobody(&mut server);
    let grown = server.memory() - before.1;
    aloud(format!("{} short connections: {grown} bytes in all", PORTIONS * PORTION));
    assert_eq!(server.descriptors(), before.0);
    // A few pages that were used in part. One byte for each connection would be more, and so would
    // be a block that does not find its way back to the pool.
    assert!(grown <= 16 * 1024, "short connections left {grown} bytes behind");
}

/// Waits until all clients have been accepted and have left. Some leave without an answer and may
/// still wait to be accepted; a client that is answered arrives after them all.
fn await_nobody(server: &mut Server) {
    talk(&mut peer(server.address));
    server.until(|report| report.connections == 0);
}

#[test]
fn client_that_sends_and_never_reads_costs_nothing_and_gets_every_byte_in_the_end() {
    let name = "client_that_sends_and_never_reads_costs_nothing_and_gets_every_byte_in_the_end";
    if has_played(name) {
        return;
    }
    skip_unless!(can_measure(), NO_MEASURE);
    const COUNT: usize = 64 * 1024 * 1024;
    const TALKS: u64 = 100;
    let mut server = Server::start(name, "", Protocol::Echo);
    let mut other = peer(server.address);
    talk(&mut other);
    let before = server.memory();
    let mut most = before;

    // Both kernels' buffers fill up; then nothing moves while the other client is served.
    let mut greedy = Talker::connect(server.address);
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "the server never stops reading");
        let asked = server.report();
        let written = greedy.write_to(COUNT);
        for _ in 0..TALKS {
            talk(&mut other);
        }
        let report = server.report();
        most = most.max(server.memory());
        let moved = (report.fills - asked.fills, report.flushes - asked.flushes);
        if written == 0 && server.stalled().0 == 1 && moved == (TALKS, TALKS) {
            break;
        }
    }
    assert!(greedy.written < COUNT, "the kernel's buffers hold all of it");
    // It holds the rest of one block.
    let grown = most - before;
    assert!(grown < BLOCK, "the server grew by {grown} for one that does not read");

    // At rest the server waits for the other client alone, and does not look at this one.
    let asked = server.report();
    for _ in 0..TALKS {
        talk(&mut other);
    }
    let report = server.report();
    let waits = report.waits - asked.waits;
    aloud(format!("{waits} waits for {TALKS} messages beside a client that never reads"));
    assert!(waits <= TALKS + 2, "{waits} waits for {TALKS} messages and a question");
    assert_eq!(report.fills - asked.fills, TALKS);

    let end = Instant::now() + PATIENCE;
    while greedy.read < COUNT {
        assert!(Instant::now() < end, "{} of {COUNT} bytes were echoed", greedy.read);
        greedy.write_to(COUNT);
        greedy.read_on();
        most = most.max(server.memory());
    }
    // The block of what has left serves what is read next.
    let grown = most - before;
    aloud(format!("{COUNT} bytes echoed late: the server grew by {grown} at most"));
    assert!(grown < BLOCK, "the server grew by {grown}");
    talk(&mut other);
}
