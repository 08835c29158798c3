//! A server of static files over HTTP/1.1.
//!
//! | file | |
//! |---|---|
//! | `request.rs` | bytes → a request, or the status that refuses it |
//! | `files.rs` | the path of a request → a file, a listing, or a status |
//! | `response.rs` | a request and what was found → a response, which may be a part or nothing new |
//! | `access_log.rs` | one line for each response |
//!
//! One request is handled for each event. What a small file holds leaves with the head of its
//! response. A large one is sent by pieces as the peer takes them, and meanwhile the connection is
//! paused: the next request waits, and memory stays constant.

pub mod access_log;
mod files;
mod request;
mod response;

use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use httparse::EMPTY_HEADER;
use readiness::{Connection, Event, EventLoop, Limits, Stream};

use access_log::AccessLog;
use files::Root;
use request::{FIELDS_MAX, Request, Status};
use response::{Body, FilePart, Response};

/// How long a peer has for a request, from its first byte to its last.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection stays open on which nothing moves, such as between two requests.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How many bytes of a file are read at once. It clogs, so that `Drained` follows each piece.
const PIECE: usize = 4 * 1024;

/// The server: all that its connections share.
pub struct HttpServer {
    root: Root,
    log: Option<AccessLog>,
    has_sockets: bool,
    /// For the head of a response and a piece of a file, to be used again.
    head: Vec<u8>,
    piece: Vec<u8>,
}

/// What the server remembers of a connection.
#[derive(Debug, Default)]
pub struct Client {
    /// How many bytes of the next head were searched for its end.
    searched: usize,
    /// How many bytes of the last request's body are still to be skipped.
    body_left: u64,
    /// The file that is being sent.
    sending: Option<FilePart>,
    /// Whether the connection closes behind the response.
    closes: bool,
    has_deadline: bool,
}

/// The limits of the server's loop.
#[must_use]
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    limits.connection.idle_timeout = Some(IDLE_TIMEOUT);
    // A piece clogs, and all of it has left when the next one is asked for.
    (limits.connection.high_water, limits.connection.low_water) = (PIECE - 1, 0);
    // Some descriptors are left for files.
    #[cfg(unix)]
    if let Some(most) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        limits.connections_max = usize::try_from(most).ok().map(|most| most.max(64) - 32);
    }
    limits
}

impl HttpServer {
    /// A server of what is in a folder, with an access log if it is to have one. `has_sockets` is
    /// false on a simulated network, which has none that a file could be sent to.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error if the folder cannot be had, or is none.
    pub fn new(folder: &Path, log: Option<AccessLog>, has_sockets: bool) -> io::Result<Self> {
        let root = Root::new(folder)?;
        Ok(Self { root, log, has_sockets, head: Vec::new(), piece: vec![0; PIECE] })
    }

    /// Handles an event of the server's loop.
    pub fn handle(&mut self, server: &mut EventLoop<Client>, event: Event) {
        match event {
            Event::Received(id) => server[id].attend(|connection| self.receive(connection)),
            Event::Drained(id) => self.send_on(&mut server[id]),
            // The connection waits for the end of the file before it goes on, or closes.
            Event::PeerFinished(id) | Event::Full(id) if server[id].data.sending.is_some() => {
                server[id].pause();
            }
            Event::Deadline(id) => server[id].attend(|stream| self.refuse(stream, REQUEST_TIMEOUT)),
            _ => {}
        }
        if let Some(log) = &mut self.log {
            log.handle(server, event);
        }
    }

