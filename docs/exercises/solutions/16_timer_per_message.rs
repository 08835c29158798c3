//! Echoes, and closes a client that has sent nothing for one second.
//!
//! Clients that are never silent for that long are disconnected too.
//!
//! About: deadlines that activity moves (chapter 18).

use std::io;
use std::time::Duration;

use readiness::{Event, EventLoop};

/// How long a client may be silent.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);

/// The program's own state: none, since each connection has its deadline.
#[derive(Debug, Default)]
pub struct Server {}

impl Server {
    /// Handles one event of the server.
    pub fn handle(&mut self, server: &mut EventLoop, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted(_, id) => server[id].set_deadline(Some(SILENCE_MAX)),
            Event::Received(id) => {
                server[id].send_received();
                server[id].set_deadline(Some(SILENCE_MAX)); // in place of the one before
            }
            Event::Deadline(id) => server[id].close(),
            _ => {}
        }
        Ok(())
    }
}
