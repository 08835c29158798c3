//! Adds: each line of a client holds numbers, and each is answered by their sum.
//!
//! A client that sends two questions at once sometimes waits forever for the second answer.
//!
//! About: one read may bring several messages (chapters 9 and 16).

use std::io;

use readiness::{Event, EventLoop};

/// Handles one event of the server.
pub fn handle(server: &mut EventLoop, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        let connection = &mut server[id];
        let received = String::from_utf8_lossy(connection.received()).into_owned();
        let Some((line, _)) = received.split_once('\n') else {
            return Ok(()); // it is not whole yet
        };
        let numbers = line.split_whitespace().filter_map(|word| word.parse::<u32>().ok());
        let sum: u32 = numbers.sum();
        connection.consume(received.len());
        connection.send(format!("{sum}\n").as_bytes());
    }
    Ok(())
}
