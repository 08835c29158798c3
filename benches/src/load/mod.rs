//! The load: a separate process, in one thread, that talks with a server, verifies every byte of
//! the echo, and reports what it measured.
//!
//! It is this program again, started with an [`Order`] in JSON as its argument; its [`Report`] is
//! one line of JSON on standard output. Being a process, it can be held on its own core, and its
//! time is measured apart from the server's.

pub(crate) mod connecting;
mod meter;
mod order;
pub(crate) mod pattern;
mod talk;
mod visit;

use std::error::Error;
use std::thread;
use std::time::Duration;

pub(crate) use order::{Extent, Group, Latency, Manner, Order, Report, Task, Wait};

/// No order takes as long as this; a server that makes it so has failed.
const TIME_MAX: Duration = Duration::from_secs(120);

/// Carries out the order that the argument holds.
pub(crate) fn run(argument: &str) -> Result<(), Box<dyn Error>> {
    let order: Order = serde_json::from_str(argument)?;
    thread::spawn(|| {
        thread::sleep(TIME_MAX);
        eprintln!("the load has not come to its end");
        std::process::exit(1);
    });
    let report = match &order.task {
        Task::Talk { groups, lines, wait } => talk::run(&order, groups, *lines, *wait)?,
        Task::Visit { at_once, bytes, finish } => visit::run(&order, *at_once, *bytes, *finish)?,
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}
