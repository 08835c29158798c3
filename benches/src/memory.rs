//! Measures a server's own memory for each connection: the kernel uses more, but no server can help
//! that.

use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use crate::builder::Built;
use crate::load::connecting;
use crate::load::pattern::Pattern;
use crate::process::{memory, open_files};
use crate::running::Running;
use crate::scenarios::SLOW_READER;

/// What each connection says, to have been used.
const MESSAGE: usize = 16 * 1024;
/// What the first one says, for the server to have touched all memory that it needs once, however
/// many connections it has.
const FIRST: usize = 1024 * 1024;
/// What is sent at once to the server that is not read from.
const CHUNK: usize = 64 * 1024;
/// A server that took nothing for this long takes no more.
const STALLED: Duration = Duration::from_millis(300);

/// Bytes a connection, and of one that stalls.
#[derive(Serialize)]
pub(crate) struct Memory {
    pub(crate) server: String,
    pub(crate) connections: usize,
    pub(crate) fresh: f64,
    pub(crate) after_use: f64,
    pub(crate) all_closed: f64,
    /// Unless the server cannot stand it.
    pub(crate) stalled: Option<f64>,
}

pub(crate) fn measure(built: &Built, connections: usize) -> Result<Memory, Box<dyn Error>> {
    let [fresh, after_use, all_closed] = crowd(built, connections)?;
    let stalled = match built.server.unfit_for(SLOW_READER) {
        None => Some(stalled(built)?),
        Some(_) => None,
    };
    let server = built.server.name.to_owned();
    Ok(Memory { server, connections, fresh, after_use, all_closed, stalled })
}

/// A server, and a connection that has been used: what the first costs is not counted.
struct Subject {
    running: Running,
    probe: TcpStream,
    pattern: Pattern,
    before: u64,
}

impl Subject {
    fn start(built: &Built) -> Result<Self, Box<dyn Error>> {
        let running = Running::start(built, &[], None)?;
        let opened = connecting::open(running.address, running.id(), 1)?;
        let probe = opened.into_iter().next().ok_or("no connection")?;
        let mut subject = Self { running, probe, pattern: Pattern::new(), before: 0 };
        exchange_at_once(&mut subject.probe, &subject.pattern, FIRST)?;
        subject.before = subject.memory()?;
        Ok(subject)
    }

    /// Returns the server's memory once the probe is answered: what was sent before is done then.
    fn memory(&mut self) -> Result<u64, Box<dyn Error>> {
        exchange(&mut self.probe, &self.pattern, 0)?;
        Ok(memory(self.running.id())?)
    }

    fn growth(&mut self) -> Result<f64, Box<dyn Error>> {
        Ok(self.memory()? as f64 - self.before as f64)
    }
}

fn crowd(built: &Built, connections: usize) -> Result<[f64; 3], Box<dyn Error>> {
    let mut subject = Subject::start(built)?;
    let server = subject.running.id();
    let files = open_files(server)?;
    let mut sockets = connecting::open(subject.running.address, server, connections)?;
    let fresh = subject.growth()?;
    for (number, socket) in sockets.iter_mut().enumerate() {
        exchange(socket, &subject.pattern, number)?;
    }
    let after_use = subject.growth()?;
    connecting::end(sockets)?;
    connecting::await_open_files(server, "closed", |open| open <= files)?;
    let all_closed = subject.growth()?;
    Ok([fresh, after_use, all_closed].map(|bytes| bytes / connections as f64))
}

fn exchange(
    socket: &mut TcpStream,
    pattern: &Pattern,
    number: usize,
) -> Result<(), Box<dyn Error>> {
    let start = pattern.start(number);
    socket.write_all(pattern.slice(start, MESSAGE))?;
    let mut back = [0; MESSAGE];
    socket.read_exact(&mut back)?;
    Ok(pattern.verify(start, &back)?)
}

/// More than a server reads at once, sent by another thread.
fn exchange_at_once(
    socket: &mut TcpStream,
    pattern: &Pattern,
    bytes: usize,
) -> Result<(), Box<dyn Error>> {
    let mut writer = socket.try_clone()?;
    thread::scope(|scope| {
        let sent = scope.spawn(move || {
            (0..bytes).step_by(CHUNK).try_for_each(|at| {
                writer.write_all(pattern.slice(at as u64, CHUNK.min(bytes - at)))
            })
        });
        let mut back = vec![0; CHUNK];
        for at in (0..bytes).step_by(CHUNK) {
            let back = &mut back[..CHUNK.min(bytes - at)];
            socket.read_exact(back)?;
            pattern.verify(at as u64, back)?;
        }
        Ok(sent.join().map_err(|_| "the sending thread panicked")??)
    })
}

/// Returns the growth for one client that sends until nothing more is taken, and has read nothing.
/// In the end it reads, and everything must arrive.
fn stalled(built: &Built) -> Result<f64, Box<dyn Error>> {
    let mut subject = Subject::start(built)?;
    let opened = connecting::open(subject.running.address, subject.running.id(), 1)?;
    let mut socket = opened.into_iter().next().ok_or("no connection")?;
    socket.set_write_timeout(Some(STALLED))?;
    let mut sent = 0;
    loop {
        match socket.write(subject.pattern.slice(sent, CHUNK)) {
            Ok(count) => sent += count as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) => return Err(error.into()),
        }
    }
    // The probe is served as well, so that what serves all is not counted as the one's.
    let growth = subject.growth()?;
    let mut back = vec![0; CHUNK];
    let mut received = 0;
    while received < sent {
        let room = back.len().min((sent - received) as usize);
        let count = socket.read(&mut back[..room])?;
        if count == 0 {
            return Err("the server has ended a connection early".into());
        }
        subject.pattern.verify(received, &back[..count])?;
        received += count as u64;
    }
    connecting::end(vec![socket])?;
    subject.memory()?;
    Ok(growth)
}
