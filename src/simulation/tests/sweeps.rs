//! Each call fails in each way, once and from then on; and each cutting of a short exchange.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::run::Run;
use super::seeds::run_with;
use crate::event::{CloseReason, Event};
use crate::event_loop::EventLoop;
use crate::simulation::{Faults, PeerState, Simulation};
use crate::system::simulated::{Failing, NO_BUFFERS, lock};

/// How a call can fail. The ones that only pass, and the peer that had gone, cannot come for ever.
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

/// Short runs on a kind network, one with room and one without in turn: each of their calls fails
/// in each way. `READINESS_SWEEPS` says how many runs are taken as scenarios.
#[test]
fn each_call_fails_in_each_way_once_and_for_ever() {
    let count = std::env::var("READINESS_SWEEPS").map_or(4, |count| count.parse().unwrap());
    for scenario in 0..count {
        let narrow = Faults { send_buffer: 64, receive_buffer: 7, ..Faults::none() };
        let faults = if scenario % 2 == 0 { Faults::none() } else { narrow };
        let run = |failure| {
            let prepare = |run: &mut Run| lock(&run.simulation.network).script.failure = failure;
            run_with(scenario, faults.clone(), 60, prepare).calls
        };
        for at in 1..=run(None) {
            for (error, can_persist) in ERRORS {
                run(Some(Failing { at, is_persistent: false, error }));
                if can_persist {
                    run(Some(Failing { at, is_persistent: true, error }));
                }
            }
        }
    }
}

/// The lengths of the pieces into which a number cuts eight bytes: a bit for each place to cut.
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
