//! The command line.

use std::error::Error;
use std::path::PathBuf;

use lexopt::{Arg, Parser, ValueExt};

use crate::scenarios::{self, Scenario};
use crate::servers::{self, Measured, Server};
use crate::speed::Pace;

pub(crate) const USAGE: &str = "\
Measures the loop beside what one would use instead, on this machine.

Usage: readiness-benches [OPTIONS]          measure and compare
       readiness-benches build [OPTIONS]    how long a first build takes, and of how many crates
       readiness-benches costs [OPTIONS]    what each system call of a loop costs by itself
       readiness-benches timers [OPTIONS]   what setting and cancelling a timer costs
       readiness-benches list               the names of servers, scenarios and parts

  --all            all servers, not only the default ones
  --server NAME    only this server; may be given again
  --scenario NAME  only this scenario; may be given again
  --part NAME      only this part: speed, calls, instructions, memory; may be given again
  --rounds COUNT   how often each server runs in each scenario [default: 5];
                   of build, how often each is built [default: 3]
  --window MS      how long is measured in each run [default: 500]
  --quick          one short round, and fewer connections: shows that all works, measures nothing
  --out DIR        where results are written [default: target/comparison in this crate]
  -h, --help       print this";

pub(crate) enum Command {
    Help,
    List,
    /// A load's order.
    Load(String),
    Build {
        rounds: usize,
        out: PathBuf,
    },
    Costs {
        rounds: usize,
    },
    Timers {
        rounds: usize,
    },
    Compare(Options),
}

pub(crate) struct Options {
    pub(crate) servers: Vec<Server>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) parts: Vec<Part>,
    pub(crate) pace: Pace,
    pub(crate) quick: bool,
    /// They were asked for: all, or by name.
    every_server_is_timed: bool,
    pub(crate) out: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Speed,
    Calls,
    Instructions,
    Memory,
}

impl Part {
    pub(crate) const ALL: [(&'static str, Part); 4] = [
        ("speed", Part::Speed),
        ("calls", Part::Calls),
        ("instructions", Part::Instructions),
        ("memory", Part::Memory),
    ];

    pub(crate) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, part)| *part == self).map_or("", |(name, _)| name)
    }

    pub(crate) fn about(self) -> &'static str {
        match self {
            Part::Speed => "throughput, processor time and latency, in rounds",
            Part::Calls => "system calls a message; needs strace",
            Part::Instructions => "instructions a message; needs valgrind",
            Part::Memory => "bytes a connection",
        }
    }
}

impl Options {
    /// Some are in the default set for their counts only.
    pub(crate) fn is_timed(&self, server: &Server) -> bool {
        self.every_server_is_timed || server.default != Measured::Counts
    }
}

/// What was given, before it means anything.
#[derive(Default)]
struct Given {
    all: bool,
    quick: bool,
    servers: Vec<String>,
    scenarios: Vec<String>,
    parts: Vec<String>,
    rounds: Option<usize>,
    window: Option<u64>,
    out: Option<PathBuf>,
}

pub(crate) fn parse() -> Result<Command, Box<dyn Error>> {
    let mut parser = Parser::from_env();
    let mut given = Given::default();
    let mut command = None;
    while let Some(argument) = parser.next()? {
        match argument {
            Arg::Short('h') | Arg::Long("help") => return Ok(Command::Help),
            Arg::Long("all") => given.all = true,
            Arg::Long("quick") => given.quick = true,
            Arg::Long("server") => given.servers.push(parser.value()?.string()?),
            Arg::Long("scenario") => given.scenarios.push(parser.value()?.string()?),
            Arg::Long("part") => given.parts.push(parser.value()?.string()?),
            Arg::Long("rounds") => given.rounds = Some(parser.value()?.parse()?),
            Arg::Long("window") => given.window = Some(parser.value()?.parse()?),
            Arg::Long("out") => given.out = Some(parser.value()?.into()),
            Arg::Value(value) if command.is_none() => match value.string()?.as_str() {
                "load" => return Ok(Command::Load(parser.value()?.string()?)),
                name => command = Some(name.to_owned()),
            },
            other => return Err(other.unexpected().into()),
        }
    }
    let out = given.out.clone().unwrap_or_else(|| crate::builder::target().join("comparison"));
    match command.as_deref() {
        None => Ok(Command::Compare(given.options(out)?)),
        Some("build") => Ok(Command::Build { rounds: given.rounds.unwrap_or(3), out }),
        Some("costs") => Ok(Command::Costs { rounds: given.rounds.unwrap_or(200) }),
        Some("timers") => Ok(Command::Timers { rounds: given.rounds.unwrap_or(5) }),
        Some("list") => Ok(Command::List),
        Some(other) => Err(format!("there is no command {other:?}").into()),
    }
}

impl Given {
    fn options(self, out: PathBuf) -> Result<Options, Box<dyn Error>> {
        let pace = match self.quick {
            true => Pace { rounds: 1, warm_up: 50, window: 100 },
            false => Pace { rounds: 5, warm_up: 150, window: 500 },
        };
        let pace = Pace {
            rounds: self.rounds.unwrap_or(pace.rounds),
            window: self.window.unwrap_or(pace.window),
            ..pace
        };
        if pace.rounds == 0 || pace.window == 0 {
            return Err("there is nothing to measure in no round or no time".into());
        }
        let parts = chosen(&Part::ALL, &self.parts, |part| part.0, |_| true)?;
        Ok(Options {
            servers: chosen(
                &servers::all(),
                &self.servers,
                |server| server.name,
                |server| self.all || server.default != Measured::Nothing,
            )?,
            scenarios: chosen(&scenarios::all(), &self.scenarios, |one| one.name, |_| true)?,
            parts: parts.into_iter().map(|part| part.1).collect(),
            pace,
            quick: self.quick,
            every_server_is_timed: self.all || !self.servers.is_empty(),
            out,
        })
    }
}

/// Those that were named; if none was, the usual ones.
fn chosen<T: Clone>(
    all: &[T],
    named: &[String],
    name: impl Fn(&T) -> &'static str,
    usual: impl Fn(&T) -> bool,
) -> Result<Vec<T>, Box<dyn Error>> {
    if let Some(unknown) = named.iter().find(|named| !all.iter().any(|one| name(one) == **named)) {
        return Err(format!("there is no {unknown:?} (the command list tells all names)").into());
    }
    let is_chosen = |one: &&T| match named {
        [] => usual(one),
        _ => named.iter().any(|named| name(one) == named),
    };
    Ok(all.iter().filter(is_chosen).cloned().collect())
}
