//! An echo server for any number of clients, in one thread.
//!
//! It shows how little a program on the loop is: it asks for the next event and acts on the
//! connection that the event names. Buffers, partial sends, slow readers and lost clients are the
//! loop's affair. A client that never reads makes the server stop reading from it, and harms
//! nobody else.
//!
//! ```text
//! cargo run --example echo_server
//! RUST_LOG=readiness=trace cargo run --example echo_server
//! ```
//!
//! The second prints each step of the loop. Then, in another terminal, `nc 127.0.0.1 65432`, or
//! the examples `echo_client` and `multi_connection_client`.

use std::io;
use std::process::ExitCode;

use readiness::{Event, EventLoop};

mod common;

const USAGE: &str = "\
Sends back what each client sends, for any number of clients in one thread.

Usage: echo_server [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system chooses one
  -h, --help  print this

RUST_LOG=readiness=trace in the environment prints each step of the loop.";

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let [address] = arguments.values()?;
    let address = common::address(address)?;
    common::start_log();

    let mut server = EventLoop::new()?;
    let listener =
        server.listen(address).map_err(|error| format!("cannot listen at {address}: {error}"))?;
    println!("Listening on {}", server.listener_addr(listener)?);
    loop {
        let event = server.next_event()?;
        handle(&mut server, event)?;
    }
}

fn handle(server: &mut EventLoop, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        server[id].send_received(); // what came in goes out, whole
    }
    Ok(())
}
