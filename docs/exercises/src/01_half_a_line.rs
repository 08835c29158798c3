//! Greets by name: a client sends its name and a line ending, and is greeted once.
//!
//! It works in every test by hand. On a bad day a client whose name is Ada is greeted as A, and
//! then again as da.
//!
//! About: a stream is not a sequence of messages (chapter 3).

use std::io;

use readiness::{Event, EventLoop};

/// Handles one event of the server.
pub fn handle(server: &mut EventLoop, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        let connection = &mut server[id];
        let name = String::from_utf8_lossy(connection.received()).trim_end().to_owned();
        let count = connection.received().len();
        connection.consume(count);
        connection.send(format!("Hello, {name}!\n").as_bytes());
    }
    Ok(())
}
