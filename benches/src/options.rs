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
       readiness-benches build [OPTIONS]    how long a first build takes, and of
                                            how many crates
       readiness-benches costs [OPTIONS]    what each system call of a loop
                                            costs by itself
       readiness-benches timers [OPTIONS]   what setting and cancelling a timer
                                            costs
       readiness-benches programs [OPTIONS] the programs of the repository
                                            beside those that people would use
                                            instead
       readiness-benches list               the names of servers, scenarios and
                                            parts

  --all            all servers and scenarios, not only the default ones
  --server NAME    only this server; may be given again
  --scenario NAME  only this scenario; may be given again
  --part NAME      only this part: speed, calls, instructions, memory; may be
                   given again (calls and instructions are counted in some
                   scenarios, or in those named)
  --rounds COUNT   how often each server runs in each scenario [default: 5];
                   of build, how often each is built [default: 3]
  --window MS      how long is measured in each run [default: 500]
  --quick          one short round, and fewer connections: shows that everything
                   runs, and is no measurement
  --out DIR        where results are written [default: target/comparison in this
                   crate]
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
    Programs {
        rounds: usize,
        quick: bool,
        out: PathBuf,
    },
    Compare(Options),
}

pub(crate) struct Options {
    pub(crate) servers: Vec<Server>,
    pub(crate) scenarios: Vec<Scenario>,
    pub(crate) parts: Vec<Part>,
    pub(crate) pace: Pace,
    pub(crate) quick: bool,
    all: bool,
    pub(crate) servers_are_named: bool,
    scenarios_are_named: bool,
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
    /// Returns whether a server is timed: some are in the default set for their counts only.
    pub(crate) fn is_timed(&self, server: &Server) -> bool {
        self.all || self.servers_are_named || server.default != Measured::Counts
    }

    /// Returns whether a scenario's calls are counted. Counting takes long, so it is done in the
    /// `usual` scenarios, or in the named ones.
    pub(crate) fn is_counted(&self, scenario: &Scenario, usual: &[&str]) -> bool {
        self.scenarios_are_named || usual.contains(&scenario.name)
    }
}

/// What was given, before it means anything.
#[derive(Default)]
struct Given {
    /// The names of the options among it.
    options: Vec<&'static str>,
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
            Arg::Long(name) => {
                let option = OPTIONS.iter().find(|option| **option == name).copied();
                let Some(option) = option else { return Err(argument.unexpected().into()) };
                given.take(option, &mut parser)?;
            }
            Arg::Value(value) if command.is_none() => match value.string()?.as_str() {
                "load" => return Ok(Command::Load(parser.value()?.string()?)),
                name => command = Some(name.to_owned()),
            },
            other => return Err(other.unexpected().into()),
        }
    }
    given.command(command.as_deref())
}

/// The long options, without that for help.
const OPTIONS: [&str; 8] =
    ["all", "quick", "server", "scenario", "part", "rounds", "window", "out"];

impl Given {
    fn take(&mut self, option: &'static str, parser: &mut Parser) -> Result<(), lexopt::Error> {
        self.options.push(option);
        match option {
            "all" => self.all = true,
            "quick" => self.quick = true,
            "server" => self.servers.push(parser.value()?.string()?),
            "scenario" => self.scenarios.push(parser.value()?.string()?),
            "part" => self.parts.push(parser.value()?.string()?),
            "rounds" => self.rounds = Some(parser.value()?.parse()?),
            "window" => self.window = Some(parser.value()?.parse()?),
            _ => self.out = Some(parser.value()?.into()),
        }
        Ok(())
    }

    fn command(self, name: Option<&str>) -> Result<Command, Box<dyn Error>> {
        let takes: &[&str] = match name {
            None => &OPTIONS,
            Some("build") => &["rounds", "out"],
            Some("costs" | "timers") => &["rounds"],
            Some("programs") => &["rounds", "quick", "out"],
            Some("list") => &[],
            Some(other) => return Err(format!("there is no command {other:?}").into()),
        };
        if let Some(option) = self.options.iter().find(|option| !takes.contains(option)) {
            return Err(format!("{} does not take --{option}", name.unwrap_or_default()).into());
        }
        if self.rounds == Some(0) || self.window == Some(0) {
            return Err("there is nothing to measure in no round or no time".into());
        }
        let out = self.out.clone();
        let out = out.unwrap_or_else(|| crate::builder::target().join("comparison"));
        let rounds = |usual| self.rounds.unwrap_or(usual);
        Ok(match name {
            Some("build") => Command::Build { rounds: rounds(3), out },
            Some("costs") => Command::Costs { rounds: rounds(200) },
            Some("timers") => Command::Timers { rounds: rounds(5) },
            Some("programs") => {
                let rounds = rounds(if self.quick { 2 } else { 5 });
                Command::Programs { rounds, quick: self.quick, out }
            }
            Some(_) => Command::List,
            None => Command::Compare(self.options(out)?),
        })
    }

    fn options(self, out: PathBuf) -> Result<Options, Box<dyn Error>> {
        if self.all && !self.servers.is_empty() {
            return Err("either --all or --server".into());
        }
        let pace = match self.quick {
            true => Pace { rounds: 1, warm_up: 50, window: 100 },
            false => Pace { rounds: 5, warm_up: 150, window: 500 },
        };
        let pace = Pace {
            rounds: self.rounds.unwrap_or(pace.rounds),
            window: self.window.unwrap_or(pace.window),
            ..pace
        };
        let parts = chosen(&Part::ALL, &self.parts, |part| part.0, |_| true)?;
        let options = Options {
            servers: chosen(
                &servers::all(),
                &self.servers,
                |server| server.name,
                |server| self.all || server.default != Measured::Nothing,
            )?,
            scenarios: chosen(
                &scenarios::all(),
                &self.scenarios,
                |one| one.name,
                |one| self.all || one.is_usual,
            )?,
            parts: parts.into_iter().map(|part| part.1).collect(),
            pace,
            quick: self.quick,
            all: self.all,
            servers_are_named: !self.servers.is_empty(),
            scenarios_are_named: !self.scenarios.is_empty(),
            out,
        };
        self.check(&options)?;
        Ok(options)
    }

    /// Checks that what was named takes part in something, or one would wait for nothing.
    fn check(&self, options: &Options) -> Result<(), Box<dyn Error>> {
        let Options { servers, scenarios, .. } = options;
        for server in servers.iter().filter(|one| self.servers.iter().any(|name| one.name == name))
        {
            if !scenarios.iter().any(|scenario| scenario.protocol == server.protocol) {
                let name = server.name;
                return Err(format!("{name} does not take part in any of these scenarios").into());
            }
        }
        for scenario in scenarios.iter().filter(|_| options.scenarios_are_named) {
            if !servers.iter().any(|server| server.protocol == scenario.protocol) {
                let name = scenario.name;
                return Err(format!("none of these servers takes part in {name}").into());
            }
        }
        Ok(())
    }
}

/// Returns the entries that were named; if none was, the usual ones.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_a_terminal_of_80_columns() {
        let wide = USAGE.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None);
    }
}
