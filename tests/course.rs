//! The course is true: its programs are the files that are built, the differences that it shows
//! lead from one of them to the next, and its terminal sessions are what the tools print.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[cfg(target_os = "linux")]
#[path = "common/session.rs"]
mod session;

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Returns the names of the files with this extension in a folder, in order.
fn files(folder: &str, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(root().join(folder)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| Path::new(name).extension().is_some_and(|e| e == extension)).collect();
    names.sort();
    names
}

/// Returns the chapters of Part I.
fn chapters() -> Vec<String> {
    let pages = files("docs", "md").into_iter();
    let number = |page: &String| page[..2].parse::<u8>();
    let chapters: Vec<String> =
        pages.filter(|page| number(page).is_ok_and(|number| number <= 15)).collect();
    assert_eq!(chapters.len(), 15, "{chapters:?}");
    chapters
}

fn chapter(name: &str) -> String {
    read(&format!("docs/{name}"))
}

/// Returns the code blocks of a page whose fence says just this.
fn blocks(page: &str, fence: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut open: Option<(bool, String)> = None;
    for line in page.lines() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(mark)) => open = Some((mark == fence, String::new())),
            (None, None) => {}
            (Some(_), Some(_)) => {
                let (is_asked_for, block) = open.take().unwrap();
                blocks.extend(is_asked_for.then_some(block));
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
        }
    }
    assert!(open.is_none(), "a block does not end");
    blocks
}

// The programs.

/// Returns what the hunks of a difference make of a file. Each hunk begins with a line `@@`.
fn patched(file: &str, hunks: &str) -> String {
    let lines: Vec<&str> = file.lines().collect();
    let mut result: Vec<&str> = Vec::new();
    let mut at = 0;
    for hunk in hunks.split("@@\n").skip(1) {
        let side = |without: char| -> Vec<&str> {
            let lines = hunk.lines().filter(|line| !line.starts_with(without));
            lines.map(|line| line.get(1..).unwrap_or_default()).collect()
        };
        let (old, new) = (side('+'), side('-'));
        let found = (at..=lines.len().saturating_sub(old.len()))
            .find(|start| lines[*start..start + old.len()] == old[..]);
        let found = found.unwrap_or_else(|| panic!("the file has nothing for:\n{hunk}"));
        result.extend(&lines[at..found]);
        result.extend(new);
        at = found + old.len();
    }
    result.extend(&lines[at..]);
    result.iter().map(|line| format!("{line}\n")).collect()
}

/// Returns the differences of a page: the file before, the file after, and all their hunks.
fn differences(page: &str) -> Vec<(String, String, String)> {
    let mut differences: Vec<(String, String, String)> = Vec::new();
    for block in blocks(page, "diff") {
        match block.strip_prefix("--- ") {
            Some(rest) => {
                let (before, rest) = rest.split_once("\n+++ ").expect("two files are named");
                let (after, hunks) = rest.split_once('\n').unwrap();
                differences.push((before.to_owned(), after.to_owned(), hunks.to_owned()));
            }
            // It goes on from the block before.
            None => differences.last_mut().expect("files are named").2.push_str(&block),
        }
    }
    differences
}

#[test]
fn differences_in_the_pages_lead_from_each_program_to_the_next() {
    let mut reached = Vec::new();
    for name in chapters() {
        let page = chapter(&name);
        for (before, after, hunks) in differences(&page) {
            let result = patched(&read(&format!("docs/programs/{before}")), &hunks);
            let expected = read(&format!("docs/programs/{after}"));
            assert!(result == expected, "{name}: {before} does not become {after}:\n{result}");
            reached.push(after);
        }
        // The programs that are shown whole.
        reached.extend(files("docs/programs", "rs").into_iter().filter(|file| {
            let program = read(&format!("docs/programs/{file}"));
            ["rust,no_run", "rust,ignore"]
                .iter()
                .any(|fence| blocks(&page, fence).contains(&program))
        }));
    }
    for file in files("docs/programs", "rs") {
        let is_elsewhere = ["slow_reader.rs", "tiny_loop.rs"].contains(&file.as_str());
        assert!(is_elsewhere || reached.contains(&file), "no chapter leads to {file}");
    }
}

