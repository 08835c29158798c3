//! Takes messages of up to `MESSAGE_MAX` bytes, each after its length in four bytes, and answers
//! each with its length in words.
//!
//! A client that sends four bytes and nothing more costs the server some megabytes.
//!
//! About: a claimed length is a claim (chapter 16).

use std::io;

use readiness::{Connection, Event, EventLoop};

/// The longest message that the server must take. What is longer may end its connection.
pub const MESSAGE_MAX: usize = 100;

/// Handles one event of the server. A connection's data is what has arrived of a message.
pub fn handle(server: &mut EventLoop<Vec<u8>>, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        server[id].attend(take);
    }
    Ok(())
}

fn take(connection: &mut Connection<Vec<u8>>) -> io::Result<()> {
    let (message, stream) = connection.split();
    let Some(header) = stream.received().first_chunk::<4>() else { return Ok(()) };
    let length = u32::from_be_bytes(*header) as usize;
    message.reserve(length);
    if stream.received().len() < 4 + length {
        return Ok(()); // it is not whole yet
    }
    message.extend_from_slice(&stream.received()[4..4 + length]);
    stream.consume(4 + length);
    stream.send(format!("{} bytes\n", message.len()).as_bytes());
    message.clear();
    Ok(())
}
