//! A ticker: ten times a second, each subscriber is sent the number of the tick.
//!
//! A subscriber that reads too slowly may miss ticks. It must not cost memory: no more than the
//! high-water mark and one line may wait for it. The server's memory grows all the same.
//!
//! About: back-pressure (chapter 13).

use std::io;
use std::time::Duration;

use readiness::{ConnectionId, Event, EventLoop};

/// The program's own state.
#[derive(Debug, Default)]
pub struct Ticker {
    subscribers: Vec<ConnectionId>,
    tick: u32,
}

impl Ticker {
    /// Starts the ticks.
    pub fn start(&mut self, server: &mut EventLoop) {
        server.set_repeating_timer(Duration::from_millis(100));
    }

    /// Handles one event of the server.
    pub fn handle(&mut self, server: &mut EventLoop, event: Event) -> io::Result<()> {
        match event {
            Event::Accepted(_, id) => self.subscribers.push(id),
            Event::Closed(id, _) => self.subscribers.retain(|subscriber| *subscriber != id),
            Event::Timer(_) => {
                self.tick += 1;
                let line = format!("tick {}\n", self.tick);
                for id in &self.subscribers {
                    server[*id].send(line.as_bytes());
                }
            }
            _ => {}
        }
        Ok(())
    }
}