#[test]
fn code_that_is_not_run_from_the_pages_is_a_quote_of_a_program() {
    let programs: Vec<String> = [files("docs/programs", "rs"), files("docs/programs", "py")]
        .concat()
        .iter()
        .map(|file| read(&format!("docs/programs/{file}")))
        .collect();
    let mut count = 0;
    for name in chapters() {
        let page = chapter(&name);
        for fence in ["rust,no_run", "rust,ignore", "python"] {
            for quote in blocks(&page, fence) {
                let is_quote = programs.iter().any(|program| program.contains(&quote));
                assert!(is_quote, "{name}: no program has\n{quote}");
                count += 1;
            }
        }
        for block in blocks(&page, "rust") {
            assert!(!block.lines().any(|line| line.trim_start().starts_with("# ")), "{name}");
        }
        let fences = page.lines().filter_map(|line| line.strip_prefix("```"));
        let known = ["", "rust", "rust,no_run", "rust,ignore", "diff", "console", "text", "python"];
        for fence in fences {
            assert!(known.contains(&fence), "{name}: {fence}");
        }
    }
    assert!(count >= 4, "only {count} quotes were found");
}

#[test]
fn patch_that_does_not_fit_is_refused_and_one_that_fits_is_applied() {
    let hunks = "@@\n a\n-b\n+B\n@@\n d\n+e\n";
    assert_eq!(patched("a\nb\nc\nd\n", hunks), "a\nB\nc\nd\ne\n");
    assert!(std::panic::catch_unwind(|| patched("a\nc\nd\n", hunks)).is_err());
    assert_eq!(patched("x\n\ny\n", "@@\n x\n \n-y\n"), "x\n\n");
}

#[test]
fn tiny_loop_fits_into_250_lines() {
    assert!(read("docs/programs/tiny_loop.rs").lines().count() <= 250);
}

// The form of a chapter.

/// Returns a page's lines outside its code blocks.
fn prose(page: &str) -> String {
    let mut in_code = false;
    let lines = page.lines().filter(|line| {
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    });
    lines.map(|line| format!("{line}\n")).collect()
}

/// Returns the chapters that a page of contents lists, in order: the title and the file of each
/// line `1. [title](file)`.
fn listed(contents: &str) -> Vec<(&str, &str)> {
    let entries = contents.lines().filter_map(|line| {
        let (number, entry) = line.split_once(". [")?;
        number.parse::<u8>().ok()?;
        entry.split_once(')')?.0.split_once("](")
    });
    entries.collect()
}

/// Returns what is wrong with the length of a chapter.
fn complaint_about_length(page: &str) -> Option<String> {
    let words = prose(page).split_whitespace().count();
    (!(600..=1200).contains(&words)).then(|| format!("{words} words"))
}

/// Returns what a chapter of Part I lacks. The last one shows its program whole, where the others
/// have a difference, and what it cannot do is what the crate adds.
fn complaints_about_parts(page: &str, is_last: bool) -> Vec<String> {
    let mut complaints = Vec::new();
    let prose = prose(page);
    let headings: Vec<&str> = prose.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let place = |start: &str| headings.iter().position(|heading| heading.starts_with(start));
    let change = if is_last { "Read it" } else { "The change" };
    if !matches!((place("See it"), place(change)), (Some(seen), Some(mended)) if seen < mended) {
        complaints.push("no failure before its change".to_owned());
    }
    if !is_last && blocks(page, "diff").is_empty() {
        complaints.push("no difference to the program before".to_owned());
    }
    if place("What it still cannot do").is_none() {
        complaints.push("nothing that it still cannot do".to_owned());
    }
    let exercises = prose.split_once("\n## Exercises\n").map(|(_, exercises)| exercises);
    let (exercises, answers) =
        exercises.and_then(|all| all.split_once("\n<details>")).unwrap_or_default();
    for (what, list) in [("exercises", exercises), ("answers", answers)] {
        let numbers = (1..=4).filter(|n| list.contains(&format!("\n{n}. "))).count();
        if numbers != 3 {
            complaints.push(format!("{numbers} {what}"));
        }
    }
    complaints
}

