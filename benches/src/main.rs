//! Measures the loop beside what one would use instead, on one's own machine.
//!
//! `options` says what can be asked for; `scenarios` and `servers` what there is; `builder` builds
//! the servers; `speed`, `calls`, `instructions` and `memory` measure; `table` and `chart` show.

mod builder;
mod figures;
mod load;
mod options;
mod process;
mod running;
mod scenarios;
mod servers;
mod speed;
mod table;

use std::error::Error;
use std::process::ExitCode;

use options::{Command, Options, Part};
use running::Cores;

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
        Command::Build(_out) => {}
        Command::Compare(options) => {
            process::end_all_when_interrupted()?;
            compare(options)?;
        }
    }
    Ok(())
}

fn list() {
    let names = |title: &str, names: Vec<(&str, &str)>| {
        println!("{title}:");
        names.iter().for_each(|(name, about)| println!("  {name:20} {about}"));
    };
    let about = |default| if default { "" } else { "with --all, or by name" };
    names("servers", servers::all().iter().map(|one| (one.name, about(one.in_default))).collect());
    names("scenarios", scenarios::all().iter().map(|one| (one.name, one.about)).collect());
    names("parts", Part::ALL.iter().map(|(name, _)| (*name, "")).collect());
}

fn compare(options: Options) -> Result<(), Box<dyn Error>> {
    process::raise_open_files();
    let (built, mut skipped) = builder::build(&options.servers)?;
    let cores = process::cores()?;
    let cores = Cores { server: cores.first().copied(), load: cores.get(1).copied() };
    let rows = speed::measure(&options.scenarios, &built, options.pace, cores, &mut skipped)?;
    for row in &rows {
        println!("{}", table::speed(row));
    }
    for skipped in &skipped {
        println!("skipped: {}: {}", skipped.name, skipped.reason);
    }
    Ok(())
}
