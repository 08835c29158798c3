//! The guide is true: its transcript is what its program prints, and its links lead somewhere. The
//! programs in its text are run as doc tests.

#![allow(clippy::unwrap_used, reason = "a failure is the test's message")]

use std::fs;
use std::path::{Path, PathBuf};

#[expect(dead_code, reason = "the program's `main`, for those who run it by itself")]
#[path = "../docs/programs/slow_reader.rs"]
mod slow_reader;

/// The page that shows the slow reader.
const PAGE: &str = "docs/a-slow-reader.md";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the code blocks of a page that are marked with `language`.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let opening = format!("```{language}\n");
    let after_openings = page.split(&opening).skip(1);
    after_openings.map(|rest| rest.split("```").next().unwrap().to_string()).collect()
}

// The transcript.

/// Returns whether a line of a trace is what a line of a transcript stands for.
fn line_matches(expected: &str, line: &str) -> bool {
    let (mut expected, mut words) = (expected.split(' '), line.split(' '));
    loop {
        match (expected.next(), words.next()) {
            (None, None) => return true,
            (Some(expected), Some(word)) if word_matches(expected, word) => {}
            _ => return false,
        }
    }
}

fn word_matches(expected: &str, word: &str) -> bool {
    let is_time = || {
        let digits = word.trim_end_matches(|letter: char| letter.is_alphabetic());
        digits != word && digits.parse::<f64>().is_ok()
    };
    match (expected.strip_suffix(','), word.strip_suffix(',')) {
        (Some(expected), Some(word)) => word_matches(expected, word),
        _ => match expected {
            "<n>" => word.parse::<u64>().is_ok(),
            "<t>" => is_time(),
            "<address>" => word.parse::<std::net::SocketAddr>().is_ok(),
            _ => expected == word,
        },
    }
}

/// Returns what `...` must not hide: a change of interest, and the end.
fn is_landmark(line: &str) -> bool {
    line.contains(" interest ") || line.contains(" closed")
}

/// Returns how many lines of the transcript the trace agrees with, in the best reading of its
/// `...`: all of them, if it is that transcript.
fn agreement(transcript: &[&str], trace: &[String]) -> Result<(), usize> {
    // Where in the trace the transcript read so far can end.
    let mut ends = vec![false; trace.len() + 1];
    ends[0] = true;
    for (number, expected) in transcript.iter().enumerate() {
        let mut next = vec![false; trace.len() + 1];
        for at in 0..=trace.len() {
            if *expected == "..." {
                let goes_on = at > 0 && next[at - 1] && !is_landmark(&trace[at - 1]);
                next[at] = ends[at] || goes_on;
            } else if at > 0 {
                next[at] = ends[at - 1] && line_matches(expected, &trace[at - 1]);
            }
        }
        if !next.contains(&true) {
            return Err(number);
        }
        ends = next;
    }
    if ends[trace.len()] { Ok(()) } else { Err(transcript.len()) }
}

fn assert_is_transcript(transcript: &str, trace: &[String]) {
    let lines: Vec<&str> = transcript.lines().collect();
    if let Err(number) = agreement(&lines, trace) {
        let expected = lines.get(number).copied().unwrap_or("the end");
        panic!("the trace has nothing for line {}: {expected}\n{}", number + 1, trace.join("\n"));
    }
}

/// Returns the trace with one switch to writable and one back. While the peer reads what has piled
/// up, its kernel may be full again for a moment, so that a run can have more of them; they
/// alternate.
fn with_one_switch(trace: Vec<String>) -> Vec<String> {
    let mut switches = 0;
    let only_first = trace.into_iter().filter(|line| {
        let expected = ["readable -> writable", "writable -> readable"][switches % 2];
        let is_switch = line.contains(" interest ") && !line.contains("none");
        assert!(!is_switch || line.ends_with(expected), "{line} where {expected} was due");
        switches += usize::from(is_switch);
        !is_switch || switches <= 2
    });
    let trace = only_first.collect();
    assert!(switches % 2 == 0, "it reads again at the end");
    trace
}

