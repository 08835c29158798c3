//! Marks the exercises: says which are still broken, and shows for each the shortest run that
//! breaks it.
//!
//! | file | |
//! |---|---|
//! | `checks.rs` | what each program must do |
//! | `stage.rs` | a simulated network with clients, and what happens on it |
//! | `record.rs` | what happened in a run, in words |
//! | `search.rs` | many runs of one check, and the shortest that fails |

#![allow(clippy::unwrap_used, reason = "a failure here is the marker's message")]

mod checks;
mod record;
mod search;
mod stage;

use std::process::ExitCode;

use checks::{EXERCISES, Exercise};
use search::{Broken, shortest_broken_run};

const COMMAND: &str = "cargo test --manifest-path docs/exercises/Cargo.toml";

const USAGE: &str = "\
Marks the exercises.

Usage: cargo test --manifest-path docs/exercises/Cargo.toml [-- [--as-shipped] [EXERCISE]...]

  EXERCISE      the number of an exercise, or a part of its name [default: all]
  --as-shipped  succeeds if each is broken in the way that it is meant to be
  -h, --help    print this

With --features solutions, before the --, it marks the solutions.
READINESS_SEED=7 in the environment tries the network of that seed only.";

fn main() -> ExitCode {
    let mut as_shipped = false;
    let mut chosen = Vec::new();
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "--as-shipped" => as_shipped = true,
            "-h" | "--help" => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            // What cargo is given for all tests, such as --nocapture, is nothing to this one.
            option if option.starts_with('-') => {}
            _ => chosen.push(argument),
        }
    }
    let is_chosen = |exercise: &Exercise| {
        let is_meant = |wanted: &String| match wanted.parse() {
            Ok(number) => exercise.number() == number,
            Err(_) => exercise.file.contains(wanted.as_str()),
        };
        chosen.is_empty() || chosen.iter().any(is_meant)
    };
    let marked: Vec<Marked> =
        EXERCISES.iter().filter(|exercise| is_chosen(exercise)).map(Marked::of).collect();
    if marked.is_empty() {
        println!("no exercise is named {}", chosen.join(" "));
        return ExitCode::FAILURE;
    }
    if as_shipped { compare_with_intention(&marked) } else { report(&marked) }
}

/// An exercise, and how it is broken, if it is.
struct Marked {
    exercise: &'static Exercise,
    broken: Option<Broken>,
}

impl Marked {
    fn of(exercise: &'static Exercise) -> Self {
        Self { exercise, broken: shortest_broken_run(exercise.check) }
    }
}

fn report(marked: &[Marked]) -> ExitCode {
    for Marked { exercise, broken } in marked {
        let Some(broken) = broken else { continue };
        println!("\n== {}: {}\n", exercise.file, exercise.promise);
        println!("The shortest run that breaks it:\n\n{}", broken.record);
        println!("  Here it fails: {}", broken.cause.replace('\n', "\n  "));
        let (seed, number) = (broken.seed, exercise.number());
        println!("\nAgain: READINESS_SEED={seed} {COMMAND} -- {number}");
    }
    println!();
    for Marked { exercise, broken } in marked {
        let mark = if broken.is_some() { "broken" } else { "repaired" };
        println!("{:<28} {mark:<9} {}", exercise.file, exercise.promise);
    }
    let broken = marked.iter().filter(|marked| marked.broken.is_some()).count();
    println!("\n{} repaired, {broken} still broken", marked.len() - broken);
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The page about the exercises, which shows the run of this one.
const PAGE: &str = include_str!("../../README.md");
const SHOWN: &str = "02_rest_of_the_read";

/// For the project's own tests: an exercise that is not broken, or not in its own way, teaches
/// nothing. The page must name each, and show a run as it is.
fn compare_with_intention(marked: &[Marked]) -> ExitCode {
    let mut others = 0;
    for Marked { exercise, broken } in marked {
        let cause = broken.as_ref().map_or("it is not broken", |broken| broken.cause.as_str());
        if !cause.contains(exercise.symptom) {
            println!("{}: expected \"{}\", but: {cause}", exercise.file, exercise.symptom);
            others += 1;
        }
        let run = broken.as_ref().map(|broken| broken.record.to_string()).unwrap_or_default();
        if !PAGE.contains(&format!("\n| `{}` | ", exercise.file))
            || exercise.file == SHOWN && !PAGE.contains(&run)
        {
            println!("{}: README.md does not name it, or shows another run:\n{run}", exercise.file);
            others += 1;
        }
    }
    println!("{} tried, {others} complaints", marked.len());
    if others == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
