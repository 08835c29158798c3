//! One loop inside another: a library that has its own loop, in a program that has one too.
//!
//! It shows that a loop is a source like any other. Its descriptor becomes readable when it has
//! something to do: its host watches that, sleeps no longer than `next_timeout()`, and then takes
//! the loop through one turn. All that makes a host is in `examples/unix/nested_host.rs`, the rest
//! in `examples/unix/nested_loops.rs`, since there are descriptors on Unix only.
//!
//! ```text
//! cargo run --example nested_loops
//! ```
//!
//! It prints two addresses. The outer loop, at the first, echoes in capitals; the inner one, at the
//! second, echoes unchanged.

use std::process::ExitCode;

mod common;
#[cfg(unix)]
#[path = "common/signals.rs"]
mod signals;
#[cfg(unix)]
#[path = "unix/nested_loops.rs"]
mod unix;

const USAGE: &str = "\
Two servers, each with a loop of its own, one loop inside the other.

Usage: nested_loops [ADDRESS]

  ADDRESS     where the outer server listens [default: 127.0.0.1:65432]; with
              port 0 the system chooses one. The port of the inner server is
              always chosen by the system
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loops.";

fn main() -> ExitCode {
    #[cfg(unix)]
    return common::run(USAGE, unix::serve);
    #[cfg(not(unix))]
    common::run(USAGE, |_| Err("there are no descriptors here to watch a loop by".into()))
}
