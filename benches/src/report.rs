//! All results together: as text, as data, and as a picture, in one folder.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::builder::Unmeasured;
use crate::calls::Calls;
use crate::cold_build::ColdBuild;
use crate::instructions::Instructions;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::speed::{Pace, Row};
use crate::{chart, cold_build, table};

#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) pace: Pace,
    pub(crate) speed: Vec<Row>,
    pub(crate) calls: Vec<Calls>,
    pub(crate) instructions: Vec<Instructions>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) skipped: Vec<Unmeasured>,
    pub(crate) failed: Vec<Unmeasured>,
}

impl Report {
    /// Prints the tables and writes everything.
    pub(crate) fn publish(&self, folder: &Path) -> Result<(), Box<dyn Error>> {
        let text = self.text();
        print!("{text}");
        fs::create_dir_all(folder)?;
        fs::write(folder.join("results.md"), text)?;
        fs::write(folder.join("results.json"), serde_json::to_string_pretty(self)?)?;
        println!("Written to {}: results.md, results.json", folder.display());
        // A bar is a ratio; without what it is to, there is none.
        if self.speed.iter().any(|row| table::reference(row).is_some()) {
            svg::save(folder.join("chart.svg"), &chart::draw(&self.speed))?;
            println!("and chart.svg");
        }
        Ok(())
    }

    fn text(&self) -> String {
        let mut parts = vec![format!("{}\n", self.machine)];
        parts.extend(self.speed.iter().map(table::speed));
        if !self.calls.is_empty() {
            parts.push(table::calls(&self.calls));
        }
        if !self.instructions.is_empty() {
            parts.push(table::instructions(&self.instructions));
        }
        if !self.memory.is_empty() {
            parts.push(table::memory(&self.memory));
        }
        parts.extend(self.skipped.iter().map(|one| format!("Skipped: {one}\n")));
        parts.extend(self.failed.iter().map(|one| format!("FAILED: {one}\n")));
        parts.join("\n")
    }
}

/// The same for the first builds.
pub(crate) fn publish_builds(builds: &[ColdBuild], folder: &Path) -> Result<(), Box<dyn Error>> {
    let text = format!("{}\n\n{}", Machine::this(), cold_build::tables(builds));
    print!("{text}");
    fs::create_dir_all(folder)?;
    fs::write(folder.join("builds.md"), text)?;
    fs::write(folder.join("builds.json"), serde_json::to_string_pretty(builds)?)?;
    println!("Written to {}: builds.md, builds.json", folder.display());
    Ok(())
}
