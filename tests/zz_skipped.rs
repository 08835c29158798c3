//! Counts the tests that this machine could not run, or only in part. Cargo runs the files of tests
//! in the order of their names, and so this one last.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{Write, stderr};

/// The most notes that may be there, where all is to run: 0, say. Unset there is no such bound.
const VARIABLE: &str = "READINESS_SKIPPED_MAX";

#[test]
fn tests_that_were_skipped_or_ran_in_part_are_counted() {
    let notes = common::skipping::notes();
    let skipped = notes.iter().filter(|note| note.starts_with("skipped: ")).count();
    let in_part = notes.len() - skipped;
    let mut stderr = stderr();
    writeln!(stderr, "\nTests skipped here: {skipped}; run in part: {in_part}").unwrap();
    for note in &notes {
        writeln!(stderr, "    {note}").unwrap();
    }
    if let Ok(most) = std::env::var(VARIABLE) {
        let most: usize = most.parse().unwrap_or_else(|_| panic!("{VARIABLE} is a number"));
        assert!(notes.len() <= most, "more than {VARIABLE}={most}: {notes:#?}");
    }
}
