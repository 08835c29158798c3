//! An echo client that sends a message, or a file of any size, and receives all of it however it
//! is cut.
//!
//! It shows how to stream: send until the connection is clogged, go on at `Drained`, and take what
//! comes back meanwhile. Neither end ever holds more than a little of the file. It also shows what
//! one read may not assume: the answer is whole when the peer's end was read, and not before.
//!
//! ```text
//! cargo run --example echo_client
//! cargo run --example echo_client 127.0.0.1:65432 "Hello, world"
//! cargo run --release --example echo_client -- --file PATH
//! ```

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor};
use std::path::Path;
use std::process::ExitCode;

use readiness::{CloseReason, Connection, Event, EventLoop};

mod common;
#[path = "common/file_check.rs"]
mod file_check;

use file_check::FileCheck;

const USAGE: &str = "\
Sends a message or a file to an echo server, and says whether all of it comes
back as it was sent.

Usage: echo_client [ADDRESS] [MESSAGE]
       echo_client [ADDRESS] --file PATH

  ADDRESS      where to connect [default: 127.0.0.1:65432]
  MESSAGE      what to send [default: Hello, world]; put -- before the ADDRESS
               if it begins with -
  --file PATH  send this file instead
  -h, --help   print this

The exit status is 0 if all came back identical, and else 1.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

/// What is still to be sent, and what is done with that which comes back.
struct Echo {
    outgoing: Box<dyn BufRead>,
    incoming: Incoming,
}

enum Incoming {
    /// It is kept, to be shown.
    Message(Vec<u8>),
    /// It is compared with the file, which is read a second time for that.
    File(FileCheck),
}

fn main() -> ExitCode {
    common::run_with_file(USAGE, echo)
}

fn echo(arguments: common::Arguments) -> common::Outcome {
    let file = arguments.file();
    let [address, message] = arguments.values()?;
    let address = common::address(address)?;
    let echo = match (file, message) {
        (Some(_), Some(_)) => return Err("either a message or a file, not both".into()),
        (Some(path), None) => file_echo(path.as_ref())
            .map_err(|error| format!("cannot send {}: {error}", path.display()))?,
        (None, message) => message_echo(message.unwrap_or("Hello, world".into())),
    };
    common::start_log();

    let mut client = EventLoop::new()?;
    client.connect(address.all()[0], echo);
    while client.connection_count() > 0 {
        let event = client.next_event()?;
        handle(&mut client, event)?;
    }
    Ok(())
}

fn message_echo(message: String) -> Echo {
    Echo { outgoing: Box::new(Cursor::new(message)), incoming: Incoming::Message(Vec::new()) }
}

fn file_echo(path: &Path) -> io::Result<Echo> {
    let incoming = Incoming::File(FileCheck::new(path)?);
    Ok(Echo { outgoing: Box::new(BufReader::new(File::open(path)?)), incoming })
}

fn handle(client: &mut EventLoop<Echo>, event: Event) -> common::Outcome {
    match event {
        Event::Connected(id) | Event::Drained(id) => send_until_clogged(&mut client[id])?,
        Event::Received(id) => {
            let (echo, stream) = client[id].split();
            match &mut echo.incoming {
                Incoming::Message(message) => message.extend_from_slice(stream.received()),
                Incoming::File(check) => check.take(stream.received())?,
            }
            stream.consume(stream.received().len());
        }
        Event::Closed(id, CloseReason::Finished) => match &mut client[id].data.incoming {
            Incoming::Message(all) => {
                common::print(format_args!("Received {:?}", String::from_utf8_lossy(all)))?;
            }
            Incoming::File(check) => {
                common::print(format_args!("{} bytes came back identical", check.conclude()?))?;
            }
        },
        Event::Closed(id, reason) => {
            let address = client[id].peer_addr()?;
            return Err(format!("the connection to {address} failed: {reason}").into());
        }
        _ => {}
    }
    Ok(())
}

/// Sends a piece after the other; after the last one, our end, so that the server ends too.
fn send_until_clogged(connection: &mut Connection<Echo>) -> io::Result<()> {
    let (echo, stream) = connection.split();
    while !stream.is_clogged() {
        let piece = echo.outgoing.fill_buf()?;
        let count = piece.len();
        match count {
            0 => stream.finish(), // from here on it counts as clogged
            _ => stream.send(piece),
        }
        echo.outgoing.consume(count);
    }
    Ok(())
}
