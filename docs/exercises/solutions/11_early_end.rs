//! Counts: each client is sent the numbers from 1 to `LAST`, one a line, and then the end of file.
//! No more than the high-water mark and one line may wait for a slow client.
//!
//! A client that reads slowly reads a clean end of file in the middle.
//!
//! About: the end of file after the last byte (chapter 14).

use std::io;

use readiness::{Connection, Event, EventLoop};

/// The last number.
pub const LAST: u32 = 20;

/// Handles one event of the server. A connection's data is the last number that was sent.
pub fn handle(server: &mut EventLoop<u32>, event: Event) -> io::Result<()> {
    if let Event::Accepted(_, id) | Event::Drained(id) = event {
        produce(&mut server[id]);
    }
    Ok(())
}

fn produce(connection: &mut Connection<u32>) {
    while connection.data < LAST && !connection.is_clogged() {
        connection.data += 1;
        let line = format!("{}\n", connection.data);
        connection.send(line.as_bytes());
    }
    if connection.data == LAST {
        connection.finish();
    }
}