#[test]
fn each_chapter_has_its_length() {
    let contents = chapter("README.md");
    let chapters = listed(&contents);
    assert_eq!(chapters.len(), 26, "{chapters:?}");
    let complaints: Vec<String> = chapters
        .iter()
        .filter_map(|(_, file)| {
            Some(format!("{file}: {}", complaint_about_length(&chapter(file))?))
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn each_chapter_of_the_first_part_has_a_failure_a_change_and_three_exercises_with_answers() {
    let mut complaints = Vec::new();
    for name in chapters() {
        let lacks = complaints_about_parts(&chapter(&name), name.starts_with("15"));
        complaints.extend(lacks.iter().map(|what| format!("{name}: {what}")));
    }
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn each_chapter_ends_with_links_to_its_neighbours() {
    let contents = chapter("README.md");
    let chapters = listed(&contents);
    for (number, (_, file)) in chapters.iter().enumerate() {
        let link = |word: &str, to: Option<&(&str, &str)>| {
            to.map(|(title, file)| format!("{word}: [{title}]({file})"))
        };
        let before = link("before", number.checked_sub(1).map(|before| &chapters[before]));
        let next = link("next", chapters.get(number + 1));
        let expected: Vec<String> = [before, next].into_iter().flatten().collect();
        let page = chapter(file);
        assert_eq!(page.lines().last(), Some(expected.join(" · ").as_str()), "{file}");
        assert!(page.contains("\n\n[Contents](README.md)\n\n"), "{file}");
    }
}

#[test]
fn each_translation_ends_with_links_to_its_neighbours() {
    let (contents, originals) = (read("docs/ja/README.md"), chapter("README.md"));
    let (chapters, originals) = (listed(&contents), listed(&originals));
    for (number, (_, file)) in chapters.iter().enumerate() {
        assert_eq!(*file, originals[number].1);
        let before = number.checked_sub(1).map(|before| chapters[before]);
        let before = before.map(|(title, file)| format!("前：[{title}]({file})"));
        let next = match chapters.get(number + 1) {
            Some((title, file)) => format!("次：[{title}]({file})"),
            None => {
                let (title, file) = originals[number + 1];
                format!("次：[{title}](../{file})（英語）")
            }
        };
        let expected: Vec<String> = before.into_iter().chain([next]).collect();
        let page = read(&format!("docs/ja/{file}"));
        assert_eq!(page.lines().last(), Some(expected.join(" · ").as_str()), "{file}");
        let top = format!("\n\n[目次](README.md) · [English](../{file})\n\n");
        assert!(page.contains(&top), "{file}");
    }
}

#[test]
fn chapter_that_lacks_something_is_found() {
    let whole = "# 1. A\n\n## See it fail\n\n## The change\n\n```diff\n--- a\n+++ b\n```\n\n\
        ## What it still cannot do\n\n## Exercises\n\n1. a\n2. b\n3. c\n\n\
        <details>\n\n1. A\n2. B\n3. C\n\n</details>\n";
    assert_eq!(complaints_about_parts(whole, false), [""; 0]);
    for (part, complaint) in [
        ("See it fail", "no failure before its change"),
        ("The change", "no failure before its change"),
        ("```diff\n--- a\n+++ b\n```\n", "no difference to the program before"),
        ("What it still cannot do", "nothing that it still cannot do"),
        ("3. c\n", "2 exercises"),
        ("3. C\n", "2 answers"),
    ] {
        assert_eq!(complaints_about_parts(&whole.replace(part, ""), false), [complaint], "{part}");
    }
    let late = whole.replace("See it fail", "x").replace("The change", "y");
    let late = late.replace("## y", "## The change\n## See it fail");
    assert_eq!(complaints_about_parts(&late, false), ["no failure before its change"]);

    let of_length = |words: usize| format!("```text\n{0}```\n{0}", "word\n".repeat(words));
    let complaints = [599, 600, 1200, 1201].map(|words| complaint_about_length(&of_length(words)));
    assert_eq!(complaints, [Some("599 words".into()), None, None, Some("1201 words".into())]);
    assert_eq!(
        listed("1. [A](a.md): x (y)\n- [B](b.md)\n12. [C](c.md)\n"),
        [("A", "a.md"), ("C", "c.md")]
    );
}

#[test]
fn each_chapter_has_a_session_or_a_program_that_is_run() {
    for name in chapters() {
        let page = chapter(&name);
        let shown = blocks(&page, "console").len() + blocks(&page, "rust").len();
        assert!(shown > 0, "{name} shows nothing");
    }
}

// The translations.

/// Returns a page's code, of all kinds, with the marks of its fences.
fn all_code(page: &str) -> Vec<&str> {
    let mut in_code = false;
    let is_code = |line: &&str| {
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        in_code || is_fence
    };
    page.lines().filter(is_code).collect()
}

/// Returns a number that a page changes with (FNV-1a).
fn hash(page: &str) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    page.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

/// A translation that lags behind is no failure: it says so, and is counted.
#[test]
fn translations_have_the_code_of_their_originals_and_say_if_they_lag_behind() {
    let mut lagging = Vec::new();
    let names: Vec<String> =
        files("docs/ja", "md").into_iter().filter(|name| name != "README.md").collect();
    for name in &names {
        let (original, page) = (chapter(name), read(&format!("docs/ja/{name}")));
        assert_eq!(all_code(&page), all_code(&original), "{name}");
        let (now, front) = (hash(&original), page.lines().next().unwrap());
        let expected = format!("a translation of docs/{name}, which had the hash ");
        assert!(front.to_lowercase().contains(&expected), "{name}: {front}");
        if !front.contains(&format!("{now:016x}")) {
            lagging.push(format!("docs/ja/{name} (its original has the hash {now:016x} now)"));
        }
    }
    assert!(names.len() >= 4, "{names:?}");
    let what = format!("translations lag behind: {}", lagging.join(", "));
    common::skipping::runs_in_part(test_name!(), (!lagging.is_empty()).then_some(what));
}

// The sessions.

macro_rules! sessions {
    ($($test:ident $page:literal)*) => {
        $(
            #[test]
            fn $test() {
                run_sessions($crate::test_name!(), $page);
            }
        )*
        const SESSIONS: &[&str] = &[$($page),*];
    };
}

sessions! {
    sessions_of_chapter_01 "01"
    sessions_of_chapter_02 "02"
    sessions_of_chapter_03 "03"
    sessions_of_chapter_04 "04"
    sessions_of_chapter_05 "05"
    sessions_of_chapter_06 "06"
    sessions_of_chapter_07 "07"
    sessions_of_chapter_08 "08"
    sessions_of_chapter_09 "09"
    sessions_of_chapter_10 "10"
    sessions_of_chapter_11 "11"
    sessions_of_chapter_12 "12"
    sessions_of_chapter_13 "13"
    sessions_of_chapter_14 "14"
    sessions_of_chapter_15 "15"
}

#[test]
fn sessions_of_every_chapter_have_a_test() {
    for name in chapters() {
        assert!(SESSIONS.contains(&&name[..2]), "{name}");
    }
}

#[cfg(target_os = "linux")]
fn run_sessions(test: &str, number: &str) {
    let name = chapters().into_iter().find(|name| name.starts_with(number)).unwrap();
    let blocks = blocks(&chapter(&name), "console");
    let missing = session::missing_tools(&blocks);
    let why = format!("not here, or not of the kind that the page uses: {}", missing.join(", "));
    if common::skipping::can_run(test, missing.is_empty(), &why) {
        // Commands of the pages have a second (`timeout 1`), in which a busy machine may not get
        // round to them.
        for _ in 0..3 {
            if std::panic::catch_unwind(|| session::run(&blocks)).is_ok() {
                return;
            }
        }
        session::run(&blocks);
    }
}

#[cfg(not(target_os = "linux"))]
fn run_sessions(test: &str, _: &str) {
    common::skipping::can_run(test, false, "the sessions are those of a Linux host");
}
