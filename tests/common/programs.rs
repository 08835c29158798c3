//! The examples as child processes: started, read line by line, and killed by their handle.

#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};

use crate::common::{PATIENCE, peer};

/// Servers that echo, and nothing else.
pub const SERVERS: [&str; 3] = ["echo_server", "blocking_echo_server", "threaded_echo_server"];
/// Servers with something of their own beside the echo, or in its place.
#[cfg(unix)]
pub const SPECIAL_SERVERS: [&str; 8] = [
    "chat_server",
    "worker_pool",
    "kv_server",
    "udp_echo",
    "child_process",
    "multi_core_echo_server",
    "frame_loop",
    "nested_loops",
];
#[cfg(not(unix))]
pub const SPECIAL_SERVERS: [&str; 5] =
    ["chat_server", "worker_pool", "kv_server", "udp_echo", "frame_loop"];
/// Programs that connect to a server, print what comes of it, and end.
pub const CLIENTS: [&str; 2] = ["echo_client", "multi_connection_client"];

/// All examples of every build that take a command line.
pub fn all_programs() -> impl Iterator<Item = &'static str> {
    SERVERS.into_iter().chain(SPECIAL_SERVERS).chain(CLIENTS)
}

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
        Self::start_with(command, Stdio::piped(), Stdio::piped())
    }

    /// One whose output goes elsewhere, so that no line of it is read here.
    pub fn start_with(
        command: &mut Command,
        stdout: impl Into<Stdio>,
        stderr: impl Into<Stdio>,
    ) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).spawn().unwrap();
        // What goes elsewhere is, seen from here, at its end.
        let stdout = child.stdout.take().map_or_else(|| Lines::of(io::empty()), Lines::of);
        let stderr = child.stderr.take().map_or_else(|| Lines::of(io::empty()), Lines::of);
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

/// The echo program of a host answers a client, and Ctrl-C lets it end when the client is done:
/// also when nobody reads what it prints.
pub fn assert_echoes_and_leaves(path: &Path) {
    let (mut program, address) = Program::start_at(path, &["127.0.0.1:0"]).listening();
    let client = greeted(address);
    program.signal("INT");
    let line = "Shutting down: 10s for 1 connection to finish. Ctrl-C again aborts the rest";
    assert_eq!(program.stdout.next().as_deref(), Some(line));
    assert_leaves(program, client);

    let mut command = Command::new(path);
    let mut program =
        Program::start_with(command.arg("localhost:0"), nobody_reads(), Stdio::piped());
    let client = greeted(address_in(&program.stderr.next().unwrap()));
    program.signal("INT");
    assert_leaves(program, client);

    let help = Program::start_at(path, &["--help"]).ended();
    assert!(help.status == Some(0) && help.stdout.contains("[ADDRESS]"), "{help:?}");
    assert!(help.stdout.lines().all(|line| line.len() <= 80), "{help:?}");
}

fn greeted(address: SocketAddr) -> TcpStream {
    let mut client = peer(address);
    assert_echoes(&mut client, b"Hello");
    client
}

fn assert_leaves(program: Program, mut client: TcpStream) {
    assert_eq!(client.read(&mut [0]).unwrap(), 0);
    drop(client);
    let ended = program.ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
}

/// A pipe that nobody reads, for a program to print to.
pub fn nobody_reads() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// The address in a server's warning that the line with it could not be printed.
pub fn address_in(warning: &str) -> SocketAddr {
    let (_, rest) = warning.split_once("cannot print \"Listening on ").expect(warning);
    assert!(warning.contains("WARN"), "{warning:?}");
    rest.split_once("\": ").expect(warning).0.parse().unwrap()
}

/// A server on a port that the system has chosen, and its address.
pub fn server(name: &str) -> (Program, SocketAddr) {
    Program::start(name, &["127.0.0.1:0"]).listening()
}

/// Sends a message and checks that it comes back.
pub fn assert_echoes(client: &mut TcpStream, message: &[u8]) {
    client.write_all(message).unwrap();
    let mut answer = vec![0; message.len()];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, message);
}

/// The next connection of a listener, with bounds as a [`peer`] has them.
pub fn accept(listener: &TcpListener) -> TcpStream {
    let (sender, connection) = channel();
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || sender.send(listener.accept()));
    let (connection, _) = connection.recv_timeout(PATIENCE).expect("a client in time").unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    connection.set_write_timeout(Some(PATIENCE)).unwrap();
    connection.set_nodelay(true).unwrap();
    connection
}

/// A server of the test's own, which treats one client after the other, `count` in all, as `serve`
/// says.
pub fn serving(
    count: usize,
    mut serve: impl FnMut(TcpStream) + Send + 'static,
) -> (String, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = thread::spawn(move || (0..count).for_each(|_| serve(accept(&listener))));
    (address, server)
}

/// A file of the test's own.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(name: &str, content: &[u8]) -> Self {
        let name = format!("{name}-{}", std::process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, content).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// It printed this, and nothing on standard error.
#[track_caller]
pub fn assert_succeeded(ended: &Ended, stdout: &str) {
    assert_eq!((ended.status, ended.stdout.as_str()), (Some(0), stdout), "{ended:?}");
    assert_eq!(ended.stderr, "");
}

/// It failed with status 1, one line that names the program and what it is about, and no more.
#[track_caller]
pub fn assert_failed(name: &str, arguments: &[&str], about: &str) {
    let ended = Program::run(name, arguments);
    assert_eq!(ended.status, Some(1), "{name} {arguments:?}: {ended:?}");
    assert_eq!(ended.stdout, "", "{name} {arguments:?}");
    let line = ended.stderr.strip_suffix('\n').unwrap_or_default();
    assert!(line.starts_with(&format!("{name}: ")), "{name} {arguments:?}: {line:?}");
    assert!(line.contains(about), "{name} {arguments:?}: {line:?} does not name {about:?}");
    assert!(!line.contains('\n'), "{name} {arguments:?}: {line:?}");
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

    /// Waits for a line that has this in it.
    pub fn until_with(&mut self, part: &str) {
        let found = std::iter::from_fn(|| self.next()).any(|line| line.contains(part));
        assert!(found, "the program ended without a line with {part:?}");
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
pub fn command(name: &str) -> Command {
    let test = env::current_exe().unwrap();
    let profile = test.parent().and_then(|deps| deps.parent()).unwrap();
    let file = format!("{name}{}", env::consts::EXE_SUFFIX);
    let path: PathBuf = profile.join("examples").join(file);
    assert!(path.exists(), "{} is not built: run `cargo build --examples`", path.display());
    let mut command = Command::new(path);
    command.env_remove("RUST_LOG").env_remove("RUST_LOG_STYLE");
    command
}
