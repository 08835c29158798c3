//! The conditions of the measurement, which are shown above every result.

use std::fmt;

use serde::Serialize;

use crate::machine::Machine;
use crate::speed::Pace;

/// What is added to the title of each table of a quick run.
pub(crate) const NO_MEASUREMENT: &str = "quick run: no measurement";

#[derive(Serialize)]
pub(crate) struct Conditions {
    pub(crate) machine: Machine,
    pub(crate) pace: Pace,
    /// Whether it only shows that everything runs.
    pub(crate) quick: bool,
    /// More connections than this there were nowhere.
    pub(crate) connections_max: usize,
}

impl Conditions {
    /// Returns what must not be overlooked, if there is such a thing.
    pub(crate) fn warning(&self) -> Option<&'static str> {
        self.quick.then_some(
            "QUICK RUN, NO MEASUREMENT: it shows that everything runs; its figures mean nothing",
        )
    }

    /// Returns the numbers that were used.
    pub(crate) fn numbers(&self) -> String {
        let Self { pace, connections_max, .. } = self;
        match self.quick {
            true => format!("{pace}, with at most {connections_max} connections"),
            false => pace.to_string(),
        }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(warning) = self.warning() {
            writeln!(f, "{warning}")?;
        }
        writeln!(f, "{}", self.machine)?;
        writeln!(f, "{}", self.numbers())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Conditions of a test's own.
    pub(crate) fn conditions(quick: bool) -> Conditions {
        let pace = Pace { rounds: if quick { 1 } else { 5 }, warm_up: 150, window: 500 };
        Conditions { machine: Machine::of_test(), pace, quick, connections_max: 500 }
    }

    #[test]
    fn heading_names_the_machine_the_date_and_the_numbers_that_were_used() {
        let heading = conditions(false).to_string();
        let lines: Vec<&str> = heading.lines().collect();
        let machine = "R&D <1>, 2 cores used, Linux 6.18, 3 % busy before, 2026-11-28 05:06 UTC";
        assert_eq!(lines, [machine, "5 rounds of 500 ms, each after 150 ms of warm-up"]);
    }

    #[test]
    fn heading_of_a_quick_run_says_first_that_it_is_no_measurement() {
        let heading = conditions(true).to_string();
        assert!(heading.starts_with("QUICK RUN, NO MEASUREMENT"), "{heading}");
        let numbers = "1 round of 500 ms after 150 ms of warm-up, with at most 500 connections\n";
        assert!(heading.ends_with(numbers), "{heading}");
    }
}
