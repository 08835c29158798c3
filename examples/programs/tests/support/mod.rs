//! What the tests of the programs share beside what the crate's own tests do: a program on the
//! simulated network that is run until it rests, choices that follow from a seed, and programs
//! started under limits.

#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use readiness::simulation::Simulation;
use readiness::{CloseReason, ConnectionId, Event, EventLoop};

use crate::programs::Program;

/// A program on the simulated network, and how its connections have ended.
pub struct Simulated<T, H> {
    pub simulation: Simulation,
    pub event_loop: EventLoop<T>,
    handle: H,
    pub closed: Vec<(ConnectionId, CloseReason)>,
}

impl<T, H: FnMut(&mut EventLoop<T>, Event) -> io::Result<()>> Simulated<T, H> {
    pub fn new(simulation: Simulation, event_loop: EventLoop<T>, handle: H) -> Self {
        Self { simulation, event_loop, handle, closed: Vec::new() }
    }

    /// Runs until neither the network nor the program does anything more. No time passes.
    pub fn rest(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            idle += 1;
            if self.simulation.step() {
                idle = 0;
            }
            while let Some(event) = self.event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
                idle = 0;
                (self.handle)(&mut self.event_loop, event).unwrap();
                if let Event::Closed(id, reason) = event {
                    self.closed.push((id, reason));
                }
            }
        }
    }

    /// The reason of the one connection that has ended. There is no other.
    pub fn only_closed(&self) -> CloseReason {
        assert_eq!(self.event_loop.connection_count(), 0, "{}", self.event_loop.explain());
        assert_eq!(self.closed.len(), 1, "{:?}", self.closed);
        self.closed[0].1
    }
}

/// How long each fuzz test goes on. Without it a few hundred seeds are tried.
const FUZZ_SECONDS: &str = "READINESS_FUZZ_SECONDS";

/// Calls `attack` with one seed after the other: a few hundred, or for the time that the
/// environment says.
pub fn fuzz(seeds: u64, mut attack: impl FnMut(u64)) {
    let seconds = std::env::var(FUZZ_SECONDS).ok();
    let seconds = seconds.map(|text| text.parse().expect("a number of seconds"));
    let end = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seed = 0;
    while end.map_or(seed < seeds, |end| Instant::now() < end) {
        attack(seed);
        seed += 1;
    }
    if end.is_some() {
        eprintln!("{seed} seeds were tried");
    }
}

/// Starts a program after the shell has done what `before` says: `ulimit -n 64;`, say.
pub fn start_under(before: &str, path: &Path, arguments: &[&str]) -> Program {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{before} exec \"$0\" \"$@\"")).arg(path).args(arguments);
    Program::start_with(&mut command, Stdio::piped(), Stdio::piped())
}

/// Whether a command can be run here.
pub fn has_command(name: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(name);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