#[test]
fn slow_reader_runs_and_its_trace_is_the_transcript_of_the_page() {
    let trace: Vec<String> = slow_reader::run().unwrap().iter().map(ToString::to_string).collect();
    println!("{}", trace.join("\n"));
    let transcripts = blocks(&read(PAGE), "text");
    let transcript = transcripts.iter().find(|block| block.starts_with("l0.1 listens"));
    assert_is_transcript(transcript.expect("the page has a transcript"), &with_one_switch(trace));
}

#[test]
fn slow_reader_in_the_page_is_the_program_that_the_test_runs() {
    let program = read("docs/programs/slow_reader.rs");
    assert!(blocks(&read(PAGE), "rust").contains(&program), "{PAGE} shows another program");
}

#[test]
fn transcript_matches_what_it_stands_for_and_nothing_else() {
    let transcript = ["c0.1 filled <n>", "...", "c0.1 interest readable -> writable", "..."];
    let trace = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
    let agrees = |lines: &[&str]| agreement(&transcript, &trace(lines));
    assert_eq!(agrees(&["c0.1 filled 12", "c0.1 interest readable -> writable"]), Ok(()));
    let long =
        ["c0.1 filled 1", "c0.1 filled 2", "c0.1 interest readable -> writable", "c0.1 queued 2"];
    assert_eq!(agrees(&long), Ok(()));
    assert_eq!(agrees(&["c0.1 filled many", "c0.1 interest readable -> writable"]), Err(0));
    assert_eq!(agrees(&["c0.1 filled 12", "c0.1 interest readable -> none"]), Err(2));
    let switched_back = [
        "c0.1 filled 12",
        "c0.1 interest readable -> writable",
        "c0.1 interest writable -> readable",
    ];
    assert_eq!(agrees(&switched_back), Err(4));
    assert!(line_matches(
        "loop waited <t> at most, <n> ready",
        "loop waited 9.5µs at most, 0 ready"
    ));
    assert!(line_matches("flushed <n>, all is sent", "flushed 5, all is sent"));
    assert!(!line_matches("flushed <n>, all is sent", "flushed 5, 3 unsent"));
}

// The lesson.

/// The crate in `docs/draw` makes the run and its lesson, and its tests make them anew.
#[test]
fn lesson_of_the_page_is_that_of_the_recorded_run() {
    let lesson = read("docs/pictures/runs/slow-reader.txt");
    assert!(blocks(&read(PAGE), "text").contains(&lesson), "{PAGE} shows another lesson");
}

// The links.

/// The folders of the guide.
const GUIDE: [&str; 2] = ["docs", "docs/ja"];

/// Returns the pages at the top and in these folders, by their place in the repository.
fn pages(folders: &[&str]) -> Vec<String> {
    let at_the_top =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"];
    let mut pages: Vec<String> = at_the_top.map(String::from).to_vec();
    for folder in folders {
        // Some are not in a package.
        for entry in fs::read_dir(root().join(folder)).into_iter().flatten() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            if Path::new(&name).extension().is_some_and(|extension| extension == "md") {
                pages.push(format!("{folder}/{name}"));
            }
        }
    }
    pages
}

/// The folders that are separate crates, so that the package of this one lacks them.
const OTHER_CRATES: [&str; 10] = [
    "benches/",
    "docs/draw",
    "docs/exercises",
    "draw/",
    "examples/calloop_host",
    "examples/programs",
    "examples/tokio_host",
    "exercises/",
    "programs/",
    "tests/protocols",
];

/// Returns whether a file that a page names is missing for that reason: cargo keeps the original
/// manifest in a package.
fn is_not_packaged(path: &str) -> bool {
    let path = path.trim_start_matches("../");
    let is_package = root().join("Cargo.toml.orig").exists();
    is_package && OTHER_CRATES.iter().any(|other| path.starts_with(other))
}

