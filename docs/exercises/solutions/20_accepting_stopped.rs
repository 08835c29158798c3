//! Echoes. When the process is out of file descriptors, no more clients can be accepted; those that
//! connect wait until others have left.
//!
//! After one busy hour, the server never accepts anybody again.
//!
//! About: living with limits (chapter 21).

use std::io;

use readiness::{Event, EventLoop};

/// Handles one event of the server.
pub fn handle(server: &mut EventLoop, event: Event) -> io::Result<()> {
    // `AcceptFailed` needs no answer: the loop tries again by itself, when a client has left and
    // after a pause.
    if let Event::Received(id) = event {
        server[id].send_received();
    }
    Ok(())
}
