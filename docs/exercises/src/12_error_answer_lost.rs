//! Doubles numbers, one a line. What is not a number is answered by a line that says so, and the
//! connection ends.
//!
//! The server sends that line each time. Clients say that they never see it: their connection is
//! reset.
//!
//! About: the reply that a close destroys (chapter 14).

use std::io::{self, Write};

use readiness::{Connection, Event, EventLoop};

/// Handles one event of the server.
pub fn handle(server: &mut EventLoop, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        server[id].attend(answer);
    }
    Ok(())
}

fn answer(connection: &mut Connection<()>) -> io::Result<()> {
    let (mut read, mut write) = connection.halves();
    let Some(line) = read.take_line(100)? else { return Ok(()) };
    match String::from_utf8_lossy(line).parse::<u32>() {
        Ok(number) => writeln!(write, "{}", u64::from(number) * 2),
        Err(error) => {
            writeln!(write, "{error}")?;
            write.abort();
            Ok(())
        }
    }
}