    /// Answers the next request, if the whole of its head has arrived.
    fn receive(&mut self, connection: &mut Connection<Client>) -> io::Result<()> {
        let (client, stream) = connection.split();
        if client.sending.is_some() {
            return Ok(()); // `Drained` announces it again
        }
        let skipped = stream.received().len().min(client.body_left as usize);
        stream.consume(skipped);
        client.body_left -= skipped as u64;
        if client.body_left == 0 && stream.received().starts_with(b"\r\n") {
            stream.consume(2); // an empty line before a request is allowed
            client.searched = 0;
        }
        match request::head_length(stream.received(), &mut client.searched) {
            Ok(Some(length)) => return self.answer(connection, length),
            Err(status) => return self.refuse(stream, status),
            Ok(None) if stream.received().is_empty() && client.body_left == 0 => {}
            Ok(None) if client.has_deadline => {}
            Ok(None) => {
                client.has_deadline = true;
                stream.set_deadline(Some(REQUEST_DEADLINE));
            }
        }
        Ok(())
    }

    /// Answers the request whose head is at the front of what was received.
    fn answer(&mut self, connection: &mut Connection<Client>, length: usize) -> io::Result<()> {
        let peer = connection.peer_addr();
        let (client, stream) = connection.split();
        let (head, mut fields) = (&stream.received()[..length], [EMPTY_HEADER; FIELDS_MAX]);
        let request = match Request::parse(head, &mut fields) {
            Ok(request) => request,
            Err(status) => return self.refuse(stream, status),
        };
        let response = self.respond(&request);
        if let Some(log) = &mut self.log {
            log.write(peer, first_line(head), response.status, response.body.len());
        }
        response.write_head(&mut self.head, Some(&request));
        (client.closes, client.body_left) = (!request.keeps_alive, request.body_length);
        match response.body {
            Body::File(part) if !request.is_head => client.sending = Some(part),
            Body::Text(text) if !request.is_head => self.head.extend_from_slice(text.as_bytes()),
            _ => {}
        }
        stream.consume(length);
        let sent = match &mut client.sending {
            Some(part)
                if self.has_sockets && stream.unsent() == 0 && part.length > PIECE as u64 =>
            {
                part.send_by_kernel(stream, &self.head)
            }
            _ => 0,
        };
        stream.send(&self.head[sent..]);
        if std::mem::take(&mut client.has_deadline) {
            stream.set_deadline(None);
        }
        self.send_on(connection);
        Ok(())
    }

    /// What a request is answered with. Pages that are no files have their place here.
    fn respond(&self, request: &Request<'_>) -> Response {
        let found = self.root.find(request.path);
        found.map_or_else(Response::refusal, |found| Response::new(request, found))
    }

    /// Goes on with the response: sends of the file until the connection is clogged, which brings
    /// `Drained`, and goes over to the next request behind its last byte.
    fn send_on(&mut self, connection: &mut Connection<Client>) {
        let (client, stream) = connection.split();
        while let Some(part) = client.sending.as_mut().filter(|part| part.length > 0) {
            if stream.is_clogged() {
                return;
            }
            if self.has_sockets && stream.unsent() == 0 {
                part.send_by_kernel(stream, &[]);
            }
            let count = PIECE.min(part.length as usize);
            // It fails if the file has become shorter than was announced.
            if let Err(error) = part.file.read_exact(&mut self.piece[..count]) {
                return stream.abort_with(error);
            }
            stream.send(&self.piece[..count]);
            part.length -= count as u64;
        }
        if client.sending.take().is_some() {
            stream.resume();
        }
        if client.closes {
            stream.close();
        }
    }

    /// Answers what is no request, or none for this server, and has the connection be closed.
    fn refuse(&mut self, stream: &mut Stream, status: Status) -> io::Result<()> {
        let response = Response::refusal(status);
        if let Some(log) = &mut self.log {
            let line = first_line(stream.received());
            log.write(stream.peer_addr(), line, status, response.body.len());
        }
        response.write_head(&mut self.head, None);
        stream.send(&self.head);
        if let Body::Text(text) = response.body {
            stream.send(text.as_bytes());
        }
        Err(io::Error::new(ErrorKind::InvalidData, status))
    }
}

const REQUEST_TIMEOUT: Status = "408 Request Timeout";

/// The first line of a request, as far as it is there.
fn first_line(head: &[u8]) -> &[u8] {
    head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(head)
}
