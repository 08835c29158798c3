//! Answers a question that ends with the end of file: the client sends it, finishes, and waits. The
//! answer takes ten milliseconds, and is the question in capitals.
//!
//! The client reads the end of file, and no answer.
//!
//! About: half-close, and answers that come later (chapters 14 and 16).

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use readiness::{ConnectionId, Event, EventLoop, TimerId};

/// The program's own state: what is worked on, and for whom.
#[derive(Debug, Default)]
pub struct Server {
    jobs: HashMap<TimerId, (ConnectionId, String)>,
}

impl Server {
    /// Handles one event of the server.
    pub fn handle(&mut self, server: &mut EventLoop, event: Event) -> io::Result<()> {
        match event {
            Event::PeerFinished(id) => {
                let connection = &mut server[id];
                connection.allow_half_open(true); // else it closes after this event
                let answer = String::from_utf8_lossy(connection.received()).to_uppercase();
                let count = connection.received().len();
                connection.consume(count);
                let timer = server.set_timer(Duration::from_millis(10));
                self.jobs.insert(timer, (id, answer));
            }
            Event::Timer(timer) => {
                if let Some((id, answer)) = self.jobs.remove(&timer)
                    && let Some(connection) = server.get_mut(id)
                {
                    connection.send(answer.as_bytes());
                    connection.finish();
                }
            }
            _ => {}
        }
        Ok(())
    }
}
