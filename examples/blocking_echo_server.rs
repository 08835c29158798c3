//! An echo server that serves one client and then the next, with nothing but `std`.
//!
//! The first of the two servers to start from. Every call blocks until it is done, which makes the
//! program short and leaves it with one client at a time: while one is connected, all others wait,
//! even if that one says nothing.
//!
//! ```text
//! cargo run --example blocking_echo_server
//! ```
//!
//! Connect to it from two terminals with `nc 127.0.0.1 65432`: the second is answered when the
//! first has left.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

mod common;

const USAGE: &str = "\
Sends back what a client sends, until it leaves; then serves the next one.

Usage: blocking_echo_server [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this";

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let listener = TcpListener::bind(&address).map_err(common::cannot_listen(&address))?;
    common::status(format_args!("Listening on {}", listener.local_addr()?));
    loop {
        match listener.accept() {
            Ok((client, peer)) => {
                // One client's failure does not end the server for the others.
                if let Err(error) = echo(client) {
                    log::warn!("{peer}: {error}");
                }
            }
            Err(error) => {
                log::warn!("cannot accept: {error}");
                // The next try would most likely fail at once, too.
                thread::sleep(Duration::from_secs(1));
            }
        }
    }
}

fn echo(mut client: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024]; // the most that one read returns, not what it returns
    loop {
        let count = client.read(&mut buffer)?;
        if count == 0 {
            return Ok(()); // the client sends no more
        }
        client.write_all(&buffer[..count])?; // `write` alone may take a part of it
    }
}
