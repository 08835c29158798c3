//! System calls a message, by name, as strace counts them.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::Command;

use serde::Serialize;

use crate::builder::{self, Built};
use crate::counting::{self, Tool};
use crate::running::Cores;
use crate::scenarios::Scenario;

/// The scenarios in which they are counted.
pub(crate) const SCENARIOS: [&str; 5] = ["ping-1", "ping-50", "flight-16", "churn", "lines-16"];

/// Fewer than this a message is the tool's or a timer's.
const LEAST: f64 = 0.001;

#[derive(Serialize)]
pub(crate) struct Calls {
    pub(crate) scenario: &'static str,
    pub(crate) server: String,
    /// Calls a message, by name.
    pub(crate) calls: BTreeMap<String, f64>,
}

impl Calls {
    /// Returns the calls that wait: how many there are depends on how many messages arrive at once.
    pub(crate) fn waits(&self) -> f64 {
        self.sum(is_wait)
    }

    pub(crate) fn others(&self) -> f64 {
        self.sum(|name| !is_wait(name))
    }

    fn sum(&self, fits: impl Fn(&str) -> bool) -> f64 {
        let fitting = self.calls.iter().filter(|(name, _)| fits(name));
        fitting.fold(0.0, |sum, (_, count)| sum + count)
    }
}

fn is_wait(name: &str) -> bool {
    matches!(name, "epoll_wait" | "epoll_pwait" | "epoll_pwait2" | "poll" | "io_uring_enter")
}

pub(crate) fn is_there() -> bool {
    builder::succeeds(Command::new("strace").arg("--version"))
}

pub(crate) fn count(
    built: &Built,
    scenario: &Scenario,
    cores: Cores,
) -> Result<Calls, Box<dyn Error>> {
    let [short, long] = counting::two_runs(&Strace, built, scenario, cores)?;
    let messages = (long.messages - short.messages) as f64;
    let a_message = |(name, count): (String, u64)| {
        let count = count.saturating_sub(short.counts.get(&name).copied().unwrap_or(0));
        (name, count as f64 / messages)
    };
    let calls =
        long.counts.into_iter().map(a_message).filter(|(_, count)| *count >= LEAST).collect();
    Ok(Calls { scenario: scenario.name, server: built.server.name.to_owned(), calls })
}

struct Strace;

impl Tool for Strace {
    type Counts = BTreeMap<String, u64>;

    fn command_line(&self, file: &str) -> Vec<String> {
        ["strace", "-c", "-f", "-o", file].map(str::to_owned).into()
    }

    /// Each line: share, seconds, microseconds a call, calls, errors if any, name.
    fn parse(&self, text: &str) -> Result<Self::Counts, Box<dyn Error>> {
        let line = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let count = fields.get(3)?.parse().ok()?;
            let name = *fields.last()?;
            (name != "total").then(|| (name.to_owned(), count))
        };
        let counts: Self::Counts = text.lines().filter_map(line).collect();
        if counts.is_empty() { Err("strace has counted nothing".into()) } else { Ok(counts) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_a_column_of_some_lines() -> Result<(), Box<dyn Error>> {
        let text = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.00    0.000600           3       200           sendto
 40.00    0.000400           2       201        12 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.001000           2       401        12 total
";
        let counts = Strace.parse(text)?;
        let expected = [("recvfrom".to_owned(), 201), ("sendto".to_owned(), 200)];
        assert_eq!(counts, BTreeMap::from(expected));
        Ok(())
    }
}
