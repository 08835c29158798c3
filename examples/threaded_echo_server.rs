//! An echo server with a thread for each client, with nothing but `std`.
//!
//! The traditional way to serve many at once, and the second of the two servers to start from.
//! Each client's code stays as short as in `blocking_echo_server`. The price is a thread, with its
//! stack, for each client, also for one that is idle; and as soon as clients share anything, all
//! the care that threads need.
//!
//! ```text
//! cargo run --example threaded_echo_server
//! ```
//!
//! Connect to it from two terminals with `nc 127.0.0.1 65432`: both are answered.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

mod common;

const USAGE: &str = "\
Sends back what each client sends, with a thread for each of them.

Usage: threaded_echo_server [ADDRESS]

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
        if let Err(error) = listener.accept().and_then(start) {
            log::warn!("cannot take a client: {error}");
            // Most often there is no descriptor or thread left: the next try would fail at once,
            // and go on failing at a full core until some client leaves.
            thread::sleep(Duration::from_secs(1));
        }
    }
}

/// Starts a client's thread. If the system has none left, the client is dropped.
fn start((client, peer): (TcpStream, SocketAddr)) -> io::Result<()> {
    thread::Builder::new().spawn(move || {
        if let Err(error) = echo(client) {
            log::warn!("{peer}: {error}");
        }
    })?;
    Ok(())
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
