//! An echo server that uses all cores: one thread for each, one loop in each thread.
//!
//! It shows how a program grows beyond one core while nothing in it is shared: every thread has its
//! own loop, connections and listening socket, all at one port, and the kernel spreads new
//! connections over them. A thread is reached from outside through a channel and its loop's waker:
//! here, with the news that Ctrl-C was pressed.
//!
//! One loop is simpler and is enough for most programs: one core echoes more than a network card of
//! many a host carries, and everything that the program knows is in one place. Take one loop for
//! each core when the work per byte fills a core (encryption, parsing), and when connections have
//! nothing to do with each other; a chat, where each talks to each, gets slower by it. When the
//! work arrives in large pieces, one loop with worker threads is better: see `worker_pool`. And
//! know what a shared port does: a connection stays with its thread, however busy that is, and the
//! connections that wait in a thread's backlog die with it. Linux spreads them evenly by a hash;
//! other systems may give all to one.
//!
//! ```text
//! cargo run --release --example multi_core_echo_server
//! cargo run --release --example multi_core_echo_server 127.0.0.1:65432 4
//! ```
//!
//! The program is in `examples/unix/multi_core_echo_server.rs`, since only Unix has the option.

use std::process::ExitCode;

mod common;
#[cfg(unix)]
#[path = "common/listener.rs"]
mod listener;
#[cfg(unix)]
#[path = "common/signals.rs"]
mod signals;
#[cfg(unix)]
#[path = "unix/multi_core_echo_server.rs"]
mod unix;

const USAGE: &str = "\
Sends back what each client sends, with a loop and a thread for each core.

Usage: multi_core_echo_server [ADDRESS] [THREADS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  THREADS     how many, up to 1024 [default: one for each core]
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loops.";

fn main() -> ExitCode {
    #[cfg(unix)]
    return common::run(USAGE, unix::serve);
    #[cfg(not(unix))]
    common::run(USAGE, |_| Err("this system has no ports that several sockets share".into()))
}
