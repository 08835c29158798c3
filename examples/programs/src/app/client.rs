//! The client's side: one request, and its response.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use readiness::{Connection, ConnectionId, Event, EventLoop, Limits};
use serde_json::Value;

use super::terminal::steers;
use super::{Header, Incoming, JSON, invalid, message, object, quoted};

/// The most bytes of an answer's content. A result repeats what was searched for, in an encoding
/// that can take more bytes than the request's.
pub const CONTENT_MAX: usize = 256 * 1024;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns the limits of a client's loop: an answer has to fit the read buffer.
#[must_use]
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.connection.read_buffer_max = CONTENT_MAX;
    limits
}

/// Sends a request over a connection that is to be made.
pub fn ask(
    client: &mut EventLoop<Incoming>,
    server: &str,
    action: &str,
    value: &str,
) -> ConnectionId {
    let id = client.connect_name(server, Incoming::default());
    client[id].send(&request(action, value));
    client[id].set_deadline(Some(PATIENCE));
    id
}

fn request(action: &str, value: &str) -> Vec<u8> {
    if action == "search" {
        let content = format!("{{\"action\": \"search\", \"value\": {}}}", quoted(value));
        return message(JSON, "utf-8", content.as_bytes());
    }
    // A server is to make of it what it can.
    message("binary/custom-client-binary-type", "binary", format!("{action}{value}").as_bytes())
}

/// Handles an event of a client's loop. Once the whole answer has arrived, returns the two lines
/// that its user is shown.
///
/// # Errors
///
/// Returns why there is none.
pub fn handle(client: &mut EventLoop<Incoming>, event: Event) -> io::Result<Option<String>> {
    match event {
        Event::Received(id) | Event::PeerFinished(id) => take(&mut client[id]),
        Event::Deadline(_) => Err(failed("it did not answer in time")),
        Event::Closed(_, reason) => Err(failed(reason)),
        _ => Ok(None),
    }
}

fn take(connection: &mut Connection<Incoming>) -> io::Result<Option<String>> {
    let peer = connection.peer_addr()?;
    let (incoming, stream) = connection.split();
    let (mut read, _) = stream.halves();
    let answer = incoming.take(&mut read, CONTENT_MAX).map_err(failed)?;
    let Some((header, content)) = answer else { return Ok(None) };
    shown(&header, content, peer).map(Some).map_err(failed)
}

/// Returns what a user is shown of an answer.
fn shown(header: &Header, content: &[u8], peer: SocketAddr) -> io::Result<String> {
    let (received, got) = if header.content_type == JSON {
        let content = object(header, content)?;
        let Some(Value::String(result)) = content.get("result") else {
            return Err(invalid("the answer has no result"));
        };
        let got = format!("Got result: {result}");
        (format!("Received response {} from {peer}", Value::from(content)), got)
    } else {
        let received = format!("Received {} response from {peer}", header.content_type);
        (received, format!("Got response: \"{}\"", content.escape_ascii()))
    };
    Ok(format!("{}\n{}", escaped(&received), escaped(&got)))
}

/// Returns a server's text as one that cannot do anything to a terminal.
fn escaped(text: &str) -> String {
    let escape = |one: char| match steers(one) {
        true => one.escape_default().to_string(),
        false => one.to_string(),
    };
    text.chars().map(escape).collect()
}

fn failed(why: impl fmt::Display) -> io::Error {
    io::Error::other(format!("no answer: {why}"))
}
