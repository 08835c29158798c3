//! The terminal sessions in the pages of the course, run again: the commands as the page shows
//! them, against what they print now.
//!
//! - `cargo run --example NAME` is the program that cargo has built beside the test. A server runs
//!   on until the next one starts, the page shows `^C`, or the page is over. A block that does not
//!   begin with a command has its next lines.
//! - `&` at the end of a command: it goes on, as in a separate terminal. `kill %1` ends the first
//!   of them.
//! - The port 65432 is one that the system has chosen, and so are 65400 and those behind it, which
//!   are for commands that listen. `$(pidof NAME)` is the server.
//! - A line `...` is any number of lines. In a line, `<n>` is a number, and `~500` is one between 5
//!   and 50,000: how much a kernel holds, or a machine does in a second.
//! - What only looks, by `ss`, `ps`, `grep` or `strace`, looks again until it sees what the page shows.
//!   What sends in two pieces is tried again, as a busy machine may see both pieces at once.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{PATIENCE, measure};

const PORT: &str = "65432";
/// The tools that the sessions use in addition to the shell.
const TOOLS: [&str; 10] =
    ["nc", "ss", "strace", "python3", "ps", "timeout", "yes", "head", "grep", "wc"];

/// A block of a page: what is typed, and what it prints.
struct Entry<'a> {
    command: Option<&'a str>,
    output: Vec<&'a str>,
}

fn entries(block: &str) -> Vec<Entry<'_>> {
    let mut entries: Vec<Entry> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), line) {
            (Some(command), _) => {
                entries.push(Entry { command: Some(command), output: Vec::new() });
            }
            (None, "^C") => entries.push(Entry { command: Some(line), output: Vec::new() }),
            (None, _) => {
                if entries.is_empty() {
                    entries.push(Entry { command: None, output: Vec::new() });
                }
                entries.last_mut().unwrap().output.push(line);
            }
        }
    }
    entries
}

/// Returns what is missing on this machine for the sessions of a page.
pub fn missing_tools(blocks: &[String]) -> Vec<&'static str> {
    let commands = blocks.iter().flat_map(|block| entries(block)).filter_map(|entry| entry.command);
    let commands: Vec<&str> = commands.collect();
    let is_used = |tool: &&str| {
        let words = commands.iter().flat_map(|command| command.split([' ', '(', '|', ';']));
        words.into_iter().any(|word| word == *tool)
    };
    let is_there = |tool: &str| match tool {
        "strace" => measure::can_trace(),
        // The flags differ between its kinds: this is the one of OpenBSD.
        "nc" => shell("nc -h 2>&1 | grep -q -- -N").status().is_ok_and(|status| status.success()),
        _ => shell(&format!("command -v {tool} >/dev/null"))
            .status()
            .is_ok_and(|status| status.success()),
    };
    if shell("true").status().is_err() {
        return vec!["bash"];
    }
    TOOLS.into_iter().filter(|tool| is_used(tool) && !is_there(tool)).collect()
}

/// Runs all sessions of a page, one after the other, in one world.
pub fn run(blocks: &[String]) {
    let mut world = World::default();
    for entry in blocks.iter().flat_map(|block| entries(block)) {
        world.run(&entry);
    }
}

/// What runs, and where.
#[derive(Default)]
struct World {
    server: Option<Running>,
    others: Vec<Option<Running>>,
    port: String,
    /// Ports for commands that listen, by their names in the page.
    free_ports: BTreeMap<String, String>,
}

