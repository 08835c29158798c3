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
use std::path::{Path, PathBuf};
use std::time::Duration;

use readiness::{Connection, Event, EventLoop, Limits, Stream};

use access_log::AccessLog;
use request::{Request, Status};
use response::{Body, FilePart, Response};

/// How long a peer has for a request, from its first byte to its last.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);

/// How long a connection stays open on which nothing moves, such as between two requests.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// How many bytes of a file are read at once.
const PIECE: usize = 64 * 1024;

/// The server: all that its connections share.
#[derive(Debug)]
pub struct HttpServer {
    root: PathBuf,
    log: Option<AccessLog>,
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
    limits
}

impl HttpServer {
    /// A server of what is in a folder, with an access log if it is to have one.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error if the folder cannot be had, or is none.
    pub fn new(folder: &Path, log: Option<AccessLog>) -> io::Result<Self> {
        let root = folder.canonicalize()?;
        root.read_dir()?;
        Ok(Self { root, log, head: Vec::new(), piece: vec![0; PIECE] })
    }

    /// Handles an event of the server's loop.
    pub fn handle(&mut self, server: &mut EventLoop<Client>, event: Event) {
        match event {
            Event::Received(id) => server[id].attend(|connection| self.receive(connection)),
            Event::Drained(id) => self.send_on(&mut server[id]),
            Event::Deadline(id) => server[id].attend(|connection| {
                let line = first_line(connection.received()).to_vec();
                self.refuse(connection, &line, 408)
            }),
            _ => {}
        }
        if let Some(log) = &mut self.log {
            log.handle(server, event);
        }
    }

    /// Answers the next request, if the whole of its head has arrived.
    fn receive(&mut self, connection: &mut Connection<Client>) -> io::Result<()> {
        let (client, stream) = connection.split();
        let skipped = usize::try_from(client.body_left).unwrap_or(usize::MAX);
        let skipped = skipped.min(stream.received().len());
        stream.consume(skipped);
        client.body_left -= skipped as u64;
        if client.body_left == 0 && stream.received().starts_with(b"\r\n") {
            stream.consume(2); // an empty line before a request is allowed
            client.searched = 0;
        }
        match request::head_length(stream.received(), &mut client.searched) {
            _ if client.body_left > 0 => {}
            Ok(None) if stream.received().is_empty() => return Ok(()),
            Ok(None) => {}
            Ok(Some(length)) => return self.answer(connection, length),
            Err(status) => {
                let line = first_line(stream.received()).to_vec();
                return self.refuse(connection, &line, status);
            }
        }
        if !client.has_deadline {
            client.has_deadline = true;
            stream.set_deadline(Some(REQUEST_DEADLINE));
        }
        Ok(())
    }

    /// Answers the request whose head is at the front of what was received.
    fn answer(&mut self, connection: &mut Connection<Client>, length: usize) -> io::Result<()> {
        let peer = connection.peer_addr();
        let (client, stream) = connection.split();
        let (mut read, mut write) = stream.halves();
        let head = &read.received()[..length];
        let line = first_line(head);
        let request = match Request::parse(head) {
            Ok(request) => request,
            Err(status) => {
                let line = line.to_vec();
                return self.refuse(connection, &line, status);
            }
        };
        let response = self.respond(&request);
        if let Some(log) = &mut self.log {
            log.write(peer.ok(), line, response.status, response.body.len());
        }
        response.write_head(&mut self.head, Some(&request));
        write.send(&self.head);
        client.closes = !request.keeps_alive;
        client.body_left = request.body_length;
        match response.body {
            _ if request.is_head => {}
            Body::Empty => {}
            Body::Text(text) => write.send(text.as_bytes()),
            Body::File(part) => client.sending = Some(part),
        }
        read.consume(length);
        if client.has_deadline {
            client.has_deadline = false;
            stream.set_deadline(None);
        }
        self.send_on(connection);
        Ok(())
    }

    /// What a request is answered with. Pages that are no files have their place here.
    fn respond(&self, request: &Request<'_>) -> Response {
        let found = files::find(&self.root, request.path);
        found.map_or_else(Response::refusal, |found| Response::new(request, found))
    }

    /// Goes on with the response: sends of the file until the connection is clogged, which brings
    /// `Drained`, and goes over to the next request behind its last byte.
    fn send_on(&mut self, connection: &mut Connection<Client>) {
        let (client, stream) = connection.split();
        while let Some(part) = client.sending.as_mut().filter(|part| part.length > 0) {
            if stream.is_clogged() {
                return stream.pause();
            }
            let count = PIECE.min(usize::try_from(part.length).unwrap_or(PIECE));
            let piece = &mut self.piece[..count];
            if let Err(error) = part.file.read_exact(piece) {
                // The file has become shorter than was announced.
                return stream.abort_with(error);
            }
            stream.send(piece);
            part.length -= count as u64;
        }
        if client.sending.take().is_some() {
            stream.resume();
        }
        if client.closes {
            stream.close();
        }
    }

    /// Answers what is no request, or none of this server's, and has the connection be closed.
    fn refuse(&mut self, stream: &mut Stream, line: &[u8], status: Status) -> io::Result<()> {
        let response = Response::refusal(status);
        if let Some(log) = &mut self.log {
            log.write(stream.peer_addr().ok(), line, status, response.body.len());
        }
        response.write_head(&mut self.head, None);
        stream.send(&self.head);
        if let Body::Text(text) = response.body {
            stream.send(text.as_bytes());
        }
        Err(io::Error::new(ErrorKind::InvalidData, response::title(status)))
    }
}

/// The first line of a request, as far as it is there.
fn first_line(head: &[u8]) -> &[u8] {
    head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(head)
}
