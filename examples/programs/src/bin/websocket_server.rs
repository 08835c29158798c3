//! An echo server over WebSocket, for any number of clients in one thread.
//!
//! It shows a protocol whose state machine borrows the stream for each call: see
//! `src/websocket_echo.rs`.
//!
//! ```text
//! cargo run --release --manifest-path examples/programs/Cargo.toml --bin websocket_server
//! python3 -m websockets ws://127.0.0.1:65432
//! ```
//!
//! Or open `http://127.0.0.1:65432` in a browser.

use std::process::ExitCode;

use programs::websocket_echo;
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Sends back each WebSocket message of each client, in one thread. A browser that
opens http://ADDRESS is shown a page to try it with.

Usage: websocket_server [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this

Messages have 16 MiB at most. Clients are pinged every 30 seconds; one from
which nothing arrives for as long is closed.

Ctrl-C answers what has arrived, tells the clients that the server goes away
(close code 1001) and lets them finish for up to 10 seconds; a second one aborts
them.
RUST_LOG=programs=info in the environment prints why connections were closed.";

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let mut server = EventLoop::with_limits(websocket_echo::limits())?;
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut ctrl_c = CtrlC::new(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    loop {
        let event = server.next_event()?;
        match event {
            Event::ShutDown => return Ok(()),
            Event::Ready(..) => websocket_echo::say_goodbye(&mut server),
            _ => websocket_echo::handle(&mut server, event),
        }
        ctrl_c.handle(&mut server, event);
    }
}
