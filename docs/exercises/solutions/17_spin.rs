//! A clock: once a second, each client is sent a line. The first one is due a second after the
//! start.
//!
//! The lines are on time. But the process needs a whole core, even without clients.
//!
//! About: waiting without asking again and again (chapters 6 and 18).

use std::io;
use std::time::Duration;

use readiness::{ConnectionId, Event, EventLoop};

/// The program's own state.
#[derive(Debug)]
pub struct Clock {
    clients: Vec<ConnectionId>,
}

impl Clock {
    /// Starts the clock.
    pub fn start(server: &mut EventLoop) -> Self {
        server.set_repeating_timer(Duration::from_secs(1));
        Self { clients: Vec::new() }
    }

    /// Handles one event of the server.
    pub fn handle(&mut self, server: &mut EventLoop, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted(_, id) => self.clients.push(id),
            Event::Closed(id, _) => self.clients.retain(|client| *client != id),
            Event::Timer(_) => {
                server.send_each(self.clients.iter().copied(), b"tick\n");
            }
            _ => {}
        }
        Ok(())
    }
}
