//! An echo server on the loop, inside a program of calloop's that has other sources.
//!
//! It shows the loop as one source among others, all in one thread: a timer of calloop's has the
//! clients told that a minute has passed, and Ctrl-C comes from calloop too.
//!
//! ```text
//! cargo run --manifest-path examples/calloop_host/Cargo.toml -- 127.0.0.1:65432
//! ```

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use calloop::signals::{Signal, Signals};
use calloop::timer::{TimeoutAction, Timer};
use calloop_host::{Hosted, dispatch, watch};
use readiness::{Event, EventLoop};

const GRACE: Duration = Duration::from_secs(10);
const MINUTE: Duration = Duration::from_secs(60);

struct Server {
    event_loop: EventLoop,
    /// What the next Ctrl-C leaves to the clients.
    deadline: Duration,
    has_ended: bool,
}

impl Hosted for Server {
    type Data = ();

    fn event_loop(&mut self) -> &mut EventLoop {
        &mut self.event_loop
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Received(id) => self.event_loop[id].send_received(),
            Event::ShutDown => self.has_ended = true,
            _ => {}
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:65432".into());
    let address: SocketAddr =
        address.parse().map_err(|error| format!("{address:?} is no address: {error}"))?;

    let mut server = Server { event_loop: EventLoop::new()?, deadline: GRACE, has_ended: false };
    let listener = server.event_loop.listen(address)?;

    let mut host = calloop::EventLoop::try_new()?;
    watch(&host.handle(), &mut server)?;
    host.handle().insert_source(
        Signals::new(&[Signal::SIGINT, Signal::SIGTERM])?,
        |_, (), server: &mut Server| {
            println!("Shutting down within {:?}", server.deadline);
            server.event_loop.shutdown(server.deadline);
            server.deadline = Duration::ZERO; // the second time at once
        },
    )?;
    host.handle().insert_source(Timer::from_duration(MINUTE), |_, (), server| {
        // Outside of any event: what is sent leaves all the same.
        let clients = server.event_loop.connections_mut();
        clients.for_each(|client| client.send(b"a minute has passed\n"));
        TimeoutAction::ToDuration(MINUTE)
    })?;

    println!("Listening on {}", server.event_loop.listener_addr(listener)?);
    while !server.has_ended {
        dispatch(&mut host, &mut server)?;
    }
    Ok(())
}
