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
    match event {
        Event::Received(id) => server[id].send_received(),
        Event::AcceptFailed(listener, _) => {
            // There is no descriptor left: nobody can be accepted now.
            let _ = server.pause_accepting(listener);
        }
        _ => {}
    }
    Ok(())
}
