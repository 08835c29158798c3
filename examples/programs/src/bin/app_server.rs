//! The application server of the tutorial, which searches a small table for its clients.
//!
//! It shows a protocol with its own format: frames whose parts say how long the next one is, read
//! as they arrive and never trusted. A request that is broken, too long or too slow is answered
//! with what is wrong, and ends its own connection alone. The tutorial's client works with it
//! unchanged.
//!
//! ```text
//! cargo run --manifest-path examples/programs/Cargo.toml --bin app_server
//! cargo run --manifest-path examples/programs/Cargo.toml --bin app_client search ring
//! ```

use std::process::ExitCode;

use programs::app::{Incoming, server};
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Answers the requests of app_client, one for each connection: what it finds for a
search, or the first bytes of anything else.

Usage: app_server [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this

Searches that find something: morpheus, ring, 🐶.
A request that is broken, too long or too slow is answered with what is wrong.
Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=debug in the environment prints why connections are closed,
RUST_LOG=readiness=trace each step of the loop.";

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let mut event_loop: EventLoop<Incoming> = EventLoop::new()?;
    let listener = event_loop.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut ctrl_c = CtrlC::new(&mut event_loop)?;
    common::status(format_args!("Listening on {}", event_loop.listener_addr(listener)?));
    loop {
        let event = event_loop.next_event()?;
        if event == Event::ShutDown {
            return Ok(());
        }
        ctrl_c.handle(&mut event_loop, event);
        server::handle(&mut event_loop, event);
    }
}
