//! Keeps `tests/CONFORMANCE.md` true: each row of the list is there once, and each test that it
//! names exists.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The highest number of the list.
const LAST: u32 = 119;

/// Numbers that the list does not use.
const UNUSED: [u32; 11] = [10, 14, 48, 50, 51, 68, 69, 89, 94, 111, 115];

/// The last cell of each row, by its number.
fn rows(table: &str) -> Vec<(u32, &str)> {
    let cells = table.lines().filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    let rows = cells.filter_map(|cells| {
        let (number, rest) = cells.split_once('|')?;
        let (_, tests) = rest.rsplit_once('|')?;
        Some((number.trim().parse().ok()?, tests.trim()))
    });
    rows.collect()
}

/// How a cell begins that names no test; what follows is the reason.
const WITHOUT_A_TEST: [&str; 3] = ["later", "not on real sockets", "does not apply"];

/// The tests that a cell names: `file::test`, where a file without a folder is one of `tests/`.
fn named(tests: &str) -> Vec<(String, &str)> {
    let words = tests.split([' ', ',', '`']).filter_map(|word| word.split_once("::"));
    let named = words.map(|(file, test)| match file.contains('/') {
        true => (file.to_owned(), test),
        false => (format!("tests/{file}"), test),
    });
    named.collect()
}

/// What is wrong with a cell, if anything. `read` gives the text of a file.
fn fault(tests: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    if let Some(why) = WITHOUT_A_TEST.iter().find_map(|begin| tests.strip_prefix(begin)) {
        let has_reason = why.contains(char::is_alphabetic);
        return (!has_reason).then(|| "does not say why it has no test".to_owned());
    }
    let named = named(tests);
    if named.is_empty() {
        return Some(format!("names no test: {tests:?}"));
    }
    let missing = named.into_iter().find(|(file, test)| {
        let text = read(file).unwrap_or_default();
        !has_test(&text, test)
    });
    missing.map(|(file, test)| format!("{file} has no test {test}"))
}

/// Whether the file has this function, with the attribute of a test above it.
fn has_test(text: &str, test: &str) -> bool {
    let declaration = format!("fn {test}(");
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            is_test = true;
        } else if line.starts_with(&declaration) {
            return is_test;
        } else if !line.starts_with("#[") {
            is_test = false;
        }
    }
    false
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_row_of_the_list_is_in_the_table_once() {
    let table = fs::read_to_string(root().join("tests/CONFORMANCE.md")).unwrap();
    let mut missing: BTreeMap<u32, ()> =
        (1..=LAST).filter(|number| !UNUSED.contains(number)).map(|number| (number, ())).collect();
    for (number, _) in rows(&table) {
        assert!(missing.remove(&number).is_some(), "row {number} is there twice or in no list");
    }
    assert!(missing.is_empty(), "rows are missing: {:?}", missing.into_keys().collect::<Vec<_>>());
}

#[test]
fn every_test_that_the_table_names_exists() {
    let table = fs::read_to_string(root().join("tests/CONFORMANCE.md")).unwrap();
    let read = |file: &str| fs::read_to_string(root().join(file)).ok();
    let faults: Vec<String> = rows(&table)
        .into_iter()
        .filter_map(|(number, tests)| Some(format!("row {number} {}", fault(tests, read)?)))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn rows_and_their_faults_are_found() {
    let table = "\
        # Rows\n| # | behaviour | test |\n|---|---|---|\n\
        | 1 | there | `tests/one.rs::is_there` |\n\
        | 2 | not a test | `tests/one.rs::is_there`, `tests/one.rs::helper` |\n\
        | 3 | not there | `tests/two.rs::is_there` |\n\
        | 4 | postponed | later: with the next release |\n\
        | 5 | no reason | later: |\n\
        | 6 | nothing |  |\n\
        | 7 | by the file alone | one.rs::is_there, one.rs::is_there_on_unix |\n\
        | 8 | by the file alone, not there | one.rs::is_there, one.rs::is_not_there |\n";
    let text = "#[test]\nfn is_there() {}\n\nfn helper() {}\n\
                #[test]\n#[cfg(unix)]\nfn is_there_on_unix() {}\n";
    let read = |file: &str| (file == "tests/one.rs").then(|| text.to_owned());
    let faults: Vec<(u32, Option<String>)> =
        rows(table).into_iter().map(|(number, tests)| (number, fault(tests, read))).collect();
    let is_faulty: Vec<(u32, bool)> =
        faults.iter().map(|(number, fault)| (*number, fault.is_some())).collect();
    assert_eq!(
        is_faulty,
        [(1, false), (2, true), (3, true), (4, false), (5, true), (6, true), (7, false), (8, true)],
        "{faults:?}"
    );
    assert!(has_test(text, "is_there_on_unix"));
    assert!(!has_test(text, "is"));
}
