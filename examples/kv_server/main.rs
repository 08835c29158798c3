//! A key-value store that clients of Redis can use, in one thread.
//!
//! It shows a whole protocol on the loop: requests taken apart where they lie in the read buffer,
//! pipelines answered together, transactions, publish and subscribe, and limits for clients that do
//! not read. Everything is kept in memory and gone when the server ends.
//!
//! | file | |
//! |---|---|
//! | `server.rs` | events, clients, and the commands that need the whole loop |
//! | `commands.rs` | all other commands |
//! | `resp.rs` | the protocol |
//! | `store.rs` | keys, values and their times |
//!
//! ```text
//! cargo run --release --example kv_server
//! ```
//!
//! Then, in another terminal, `redis-cli -p 65432`, `redis-benchmark -p 65432 -t set,get`, or just
//! `nc 127.0.0.1 65432` and `SET greeting hello`.

use std::process::ExitCode;

use readiness::{Event, EventLoop};

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/signals.rs"]
mod signals;

mod commands;
mod resp;
mod server;
mod store;

use server::Server;
use signals::CtrlC;

const USAGE: &str = "\
Keeps keys and values in memory, for any client of Redis (RESP2).

Usage: kv_server [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this

There is no password, so listen where only friends can connect.
Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let mut clients = EventLoop::with_limits(server::limits())?;
    let mut server = Server::new(clients.now());
    let listener = clients.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut ctrl_c = CtrlC::new(&mut clients)?;
    common::status(format_args!("Listening on {}", clients.listener_addr(listener)?));
    loop {
        let event = clients.next_event()?;
        if event == Event::ShutDown {
            return Ok(());
        }
        server.handle(&mut clients, event);
        ctrl_c.handle(&mut clients, event);
    }
}
