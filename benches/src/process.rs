//! Processes that are started here: held on a core, looked at through `/proc`, and never left
//! behind, whether this program ends well, panics or is interrupted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::process::{Child, Command};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, Signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How long a process has to end; tools have something to write then.
const PATIENCE: Duration = Duration::from_secs(10);

/// The processes that run, for the handler of an interrupt.
static RUNNING: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn running() -> MutexGuard<'static, BTreeSet<u32>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes an interrupt or a termination end what was started, then this program.
pub(crate) fn end_all_when_interrupted() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        // Held to the end, so that nothing is started until then.
        let running = running();
        running.iter().for_each(|id| kill(*id));
        std::process::exit(130);
    })
}

/// A process that ends with its owner.
pub(crate) struct Guarded {
    pub(crate) child: Child,
}

impl Guarded {
    pub(crate) fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut running = running();
        let child = command.spawn()?;
        running.insert(child.id());
        Ok(Self { child })
    }

    /// Waits for its end, which it was asked for.
    pub(crate) fn wait(mut self) -> io::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                let message = "it does not end when it is asked to";
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let mut running = running();
        // Until it has been waited for, its id is not reused.
        if let Ok(None) = self.child.try_wait() {
            // What a tracer runs does not end with the tracer.
            children(self.child.id()).into_iter().for_each(kill);
            kill(self.child.id());
            let _ = self.child.wait();
        }
        running.remove(&self.child.id());
    }
}

fn kill(id: u32) {
    signal(id, Signal::KILL);
}

/// Sends a signal; that the process has ended already is no failure.
pub(crate) fn signal(id: u32, signal: Signal) {
    if let Some(id) = i32::try_from(id).ok().and_then(Pid::from_raw) {
        let _ = rustix::process::kill_process(id, signal);
    }
}

/// Returns the processes that one has started.
pub(crate) fn children(id: u32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Returns the cores that this process may use.
pub(crate) fn cores() -> io::Result<Vec<usize>> {
    let allowed = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect())
}

/// Starts a process on one core. It inherits this thread's cores, so it never runs elsewhere.
pub(crate) fn spawn_on(core: Option<usize>, command: &mut Command) -> io::Result<Guarded> {
    let Some(core) = core else { return Guarded::spawn(command) };
    let allowed = sched_getaffinity(None)?;
    let mut only = CpuSet::new();
    only.set(core);
    sched_setaffinity(None, &only)?;
    let spawned = Guarded::spawn(command);
    sched_setaffinity(None, &allowed)?;
    spawned
}

/// Raises the limit of open files as far as is allowed, for what is started too; returns it.
pub(crate) fn raise_open_files() -> u64 {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let now = match rustix::process::setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    now.unwrap_or(u64::MAX)
}

/// Returns the processor time that a process has used so far, in nanoseconds, over all its threads.
pub(crate) fn processor_time(id: u32) -> io::Result<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{id}/task"))? {
        let text = match fs::read_to_string(task?.path().join("schedstat")) {
            Err(error) if has_ended(&error) => continue, // a thread, which has ended by now
            text => text?,
        };
        let first = text.split_whitespace().next().and_then(|time| time.parse::<u64>().ok());
        sum += first.ok_or_else(|| io::Error::other("/proc does not tell times"))?;
    }
    Ok(sum)
}

fn has_ended(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
        || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

/// Returns how many files, sockets among them, a process has open.
pub(crate) fn open_files(id: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{id}/fd"))?.count())
}

/// Returns a process's own bytes of memory: not of files, and only what it has touched.
pub(crate) fn memory(id: u32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    Ok(kib.ok_or_else(|| io::Error::other("/proc does not tell memory"))? * 1024)
}
