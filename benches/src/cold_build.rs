//! How long a first build of an echo server takes, and of how many crates, ours and tokio's.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

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
    about: &'static str,
    manifest: &'static str,
    arguments: &'static [&'static str],
}

const SERVERS: &str = "servers/Cargo.toml";

const SUBJECTS: [Subject; 4] = [
    Subject {
        about: "readiness: the example echo_server, with what all examples share",
        manifest: "../Cargo.toml",
        arguments: &["--example", "echo_server"],
    },
    Subject {
        about: "readiness: a program that depends on it",
        manifest: SERVERS,
        arguments: &["--bin", "lines-readiness", "--features", "readiness"],
    },
    Subject {
        about: "tokio: an echo server, with the features rt, net, io-util",
        manifest: SERVERS,
        arguments: &["--bin", "tokio", "--features", "tokio"],
    },
    Subject {
        about: "tokio: the same, with the feature full",
        manifest: SERVERS,
        arguments: &["--bin", "tokio", "--features", "tokio-full"],
    },
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
            program: self.subject.about,
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

/// The package that a message of cargo's says was compiled.
fn compiled(message: &str) -> Option<String> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let is_artifact = message["reason"] == "compiler-artifact" && message["fresh"] == false;
    if is_artifact { message["package_id"].as_str().map(str::to_owned) } else { None }
}

pub(crate) fn table(builds: &[ColdBuild]) -> String {
    let header =
        ["first build", "profile", "crates", "ratio", "best s", "ratio", "median s", "ratio"];
    let mut table = table::table(&header);
    for build in builds {
        // The third is tokio as one would slim it.
        let reference = builds
            .iter()
            .find(|other| other.profile == build.profile && other.program == SUBJECTS[2].about);
        let Some(reference) = reference else { continue };
        let ratio = build.seconds.ratio_to(reference.seconds);
        table.add_row([
            build.program.to_owned(),
            build.profile.to_owned(),
            build.crates.to_string(),
            table::shown(Some(build.crates as f64 / reference.crates as f64), 2),
            table::shown(Some(build.seconds.best), 1),
            table::shown(Some(ratio.best), 2),
            table::shown(Some(build.seconds.median), 1),
            table::shown(Some(ratio.median), 2),
        ]);
    }
    format!("A first build, to tokio with the features it needs\n{table}\n")
}
