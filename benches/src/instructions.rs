//! Instructions of a server's own a message, as valgrind's callgrind counts them: what the kernel
//! does is not among them.

use std::error::Error;
use std::process::Command;

use serde::Serialize;

use crate::builder::{self, Built};
use crate::counting::{self, Tool};
use crate::running::Cores;
use crate::scenarios::Scenario;

/// The scenarios in which they are counted.
pub(crate) const SCENARIOS: [&str; 2] = ["ping-50", "lines-16"];

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
    let [short, long] = counting::two_runs(&Callgrind, built, scenario, cores)?;
    let instructions = long.counts.saturating_sub(short.counts);
    let a_message = instructions as f64 / (long.messages - short.messages) as f64;
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
