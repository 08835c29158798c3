//! The whole comparison, part by part. What cannot be done is skipped, and named.

use std::error::Error;

use indicatif::{ProgressBar, ProgressStyle};

use crate::builder::{self, Built, Unmeasured};
use crate::calls::{self, Calls};
use crate::conditions::Conditions;
use crate::instructions::{self, Instructions};
use crate::machine::Machine;
use crate::memory::{self, Memory};
use crate::options::{Options, Part};
use crate::process;
use crate::report::Report;
use crate::running::Cores;
use crate::scenarios::{Protocol, Scenario};
use crate::speed::{self, Row};

/// Open files that a process needs in addition to its connections.
const OTHER_FILES: u64 = 100;
/// The most connections of a quick run.
const QUICK_MAX: usize = 500;
/// Idle connections whose memory is measured.
const CROWD: usize = 10_000;

pub(crate) fn run(mut options: Options) -> Result<(), Box<dyn Error>> {
    process::end_all_when_interrupted()?;
    let machine = Machine::this();
    let mut skipped = Vec::new();
    let connections_max = limit_connections(&mut options, &mut skipped);
    let cores = choose_cores(&mut skipped)?;
    let (built, missing) = builder::build(&options.servers)?;
    skipped.extend(missing);
    let mut speed = Vec::new();
    if options.parts.contains(&Part::Speed) {
        let timed: Vec<Built> =
            built.iter().filter(|one| options.is_timed(&one.server)).cloned().collect();
        speed = speed::measure(&options.scenarios, &timed, options.pace, cores, &mut skipped)?;
    }
    let failed = speed.iter().flat_map(Row::failed).collect();
    let mut others = Others { options: &options, built: &built, cores, skipped, failed };
    let calls = others.calls();
    let instructions = others.instructions();
    let memory = others.memory(connections_max.min(CROWD));
    let Others { skipped, failed, .. } = others;
    let failures = failed.len();
    let Options { pace, quick, .. } = options;
    let conditions = Conditions { machine, pace, quick, connections_max };
    let report = Report { conditions, speed, calls, instructions, memory, skipped, failed };
    report.publish(&options.out)?;
    match failures {
        0 => Ok(()),
        _ => Err(format!("{failures} measurements have failed").into()),
    }
}

/// Limits the crowd to the connections that a process can have; a quick run needs no crowd.
fn limit_connections(options: &mut Options, skipped: &mut Vec<Unmeasured>) -> usize {
    let files = process::raise_open_files().saturating_sub(OTHER_FILES);
    let allowed = usize::try_from(files).unwrap_or(usize::MAX);
    let (most, reason) = match options.quick && allowed > QUICK_MAX {
        true => (QUICK_MAX, "a quick run"),
        false => (allowed, "the limit of open files (ulimit -n)"),
    };
    for scenario in &mut options.scenarios {
        if scenario.limit_connections(most) {
            let name = format!("connections above {most} in {}", scenario.name);
            skipped.push(Unmeasured { name, reason: reason.to_owned() });
        }
    }
    most
}

fn choose_cores(skipped: &mut Vec<Unmeasured>) -> Result<Cores, Box<dyn Error>> {
    let cores = process::cores()?;
    if cores.len() < 2 {
        let reason = "there is one only, and everything runs on it";
        skipped
            .push(Unmeasured { name: "a core for the load".to_owned(), reason: reason.to_owned() });
    }
    Ok(Cores { server: cores.first().copied(), load: cores.get(1).or(cores.first()).copied() })
}

/// Something to be measured, and its name.
type Job<J> = (String, J);

/// What is measured in addition to speed, by tools and by looking at memory.
struct Others<'a> {
    options: &'a Options,
    built: &'a [Built],
    cores: Cores,
    skipped: Vec<Unmeasured>,
    failed: Vec<Unmeasured>,
}

impl Others<'_> {
    fn calls(&mut self) -> Vec<Calls> {
        if !self.wants(Part::Calls, "strace", calls::is_there) {
            return Vec::new();
        }
        let cores = self.cores;
        let jobs = self.jobs(Part::Calls, &calls::SCENARIOS);
        self.each(jobs, |(built, scenario)| calls::count(built, scenario, cores))
    }

    fn instructions(&mut self) -> Vec<Instructions> {
        if !self.wants(Part::Instructions, "valgrind", instructions::is_there) {
            return Vec::new();
        }
        let cores = self.cores;
        let jobs = self.jobs(Part::Instructions, &instructions::SCENARIOS);
        self.each(jobs, |(built, scenario)| instructions::count(built, scenario, cores))
    }

    fn memory(&mut self, connections: usize) -> Vec<Memory> {
        if !self.options.parts.contains(&Part::Memory) {
            return Vec::new();
        }
        let (echoing, others): (Vec<&Built>, Vec<&Built>) =
            self.built.iter().partition(|one| one.server.protocol == Protocol::Echo);
        let others = others.iter().filter(|_| self.options.servers_are_named);
        self.skipped.extend(others.map(|one| Unmeasured {
            name: format!("memory of {}", one.server.name),
            reason: "it does not echo".to_owned(),
        }));
        let name = |one: &Built| format!("memory of {}", one.server.name);
        let jobs = echoing.into_iter().map(|one| (name(one), one)).collect();
        self.each(jobs, |built| memory::measure(built, connections))
    }

    /// Returns whether a part is asked for, and its tool is there.
    fn wants(&mut self, part: Part, tool: &str, is_there: fn() -> bool) -> bool {
        let wanted = self.options.parts.contains(&part);
        if wanted && !is_there() {
            let reason = format!("{tool} is not installed");
            self.skipped.push(Unmeasured { name: part.name().to_owned(), reason });
            return false;
        }
        wanted
    }

    /// Returns which server is counted in which scenario.
    fn jobs(&mut self, part: Part, usual: &[&str]) -> Vec<Job<(Built, Scenario)>> {
        let mut jobs = Vec::new();
        let scenarios = self.options.scenarios.iter();
        for scenario in scenarios.filter(|one| self.options.is_counted(one, usual)) {
            let takes_part = |one: &&Built| one.server.protocol == scenario.protocol;
            for built in self.built.iter().filter(takes_part) {
                let server = &built.server;
                let name = format!("{} of {} in {}", part.name(), server.name, scenario.name);
                let unfit = server.unfit_for(part.name());
                match unfit.or_else(|| server.unfit_for(scenario.name)) {
                    None => jobs.push((name, (built.clone(), scenario.clone()))),
                    Some(reason) => {
                        self.skipped.push(Unmeasured { name, reason: reason.to_owned() });
                    }
                }
            }
        }
        jobs
    }

    fn each<J, T>(
        &mut self,
        jobs: Vec<Job<J>>,
        measure: impl Fn(&J) -> Result<T, Box<dyn Error>>,
    ) -> Vec<T> {
        let progress = ProgressBar::new(jobs.len() as u64);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len}: {msg}") {
            progress.set_style(style);
        }
        let mut results = Vec::new();
        for (name, job) in jobs {
            progress.set_message(name.clone());
            match measure(&job) {
                Ok(result) => results.push(result),
                Err(error) => self.failed.push(Unmeasured { name, reason: error.to_string() }),
            }
            progress.inc(1);
        }
        progress.finish_and_clear();
        results
    }
}
