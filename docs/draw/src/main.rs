//! Records runs, and draws the pictures of the guide from them and from the source.

mod half_close;
mod queues;
mod runs;
mod states;
mod style;
mod timeline;
mod turn;

#[path = "../../../examples/common/lesson.rs"]
mod lesson;
#[allow(dead_code, reason = "the player uses the places too")]
#[path = "../../../examples/common/recorder.rs"]
mod recorder;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use lesson::Lesson;
use recorder::Record;

const USAGE: &str = "\
Records runs of the loop, and draws the pictures of the guide.

Usage: draw all              write all runs and pictures of docs/pictures
       draw check            compare them with those that are there
       draw record NAME      print a run: slow-reader, talkers, descriptors,
                             shutdown, lost-wake-up or half-close
       draw lesson FILE      print a run as a lesson: a few lines that say why
       draw timeline FILE    print a run as an SVG timeline
       draw --help           print this";

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where this cannot be written either, the exit status says it alone.
            let _ = writeln!(io::stderr(), "draw: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let mut words = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            lexopt::Arg::Short('h') | lexopt::Arg::Long("help") => return print(USAGE),
            lexopt::Arg::Value(word) => words.push(word.into_string().map_err(|_| "not UTF-8")?),
            other => return Err(other.unexpected().into()),
        }
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["all"] => files()?.into_iter().try_for_each(|(path, text)| {
            fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()).into())
        }),
        ["check"] => check(),
        ["record", name] => print(&runs::record(name)?),
        ["lesson", file] => print(&lesson_of(&read_run(file)?)),
        ["timeline", file] => print(&timeline::draw(file, &read_run(file)?)),
        _ => Err("see --help".into()),
    }
}

fn print(text: &str) -> Outcome {
    Ok(writeln!(io::stdout(), "{}", text.trim_end_matches('\n'))?)
}

fn read_run(file: &str) -> Outcome<Vec<Record>> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(recorder::parse(&text).map_err(|error| format!("{file}: {error}"))?)
}

/// Returns a run as the lines of a lesson.
fn lesson_of(run: &[Record]) -> String {
    let mut lesson = Lesson::default();
    let mut lines: Vec<String> = run.iter().flat_map(|record| lesson.see(record)).collect();
    lines.extend(lesson.finish());
    lines.join("\n") + "\n"
}

/// The folder of the runs and pictures.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../pictures")
}

fn source(path: &str) -> Outcome<String> {
    let path = folder().join("../../src").join(path);
    Ok(fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?)
}

/// Makes all runs and pictures anew.
fn files() -> Outcome<Vec<(PathBuf, String)>> {
    let mut files = Vec::new();
    for name in runs::NAMES {
        files.push((format!("runs/{name}.run"), runs::record(name)?));
    }
    let run = |name: &str| -> Outcome<Vec<Record>> { Ok(recorder::parse(&runs::record(name)?)?) };
    let slow = run("slow-reader")?;
    files.push(("runs/slow-reader.txt".into(), lesson_of(&slow)));
    files.push(("stall-and-recovery.svg".into(), timeline::draw("slow-reader", &slow)));
    files.push(("four-queues.svg".into(), queues::draw(&slow)));
    files.push(("half-close.svg".into(), half_close::draw(&run("half-close")?)));
    files.push(("one-turn.svg".into(), turn::draw(&source("turn.rs")?)));
    files.push(("states.svg".into(), states::draw(&source("state.rs")?)));
    // The player of runs, which finds them beside itself.
    let player = "../examples/programs/src/status.html";
    files.push(("player.html".into(), source(player)?));
    Ok(files.into_iter().map(|(name, text)| (folder().join(name), text)).collect())
}

fn check() -> Outcome {
    for (path, text) in files()? {
        if fs::read_to_string(&path).ok().as_deref() != Some(&text) {
            return Err(format!("{} is not what is made today", name(&path)).into());
        }
    }
    Ok(())
}

fn name(path: &Path) -> String {
    path.strip_prefix(folder()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_pictures_are_those_that_are_made_today() {
        check().expect("`draw all` writes them anew");
    }

    #[test]
    fn runs_are_read_back_as_they_were_written() {
        for name in runs::NAMES {
            let text = runs::record(name).expect("it is recorded");
            let run = recorder::parse(&text).expect("it is a run");
            let lines: Vec<String> = run.iter().map(ToString::to_string).collect();
            assert_eq!(format!("{}\n{}\n", recorder::HEADER, lines.join("\n")), text);
        }
    }

    #[test]
    fn place_of_each_step_is_a_function_of_its_file() {
        for (step, file, function) in recorder::PLACES {
            let text = source(file).expect("the file is there");
            assert!(text.contains(&format!("fn {function}")), "{step}: {file} has no {function}");
        }
    }

    #[test]
    fn pictures_have_a_title_a_description_and_colours_for_light_and_dark() {
        for (path, text) in files().expect("all are made") {
            if path.extension().is_some_and(|extension| extension == "svg") {
                for part in ["<title>", "<desc>", "role=\"img\"", "prefers-color-scheme: dark"] {
                    assert!(text.contains(part), "{} has no {part}", name(&path));
                }
            }
        }
    }
}
