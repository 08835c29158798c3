//! Many connections in one loop and one thread, with several messages on each.
//!
//! It shows the program's own state beside each connection (`Connection::data`): which message it
//! is at. A message that has come back in part is left in the read buffer until the rest is there.
//! What goes wrong on one connection is its own `Closed`, and the others go on.
//!
//! ```text
//! cargo run --example multi_connection_client
//! cargo run --example multi_connection_client 127.0.0.1:65432 1000
//! ```

use std::num::NonZero;
use std::process::ExitCode;

use readiness::{Connection, Event, EventLoop};

mod common;

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
struct Talk {
    number: u16,
    /// The message that was sent last and has not come back.
    awaited: String,
    /// How many have come back, and their bytes.
    answered: u32,
    bytes: usize,
}

fn main() -> ExitCode {
    common::run(USAGE, talk)
}

fn talk(arguments: common::Arguments) -> common::Outcome {
    let [address, count] = arguments.values()?;
    let address = common::address(address)?;
    let count = count.as_deref().unwrap_or("10");
    let count: NonZero<u16> = count
        .parse()
        .map_err(|_| format!("{count:?} is not a number of connections from 1 to 65535"))?;
    common::start_log();

    let mut client = EventLoop::new()?;
    for number in 1..=count.get() {
        client.connect(
            address.all()[0],
            Talk { number, awaited: String::new(), answered: 0, bytes: 0 },
        );
    }
    let (mut complete, mut bytes) = (0, 0);
    while client.connection_count() > 0 {
        let event = client.next_event()?;
        handle(&mut client, event)?;
        if let Event::Closed(id, _) = event {
            complete += u16::from(client[id].data.answered == MESSAGES);
            bytes += client[id].data.bytes;
        }
    }
    let summary = format!("{complete} of {count} connections got all back, {bytes} bytes in all");
    if complete < count.get() {
        return Err(format!("{address}: only {summary}").into());
    }
    common::print(summary)
}

fn handle(client: &mut EventLoop<Talk>, event: Event) -> common::Outcome {
    match event {
        Event::Connected(id) => send_next(&mut client[id]),
        Event::Received(id) => receive(&mut client[id]),
        Event::Closed(id, reason) => {
            let Talk { number, answered, bytes, .. } = client[id].data;
            return common::print(format_args!(
                "Connection {number}: {answered} of {MESSAGES} messages came back, {bytes} bytes; {reason}"
            ));
        }
        _ => {}
    }
    Ok(())
}

fn send_next(connection: &mut Connection<Talk>) {
    let (talk, stream) = connection.split();
    talk.awaited = format!("Message {} of connection {}", talk.answered + 1, talk.number);
    stream.send(talk.awaited.as_bytes());
}

/// Takes the message that is awaited, once all of it is there.
fn receive(connection: &mut Connection<Talk>) {
    let (talk, stream) = connection.split();
    let (awaited, received) = (talk.awaited.as_bytes(), stream.received());
    if !awaited.starts_with(received) {
        log::warn!("connection {}: message {} came back different", talk.number, talk.answered + 1);
        stream.abort();
    } else if received.len() == awaited.len() {
        talk.answered += 1;
        talk.bytes += awaited.len();
        stream.consume(talk.awaited.len());
        match talk.answered {
            MESSAGES => stream.close(),
            _ => send_next(connection),
        }
    }
}
