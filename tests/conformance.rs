//! Keeps the pages about the tests true: each row of the list in `tests/CONFORMANCE.md` is there
//! once, each program has a test of each property there, and each test that is named exists; each
//! planted bug fits the source; each file that `.cargo/mutants.toml` and `tests/MUTANTS.md` name
//! exists.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The highest number of the list.
const LAST: u32 = 153;

/// Numbers that the list does not use.
const UNUSED: [u32; 11] = [10, 14, 48, 50, 51, 68, 69, 89, 94, 111, 115];

/// Returns the last cell of each row, by its number.
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

/// Returns the tests that a cell names: `file::test`, where a file without a folder is one of
/// `tests/`.
fn named(tests: &str) -> Vec<(String, &str)> {
    let words = tests.split([' ', ',', '`']).filter_map(|word| word.split_once("::"));
    let named = words.map(|(file, test)| match file.contains('/') {
        true => (file.to_owned(), test),
        false => (format!("tests/{file}"), test),
    });
    named.collect()
}

/// Returns what is wrong with a cell, if anything. `read` gives the text of a file.
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

/// Returns whether the file has this function, with the attribute of a test above it.
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

/// Returns what is wrong with the row of a program, if anything: its name, its files, and the tests
/// of each property. `read` gives the text of a file.
fn program_fault(row: &str, properties: usize, read: impl Fn(&str) -> String) -> Option<String> {
    let cells: Vec<Vec<&str>> = row.trim_matches('|').split('|').map(words).collect();
    let [_, files, tests @ ..] = &cells[..] else { return Some("has too few cells".into()) };
    if tests.len() != properties || tests.iter().any(Vec::is_empty) {
        return Some("does not name a test of each property".into());
    }
    let texts: Vec<String> = files.iter().map(|file| read(file)).collect();
    let is_there = |test: &&str| texts.iter().any(|text| has_test(text, test));
    let missing = tests.iter().flatten().find(|test| !is_there(test));
    missing.map(|test| format!("names {test}, which is in none of its files"))
}

fn words(cell: &str) -> Vec<&str> {
    cell.split([' ', ',', '`']).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_program_has_a_test_of_each_property() {
    const PROGRAMS: usize = 8;
    const PROPERTIES: usize = 7;
    let page = fs::read_to_string(root().join("tests/CONFORMANCE.md")).unwrap();
    let (_, table) = page.split_once("## The programs").unwrap();
    let rows: Vec<&str> = table.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), PROGRAMS);
    let read = |file: &str| fs::read_to_string(root().join(file)).unwrap();
    // A package leaves out the programs that are a crate of their own.
    let is_package = root().join("Cargo.toml.orig").exists();
    for row in rows.into_iter().filter(|row| !is_package || !row.contains("`examples/programs/")) {
        if let Some(fault) = program_fault(row, PROPERTIES, read) {
            panic!("the row of{} {fault}", row.split('|').nth(1).unwrap());
        }
    }
}

#[test]
fn rows_of_programs_and_their_faults_are_found() {
    let read = |file: &str| if file == "one.rs" { "#[test]\nfn is_there() {}" } else { "" };
    for (row, is_right) in [
        ("| `one` | `one.rs`, `two.rs` | `is_there` | `is_there` |", true),
        ("| `one` | `one.rs` | `is_there` | `is_there`, `is_not` |", false),
        ("| `one` | `two.rs` | `is_there` | `is_there` |", false),
        ("| `one` | `one.rs` | `is_there` | |", false),
        ("| `one` | `one.rs` | `is_there` |", false),
    ] {
        let fault = program_fault(row, 2, |file| read(file).to_owned());
        assert_eq!(fault.is_none(), is_right, "{row}: {fault:?}");
    }
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

/// Returns what a patch replaces in each file, hunk by hunk.
fn replaced(patch: &str) -> Vec<(&str, String)> {
    let mut hunks: Vec<(&str, String)> = Vec::new();
    let mut file = "";
    for line in patch.lines().skip_while(|line| !line.starts_with("--- ")) {
        if let Some(path) = line.strip_prefix("--- a/") {
            file = path;
        } else if line.starts_with("@@ ") {
            hunks.push((file, String::new()));
        } else if let Some((_, text)) = hunks.last_mut()
            && let Some(kept) = line.strip_prefix([' ', '-'])
        {
            text.push_str(kept);
            text.push('\n');
        }
    }
    hunks
}

/// `.ci/planted` proves that each is noticed. But that takes long, and until then a change of the
/// source could leave them behind.
#[test]
fn every_planted_bug_fits_the_source_and_says_what_it_is() {
    let mut count = 0;
    for entry in fs::read_dir(root().join("tests/planted")).unwrap() {
        let path = entry.unwrap().path();
        let patch = fs::read_to_string(&path).unwrap();
        let begins = patch.lines().next().is_some_and(|line| line.ends_with('.'));
        assert!(begins, "{} begins with no sentence", path.display());
        let hunks = replaced(&patch);
        assert!(!hunks.is_empty(), "{} changes nothing", path.display());
        for (file, text) in hunks {
            let source = fs::read_to_string(root().join(file)).unwrap_or_default();
            let times = source.matches(&text).count();
            assert!(times > 0, "{} replaces what is not in {file}:\n{text}", path.display());
        }
        count += 1;
    }
    assert!(count >= 50, "{count} planted bugs");
}

#[test]
fn what_patches_replace_is_found() {
    let patch = "A bug.\n\n--- a/src/a.rs\n+++ b/src/a.rs\n@@ -1,2 +1,2 @@ fn a() {\n one\n-two\n\
                 +three\n@@ -9 +9 @@\n-four\n--- a/src/b.rs\n+++ b/src/b.rs\n@@ -1 +1 @@\n-five\n";
    let expected = [("src/a.rs", "one\ntwo\n"), ("src/a.rs", "four\n"), ("src/b.rs", "five\n")];
    assert_eq!(replaced(patch), expected.map(|(file, text)| (file, text.to_owned())));
}

/// A package has no `.cargo`.
#[test]
fn every_file_whose_changes_are_tried_exists() {
    let settings = fs::read_to_string(root().join(".cargo/mutants.toml")).unwrap_or_default();
    let changed = settings.lines().filter_map(|line| line.trim().strip_prefix("\"src/"));
    let changed = changed.filter_map(|line| line.strip_suffix("\","));
    let unnoticed = fs::read_to_string(root().join("tests/MUTANTS.md")).unwrap();
    let unnoticed = unnoticed.lines().filter_map(|line| line.strip_prefix("- `src/"));
    let unnoticed = unnoticed.filter_map(|line| Some(line.split_once(": ")?.0));
    for file in changed.chain(unnoticed) {
        assert!(root().join("src").join(file).is_file(), "src/{file} does not exist");
    }
}
