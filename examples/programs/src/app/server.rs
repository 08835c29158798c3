//! The server's side: one request of each connection is answered, then it closes.
//!
//! What is no request is answered too, by a result that says what is wrong with it, where the
//! tutorial's server closes without a word.

use std::io::{self, ErrorKind};
use std::time::Duration;

use readiness::{Connection, Event, EventLoop, WriteHalf};
use serde_json::Value;

use super::{Header, Incoming, JSON, invalid, message, object, quoted};

/// The most bytes of a request's content: what a read buffer holds.
pub const CONTENT_MAX: usize = 64 * 1024;

/// How long a peer has for its request, from its first byte to its last.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// What is known: what is searched for, and what is found.
const KNOWN: [(&str, &str); 3] = [
    ("morpheus", "Follow the white rabbit. 🐰"),
    ("ring", "In the caves beneath the Misty Mountains. 💍"),
    ("🐶", "🐾 Playing ball! 🏐"),
];

/// Handles an event of a server's loop.
pub fn handle(server: &mut EventLoop<Incoming>, event: Event) {
    match event {
        Event::Accepted(_, id) => server[id].set_deadline(Some(PATIENCE)),
        Event::Received(id) => server[id].attend(answer),
        // What is there now is all that there will be.
        Event::PeerFinished(id) => match server[id].data {
            Incoming::Nothing if server[id].received().is_empty() => {}
            _ => server[id].attend(answer),
        },
        Event::Deadline(id) => server[id].attend(|connection| {
            let late = io::Error::new(ErrorKind::TimedOut, "the request took too long");
            refuse(&mut connection.halves().1, late)
        }),
        _ => {}
    }
}

/// Answers the request once it has arrived. An error is the reason to close.
fn answer(connection: &mut Connection<Incoming>) -> io::Result<()> {
    let (incoming, stream) = connection.split();
    let (mut read, mut write) = stream.halves();
    let response = match incoming.take(&mut read, CONTENT_MAX) {
        Ok(None) => return Ok(()),
        Ok(Some((header, content))) => respond(&header, content),
        Err(error) => Err(error),
    };
    match response {
        Err(error) => refuse(&mut write, error),
        Ok(response) => {
            write.send(&response);
            if !read.received().is_empty() {
                return Err(invalid("there is more than one request"));
            }
            write.close();
            Ok(())
        }
    }
}

/// Returns the response to a whole request.
fn respond(header: &Header, content: &[u8]) -> io::Result<Vec<u8>> {
    if header.content_type == JSON {
        return Ok(result(&search(header, content)?));
    }
    let first = &content[..content.len().min(10)];
    let response = [b"First 10 bytes of request: ", first].concat();
    Ok(message("binary/custom-server-binary-type", "binary", &response))
}

/// Returns what is found for a request in JSON.
fn search(header: &Header, content: &[u8]) -> io::Result<String> {
    let request = object(header, content)?;
    let text = |name| match request.get(name) {
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(other) => Err(invalid(format!("{name:?} is no string: {other}"))),
        None => Err(invalid(format!("the request has no {name:?}"))),
    };
    let action = text("action")?;
    if action != "search" {
        return Ok(format!("Error: invalid action '{action}'."));
    }
    let value = text("value")?;
    let found = KNOWN.iter().find(|(known, _)| *known == value);
    Ok(found.map_or_else(|| format!("No match for '{value}'."), |(_, found)| (*found).to_owned()))
}

fn refuse(write: &mut WriteHalf<'_>, error: io::Error) -> io::Result<()> {
    write.send(&result(&format!("Error: {error}")));
    Err(error)
}

fn result(text: &str) -> Vec<u8> {
    let content = format!("{{\"result\": {}}}", quoted(text));
    message(JSON, "utf-8", content.as_bytes())
}
