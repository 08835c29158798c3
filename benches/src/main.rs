//! Measures the loop against its alternatives, on your own machine.
//!
//! `options` says what can be asked for; `scenarios` and `servers` what there is; `builder` builds
//! the servers, `running` starts one and sets a load upon it; `speed`, `calls`, `instructions`,
//! `memory` and `cold_build` measure, and `programs` whole programs; `table`, `chart`, `conditions`
//! and `report` show. `load` is the other side, a separate process.

mod builder;
mod calls;
mod chart;
mod cold_build;
mod comparison;
mod conditions;
mod costs;
mod counting;
mod figures;
mod instructions;
mod load;
mod machine;
mod memory;
mod options;
mod process;
mod programs;
mod report;
mod running;
mod scenarios;
mod servers;
mod speed;
mod table;
mod timers;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use options::{Command, Part};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where this cannot be written either, the exit status says it alone.
            let _ = writeln!(io::stderr(), "readiness-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    match options::parse()? {
        Command::Help => writeln!(io::stdout(), "{}", options::USAGE)?,
        Command::List => io::stdout().write_all(list().as_bytes())?,
        Command::Load(order) => load::run(&order)?,
        Command::Build { rounds, out } => {
            report::publish_builds(&cold_build::measure(rounds)?, &out)?;
        }
        Command::Costs { rounds } => costs::measure(rounds)?,
        Command::Timers { rounds } => timers::measure(rounds)?,
        Command::Programs { rounds, quick, out } => programs::measure(rounds, quick, &out)?,
        Command::Compare(options) => comparison::run(options)?,
    }
    Ok(())
}

fn list() -> String {
    let part = |title: &str, names: Vec<(&str, &str)>| {
        let lines = names.iter().map(|(name, about)| format!("  {name:20} {about}\n"));
        format!("{title}:\n{}", lines.collect::<String>())
    };
    let servers = servers::all();
    let servers = servers.iter().map(|one| (one.name, one.default.about()));
    let scenarios = scenarios::all();
    let scenarios = scenarios.iter().map(|one| (one.name, one.about));
    let parts = Part::ALL.iter().map(|(name, part)| (*name, part.about()));
    part("servers", servers.collect())
        + &part("scenarios", scenarios.collect())
        + &part("parts", parts.collect())
}
