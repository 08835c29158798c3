//! An echo server on the loop, inside a program of calloop's that has other sources.
//!
//! It shows the loop as one source among others, all in one thread: a timer of calloop's announces
//! each minute to the clients, and Ctrl-C arrives from calloop too.
//!
//! ```text
//! cargo run --manifest-path examples/calloop_host/Cargo.toml
//! ```

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use calloop::signals::{Signal, Signals};
use calloop::timer::{TimeoutAction, Timer};
use calloop_host::{Hosted, dispatch, watch};
use readiness::{Event, EventLoop};

#[path = "../../common/mod.rs"]
mod common;

use common::leaving::Leaving;

const USAGE: &str = "\
Sends back what each client sends, by a loop inside calloop, and the minutes.

Usage: calloop_host [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

const MINUTE: Duration = Duration::from_secs(60);

struct Server {
    event_loop: EventLoop,
    leaving: Leaving,
    has_ended: bool,
}

impl Hosted for Server {
    type Data = ();

    fn event_loop(&mut self) -> &mut EventLoop {
        &mut self.event_loop
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        self.leaving.watch(&self.event_loop, event);
        match event {
            Event::Received(id) => self.event_loop[id].send_received(),
            Event::ShutDown => self.has_ended = true,
            _ => {}
        }
        Ok(())
    }
}

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let event_loop = EventLoop::new()?;
    let mut server = Server { event_loop, leaving: Leaving::default(), has_ended: false };
    let listener = server.event_loop.listen(&address).map_err(common::cannot_listen(&address))?;

    let mut host = calloop::EventLoop::try_new()?;
    watch(&host.handle(), &mut server)?;
    host.handle().insert_source(
        Signals::new(&[Signal::SIGINT, Signal::SIGTERM])?,
        |_, (), server: &mut Server| server.leaving.shut_down(&mut server.event_loop),
    )?;
    host.handle().insert_source(Timer::from_duration(MINUTE), |_, (), server| {
        // Outside of any event: what is sent leaves nevertheless.
        let clients = server.event_loop.connections_mut();
        clients.for_each(|client| client.send(b"a minute has passed\n"));
        TimeoutAction::ToDuration(MINUTE)
    })?;

    let address = server.event_loop.listener_addr(listener)?;
    common::status(format_args!("Listening on {address}"));
    while !server.has_ended {
        dispatch(&mut host, &mut server)?;
    }
    Ok(())
}