impl World {
    fn run(&mut self, entry: &Entry) {
        let Some(command) = entry.command else { return self.expect_of_server(&entry.output) };
        if command == "^C" {
            self.server = None;
        } else if let Some(words) = command.strip_prefix("cargo run --example ") {
            self.run_example(&words.replace("-- ", ""), entry);
        } else if let Some(words) = command.strip_prefix("python3 docs/") {
            let script = format!("{}/docs/{words}", env!("CARGO_MANIFEST_DIR"));
            self.start_server("python3", &script.replace(PORT, "0"), entry);
        } else if let Some(number) = command.strip_prefix("kill %") {
            let number: usize = number.parse().unwrap();
            self.others[number - 1].take().expect("it runs");
        } else if let Some(command) = command.strip_suffix(" &") {
            let command = self.substituted(command);
            self.others.push(Some(Running::start(&command, Stdio::piped())));
            await_listening(&command);
        } else {
            self.run_to_its_end(command, &entry.output);
        }
    }

    fn run_example(&mut self, words: &str, entry: &Entry) {
        let (name, arguments) = words.split_once(' ').unwrap_or((words, PORT));
        let program = example(name).display().to_string();
        if name.get(2..) == Some("_client") {
            self.run_to_its_end(&format!("{program} {arguments}"), &entry.output);
        } else {
            self.start_server(&program, &arguments.replace(PORT, "0"), entry);
        }
    }

    fn start_server(&mut self, program: &str, arguments: &str, entry: &Entry) {
        self.server = None;
        let server = Running::start(&format!("exec {program} {arguments}"), Stdio::null());
        let line = server.next_line().expect("the server prints its address");
        let (_, port) = line.rsplit_once(':').unwrap_or_else(|| panic!("{line}"));
        self.port = port.to_owned();
        self.server = Some(server);
        let shown = line.replace(port, PORT);
        assert_eq!(Some(&shown.as_str()), entry.output.first());
        self.expect_of_server(&entry.output[1..]);
    }

    fn expect_of_server(&self, expected: &[&str]) {
        let server = self.server.as_ref().expect("a server runs");
        for expected in expected {
            let line =
                server.next_line().unwrap_or_else(|| panic!("it has ended before {expected:?}"));
            assert!(line_matches(expected, &line), "{line:?} is not {expected:?}");
        }
    }

    fn run_to_its_end(&mut self, command: &str, expected: &[&str]) {
        let only_looks = ["ss ", "ps ", "grep ", "timeout 1 strace "]
            .iter()
            .any(|name| command.starts_with(name));
        let has_pause = command.contains("sleep 1;");
        let end = Instant::now() + PATIENCE;
        loop {
            let lines: Vec<String> =
                Running::start(&self.substituted(command), Stdio::null()).rest();
            let lines: Vec<String> = lines.iter().map(|line| self.as_shown(line)).collect();
            if lines_match(expected, &lines) {
                return;
            }
            let goes_on = (only_looks || has_pause) && Instant::now() < end;
            assert!(goes_on, "{command}\n{}\nis not\n{}", lines.join("\n"), expected.join("\n"));
            thread::sleep(Duration::from_millis(5)); // before it looks again
        }
    }

    /// Returns a line of output with the port of the page, and without what `ps` shows of tests that
    /// run at a low or a high priority.
    fn as_shown(&self, line: &str) -> String {
        let line = ["SN", "S<", "RN", "R<"]
            .iter()
            .fold(line.to_owned(), |line, state| line.replace(state, &state[..1]));
        match self.server {
            Some(_) => line.replace(&self.port, PORT),
            None => line,
        }
    }

    fn substituted(&mut self, command: &str) -> String {
        let mut command = command.replace(PORT, &self.port);
        for name in (65_400..65_410).map(|port| port.to_string()) {
            if command.contains(&name) {
                let port = self.free_ports.entry(name.clone()).or_insert_with(free_port);
                command = command.replace(&name, port);
            }
        }
        let Some((before, rest)) = command.split_once("$(pidof ") else { return command };
        let (_, after) = rest.split_once(')').unwrap();
        let id = self.server.as_ref().expect("a server runs").process.id();
        format!("{before}{id}{after}")
    }
}

