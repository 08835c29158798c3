//! The examples as child processes: started, read line by line, and killed by their handle.

#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use crate::common::{PATIENCE, peer};

/// A running example. It is killed, if it still runs, when this is dropped.
pub struct Program {
    child: Child,
    pub stdout: Lines,
    pub stderr: Lines,
}

/// How an example ended.
#[derive(Debug)]
pub struct Ended {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Program {
    pub fn start(name: &str, arguments: &[&str]) -> Self {
        Self::start_by(command(name).args(arguments))
    }

    /// One that prints each step of its loop on standard error.
    pub fn start_traced(name: &str, arguments: &[&str]) -> Self {
        Self::start_logged(name, arguments, "readiness=trace")
    }

    /// One that logs on standard error what the filter lets through.
    pub fn start_logged(name: &str, arguments: &[&str], filter: &str) -> Self {
        Self::start_by(command(name).args(arguments).env("RUST_LOG", filter))
    }

    /// A program that stands elsewhere than the examples.
    pub fn start_at(path: &Path, arguments: &[&str]) -> Self {
        Self::start_by(Command::new(path).args(arguments))
    }

    /// An example that listens, and the address that it has printed.
    pub fn listening(mut self) -> (Self, SocketAddr) {
        let line = self.stdout.next();
        let line = line.unwrap_or_else(|| panic!("no address; {:?}", self.stderr.rest()));
        let address = line.strip_prefix("Listening on ").and_then(|text| text.parse().ok());
        let address = address.unwrap_or_else(|| panic!("not the line of an address: {line:?}"));
        (self, address)
    }

    /// Runs an example to its end.
    pub fn run(name: &str, arguments: &[&str]) -> Ended {
        Self::start(name, arguments).ended()
    }

    /// Waits for the end. The output is what has not been read before.
    pub fn ended(mut self) -> Ended {
        let (stdout, stderr) = (self.stdout.rest(), self.stderr.rest());
        let status = self.child.wait().unwrap().code();
        Ended { status, stdout, stderr }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal by its name, such as `INT`.
    pub fn signal(&self, name: &str) {
        let (signal, id) = (format!("-{name}"), self.child.id().to_string());
        assert!(Command::new("kill").args([signal, id]).status().unwrap().success());
    }

    fn start_by(command: &mut Command) -> Self {
        let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().unwrap();
        let stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The echo program of a host answers a client, and Ctrl-C lets it end when the client is done.
pub fn assert_echoes_and_leaves(path: &Path) {
    let (mut program, address) = Program::start_at(path, &["127.0.0.1:0"]).listening();
    let mut client = peer(address);
    let mut answer = [0; 5];
    client.write_all(b"Hello").unwrap();
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"Hello");

    program.signal("INT");
    assert_eq!(program.stdout.next().as_deref(), Some("Shutting down within 10s"));
    assert_eq!(client.read(&mut answer).unwrap(), 0);
    drop(client);
    let ended = program.ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
}

/// The lines of a pipe, read by a thread so that no program ever waits for its test to read.
pub struct Lines {
    lines: Receiver<String>,
}

impl Lines {
    fn of(pipe: impl Read + Send + 'static) -> Self {
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut pipe = BufReader::new(pipe);
            let mut line = String::new();
            while pipe.read_line(&mut line).unwrap() > 0 && sender.send(line.clone()).is_ok() {
                line.clear();
            }
        });
        Self { lines }
    }

    /// The next line without its end; `None` when the program has closed the pipe.
    pub fn next(&mut self) -> Option<String> {
        self.next_with_its_end().map(|line| line.trim_end().to_string())
    }

    /// Waits for a line that ends like this.
    pub fn until(&mut self, end: &str) {
        let mut seen = Vec::new();
        while let Some(line) = self.next() {
            if line.ends_with(end) {
                return;
            }
            seen.push(line);
        }
        panic!("the program ended without a line {end:?}; it said {seen:#?}");
    }

    fn rest(&mut self) -> String {
        std::iter::from_fn(|| self.next_with_its_end()).collect()
    }

    fn next_with_its_end(&mut self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("the program neither goes on nor ends"),
        }
    }
}

/// An example that cargo has built beside this test, without settings of this environment.
fn command(name: &str) -> Command {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let path: PathBuf = profile.join("examples").join(file);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    command.env_remove("RUST_LOG").env_remove("RUST_LOG_STYLE");
    command
}
