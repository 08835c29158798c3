//! Sends a text to each client and ends. It gives the loop eight bytes at a time, and goes on at
//! `Drained` when the loop takes no more for now.
//!
//! Most clients receive the whole text. To a slow one, some words in the middle are missing.
//!
//! About: a write may take less than it was given (chapters 4 and 10).

use std::io::{self, Write};

use readiness::{Event, EventLoop};

/// What each client should receive.
pub const TEXT: &str = "What the loop does not take, it does not send. It says how much it took.";

/// Handles one event of the server. A connection's data is how many bytes of the text are written.
pub fn handle(server: &mut EventLoop<usize>, event: Event) -> io::Result<()> {
    let (Event::Accepted(_, id) | Event::Drained(id)) = event else { return Ok(()) };
    let (written, stream) = server[id].split();
    while *written < TEXT.len() {
        let end = TEXT.len().min(*written + 8);
        if stream.write(&TEXT.as_bytes()[*written..end]).is_err() {
            return Ok(()); // there is no room now, or the connection has ended
        }
        *written = end;
    }
    stream.finish();
    Ok(())
}