/// Returns a page's lines outside its code blocks.
fn prose(page: &str) -> Vec<&str> {
    let mut in_code = false;
    page.lines()
        .filter(|line| {
            let is_fence = line.starts_with("```");
            in_code ^= is_fence;
            !in_code && !is_fence
        })
        .collect()
}

/// Returns the targets of the links `[words](target)` in a page.
fn links(page: &str) -> Vec<String> {
    let prose = prose(page).join("\n");
    let targets = prose.split("](").skip(1);
    targets.filter_map(|rest| Some(rest.split_once(')')?.0.to_string())).collect()
}

/// Returns the anchors of a page's headings, as the usual hosts of repositories make them.
fn anchors(page: &str) -> Vec<String> {
    let headings = prose(page).into_iter().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn relative_links_lead_to_files_and_headings_that_exist() {
    let mut broken = Vec::new();
    let mut count = 0;
    for name in pages(&[&GUIDE[..], &["docs/exercises", "benches", "tests"]].concat()) {
        let page = read(&name);
        for link in links(&page).into_iter().filter(|link| !link.contains("://")) {
            count += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let file = file.split('?').next().unwrap(); // without what the page is asked
            let target = match file {
                "" => root().join(&name),
                _ => root().join(&name).parent().unwrap().join(file),
            };
            let has_anchor = || {
                let text = fs::read_to_string(&target).unwrap_or_default();
                anchors(&text).contains(&anchor.to_string())
            };
            if is_not_packaged(file) {
                continue;
            }
            if !target.exists() || !anchor.is_empty() && !has_anchor() {
                broken.push(format!("{name}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
    assert!(count > 20, "only {count} links were found");
}

#[test]
fn links_and_anchors_are_found_in_prose_and_not_in_code() {
    let page = "# The *loop*, again\nsee [a](b.md#c) and\n[d](e)\n```rust\n# f\nx[1](2)\n```\n";
    assert_eq!(links(page), ["b.md#c", "e"]);
    assert_eq!(anchors(page), ["the-loop-again"]);
}

#[test]
fn files_of_source_and_tests_that_the_pages_name_exist() {
    let mut missing = Vec::new();
    for name in pages(&GUIDE) {
        let page = read(&name);
        let quoted = prose(&page).join("\n");
        for word in quoted.split('`').skip(1).step_by(2) {
            let is_path =
                ["src/", "tests/", "examples/", "docs/"].iter().any(|at| word.starts_with(at));
            if is_path && !root().join(word).exists() && !is_not_packaged(word) {
                missing.push(format!("{name}: {word}"));
            }
        }
    }
    assert!(missing.is_empty(), "files that are not there:\n{}", missing.join("\n"));
}

// The README.

#[test]
fn readme_has_the_command_of_each_example() {
    let readme = read("README.md");
    let mut count = 0;
    for entry in fs::read_dir(root().join("examples")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let command = match path.extension() {
            Some(_) => format!(" --example {name}` |"),
            None if path.join("main.rs").exists() => format!(" --example {name}` |"),
            None if path.join("Cargo.toml").exists() => {
                format!("--manifest-path examples/{name}/Cargo.toml")
            }
            None => continue, // what they share
        };
        assert!(readme.contains(&command), "no command for {name}");
        count += 1;
    }
    assert!(count > 10, "only {count} examples were found");
}

#[test]
fn dependencies_that_the_readme_names_are_those_of_the_manifest() {
    // A package holds the manifest twice: rewritten by cargo, and as it was.
    let packaged = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml.orig").exists();
    let manifest = read(if packaged { "Cargo.toml.orig" } else { "Cargo.toml" });
    let blocks = blocks(&read("README.md"), "toml");
    let lines: Vec<&str> = blocks[0].lines().filter(|line| line.contains(" = ")).collect();
    assert_eq!(lines[0], "readiness = { path = \"../readiness\" }");
    let logger = lines[1].split(" #").next().unwrap();
    let (name, version) = logger.split_once(" = ").unwrap();
    assert!(manifest.contains(&format!("\n{name} = {{ version = {version}, ")), "{logger}");
    assert_eq!(lines.len(), 2, "{lines:?}");
}
