//! What the tests of the programs share: a server on the simulated network with a peer that is
//! moved by hand, the programs as processes, and how long the fuzzers run.

#![allow(dead_code, reason = "each test file uses a part of what they share")]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]
#![allow(unreachable_pub, reason = "each test file is a crate of its own")]

use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use readiness::simulation::{Peer, PeerState, Simulation};
use readiness::{Event, EventLoop};

use crate::programs::Program;

/// A server on a simulated network, and what handles its events.
pub struct Server<T, H> {
    pub simulation: Simulation,
    pub event_loop: EventLoop<T>,
    handle: H,
    address: SocketAddr,
}

impl<T, H> Server<T, H>
where
    T: Default + 'static,
    H: FnMut(&mut EventLoop<T>, Event),
{
    pub fn new(simulation: &Simulation, mut event_loop: EventLoop<T>, handle: H) -> Self {
        let listener = event_loop.listen("127.0.0.1:65432").unwrap();
        let address = event_loop.listener_addr(listener).unwrap();
        Self { simulation: simulation.clone(), event_loop, handle, address }
    }

    pub fn connect(&self) -> Peer {
        self.simulation.connect(self.address)
    }

    /// Lets everything happen that can without time passing.
    pub fn settle(&mut self) {
        loop {
            let event = self.event_loop.poll_event(Some(Duration::ZERO)).unwrap();
            if let Some(event) = event {
                (self.handle)(&mut self.event_loop, event);
            } else if self.event_loop.next_timeout() != Some(Duration::ZERO)
                && !self.simulation.step()
            {
                return;
            }
        }
    }

    /// Lets time pass, and everything happen that it brings.
    pub fn pass(&mut self, time: Duration) {
        self.simulation.pass_time(time);
        self.settle();
    }

    /// Returns what a peer is answered that writes these pieces, one after the other, and reads the
    /// answers as they arrive.
    pub fn answer(&mut self, peer: &mut Peer, pieces: &[&[u8]]) -> Vec<u8> {
        let mut answer = Vec::new();
        for piece in pieces {
            let mut written = 0;
            while written < piece.len() && peer.state() == PeerState::Open {
                written += peer.write(&piece[written..]);
                self.settle();
                answer.extend(peer.read());
            }
        }
        loop {
            self.settle();
            match peer.read() {
                more if more.is_empty() => return answer,
                more => answer.extend(more),
            }
        }
    }

    /// Checks that no client is connected any more once the deadlines of a close have passed.
    pub fn assert_alone(&mut self) {
        for _ in 0..3 {
            self.pass(Duration::from_secs(61));
        }
        assert_eq!(self.event_loop.connection_count(), 0, "{}", self.event_loop.explain());
    }
}

/// Numbers that follow from a seed.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(2).wrapping_add(1))
    }

    pub fn below(&mut self, end: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = usize::try_from(self.0 >> 33).unwrap();
        high % end
    }

    /// Returns one of these, changed in up to eight places.
    pub fn mutant(&mut self, cases: &[&[u8]]) -> Vec<u8> {
        let mut bytes = cases[self.below(cases.len())].to_vec();
        for _ in 0..self.below(8) {
            let place = self.below(bytes.len() + 1);
            let other = cases[self.below(cases.len())];
            let start = self.below(other.len());
            let part = &other[start..other.len().min(start + 1 + self.below(40))];
            match self.below(5) {
                0 if place < bytes.len() => bytes[place] = self.byte(),
                1 if place < bytes.len() && bytes.len() > 1 => drop(bytes.remove(place)),
                2 => bytes.insert(place, self.byte()),
                3 => drop(bytes.splice(place..place, part.iter().copied())),
                _ => bytes.truncate(place.max(1)),
            }
        }
        bytes
    }

    fn byte(&mut self) -> u8 {
        const TELLING: &[u8] = b"\0\n\r\t \"%-./0:;=?\x7f\xc3\xff{}";
        match self.below(2) {
            0 => TELLING[self.below(TELLING.len())],
            _ => u8::try_from(self.below(256)).unwrap(),
        }
    }
}

/// For how many seconds each fuzzer runs, where not for a fixed number of cases.
const VARIABLE: &str = "PROGRAMS_FUZZ_SECONDS";

/// Runs a fuzzer's case with the seeds from 0 on.
pub fn fuzz(mut case: impl FnMut(u64)) {
    let Ok(seconds) = std::env::var(VARIABLE) else { return (0..400).for_each(case) };
    let seconds = seconds.parse().unwrap_or_else(|_| panic!("{VARIABLE} is no number of seconds"));
    let end = Instant::now() + Duration::from_secs(seconds);
    (0..).take_while(|_| Instant::now() < end).for_each(&mut case);
}

/// Starts a server as a process, after the shell has done what `before` says.
pub fn server_after(before: &str, path: &str, arguments: &[&str]) -> (Program, SocketAddr) {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{before} exec \"$0\" \"$@\"")).arg(path).args(arguments);
    Program::start_with(command.env_remove("RUST_LOG"), Stdio::piped(), Stdio::piped()).listening()
}

/// Returns whether a program is installed.
pub fn has(program: &str, argument: &str) -> bool {
    let mut command = Command::new(program);
    command.arg(argument).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok()
}
