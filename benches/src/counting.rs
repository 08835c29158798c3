//! What a message costs in counts, which do not depend on the machine's speed: the difference of
//! two runs of different lengths, so that starting, connecting and ending fall out. The longer one
//! is much longer, so that what disturbs the shorter one hardly counts.
//!
//! Each run is made under a tool that counts something: strace, or valgrind's callgrind.

use std::error::Error;

use crate::builder::Built;
use crate::load::Extent;
use crate::running::{Cores, Running};
use crate::scenarios::{Scenario, Unit};

/// A tool: its command line, which writes to a file, and what it reads from that.
pub(crate) trait Tool {
    type Counts;
    fn command_line(&self, file: &str) -> Vec<String>;
    fn parse(&self, text: &str) -> Result<Self::Counts, Box<dyn Error>>;
}

/// A run: how many messages it had, and what was counted.
pub(crate) struct Run<Counts> {
    pub(crate) messages: u64,
    pub(crate) counts: Counts,
}

/// Does a short run and a long one.
pub(crate) fn two_runs<T: Tool>(
    tool: &T,
    built: &Built,
    scenario: &Scenario,
    cores: Cores,
) -> Result<[Run<T::Counts>; 2], Box<dyn Error>> {
    let [short, long] = match scenario.unit {
        Unit::Visit => [200, 600],
        Unit::Message => [2_000, 22_000],
        Unit::Block => [2_000, 6_000],
    };
    Ok([run(tool, built, scenario, cores, short)?, run(tool, built, scenario, cores, long)?])
}

fn run<T: Tool>(
    tool: &T,
    built: &Built,
    scenario: &Scenario,
    cores: Cores,
    messages: u64,
) -> Result<Run<T::Counts>, Box<dyn Error>> {
    let file = std::env::temp_dir().join(format!("readiness-benches-{}", std::process::id()));
    let path = file.display().to_string();
    let server = Running::start(built, &tool.command_line(&path), cores.server)?;
    let report = server.load(&scenario.task, Extent::Messages(messages), cores.load);
    server.finish()?;
    let text = std::fs::read_to_string(&file);
    let _ = std::fs::remove_file(&file); // there is none if the tool has failed
    Ok(Run { messages: report?.messages, counts: tool.parse(&text?)? })
}
