//! All results together: as text, as data, and as a picture, in one folder.

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use crate::builder::Unmeasured;
use crate::calls::Calls;
use crate::cold_build::ColdBuild;
use crate::conditions::{Conditions, NO_MEASUREMENT};
use crate::instructions::Instructions;
use crate::machine::Machine;
use crate::memory::Memory;
use crate::speed::Row;
use crate::{chart, cold_build, table};

#[derive(Serialize)]
pub(crate) struct Report {
    #[serde(flatten)]
    pub(crate) conditions: Conditions,
    pub(crate) speed: Vec<Row>,
    pub(crate) calls: Vec<Calls>,
    pub(crate) instructions: Vec<Instructions>,
    pub(crate) memory: Vec<Memory>,
    pub(crate) skipped: Vec<Unmeasured>,
    pub(crate) failed: Vec<Unmeasured>,
}

impl Report {
    /// Writes everything and prints the tables. First it writes: what was measured for minutes is
    /// not to be lost where the output is not read.
    pub(crate) fn publish(&self, folder: &Path) -> Result<(), Box<dyn Error>> {
        let text = self.text();
        fs::create_dir_all(folder)?;
        fs::write(folder.join("results.md"), &text)?;
        fs::write(folder.join("results.json"), serde_json::to_string_pretty(self)?)?;
        let mut written = format!("Written to {}: results.md, results.json", folder.display());
        // A bar is a ratio; without what it is to, there is none.
        if self.speed.iter().any(|row| table::reference(row).is_some()) {
            svg::save(folder.join("chart.svg"), &chart::draw(&self.speed, &self.conditions))?;
            written += ", chart.svg";
        }
        Ok(writeln!(io::stdout(), "{text}{written}")?)
    }

    fn text(&self) -> String {
        let mut tables: Vec<String> = self.speed.iter().map(table::speed).collect();
        if !self.calls.is_empty() {
            tables.push(table::calls(&self.calls));
        }
        if !self.instructions.is_empty() {
            tables.push(table::instructions(&self.instructions));
        }
        if !self.memory.is_empty() {
            tables.push(table::memory(&self.memory));
        }
        let mut parts = vec![self.conditions.to_string()];
        parts.extend(tables.into_iter().map(|table| self.titled(table)));
        parts.extend(self.skipped.iter().map(|one| format!("Skipped: {one}\n")));
        parts.extend(self.failed.iter().map(|one| format!("FAILED: {one}\n")));
        parts.join("\n")
    }

    /// Returns a table whose title shows that it is of a quick run: it may be copied alone.
    fn titled(&self, table: String) -> String {
        match table.split_once('\n') {
            Some((title, rest)) if self.conditions.quick => {
                format!("{title} ({NO_MEASUREMENT})\n{rest}")
            }
            _ => table,
        }
    }
}

/// Writes and prints the tables of the first builds.
pub(crate) fn publish_builds(builds: &[ColdBuild], folder: &Path) -> Result<(), Box<dyn Error>> {
    let text = format!("{}\n\n{}", Machine::this(), cold_build::tables(builds));
    fs::create_dir_all(folder)?;
    fs::write(folder.join("builds.md"), &text)?;
    fs::write(folder.join("builds.json"), serde_json::to_string_pretty(builds)?)?;
    let written = format!("Written to {}: builds.md, builds.json", folder.display());
    Ok(writeln!(io::stdout(), "{text}{written}")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::tests::rows;
    use crate::conditions::tests::conditions;

    fn report(quick: bool) -> Report {
        let memory = vec![Memory {
            server: "c-epoll".to_owned(),
            connections: 500,
            fresh: 1.0,
            after_use: 1.0,
            all_closed: 1.0,
            stalled: None,
        }];
        Report {
            conditions: conditions(quick),
            speed: rows(),
            calls: Vec::new(),
            instructions: Vec::new(),
            memory,
            skipped: Vec::new(),
            failed: Vec::new(),
        }
    }

    #[test]
    fn each_table_of_a_quick_run_says_that_it_is_no_measurement() {
        let text = report(true).text();
        assert!(text.starts_with("QUICK RUN, NO MEASUREMENT"), "{text}");
        let titles: Vec<&str> =
            text.lines().filter(|line| line.ends_with(NO_MEASUREMENT_END)).collect();
        assert_eq!(titles.len(), rows().len() + 1, "{text}");
        assert!(titles[0].starts_with("ping-50: as ping-1, 50 connections"), "{titles:?}");
        let measured = report(false).text();
        assert!(!measured.to_lowercase().contains("no measurement"), "{measured}");
    }

    const NO_MEASUREMENT_END: &str = " (quick run: no measurement)";

    #[test]
    fn what_is_written_for_programs_says_so_too() {
        let value = serde_json::to_value(report(true)).unwrap();
        assert_eq!(value["quick"], true);
        assert_eq!(value["pace"]["window"], 500);
        assert_eq!(value["machine"]["date"], "2026-11-28 05:06 UTC");
    }
}
