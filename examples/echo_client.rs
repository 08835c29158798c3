//! An echo client that sends a message, or a file of any size, and says whether it is echoed as it
//! was sent, however it is cut.
//!
//! It shows how to stream: send until the connection is clogged, go on at `Drained`, and take the
//! echo in between. Neither end ever holds more than a little of the file. It also shows what one
//! read may not assume: the answer is whole when the peer's end was read, and not before.
//!
//! ```text
//! cargo run --example echo_client
//! cargo run --example echo_client 127.0.0.1:65432 "Hello, world"
//! cargo run --release --example echo_client -- --file PATH
//! ```

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::process::ExitCode;

use indicatif::ProgressBar;
use readiness::{Event, EventLoop, Stream};

mod common;
#[path = "common/judge.rs"]
mod judge;
#[path = "common/progress.rs"]
mod progress;
#[path = "common/sent_file.rs"]
mod sent_file;

use common::{Name, Outcome};
use judge::Judge;
use progress::progress_bar;
use sent_file::SentFile;

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

/// What is sent, and how much of it has been echoed.
struct Echo {
    /// What is still to be sent.
    outgoing: Box<dyn BufRead>,
    /// The same from its beginning, read in step with the echo.
    expected: Box<dyn Read>,
    judge: Judge,
    progress: ProgressBar,
    /// The echo of a message, to be shown.
    back: Option<Vec<u8>>,
}

fn main() -> ExitCode {
    common::run_with_file(USAGE, echo)
}

fn echo(arguments: common::Arguments) -> Outcome {
    let file = arguments.file();
    let [address, message] = arguments.values()?;
    let address = common::name(address)?;
    match (file, message) {
        (Some(_), Some(_)) => Err("either a message or a file, not both".into()),
        (Some(path), None) => echo_file(&address, path),
        (None, message) => echo_message(&address, message.unwrap_or("Hello, world".into())),
    }
}

fn echo_message(address: &Name, message: String) -> Outcome {
    let mut echo = Echo {
        judge: Judge::new(message.len() as u64),
        outgoing: Box::new(Cursor::new(message.clone())),
        expected: Box::new(Cursor::new(message)),
        progress: ProgressBar::hidden(),
        back: Some(Vec::new()),
    };
    let verdict = exchange(address, &mut echo);
    // It is shown also if it is not all, or different.
    let back = echo.back.unwrap_or_default();
    if verdict.is_ok() || !back.is_empty() {
        common::print(format_args!("Received {:?}", String::from_utf8_lossy(&back)))?;
    }
    common::print(verdict?)
}

fn echo_file(address: &Name, path: OsString) -> Outcome {
    let cannot_send = |error| format!("cannot send {}: {error}", path.display());
    let file = SentFile::open(path.clone()).map_err(cannot_send)?;
    let mut echo = Echo {
        outgoing: Box::new(BufReader::new(file.read().map_err(cannot_send)?)),
        expected: Box::new(file.read().map_err(cannot_send)?),
        judge: Judge::new(file.len()),
        progress: progress_bar(file.len()),
        back: None,
    };
    let verdict = exchange(address, &mut echo);
    drop(echo); // and with it the progress bar
    if file.has_changed() {
        let verdict = verdict.unwrap_or_else(|error| error.to_string());
        return Err(format!("{} changed while it was sent; {verdict}", path.display()).into());
    }
    common::print(verdict?)
}

/// Sends everything and takes the echo. Returns the verdict.
fn exchange(address: &Name, echo: &mut Echo) -> Outcome<String> {
    let mut client: EventLoop = EventLoop::new()?;
    // A name is looked up by the loop, and its addresses are tried until one answers.
    client.connect_name(address.as_str(), ());
    let mut is_connected = false;
    loop {
        match client.next_event()? {
            Event::Connected(id) => {
                is_connected = true;
                echo.send_until_clogged(&mut client[id])?;
            }
            Event::Drained(id) => echo.send_until_clogged(&mut client[id])?,
            Event::Received(id) => echo.take(&mut client[id])?,
            Event::PeerFinished(_) => return echo.conclude(),
            Event::Closed(_, reason) => {
                address.check(reason)?;
                let failed = format!("the connection to {address} failed: {reason}");
                return Err(match is_connected {
                    true => format!("{} came back before {failed}", echo.judge.so_far()).into(),
                    false => failed.into(),
                });
            }
            _ => {}
        }
    }
}

impl Echo {
    /// Returns the verdict at the server's end.
    fn conclude(&self) -> Outcome<String> {
        match self.judge.is_whole() {
            true => Ok(format!("{} bytes came back identical", self.judge.identical())),
            false => Err(format!("only {} came back before the end", self.judge.so_far()).into()),
        }
    }

    /// Sends a piece after the other; after the last one, our end, so that the server ends too.
    fn send_until_clogged(&mut self, stream: &mut Stream) -> Outcome {
        while !stream.is_clogged() {
            let piece = self.outgoing.fill_buf()?;
            let count = piece.len();
            match count {
                0 => stream.finish(), // from here on it counts as clogged
                _ => stream.send(piece),
            }
            self.outgoing.consume(count);
        }
        Ok(())
    }

    /// Compares what was received with what was sent at its place.
    fn take(&mut self, stream: &mut Stream) -> Outcome {
        let received = stream.received();
        let count = received.len();
        let mut expected = Vec::new();
        self.expected.by_ref().take(count as u64).read_to_end(&mut expected)?;
        let compared = self.judge.compare(&expected, received);
        if let Some(back) = &mut self.back {
            back.extend_from_slice(received);
        }
        stream.consume(count);
        self.progress.set_position(self.judge.identical());
        Ok(compared?)
    }
}
