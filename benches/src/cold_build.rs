//! How long a first build of an echo server takes, and of how many crates, ours and tokio's.
//!
//! Each of ours is held against its like: the example, with what our examples share, against an
//! example with what tokio's share; the program that depends on us against those on tokio.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use comfy_table::Table;
use indicatif::ProgressBar;
use serde::Serialize;

use crate::builder::{self, cargo, home, target};
use crate::figures::Spread;
use crate::table;

#[derive(Serialize)]
pub(crate) struct ColdBuild {
    pub(crate) program: &'static str,
    pub(crate) profile: &'static str,
    pub(crate) crates: usize,
    pub(crate) seconds: Spread,
}

struct Subject {
    name: &'static str,
    about: &'static str,
    manifest: &'static str,
    arguments: &'static [&'static str],
}

const SERVERS: &str = "servers/Cargo.toml";

const SUBJECTS: [Subject; 5] = [
    Subject {
        name: "readiness, example",
        about: "echo_server, with what all our examples share",
        manifest: "../Cargo.toml",
        arguments: &["--example", "echo_server"],
    },
    Subject {
        name: "tokio, example",
        about: "an echo server, with what all of tokio's examples share",
        manifest: SERVERS,
        arguments: &["--bin", "tokio", "--features", "tokio-examples"],
    },
    Subject {
        name: "readiness, program",
        about: "an echo server that depends on it",
        manifest: SERVERS,
        arguments: &["--bin", "readiness-spin", "--features", "readiness"],
    },
    Subject {
        name: "tokio, program, slim",
        about: "an echo server, with the features rt, net and io-util",
        manifest: SERVERS,
        arguments: &["--bin", "tokio", "--features", "tokio"],
    },
    Subject {
        name: "tokio, program, full",
        about: "the same, with the feature full",
        manifest: SERVERS,
        arguments: &["--bin", "tokio", "--features", "tokio-full"],
    },
];

/// What is held against what: ours, and its like.
const PAIRS: [(&str, &str); 3] = [
    ("readiness, example", "tokio, example"),
    ("readiness, program", "tokio, program, slim"),
    ("readiness, program", "tokio, program, full"),
];

const PROFILES: [&str; 2] = ["dev", "release"];

/// A subject in a profile, and what its builds took.
struct Case {
    profile: &'static str,
    subject: &'static Subject,
    crates: usize,
    seconds: Vec<f64>,
}

