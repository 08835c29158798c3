//! Works for its clients, on one line of each at a time: the answer takes ten milliseconds, and is
//! the line in capitals. While a client's line is worked on, nothing more is read from it.
//!
//! Every client has its first answer. None has a second.
//!
//! About: back-pressure of your own (chapter 13).

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
            Event::Received(id) => {
                let (mut read, _) = server[id].halves();
                if let Ok(Some(line)) = read.take_until(b'\n', 100) {
                    let answer = String::from_utf8_lossy(line).to_uppercase();
                    server[id].pause();
                    let timer = server.set_timer(Duration::from_millis(10));
                    self.jobs.insert(timer, (id, answer));
                }
            }
            Event::Timer(timer) => {
                if let Some((id, answer)) = self.jobs.remove(&timer)
                    && let Some(connection) = server.get_mut(id)
                {
                    connection.send(answer.as_bytes());
                    connection.resume();
                }
            }
            _ => {}
        }
        Ok(())
    }
}
