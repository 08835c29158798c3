//! Runs a part of a test in its own process: with descriptors that no other test opens, or with
//! limits and signals that must not affect the others.
//!
//! The child is the test binary itself, asked to run just one test. Parent and child talk in lines
//! over the child's standard input and output.

use std::env;
use std::fmt::Display;
use std::io::{BufRead, BufReader, Write};
use std::process::{self, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Instant;

use super::PATIENCE;
use super::measure::ALL_DESCRIPTORS;
use super::skipping::can_run;

/// Tells a test binary which of its tests it is to run as a child.
pub const VARIABLE: &str = "READINESS_TEST_CHILD";

/// Marks the child's own lines in the output of the test harness.
const MARK: &str = "@ ";

/// Returns whether this process is the child that is to run this test.
pub fn is_child(test: &str) -> bool {
    env::var(VARIABLE).is_ok_and(|child| child == test)
}

/// Runs `body` in its own process, after the shell has done what `before` says, and fails if it
/// fails there. `test` is the full name of the test that calls.
pub fn alone(test: &str, before: &str, body: impl FnOnce()) {
    if is_child(test) {
        return body();
    }
    let output = command(test, before).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "in its own process:\n{said}\n{complaint}");
    assert!(said.contains("1 passed"), "there is no test {test}:\n{said}");
}

/// Runs `body` in its own process, with as many descriptors as the system allows. Where that is fewer
/// than `count`, says that the test was skipped. `test` is what [`test_name!`](crate::test_name) says
/// in the test that calls.
pub fn with_descriptors(test: &str, count: usize, body: impl FnOnce()) {
    let allowed = Command::new("sh").args(["-c", "ulimit -H -n"]).output().ok();
    let allowed = allowed.and_then(|output| String::from_utf8(output.stdout).ok());
    let has_enough = allowed.is_some_and(|allowed| match allowed.trim() {
        "unlimited" => true,
        number => number.parse().is_ok_and(|number: usize| number >= count),
    });
    let missing = format!("a process may not have {count} descriptors here");
    if can_run(test, has_enough, &missing) {
        let (_file, name) = test.split_once("::").unwrap();
        alone(name, ALL_DESCRIPTORS, body);
    }
}

fn command(test: &str, before: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("{before} exec \"$0\" \"$@\""));
    // Most of them are ignored but as a child.
    let arguments = ["--exact", test, "--nocapture", "--include-ignored"];
    command.arg(env::current_exe().unwrap()).args(arguments);
    command.env(VARIABLE, test);
    command
}

/// A running child, which is ended when this is dropped.
pub struct Child {
    process: process::Child,
    input: ChildStdin,
    reports: Receiver<String>,
}

impl Child {
    /// Starts a child that runs one test, after the shell has done what `before` says.
    pub fn start(test: &str, before: &str) -> Self {
        let mut command = command(test, before);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = process.stdin.take().unwrap();
        let output = BufReader::new(process.stdout.take().unwrap());
        let (sender, reports) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let report = line.strip_prefix(MARK).map(str::to_owned);
                if report.is_some_and(|report| sender.send(report).is_err()) {
                    return;
                }
            }
        });
        Self { process, input, reports }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the child's next report, which must be of this name.
    pub fn report(&self, name: &str) -> String {
        let report = self.reports.recv_timeout(PATIENCE).expect("a report of the child in time");
        let value = report.strip_prefix(name).and_then(|value| value.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("{name} was expected, not {report}")).to_owned()
    }

    /// Returns whether a report has arrived that was not looked at.
    pub fn has_reported(&self, name: &str) -> bool {
        self.reports.try_iter().any(|report| report.starts_with(name))
    }

    /// Waits until the child, and whatever it runs under, has ended by itself. What it still
    /// reports is not looked at.
    pub fn await_end(&mut self) {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.reports.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(_) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("the child does not end"),
            }
        }
        self.process.wait().unwrap();
    }

    /// Gives the child a command.
    pub fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// In the child: reports something to the parent.
pub fn report(name: &str, value: impl Display) {
    // The harness may have begun a line.
    println!("\n{MARK}{name} {value}");
}

/// In the child: the parent's commands. The channel ends with the parent.
pub fn commands() -> Receiver<String> {
    let (sender, commands) = mpsc::channel();
    std::thread::spawn(move || {
        for command in std::io::stdin().lines().map_while(Result::ok) {
            if sender.send(command).is_err() {
                return;
            }
        }
    });
    commands
}

/// Returns how many descriptors this process has open.
pub fn open_descriptors() -> usize {
    std::fs::read_dir("/dev/fd").unwrap().count()
}
