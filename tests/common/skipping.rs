//! Tests that a machine cannot run, or only in part.
//!
//! The test harness has no word for a test that finds this out while it runs: it lists it as
//! passed. So such a test says what is missing on standard error, past the harness, and leaves a
//! note. `tests/zz_skipped.rs`, which cargo runs last, counts the notes. A test that runs in full
//! takes back the note that an earlier run of it has left.

use std::fs;
use std::io::{Write, stderr};
use std::path::{Path, PathBuf};

/// The name of the enclosing function, with the test file that it is in.
#[macro_export]
macro_rules! test_name {
    () => {{
        fn here() {}
        let name = std::any::type_name_of_val(&here);
        name.trim_end_matches("::here").trim_end_matches("::{{closure}}")
    }};
}

/// Ends the test, as skipped, where something that it needs is missing.
#[macro_export]
macro_rules! skip_unless {
    ($is_there:expr, $missing:expr) => {
        if !$crate::common::skipping::can_run($crate::test_name!(), $is_there, $missing) {
            return;
        }
    };
}

/// Returns whether a test can run. If not, says so and leaves a note.
pub fn can_run(test: &str, is_there: bool, missing: &str) -> bool {
    note("skipped", test, (!is_there).then_some(missing));
    is_there
}

/// Says so and leaves a note where a test does less than it is for.
pub fn runs_in_part(test: &str, what: Option<String>) {
    note("in part", test, what.as_deref());
}

fn note(kind: &str, test: &str, why: Option<&str>) {
    // A file system may not take the colons.
    let path = folder().join(format!("{kind} {}", test.replace("::", " ")));
    let Some(why) = why else {
        let _ = fs::remove_file(path);
        return;
    };
    let line = format!("{kind}: {test}: {why}");
    let _ = writeln!(stderr(), "{line}");
    fs::create_dir_all(folder()).unwrap();
    fs::write(path, line).unwrap();
}

/// Returns all notes, one line each, in the order of their kinds and names.
pub fn notes() -> Vec<String> {
    let files = fs::read_dir(folder()).into_iter().flatten();
    let mut lines: Vec<String> =
        files.map(|file| fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    lines.sort();
    lines
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped")
}
