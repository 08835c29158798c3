//! The quiz is true: the changes that it shows are planted bugs, which the tests catch, and the
//! promises that its answers name are the README's.
//!
//! `READINESS_WRITE=1 cargo test --test quiz` shows the patches anew after they have changed.

#![allow(clippy::unwrap_used, reason = "a failure is the test's message")]

use std::fs;
use std::path::PathBuf;

const PAGE: &str = "docs/quiz.md";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Returns what the quiz shows of a patch: its files and lines, without the numbers, which would
/// change with every line above them.
fn shown(patch: &str) -> String {
    let lines = patch.lines().skip_while(|line| !line.starts_with("--- "));
    let lines = lines.filter(|line| !line.starts_with("@@") && !line.starts_with("+++ "));
    lines.map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Returns the part of `text` between two marks.
fn between<'t>(text: &'t str, opening: &str, closing: &str) -> &'t str {
    let (_, rest) = text.split_once(opening).unwrap_or_else(|| panic!("no {opening:?} in {text}"));
    rest.split_once(closing).unwrap_or_else(|| panic!("no {closing:?} after {opening:?}")).0
}

/// Returns each question with its answer.
fn questions(page: &str) -> Vec<&str> {
    page.split("\n## ").filter(|part| part.contains("```diff")).collect()
}

#[test]
fn changes_of_the_quiz_are_planted_bugs() {
    let page = read(PAGE);
    let mut written = page.clone();
    for question in questions(&page) {
        let (diff, answer) =
            (between(question, "```diff\n", "```"), between(question, "<details>", "</details>"));
        let patch = format!("tests/planted/{}.patch", between(answer, "Planted as `", "`"));
        let shown = shown(&read(&patch));
        assert!(shown.lines().count() > 4, "{patch} shows nothing");
        if std::env::var_os("READINESS_WRITE").is_some() {
            written = written.replace(diff, &shown);
        } else {
            assert_eq!(diff, shown, "{patch}");
        }
    }
    if written != page {
        fs::write(path(PAGE), written).unwrap();
    }
}

#[test]
fn promises_that_the_answers_name_are_those_of_the_readme() {
    let (page, readme) = (read(PAGE), read("README.md"));
    let questions = questions(&page);
    assert_eq!(questions.len(), 10);
    for (place, question) in questions.iter().enumerate() {
        assert!(question.starts_with(&format!("{}. ", place + 1)), "{question}");
        let number = between(between(question, "<details>", "</details>"), "**Promise ", ".**");
        let promise = between(between(question, "<details>", "</details>"), "> ", "\n");
        let row = format!("\n| {number} | ");
        assert!(between(&readme, &row, " |").contains(promise), "{number}: {promise}");
    }
}
