//! Counters made of the steps that an observer sees agree with what the program and its peers have
//! seen.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use common::steps::Steps;
use common::{listening, pattern, peer, read_in_thread, until};
use mio::net::UdpSocket;
use readiness::{Event, Interest, Step};

/// Returns what the steps add up to, by names of their own.
fn counted(steps: &[Step]) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for step in steps {
        let (name, count) = match *step {
            Step::Accepted { .. } => ("accepted", 1),
            Step::Closed { unsent, lost, .. } => {
                assert_eq!((unsent, lost), (0, 0));
                ("closed", 1)
            }
            Step::PeerEnded { .. } => ("ended", 1),
            Step::Filled { count, .. } => ("received", count as u64),
            Step::Queued { count, .. } => ("sent", count as u64),
            Step::Flushed { count, .. } => ("flushed", count as u64),
            Step::TimerFired { .. } => ("timers", 1),
            Step::Woken => ("wakes", 1),
            Step::SourceReady { .. } => ("sources", 1),
            Step::ShutDown => ("shutdowns", 1),
            _ => continue,
        };
        *counts.entry(name).or_default() += count;
    }
    counts
}

/// Sends `count` bytes from a peer, which reads the answer.
fn talk(mut peer: TcpStream, count: u64) -> JoinHandle<(Vec<u8>, io::Result<()>)> {
    peer.write_all(&pattern(0, count as usize)).unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    read_in_thread(peer)
}

#[test]
fn counters_made_of_steps_equal_what_was_observed() {
    const PEERS: u64 = 8;
    const SIZE: u64 = 50_000;
    const TIMERS: u64 = 5;
    let (mut event_loop, _, address) = listening::<()>();
    let steps = Steps::of(&mut event_loop);
    let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    event_loop.register(&mut socket, Interest::Readable).unwrap();
    let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"news", socket.local_addr().unwrap()).unwrap();
    event_loop.waker().wake().unwrap();
    event_loop.waker().wake().unwrap();
    (0..TIMERS).for_each(|_| {
        event_loop.set_timer(Duration::ZERO);
    });
    let peers: Vec<_> = (0..PEERS).map(|_| talk(peer(address), SIZE)).collect();

    let mut seen = BTreeMap::new();
    until(&mut event_loop, |event_loop, event| {
        let (name, count) = match event {
            Event::Accepted(..) => ("accepted", 1),
            Event::Received(id) => {
                let count = event_loop[id].received().len() as u64;
                event_loop[id].send_received();
                ("received", count)
            }
            Event::PeerFinished(_) => ("ended", 1),
            Event::Closed(..) => ("closed", 1),
            Event::Timer(_) => ("timers", 1),
            Event::Woken => ("wakes", 1),
            Event::Ready(..) => ("sources", 1),
            Event::ShutDown => ("shutdowns", 1),
            other => panic!("{other:?} was not expected"),
        };
        *seen.entry(name).or_default() += count;
        if name == "closed" && seen["closed"] == PEERS {
            event_loop.shutdown(Duration::MAX);
        }
        (name == "shutdowns").then_some(())
    });
    let answered: u64 = peers.into_iter().map(|peer| peer.join().unwrap().0.len() as u64).sum();
    seen.insert("flushed", answered);
    seen.insert("sent", answered);
    assert_eq!(counted(&steps.take()), seen);

    let expected: [(&str, u64); 7] = [
        ("accepted", PEERS),
        ("closed", PEERS),
        ("received", PEERS * SIZE),
        ("flushed", PEERS * SIZE),
        ("timers", TIMERS),
        ("wakes", 1),
        ("sources", 1),
    ];
    assert!(expected.iter().all(|(name, count)| seen[name] == *count), "{seen:?}");
}
