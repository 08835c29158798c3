//! A server that runs, perhaps under a tool, and the load that is set upon it.

use std::error::Error;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{ChildStdout, Command, Stdio};

use rustix::process::Signal;

use crate::builder::Built;
use crate::load::{Extent, Order, Report, Task};
use crate::process::{self, Guarded};

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    process: Guarded,
    /// A tool's child, if the server runs under one that stays its parent.
    tooled: Option<u32>,
    /// Kept open: what a server prints later must not fail.
    _out: BufReader<ChildStdout>,
}

/// Where server and load run; `None` for anywhere.
#[derive(Clone, Copy, Default)]
pub(crate) struct Cores {
    pub(crate) server: Option<usize>,
    pub(crate) load: Option<usize>,
}

impl Running {
    /// Starts a server, under a tool if its command line is not empty, and waits until it listens.
    pub(crate) fn start(
        built: &Built,
        tool: &[String],
        core: Option<usize>,
    ) -> Result<Self, Box<dyn Error>> {
        let words = [tool, &built.command_line()].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut process = process::spawn_on(core, &mut command)?;
        let mut out = BufReader::new(process.child.stdout.take().ok_or("no standard output")?);
        let mut line = String::new();
        out.read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("Listening on ");
        let address = address.ok_or("the server does not say where it listens")?.parse()?;
        let tooled = process::children(process.child.id()).first().copied();
        let tooled = if tool.is_empty() { None } else { tooled };
        Ok(Self { address, process, tooled, _out: out })
    }

    /// Returns the server's own process.
    pub(crate) fn id(&self) -> u32 {
        self.tooled.unwrap_or(self.process.child.id())
    }

    /// Sets the load upon the server, and waits for its report.
    pub(crate) fn load(
        &self,
        task: &Task,
        extent: Extent,
        core: Option<usize>,
    ) -> Result<Report, Box<dyn Error>> {
        let (address, server) = (self.address, self.id());
        let order = Order { address, server, task: task.clone(), extent };
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("load").arg(serde_json::to_string(&order)?);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut load = process::spawn_on(core, &mut command)?;
        let (mut report, mut said) = (String::new(), String::new());
        load.child.stdout.take().ok_or("no standard output")?.read_to_string(&mut report)?;
        load.child.stderr.take().ok_or("no standard error")?.read_to_string(&mut said)?;
        match load.child.wait()?.success() {
            true => Ok(serde_json::from_str(&report)?),
            false => Err(said.trim_end().into()),
        }
    }

    /// Ends the server, and lets a tool write down what it has counted.
    pub(crate) fn finish(self) -> Result<(), Box<dyn Error>> {
        process::signal(self.id(), Signal::TERM);
        Ok(self.process.wait()?)
    }
}
