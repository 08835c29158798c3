//! Many connections in one loop and one thread, with several messages on each.
//!
//! It shows the program's own state beside each connection (`Connection::data`): which message it
//! is at. A message that was echoed in part is left in the read buffer until the rest is there.
//! What goes wrong on one connection is its own `Closed`, and the others go on.
//!
//! ```text
//! cargo run --example multi_connection_client
//! cargo run --example multi_connection_client 127.0.0.1:65432 1000
//! ```

use std::process::ExitCode;

use readiness::{CloseReason, Connection, Event, EventLoop};

mod common;
#[path = "common/judge.rs"]
mod judge;

use judge::Judge;

const USAGE: &str = "\
Sends several messages on each of many connections, in one thread, and says
whether all of them come back as they were sent.

Usage: multi_connection_client [ADDRESS] [CONNECTIONS]

  ADDRESS      where to connect [default: 127.0.0.1:65432]
  CONNECTIONS  how many, up to 65535 [default: 10]
  -h, --help   print this

The exit status is 0 if all came back identical, and else 1.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

const MESSAGES: u32 = 3;

/// What the program knows of each connection.
#[derive(Default)]
struct Talk {
    number: u16,
    /// The message that was sent last and has not been echoed.
    awaited: String,
    /// How many have been echoed.
    answered: u32,
    judge: Judge,
    /// Where the first difference is, if there is one.
    difference: Option<String>,
}

impl Talk {
    fn new(number: u16) -> Self {
        let mut talk = Self { number, ..Self::default() };
        talk.judge = Judge::new(u64::from(MESSAGES) * talk.message().len() as u64);
        talk
    }

    /// Returns the next message. All of a connection have the same length.
    fn message(&self) -> String {
        format!("Message {} of connection {}", self.answered + 1, self.number)
    }
}

fn main() -> ExitCode {
    common::run(USAGE, talk)
}

fn talk(arguments: common::Arguments) -> common::Outcome {
    let [address, count] = arguments.values()?;
    let address = common::name(address)?;
    let count: u16 = common::number("CONNECTIONS", count, 1..=u16::MAX)?.unwrap_or(10);

    let mut client = EventLoop::new()?;
    for number in 1..=count {
        client.connect_name(address.as_str(), Talk::new(number));
    }
    let (mut complete, mut bytes) = (0, 0);
    while client.connection_count() > 0 {
        match client.next_event()? {
            Event::Connected(id) => send_next(&mut client[id]),
            Event::Received(id) => receive(&mut client[id]),
            Event::Closed(id, reason) => {
                address.check(reason)?;
                conclude(&mut client[id], reason)?;
                complete += u16::from(client[id].data.judge.is_whole());
                bytes += client[id].data.judge.identical();
            }
            _ => {}
        }
    }
    let summary =
        format!("{complete} of {count} connections got all back identical, {bytes} bytes in all");
    if complete < count {
        return Err(format!("{address}: only {summary}").into());
    }
    common::print(summary)
}

fn send_next(connection: &mut Connection<Talk>) {
    let (talk, stream) = connection.split();
    talk.awaited = talk.message();
    stream.send(talk.awaited.as_bytes());
}

/// Takes the message that is awaited, once all of it is there.
fn receive(connection: &mut Connection<Talk>) {
    let (talk, stream) = connection.split();
    let (awaited, received) = (talk.awaited.as_bytes(), stream.received());
    if received.len() < awaited.len() && awaited.starts_with(received) {
        return; // the rest is still to arrive
    }
    match talk.judge.compare(awaited, received) {
        Ok(()) => {
            talk.answered += 1;
            stream.consume(talk.awaited.len());
            talk.awaited.clear();
            match talk.answered {
                MESSAGES => stream.close(),
                _ => send_next(connection),
            }
        }
        Err(difference) => {
            talk.difference = Some(difference);
            stream.abort();
        }
    }
}

/// Says how a connection ended, and what had been echoed by then.
fn conclude(connection: &mut Connection<Talk>, reason: CloseReason) -> common::Outcome {
    let (talk, stream) = connection.split();
    let end = match talk.difference.take() {
        Some(difference) => difference,
        None => {
            // What has arrived of a message is identical as far as it goes, or the next difference.
            let part = talk.judge.compare(talk.awaited.as_bytes(), stream.received());
            part.err().unwrap_or(reason.to_string())
        }
    };
    let Talk { number, answered, judge, .. } = talk;
    let bytes = judge.so_far();
    common::print(format_args!(
        "Connection {number}: {answered} of {MESSAGES} messages came back, {bytes} identical; {end}"
    ))
}
