//! A load generator for any echo server, on many connections in one thread.
//!
//! It shows the loop as a client's, with timers, and a clock of the program's own. What it measures
//! and how: see `src/load.rs`.
//!
//! ```text
//! cargo run --release --example echo_server
//! cargo run --release --manifest-path examples/programs/Cargo.toml --bin load -- \
//!     --connections 100 --rate 20000 --chart latency.svg
//! ```

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::ProgressBar;
use programs::load::{Load, Plan, Sample, chart};
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use common::{Address, Arguments, Outcome};
use signals::CtrlC;

/// A wait of the kernel's ends up to a millisecond late. What is due sooner is waited for awake.
const AWAKE: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    let numbers = ["connections", "size", "depth", "seconds", "rate"];
    let mut options = numbers.map(|name| (name, "a number")).to_vec();
    options.push(("chart", "a path"));
    common::run_with_options(include_str!("load.txt"), &options, run)
}

fn run(arguments: Arguments) -> Outcome {
    let plan = plan(&arguments)?;
    let chart = arguments.option("chart");
    let address = arguments.address()?;
    if let Some(path) = &chart {
        write(path.as_ref(), "")?; // before the load, not after it
    }

    let mut event_loop = EventLoop::new()?;
    let mut ctrl_c = CtrlC::new(&mut event_loop)?;
    let mut load = Load::begin(plan.clone(), address.all(), &mut event_loop);
    let progress = ProgressBar::new_spinner(); // on standard error, unless that is no terminal
    while !load.is_over() {
        // In open loop a timer is not to fire late, so the last moment before it is spent awake.
        let timeout = event_loop.next_timeout().filter(|_| plan.rate.is_some());
        let timeout = timeout.map(|timeout| timeout.saturating_sub(AWAKE));
        let Some(event) = event_loop.poll_event(timeout)? else { continue };
        (0..ctrl_c.count(event)).for_each(|_| load.stop(&mut event_loop));
        load.handle(&mut event_loop, event);
        if let Event::Timer(_) | Event::Connected(_) = event {
            progress.set_message(so_far(&load, &plan));
        }
    }
    progress.finish_and_clear();

    if !load.latencies.is_empty() {
        common::print(table(&load, &plan))?;
        if let Some(path) = &chart {
            write(path.as_ref(), &chart::draw(&title(&plan, &address), &load.samples))?;
        }
    }
    Ok(verdict(&load).map_err(|why| format!("{address}: {why}"))?)
}

fn plan(arguments: &Arguments) -> Outcome<Plan> {
    let seconds = arguments.number("seconds", 0.1..=1e7)?.unwrap_or(10.0);
    Ok(Plan {
        connections: arguments.number("connections", 1..=1_000_000)?.unwrap_or(10),
        size: arguments.number("size", 1..=1 << 30)?.unwrap_or(64),
        depth: arguments.number("depth", 1..=1_000_000)?.unwrap_or(1),
        time: Duration::from_secs_f64(seconds),
        rate: arguments.number("rate", 0.001..=1e8)?,
    })
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn so_far(load: &Load, plan: &Plan) -> String {
    match load.samples.last() {
        None => format!("{} of {} connections", load.connected, plan.connections),
        Some(Sample { at, rate, p50, p99, .. }) => {
            format!("{at:.0?} of {:?}  {rate:.0}/s  p50 {p50:.2?}  p99 {p99:.2?}", plan.time)
        }
    }
}

fn table(load: &Load, plan: &Plan) -> String {
    let (count, seconds) = (load.latencies.len() - load.unanswered, load.took.as_secs_f64());
    let rate = count as f64 / seconds;
    let time = |nanos| format!("{:.2?}", Duration::from_nanos(nanos));
    let at = |quantile| time(load.latencies.value_at_quantile(quantile));
    let rows = [
        ("messages", count.to_string()),
        ("unanswered", load.unanswered.to_string()),
        ("seconds", format!("{seconds:.2}")),
        ("messages/s", format!("{rate:.0}")),
        ("MB/s each way", format!("{:.2}", rate * plan.size as f64 / 1e6)),
        ("latency mean", time(load.latencies.mean() as u64)),
        ("latency p50", at(0.5)),
        ("latency p90", at(0.9)),
        ("latency p99", at(0.99)),
        ("latency p99.9", at(0.999)),
        ("latency max", at(1.0)),
    ];
    rows.map(|(name, value)| format!("{name:<13} {value:>12}")).join("\n")
}

fn title(plan: &Plan, address: &Address) -> String {
    let Plan { connections, size, depth, rate, .. } = plan;
    let rate = rate.map_or("closed loop".into(), |rate| format!("{rate} messages/s due"));
    format!("{address}: {connections} connections, {size} bytes, depth {depth}, {rate}")
}

/// Returns why not all is well, in one line.
fn verdict(load: &Load) -> Result<(), String> {
    let Load { failed, unanswered, .. } = load;
    match &load.failure {
        Some(failure) => Err(format!(
            "{failure}; in all {failed} connections failed, {unanswered} messages did not come back"
        )),
        None if *unanswered > 0 => Err(format!("{unanswered} messages did not come back")),
        None if load.latencies.is_empty() => Err("nothing came back in that time".into()),
        None => Ok(()),
    }
}
