//! Echoes, and closes a client that has sent nothing for one second.
//!
//! Clients that are never silent for that long are disconnected too.
//!
//! About: deadlines that activity moves (chapter 18).

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use readiness::{ConnectionId, Event, EventLoop, TimerId};

/// How long a client may be silent.
pub const SILENCE_MAX: Duration = Duration::from_secs(1);

/// The program's own state: whom each timer closes.
#[derive(Debug, Default)]
pub struct Server {
    timers: HashMap<TimerId, ConnectionId>,
}

impl Server {
    /// Handles one event of the server.
    pub fn handle(&mut self, server: &mut EventLoop, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted(_, id) => self.expect_more(server, id),
            Event::Received(id) => {
                server[id].send_received();
                self.expect_more(server, id);
            }
            Event::Timer(timer) => {
                if let Some(id) = self.timers.remove(&timer)
                    && let Some(connection) = server.get_mut(id)
                {
                    connection.close();
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn expect_more(&mut self, server: &mut EventLoop, id: ConnectionId) {
        self.timers.insert(server.set_timer(SILENCE_MAX), id);
    }
}
