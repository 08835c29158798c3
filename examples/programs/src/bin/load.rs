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
use std::io;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use programs::load::{Lane, Load, Plan, chart};
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Offers load to an echo server, compares every byte that comes back, and prints
how many messages came back and how long they took.

Usage: load [ADDRESS] [OPTION]...

  ADDRESS          where to connect [default: 127.0.0.1:65432]
  --connections N  how many connections [default: 10]
  --size BYTES     the length of a message [default: 64]
  --depth N        the most messages under way on a connection [default: 1]
  --seconds N      for how long messages are sent [default: 10]
  --rate N         how many messages are due in a second, on all connections
                   together [default: as many as come back]
  --chart FILE     where to put a chart of the latencies over time, as SVG
  -h, --help       print this

With --rate a message is due at its time whatever the server does, and its
latency counts from then, so that a server which stalls does not look better
than it is. That keeps one core busy. Without, the next message waits for one
that comes back.

Ctrl-C ends early and prints what was measured; a second one does not wait for
the messages that are under way. The exit status is 0 if all came back as they
were sent, and else 1.";

const OPTIONS: [(&str, &str); 6] = [
    ("connections", "a number"),
    ("size", "a number"),
    ("depth", "a number"),
    ("seconds", "a number"),
    ("rate", "a number"),
    ("chart", "a path"),
];

/// A wait of the kernel's ends up to a millisecond late. What is due sooner is waited for awake.
const AWAKE: Duration = Duration::from_millis(2);

fn main() -> ExitCode {
    common::run_with_options(USAGE, &OPTIONS, run)
}

fn run(arguments: common::Arguments) -> common::Outcome {
    let plan = plan(&arguments)?;
    let path = arguments.option("chart");
    let address = arguments.address()?;
    if let Some(path) = &path {
        // Before the load, not after it.
        fs::write(path, "").map_err(|error| cannot_write(path, &error))?;
    }

    let mut event_loop = EventLoop::new()?;
    let mut ctrl_c = CtrlC::new(&mut event_loop)?;
    let mut load = Load::begin(plan.clone(), address.all(), &mut event_loop);
    let progress = progress(&plan);
    while !load.is_over() {
        let event = next_event(&mut event_loop, plan.rate.is_some())?;
        load.handle(&mut event_loop, event);
        (0..ctrl_c.count(event)).for_each(|_| load.stop(&mut event_loop));
        if let Event::Timer(_) | Event::Connected(_) = event {
            show(&load, &plan, &progress);
        }
    }
    progress.finish_and_clear();

    if load.latencies.is_empty() {
        return Err(format!("{address}: {}", complaint(&load)).into());
    }
    common::print(table(&load, &plan))?;
    if let Some(path) = &path {
        let svg = chart::draw(&title(&plan, &address), &load.samples)?;
        fs::write(path, svg).map_err(|error| cannot_write(path, &error))?;
    }
    match load.failed == 0 && load.unanswered == 0 {
        true => Ok(()),
        false => Err(format!("{address}: {}", complaint(&load)).into()),
    }
}

fn cannot_write(path: &std::ffi::OsStr, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

fn plan(arguments: &common::Arguments) -> common::Outcome<Plan> {
    Ok(Plan {
        connections: number(arguments, "connections", 10, 1..=1_000_000)?,
        size: number(arguments, "size", 64, 1..=1 << 30)?,
        depth: number(arguments, "depth", 1, 1..=1_000_000)?,
        time: Duration::from_secs_f64(number(arguments, "seconds", 10.0, 0.1..=1e7)?),
        rate: match arguments.option("rate") {
            Some(_) => Some(number(arguments, "rate", 0.0, 0.001..=1e8)?),
            None => None,
        },
    })
}

fn number<N: FromStr + PartialOrd + std::fmt::Display>(
    arguments: &common::Arguments,
    name: &str,
    default: N,
    range: std::ops::RangeInclusive<N>,
) -> common::Outcome<N> {
    let Some(text) = arguments.option(name) else { return Ok(default) };
    let number = text.to_str().and_then(|text| text.parse().ok());
    number.filter(|number| range.contains(number)).ok_or_else(|| {
        let (least, most) = (range.start(), range.end());
        format!("--{name} takes a number from {least} to {most}, not {text:?}").into()
    })
}

/// Waits for the next event. In open loop a timer is not to fire late, so the last moment before it
/// is spent awake.
fn next_event(event_loop: &mut EventLoop<Lane>, is_paced: bool) -> io::Result<Event> {
    loop {
        let timeout = event_loop.next_timeout().filter(|_| is_paced);
        let timeout = timeout.map(|timeout| timeout.saturating_sub(AWAKE));
        if let Some(event) = event_loop.poll_event(timeout)? {
            return Ok(event);
        }
    }
}

/// Returns a line on standard error, unless that is no terminal.
fn progress(plan: &Plan) -> ProgressBar {
    let bar = ProgressBar::new(plan.time.as_millis() as u64);
    match ProgressStyle::with_template("{bar:16} {msg}") {
        Ok(style) => bar.with_style(style.progress_chars("#-")),
        Err(_) => bar,
    }
}

fn show(load: &Load, plan: &Plan, progress: &ProgressBar) {
    let Some(sample) = load.samples.last() else {
        let (connected, all) = (load.connected(), plan.connections);
        return progress.set_message(format!("{connected} of {all} connections"));
    };
    progress.set_position(sample.at.as_millis() as u64);
    let (seconds, rate) = (sample.at.as_secs(), sample.rate);
    let (p50, p99) = (sample.p50, sample.p99);
    progress.set_message(format!("{seconds} s  {rate:.0}/s  p50 {p50:.2?}  p99 {p99:.2?}"));
}

fn table(load: &Load, plan: &Plan) -> String {
    let (count, seconds) = (load.latencies.len() - load.unanswered, load.took().as_secs_f64());
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

fn title(plan: &Plan, address: &common::Address) -> String {
    let Plan { connections, size, depth, .. } = plan;
    let rate = match plan.rate {
        Some(rate) => format!("{rate} messages/s due"),
        None => "closed loop".to_owned(),
    };
    format!("{address}: {connections} connections, {size} bytes, depth {depth}, {rate}")
}

/// Why not all is well, in one line.
fn complaint(load: &Load) -> String {
    let Load { failed, unanswered, .. } = load;
    match &load.failure {
        Some(failure) => format!(
            "{failure}; in all {failed} connections failed, {unanswered} messages did not come back"
        ),
        None if *unanswered > 0 => format!("{unanswered} messages did not come back"),
        None => "nothing came back in that time".into(),
    }
}
