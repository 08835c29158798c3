//! Instructions of a server's own a message, as valgrind's callgrind counts them: what the kernel
//! does is not among them.
//!
//! They have no noise but one: the fewer messages a wait brings, the more instructions of the wait
//! fall on each, and how many it brings depends on both sides' time. With one connection it is
//! always one; elsewhere the count is made again, and the least says what the server needs.

use std::error::Error;
use std::process::Command;

use serde::Serialize;

use crate::builder::{self, Built};
use crate::counting::{self, Tool};
use crate::running::Cores;
use crate::scenarios::Scenario;

/// The scenarios in which they are counted.
pub(crate) const SCENARIOS: [&str; 3] = ["ping-1", "ping-50", "lines-16"];

/// How often each is counted.
const COUNTS: usize = 3;

#[derive(Serialize)]
pub(crate) struct Instructions {
    pub(crate) scenario: &'static str,
    pub(crate) server: String,
    pub(crate) a_message: f64,
}

pub(crate) fn is_there() -> bool {
    builder::succeeds(Command::new("valgrind").arg("--version"))
}

pub(crate) fn count(
    built: &Built,
    scenario: &Scenario,
    cores: Cores,
) -> Result<Instructions, Box<dyn Error>> {
    let mut a_message = f64::INFINITY;
    for _ in 0..COUNTS {
        let [short, long] = counting::two_runs(&Callgrind, built, scenario, cores)?;
        let instructions = long.counts.saturating_sub(short.counts);
        let counted = instructions as f64 / (long.messages - short.messages) as f64;
        a_message = a_message.min(counted);
    }
    Ok(Instructions { scenario: scenario.name, server: built.server.name.to_owned(), a_message })
}

struct Callgrind;

impl Tool for Callgrind {
    type Counts = u64;

    fn command_line(&self, file: &str) -> Vec<String> {
        let out = format!("--callgrind-out-file={file}");
        ["valgrind", "--quiet", "--tool=callgrind", &out].map(str::to_owned).into()
    }

    fn parse(&self, text: &str) -> Result<u64, Box<dyn Error>> {
        let total = text.lines().find_map(|line| line.strip_prefix("totals:"));
        Ok(total.ok_or("callgrind has counted nothing")?.trim().parse()?)
    }
}
