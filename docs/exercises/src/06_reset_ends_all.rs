//! Sends lines back, and keeps the last words of each client that has left: what it had sent
//! without a line ending.
//!
//! It runs for weeks. Then one client pulls the plug in the middle of a word, and all others are
//! disconnected.
//!
//! About: one connection's failure is never another's (chapter 14).

use std::io::{self, Read};

use readiness::{Event, EventLoop};

/// The program's own state.
#[derive(Debug, Default)]
pub struct Server {
    /// What clients had sent of a line that they did not end.
    pub last_words: Vec<String>,
}

impl Server {
    /// Handles one event of the server. An error ends the program.
    pub fn handle(&mut self, server: &mut EventLoop, event: Event) -> io::Result<()> {
        match event {
            Event::Received(id) => server[id].attend(|connection| {
                let (mut read, mut write) = connection.halves();
                while let Some(line) = read.take_until(b'\n', 100)? {
                    write.send(line);
                }
                Ok(())
            }),
            Event::Closed(id, _) => {
                let mut words = String::new();
                server[id].read_to_string(&mut words)?;
                self.last_words.push(words);
            }
            _ => {}
        }
        Ok(())
    }
}
