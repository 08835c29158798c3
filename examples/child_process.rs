//! A server that runs a command for each client, and joins the two: what the client sends is the
//! command's input, and what the command prints goes back.
//!
//! It shows pipes as foreign sources, and the end of a child process as a signal. The pipes keep
//! the edge contract: go on until `WouldBlock`. Neither side runs ahead of the other: what the
//! command does not take stays in the connection's read buffer, which then reads no more from its
//! client; and while the client does not read, nothing more is taken from the command.
//!
//! ```text
//! cargo run --example child_process
//! cargo run --example child_process 127.0.0.1:65432 sort
//! ```
//!
//! Then, in another terminal, `nc -N 127.0.0.1 65432`. The program is in
//! `examples/unix/child_process.rs`, since such pipes are of Unix only.

use std::process::ExitCode;

mod common;
#[cfg(unix)]
#[path = "common/signals.rs"]
mod signals;
#[cfg(unix)]
#[path = "unix/child_process.rs"]
mod unix;

const USAGE: &str = "\
Runs a command for each client. The client's bytes are its input, and its output
goes back.

Usage: child_process [ADDRESS] [COMMAND]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  COMMAND     what to run, by the shell [default: cat]
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

fn main() -> ExitCode {
    #[cfg(unix)]
    return common::run(USAGE, unix::serve);
    #[cfg(not(unix))]
    common::run(USAGE, |_| Err("there are no pipes here that can be watched".into()))
}
