//! An echo server on the loop, inside a program of tokio's that has other things to do.
//!
//! It shows the loop as one task among others, all in one thread: another task counts minutes and
//! asks by a channel that they be announced to the clients, and Ctrl-C arrives from tokio.
//!
//! ```text
//! cargo run --manifest-path examples/tokio_host/Cargo.toml
//! ```

use std::process::ExitCode;
use std::time::Duration;

use readiness::{Event, EventLoop};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_host::AsyncEventLoop;

#[path = "../../common/mod.rs"]
mod common;

use common::leaving::Leaving;

const USAGE: &str = "\
Sends back what each client sends, by a loop inside tokio, and the minutes.

Usage: tokio_host [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

#[tokio::main(flavor = "current_thread")]
async fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let mut server: EventLoop = EventLoop::new()?;
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    let mut server = AsyncEventLoop::new(server)?;
    let (news, mut told) = mpsc::channel(1);
    tokio::spawn(count_minutes(news));
    // Once for all: each of them receives only what arrives after it was made.
    let mut ctrl_c = signal(SignalKind::interrupt())?;

    let mut leaving = Leaving::default();
    loop {
        tokio::select! {
            event = server.next_event() => {
                let event = event?;
                leaving.watch(&server, event);
                match event {
                    Event::Received(id) => server[id].send_received(),
                    Event::ShutDown => return Ok(()),
                    _ => {}
                }
            }
            Some(minutes) = told.recv() => {
                // Outside of any event: what is sent leaves at the next call nevertheless.
                let line = format!("{minutes} minutes have passed\n");
                server.connections_mut().for_each(|client| client.send(line.as_bytes()));
            }
            Some(()) = ctrl_c.recv() => leaving.shut_down(&mut server),
        }
    }
}

/// Counts minutes in a separate task. It ends with the server.
async fn count_minutes(news: mpsc::Sender<u64>) {
    let mut minute = interval(Duration::from_secs(60));
    minute.tick().await; // the first is now
    for minutes in 1.. {
        minute.tick().await;
        if news.send(minutes).await.is_err() {
            return;
        }
    }
}
