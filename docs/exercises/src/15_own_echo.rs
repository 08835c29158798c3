//! A chat: what one client says, in lines, all others hear.
//!
//! Each client also hears itself, and shows its own words twice.
//!
//! About: broadcasting (chapter 17).

use std::io;

use readiness::{ConnectionId, Event, EventLoop};

/// Handles one event of the server.
pub fn handle(server: &mut EventLoop, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        let (mut read, _) = server[id].halves();
        if let Ok(Some(line)) = read.take_until(b'\n', 100) {
            let line = line.to_vec();
            let everybody: Vec<ConnectionId> =
                server.connections().map(|connection| connection.id()).collect();
            server.send_each(everybody, &line);
        }
    }
    Ok(())
}
