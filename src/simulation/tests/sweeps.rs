//! Each call fails in each way, once and from then on, alone and in pairs; and each cutting of a
//! short exchange.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::run::Run;
use super::seeds::{run_with, variable};
use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::simulation::{Faults, PeerState, Simulation};
use crate::system::simulated::{Failing, NO_BUFFERS, Random, lock};

/// How a call can fail. Only the temporary errors, and the peer that had closed, cannot recur
/// forever.
const ERRORS: [(fn() -> io::Error, bool); 14] = [
    (|| ErrorKind::Interrupted.into(), false),
    (|| ErrorKind::WouldBlock.into(), false),
    (|| ErrorKind::ConnectionAborted.into(), false),
    (|| ErrorKind::ConnectionReset.into(), true),
    (|| ErrorKind::BrokenPipe.into(), true),
    (|| ErrorKind::NotConnected.into(), true),
    (|| ErrorKind::TimedOut.into(), true),
    (|| ErrorKind::HostUnreachable.into(), true),
    (|| ErrorKind::OutOfMemory.into(), true),
    (|| ErrorKind::StorageFull.into(), true),
    (|| ErrorKind::PermissionDenied.into(), true),
    (|| io::Error::from_raw_os_error(23), true),
    (|| io::Error::from_raw_os_error(24), true),
    (|| io::Error::from_raw_os_error(NO_BUFFERS), true),
];

/// Does a short run on a kind network, one with room and one without in turn, in which these calls
/// fail. Returns how many calls it has.
fn run_failing(scenario: u64, failures: &[Failing]) -> u64 {
    let narrow = Faults { send_buffer: 64, receive_buffer: 7, ..Faults::none() };
    let faults = if scenario.is_multiple_of(2) { Faults::none() } else { narrow };
    let prepare = |run: &mut Run| lock(&run.simulation.network).script.failures.extend(failures);
    run_with(scenario, faults, 60, prepare).calls
}

/// Returns every way in which the call of this number can fail, once and from then on.
fn failures_at(at: u64) -> impl Iterator<Item = Failing> {
    let failing = move |is_persistent, error| Failing { at, is_persistent, error };
    let once = ERRORS.iter().map(move |(error, _)| failing(false, *error));
    let lasting = ERRORS.iter().filter(|(_, can_persist)| *can_persist);
    once.chain(lasting.map(move |(error, _)| failing(true, *error)))
}

/// Each call of each scenario fails in each way. `READINESS_SWEEPS` says how many scenarios.
#[test]
fn each_call_fails_in_each_way_once_and_for_ever() {
    let mut runs = 0;
    for scenario in 0..variable("READINESS_SWEEPS").unwrap_or(4) {
        for at in 1..=run_failing(scenario, &[]) {
            for failing in failures_at(at) {
                run_failing(scenario, &[failing]);
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
}

/// A call fails, and then another one while the loop handles that. A usual test takes some of the
/// pairs of many scenarios. With `READINESS_PAIRS` set, all pairs of that many scenarios are taken.
#[test]
fn each_two_calls_fail_in_each_way() {
    match variable("READINESS_PAIRS") {
        Some(count) => (0..count).for_each(fail_all_pairs),
        None => fail_some_pairs(500),
    }
}

fn fail_some_pairs(count: usize) {
    let mut random = Random::new(1);
    let mut pick = |calls: std::ops::RangeInclusive<u64>| {
        let at = calls.start() + random.below((calls.end() - calls.start() + 1) as usize) as u64;
        let failures: Vec<Failing> = failures_at(at).collect();
        random.one_of(&failures)
    };
    for pair in 0..count {
        let scenario = pair as u64 % 100;
        let first = pick(1..=run_failing(scenario, &[]));
        let calls = run_failing(scenario, &[first]);
        if first.at < calls {
            run_failing(scenario, &[first, pick(first.at + 1..=calls)]);
        }
    }
}

fn fail_all_pairs(scenario: u64) {
    let mut runs = 0;
    for at in 1..=run_failing(scenario, &[]) {
        // A persistent failure fails the second call already.
        for first in failures_at(at).filter(|failing| !failing.is_persistent) {
            for second_at in at + 1..=run_failing(scenario, &[first]) {
                for second in failures_at(second_at) {
                    run_failing(scenario, &[first, second]);
                    runs += 1;
                }
            }
        }
        println!("scenario {scenario}, up to call {at}: {runs} pairs");
    }
}

/// Returns the lengths of the pieces into which a number cuts eight bytes: a bit for each place to
/// cut.
fn pieces(cuts: u32) -> Vec<usize> {
    let mut pieces = vec![1];
    for place in 0..7 {
        match cuts & 1 << place {
            0 => *pieces.last_mut().unwrap() += 1,
            _ => pieces.push(1),
        }
    }
    pieces
}

#[test]
fn eight_bytes_are_echoed_however_they_are_cut_on_either_way() {
    let simulation = Simulation::new(3);
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let address = server.listener_addr(listener).unwrap();
    for cuts in 0..1 << 14 {
        let (reads, writes) = (pieces(cuts & 127), pieces(cuts >> 7));
        {
            let mut network = lock(&simulation.network);
            network.script.reads = reads.iter().copied().collect();
            network.script.writes = writes.iter().copied().collect();
        }
        let mut peer = simulation.connect(address);
        assert_eq!(peer.write(b"8 bytes!"), 8);
        peer.finish();
        let (mut received, mut closed) = (Vec::new(), None);
        let mut polls = 0;
        while closed.is_none() || peer.state() == PeerState::Open {
            polls += 1;
            assert!(polls < 1000, "{reads:?} {writes:?} never end");
            match server.poll_event(Some(Duration::ZERO)).unwrap() {
                Some(Event::Received(id)) => server[id].send_received(),
                Some(Event::Closed(_, reason)) => closed = Some(reason),
                _ => {}
            }
            received.extend(peer.read());
            simulation.step();
        }
        assert_eq!(received, b"8 bytes!", "{reads:?} {writes:?}");
        assert_eq!(closed, Some(CloseReason::Finished), "{reads:?} {writes:?}");
        assert_eq!(peer.state(), PeerState::Ended);
    }
}