/// Returns a free port. Another process may take it first, which then shows as a failure.
fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// Waits until a command that is to listen, by `nc -l`, does so. It takes one client only, so
/// nothing connects to find out.
fn await_listening(command: &str) {
    let Some((_, rest)) = command.split_once("nc -l ") else { return };
    let port: u16 = rest.split(' ').filter_map(|word| word.parse().ok()).next().unwrap();
    let listens = format!(":{port:04X} 00000000:0000 0A");
    let end = Instant::now() + PATIENCE;
    while !fs::read_to_string("/proc/net/tcp").unwrap().contains(&listens) {
        assert!(Instant::now() < end, "{command} does not listen");
        thread::yield_now();
    }
}

fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    path
}

fn shell(command: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", command]).env("LC_ALL", "C.UTF-8");
    shell
}

/// A command, the lines that it prints, and all its processes, which are ended with it.
struct Running {
    command: String,
    process: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &str, input: Stdio) -> Self {
        let mut shell = shell(&format!("exec 2>&1; {command}"));
        let shell = shell.stdin(input).stdout(Stdio::piped()).process_group(0);
        let mut process = shell.spawn().unwrap();
        let output = process.stdout.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(text).is_err() {
                    // The output is no longer wanted, but the program must not block on it.
                    let _ = output.read_to_end(&mut Vec::new());
                }
                line.clear();
            }
        });
        Self { command: command.to_owned(), process, lines }
    }

    fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("{}: neither goes on nor ends", self.command),
        }
    }

    fn rest(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next_line()).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group is that of our own child, which has not been waited for.
        let group = format!("-{}", self.process.id());
        let mut kill = Command::new("kill");
        let _ = kill.args(["-KILL", "--", &group]).stderr(Stdio::null()).status();
        let _ = self.process.wait();
    }
}

fn lines_match(expected: &[&str], lines: &[String]) -> bool {
    match expected {
        [] => lines.is_empty(),
        ["...", rest @ ..] => (0..=lines.len()).any(|skipped| lines_match(rest, &lines[skipped..])),
        [first, rest @ ..] => match lines {
            [] => false,
            [line, tail @ ..] => line_matches(first, line) && lines_match(rest, tail),
        },
    }
}

/// Returns whether a line is what a line of a page stands for. Runs of blanks count as one.
fn line_matches(expected: &str, line: &str) -> bool {
    let (mut expected, mut words) = (expected.split_whitespace(), line.split_whitespace());
    loop {
        match (expected.next(), words.next()) {
            (None, None) => return true,
            (Some(expected), Some(word)) if word_matches(expected, word) => {}
            _ => return false,
        }
    }
}

fn word_matches(expected: &str, word: &str) -> bool {
    if let Some((before, after)) = expected.split_once("<n>") {
        let middle = word.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        return middle.is_some_and(|middle| middle.parse::<u64>().is_ok());
    }
    let about = expected.strip_prefix('~').and_then(|about| about.parse::<u64>().ok());
    match (about, word.parse::<u64>()) {
        (Some(about), Ok(number)) => about / 100 <= number && number <= about * 100,
        _ => expected == word,
    }
}

#[test]
fn line_of_a_page_matches_what_it_stands_for_and_nothing_else() {
    assert!(line_matches("ESTAB 0 ~500 127.0.0.1:<n>", "ESTAB  0   49999 127.0.0.1:40000 "));
    assert!(!line_matches("ESTAB 0 ~500 127.0.0.1:<n>", "ESTAB 0 50001 127.0.0.1:40000"));
    assert!(!line_matches("ESTAB 0 ~500 127.0.0.1:<n>", "ESTAB 0 500 127.0.0.2:40000"));
    let lines = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert!(lines_match(&["a", "...", "c"], &lines("a b b c")));
    assert!(lines_match(&["a", "...", "c"], &lines("a c")));
    assert!(!lines_match(&["a", "...", "c"], &lines("a b c d")));
    assert!(!lines_match(&["a"], &lines("a b")));
    assert!(!lines_match(&["a", "b"], &lines("a")));
}
