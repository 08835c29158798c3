//! Sends lines back, and leaves when it is woken: clients that are busy may finish for ten seconds,
//! then the program ends.
//!
//! The service manager reports that it had to kill the process.
//!
//! About: leaving (chapter 21).

use std::io;
use std::time::Duration;

use readiness::{Event, EventLoop};

/// The program's own state.
#[derive(Debug, Default)]
pub struct Server {
    /// Whether `main` can return.
    pub has_ended: bool,
}

impl Server {
    /// Handles one event of the server.
    pub fn handle(&mut self, server: &mut EventLoop, event: Event) -> io::Result<()> {
        match event {
            Event::Received(id) => server[id].attend(|connection| {
                let (mut read, mut write) = connection.halves();
                while let Some(line) = read.take_until(b'\n', 100)? {
                    write.send(line);
                }
                Ok(())
            }),
            Event::Woken => server.shutdown(Duration::from_secs(10)),
            Event::ShutDown => self.has_ended = true,
            _ => {}
        }
        Ok(())
    }
}