/// Builds everything anew, `rounds` times in turns. The sources are fetched before.
pub(crate) fn measure(rounds: usize) -> Result<Vec<ColdBuild>, Box<dyn Error>> {
    for manifest in ["../Cargo.toml", SERVERS] {
        let mut command = cargo("fetch");
        builder::run(command.arg("--locked").arg("--manifest-path").arg(home().join(manifest)))?;
    }
    let of_profile = |profile| {
        SUBJECTS.iter().map(move |subject| Case { profile, subject, crates: 0, seconds: vec![] })
    };
    let mut cases: Vec<Case> = PROFILES.into_iter().flat_map(of_profile).collect();
    let progress = ProgressBar::new((rounds * cases.len()) as u64);
    for _ in 0..rounds {
        for case in &mut cases {
            let began = Instant::now();
            case.crates = build(case.subject, case.profile)?;
            case.seconds.push(began.elapsed().as_secs_f64());
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok(cases.into_iter().filter_map(Case::result).collect())
}

impl Case {
    fn result(self) -> Option<ColdBuild> {
        Some(ColdBuild {
            program: self.subject.name,
            profile: self.profile,
            crates: self.crates,
            seconds: Spread::of(self.seconds, false)?,
        })
    }
}

/// Builds in an empty folder; returns how many crates that took.
fn build(subject: &Subject, profile: &str) -> Result<usize, Box<dyn Error>> {
    let folder = target().join("cold");
    empty(&folder)?;
    let mut command = cargo("build");
    command.args(["--offline", "--locked", "--message-format=json", "--profile", profile]);
    command.arg("--manifest-path").arg(home().join(subject.manifest));
    command.arg("--target-dir").arg(&folder).args(subject.arguments);
    without_caches(&mut command);
    let messages = builder::run(&mut command)?;
    empty(&folder)?;
    let packages = messages.lines().filter_map(compiled).collect::<BTreeSet<_>>();
    Ok(packages.len())
}

fn empty(folder: &Path) -> Result<(), Box<dyn Error>> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(())
}

/// A cache of compiled crates would make this another measurement.
fn without_caches(command: &mut Command) {
    command.env("RUSTC_WRAPPER", "").env_remove("CARGO_TARGET_DIR");
}

/// Returns the package that a message of cargo's says was compiled.
fn compiled(message: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_artifact = message["reason"] == "compiler-artifact" && message["fresh"] == false;
    if is_artifact { message["package_id"].as_str().map(str::to_owned) } else { None }
}

/// Returns two tables: what each build took, and ours against their likes.
pub(crate) fn tables(builds: &[ColdBuild]) -> String {
    let (figures, ratios) = (figures(builds), ratios(builds));
    format!(
        "First builds of an echo server\n{figures}\n\nOurs to its like: less is better\n{ratios}\n"
    )
}

fn figures(builds: &[ColdBuild]) -> Table {
    let mut table = table::table(&["first build", "of", "profile", "crates", "best s", "median s"]);
    table::left_aligned(&mut table, &[1, 2]);
    for build in builds {
        let subject = SUBJECTS.iter().find(|subject| subject.name == build.program);
        table.add_row([
            build.program.to_owned(),
            subject.map_or("", |subject| subject.about).to_owned(),
            build.profile.to_owned(),
            build.crates.to_string(),
            table::shown(Some(build.seconds.best), 1),
            table::shown(Some(build.seconds.median), 1),
        ]);
    }
    table
}

fn ratios(builds: &[ColdBuild]) -> Table {
    let mut table = table::table(&["ours", "its like", "profile", "crates", "best s", "median s"]);
    table::left_aligned(&mut table, &[1, 2]);
    for profile in PROFILES {
        let find =
            |program| builds.iter().find(|one| one.program == program && one.profile == profile);
        for (ours, like) in PAIRS.map(|(ours, like)| (find(ours), find(like))) {
            let Some((ours, like)) = ours.zip(like) else { continue };
            let seconds = ours.seconds.ratio_to(like.seconds);
            table.add_row([
                ours.program.to_owned(),
                like.program.to_owned(),
                profile.to_owned(),
                table::shown(Some(ours.crates as f64 / like.crates as f64), 2),
                table::shown(Some(seconds.best), 2),
                table::shown(Some(seconds.median), 2),
            ]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_held_against_its_like_in_the_same_profile() {
        // Different everywhere, so that each ratio shows which two it is of.
        let build = |program, profile, crates: usize| {
            let best = crates as f64 / 10.0;
            let seconds = Spread { best, median: 2.0 * best, worst: 3.0 * best };
            ColdBuild { program, profile, crates, seconds }
        };
        let builds: Vec<ColdBuild> = PROFILES
            .into_iter()
            .zip([1, 10])
            .flat_map(|(profile, step)| {
                let sizes = [20, 50, 8, 16, 32].into_iter().enumerate();
                sizes.map(move |(nth, size)| build(SUBJECTS[nth].name, profile, size + step * nth))
            })
            .collect();
        let rows: Vec<Vec<String>> = ratios(&builds)
            .row_iter()
            .map(|row| row.cell_iter().map(|cell| cell.content()).collect())
            .collect();
        let expected = [
            ["readiness, example", "tokio, example", "dev", "0.39", "0.39", "0.39"],
            ["readiness, program", "tokio, program, slim", "dev", "0.53", "0.53", "0.53"],
            ["readiness, program", "tokio, program, full", "dev", "0.28", "0.28", "0.28"],
            ["readiness, example", "tokio, example", "release", "0.33", "0.33", "0.33"],
            ["readiness, program", "tokio, program, slim", "release", "0.61", "0.61", "0.61"],
            ["readiness, program", "tokio, program, full", "release", "0.39", "0.39", "0.39"],
        ];
        assert_eq!(rows, expected);
    }
}
