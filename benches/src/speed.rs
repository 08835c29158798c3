//! The rounds: every server in every scenario, once a round, so that a disturbance of seconds
//! meets all of them and not all rounds of one.

use std::error::Error;
use std::fmt;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::builder::{Built, Unmeasured};
use crate::figures::Cell;
use crate::load::{Extent, Report};
use crate::running::{Cores, Running};
use crate::scenarios::Scenario;

/// How long, and how often.
#[derive(Clone, Copy, Serialize)]
pub(crate) struct Pace {
    pub(crate) rounds: usize,
    /// Milliseconds.
    pub(crate) warm_up: u64,
    pub(crate) window: u64,
}

impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rounds, warm_up, window } = self;
        match rounds {
            1 => write!(f, "1 round of {window} ms after {warm_up} ms of warm-up"),
            _ => write!(f, "{rounds} rounds of {window} ms, each after {warm_up} ms of warm-up"),
        }
    }
}

/// One scenario, with all its servers.
#[derive(Serialize)]
pub(crate) struct Row {
    #[serde(serialize_with = "name")]
    pub(crate) scenario: Scenario,
    pub(crate) cells: Vec<Cell>,
}

fn name<S: serde::Serializer>(scenario: &Scenario, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(scenario.name)
}

impl Row {
    pub(crate) fn failed(&self) -> impl Iterator<Item = Unmeasured> {
        self.cells.iter().filter_map(|cell| {
            let name = format!("{} in {}", cell.server, self.scenario.name);
            Some(Unmeasured { name, reason: cell.failure.clone()? })
        })
    }

    pub(crate) fn cell(&self, server: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.server == server)
    }
}

/// Runs all rounds. A server that fails in a scenario is given up there, and the reason kept.
pub(crate) fn measure(
    scenarios: &[Scenario],
    servers: &[Built],
    pace: Pace,
    cores: Cores,
    skipped: &mut Vec<Unmeasured>,
) -> Result<Vec<Row>, Box<dyn Error>> {
    let mut rows: Vec<Row> =
        scenarios.iter().map(|scenario| row(scenario, servers, skipped)).collect();
    let cells: usize = rows.iter().map(|row| row.cells.len()).sum();
    let progress = progress_bar(cells * pace.rounds)?;
    for round in 0..pace.rounds {
        for row in &mut rows {
            // In each round another begins.
            let count = row.cells.len();
            for nth in 0..count {
                let cell = &mut row.cells[(nth + round) % count];
                progress.set_message(format!(
                    "round {} of {}: {}, {}",
                    round + 1,
                    pace.rounds,
                    row.scenario.name,
                    cell.server
                ));
                run_cell(cell, &row.scenario, servers, pace, cores);
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(rows)
}

fn progress_bar(steps: usize) -> Result<ProgressBar, Box<dyn Error>> {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len}, {eta} left: {msg}")?;
    Ok(ProgressBar::new(steps as u64).with_style(style))
}

fn row(scenario: &Scenario, servers: &[Built], skipped: &mut Vec<Unmeasured>) -> Row {
    let mut cells = Vec::new();
    for built in servers.iter().filter(|one| one.server.protocol == scenario.protocol) {
        match built.server.unfit_for(scenario.name) {
            None => cells.push(Cell::new(built.server.name)),
            Some(reason) => skipped.push(Unmeasured {
                name: format!("{} in {}", built.server.name, scenario.name),
                reason: reason.to_owned(),
            }),
        }
    }
    Row { scenario: scenario.clone(), cells }
}

fn run_cell(cell: &mut Cell, scenario: &Scenario, servers: &[Built], pace: Pace, cores: Cores) {
    let built = servers.iter().find(|built| built.server.name == cell.server);
    let (Some(built), None) = (built, &cell.failure) else { return };
    match run_once(built, scenario, pace, cores) {
        Ok(report) => cell.rounds.push(report),
        Err(error) => cell.failure = Some(error.to_string()),
    }
}

fn run_once(
    built: &Built,
    scenario: &Scenario,
    pace: Pace,
    cores: Cores,
) -> Result<Report, Box<dyn Error>> {
    let load_core = if scenario.one_core { cores.server } else { cores.load };
    let server = Running::start(built, &[], cores.server)?;
    let [warm_up, window] = [pace.warm_up, pace.window].map(|time| time * scenario.times_as_long);
    let extent = Extent::Time { warm_up, window };
    server.load(&scenario.task, extent, load_core)
}
