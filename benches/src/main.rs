//! Measures the loop beside what one would use instead, on one's own machine.
//!
//! `options` says what can be asked for; `scenarios` and `servers` what there is; `builder` builds
//! the servers, `running` starts one and sets a load upon it; `speed`, `calls`, `instructions`,
//! `memory` and `cold_build` measure; `table`, `chart` and `report` show. `load` is the other side,
//! a process of its own.

mod builder;
mod calls;
mod chart;
mod cold_build;
mod comparison;
mod costs;
mod counting;
mod figures;
mod instructions;
mod load;
mod machine;
mod memory;
mod options;
mod process;
mod report;
mod running;
mod scenarios;
mod servers;
mod speed;
mod table;
mod timers;

use std::error::Error;
use std::process::ExitCode;

use options::{Command, Part};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("readiness-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    match options::parse()? {
        Command::Help => println!("{}", options::USAGE),
        Command::List => list(),
        Command::Load(order) => load::run(&order)?,
        Command::Build { rounds, out } => {
            report::publish_builds(&cold_build::measure(rounds)?, &out)?;
        }
        Command::Costs { rounds } => costs::measure(rounds)?,
        Command::Timers { rounds } => timers::measure(rounds)?,
        Command::Compare(options) => comparison::run(options)?,
    }
    Ok(())
}

fn list() {
    let print = |title: &str, names: Vec<(&str, &str)>| {
        println!("{title}:");
        names.iter().for_each(|(name, about)| println!("  {name:20} {about}"));
    };
    let servers = servers::all();
    print("servers", servers.iter().map(|one| (one.name, one.default.about())).collect());
    print("scenarios", scenarios::all().iter().map(|one| (one.name, one.about)).collect());
    print("parts", Part::ALL.iter().map(|(name, part)| (*name, part.about())).collect());
}
