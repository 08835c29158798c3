//! A client of an echo server: it sends a text, collects what comes back, and ends when it has the
//! whole text again. Until everything is sent it does not want to be disturbed by answers.
//!
//! With a short text it works. With a long one, client and server stand still, each waiting for the
//! other.
//!
//! About: the deadlock of two sides that only write (chapter 13).

use std::io;

use readiness::{Event, EventLoop};

/// What is sent.
pub const TEXT: &[u8] = &[b'x'; 120];

/// Handles one event of the client. A connection's data is what has come back.
pub fn handle(client: &mut EventLoop<Vec<u8>>, event: Event) -> io::Result<()> {
    match event {
        // It reads while it sends: the server takes more only when its answers are taken.
        Event::Connected(id) => client[id].send(TEXT),
        Event::Received(id) => {
            let (collected, stream) = client[id].split();
            collected.extend_from_slice(stream.received());
            stream.consume(stream.received().len());
            if collected.len() == TEXT.len() {
                stream.close();
            }
        }
        _ => {}
    }
    Ok(())
}
