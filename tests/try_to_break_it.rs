//! The lines of `docs/try-to-break-it.md` print what the page says, and the server survives them.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/programs.rs"]
mod programs;

use std::fs;
use std::process::Command;

use common::peer;
use common::skipping::runs_in_part;
use programs::{Program, assert_echoes};

/// The longest of the lines takes half a minute, on a machine that does nothing else.
const SECONDS_MAX: &str = "120";

/// The most that the server needs at any time, in kilobytes. The client that never reads would fill
/// this in a moment.
const MEMORY_MAX: u64 = 32 * 1024;

/// A line of the page.
struct Attack<'p> {
    heading: &'p str,
    tools: Vec<&'p str>,
    line: &'p str,
    output: &'p str,
}

fn attacks(page: &str) -> Vec<Attack<'_>> {
    let sections = page.split("\n## ").filter(|section| section.contains("\nNeeds "));
    sections.map(attack).collect()
}

fn attack(section: &str) -> Attack<'_> {
    let heading = section.lines().next().unwrap();
    let needs = section.lines().find(|line| line.starts_with("Needs ")).unwrap();
    let mut tools: Vec<&str> = needs.split('`').skip(1).step_by(2).collect();
    tools.extend(needs.contains(" root.").then_some("root"));
    let block = |language: &str| {
        let (_, rest) = section.split_once(&format!("```{language}\n")).unwrap();
        rest.split_once("```").unwrap().0
    };
    Attack { heading, tools, line: block("sh"), output: block("text") }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("timeout");
    command.args([SECONDS_MAX, "bash", "-c", line]);
    command
}

fn is_there(tool: &str) -> bool {
    let test = match tool {
        "root" => String::from("test $(id -u) = 0"),
        // There are several programs of this name; this option is of the one that the page uses.
        "nc" => String::from("nc -h 2>&1 | grep -q -- -N"),
        // As many descriptors as the page asks for.
        "ulimit -n" => String::from("test $(ulimit -n) = unlimited || test $(ulimit -n) -gt 1100"),
        tool => format!("command -v {tool}"),
    };
    shell(&test).output().is_ok_and(|output| output.status.success())
}

/// Returns the most memory that the process has had, in kilobytes.
fn memory_max(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn lines_of_the_page_print_what_it_says_and_do_not_break_the_server() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/try-to-break-it.md"));
    let page = page.unwrap();
    let attacks = attacks(&page);
    assert_eq!(attacks.len(), 10);
    skip_unless!(is_there("bash"), "bash or timeout is not installed");
    let (server, address) = Program::start("echo_server", &["127.0.0.1:0"]).listening();
    let port = address.port().to_string();
    let mut left_out = Vec::new();
    for Attack { heading, tools, line, output } in attacks {
        if let Some(missing) = tools.into_iter().find(|tool| !is_there(tool)) {
            left_out.push(format!("{heading}: no {missing}"));
            continue;
        }
        let run = shell(&line.replace("65432", &port)).output().unwrap();
        let printed = String::from_utf8_lossy(&run.stdout);
        let errors = String::from_utf8_lossy(&run.stderr);
        assert_eq!(printed.replace(&port, "65432"), output, "{heading}\n{errors}");
        assert_echoes(&mut peer(address), b"still here");
    }
    let what = (!left_out.is_empty()).then(|| left_out.join("; "));
    runs_in_part(test_name!(), what);
    let memory = memory_max(server.process_id());
    assert!(memory < MEMORY_MAX, "the server needed {memory} kB");
    server.signal("INT");
    assert_eq!(server.ended().status, Some(0));
}
