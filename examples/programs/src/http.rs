//! A server of static files over HTTP/1.1.
//!
//! | file | |
//! |---|---|
//! | `request.rs` | bytes → a request, or the status that refuses it |
//! | `files.rs` | the path of a request → a file, a list of what is there, or a status |
//! | `response.rs` | responses: the whole of a file or a part, nothing new, a page, a refusal |
//! | `access_log.rs` | one line for each response |
//!
//! One request is handled for each event. A small file leaves with the head of its response. A
//! large one is sent as the peer takes it, and until then the next request waits: so memory stays
//! constant.

pub mod access_log;
mod files;
mod request;
mod response;

use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use httparse::EMPTY_HEADER;
use readiness::{Connection, Event, EventLoop, Limits};

use access_log::AccessLog;
use files::Root;
use request::{FIELDS_MAX, Request, Status};
use response::{FilePart, Response};

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

/// Returns the limits of the server's loop.
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
    /// Returns a server of what is in a folder, with an access log if it is to have one.
    /// `has_sockets` is false on a simulated network, which has none that a file could be sent to.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error if the folder cannot be had, or is none.
    pub fn new(folder: &Path, log: Option<AccessLog>, has_sockets: bool) -> io::Result<Self> {
        Ok(Self { root: Root::new(folder)?, log, has_sockets })
    }

    /// Handles an event of the server's loop.
    pub fn handle(&mut self, server: &mut EventLoop<Client>, event: Event) {
        match event {
            Event::Received(id) => server[id].attend(|connection| self.receive(connection)),
            Event::Drained(id) => self.send_on(&mut server[id]),
            Event::Deadline(id) => server[id].attend(|connection| {
                let begun = connection.received().to_vec();
                self.answer(connection, &begun, Some("408 Request Timeout"))
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
        let (length, refusal) = match request::head_length(stream.received(), &mut client.searched)
        {
            Ok(Some(length)) => (length, None),
            Err(status) => (stream.received().len(), Some(status)),
            Ok(None) => {
                let has_begun = !stream.received().is_empty() || client.body_left > 0;
                if has_begun && !client.has_deadline {
                    client.has_deadline = true;
                    stream.set_deadline(Some(REQUEST_DEADLINE));
                }
                return Ok(());
            }
        };
        let head = stream.received()[..length].to_vec();
        stream.consume(length);
        self.answer(connection, &head, refusal)
    }

    /// Answers the request of this head, unless it is refused. If so, the connection closes.
    fn answer(
        &mut self,
        connection: &mut Connection<Client>,
        head: &[u8],
        refusal: Option<Status>,
    ) -> io::Result<()> {
        let mut fields = [EMPTY_HEADER; FIELDS_MAX];
        let request = refusal.map_or_else(|| Request::parse(head, &mut fields), Err);
        let response = match &request {
            Ok(request) => self.respond(request),
            Err(status) => Response::refusal(status),
        };
        if let Some(log) = &mut self.log {
            log.write(connection.peer_addr(), first_line(head), &response);
        }
        let (client, stream) = connection.split();
        let head = response.head(request.as_ref().ok());
        if let Ok(request) = &request {
            (client.closes, client.body_left) = (!request.keeps_alive, request.body_length);
        }
        if std::mem::take(&mut client.has_deadline) {
            stream.set_deadline(None);
        }
        client.sending = response.file;
        let sent = match &mut client.sending {
            Some(part) if self.has_sockets && part.length > PIECE as u64 => {
                part.send_by_kernel(stream, &head)
            }
            _ => 0,
        };
        stream.send(&head[sent..]);
        self.send_on(connection);
        request.map(drop).map_err(|status| io::Error::new(ErrorKind::InvalidData, status))
    }

    /// Returns what a request is answered with. Pages that are no files have their place here.
    fn respond(&self, request: &Request<'_>) -> Response {
        let response = self.root.find(request).unwrap_or_else(Response::refusal);
        if request.is_head { response.without_body() } else { response }
    }

    /// Goes on with the response: sends of the file until the connection is clogged, which brings
    /// `Drained`, and goes over to the next request behind its last byte.
    fn send_on(&mut self, connection: &mut Connection<Client>) {
        let (client, stream) = connection.split();
        while let Some(part) = client.sending.as_mut().filter(|part| part.length > 0) {
            if stream.is_clogged() {
                return;
            }
            if self.has_sockets {
                part.send_by_kernel(stream, &[]);
            }
            let mut piece = [0; PIECE];
            let piece = &mut piece[..(PIECE as u64).min(part.length) as usize];
            // It fails if the file has become shorter than was announced.
            if let Err(error) = part.file.read_exact(piece) {
                return stream.abort_with(error);
            }
            stream.send(piece);
            part.length -= piece.len() as u64;
        }
        client.sending = None;
        if client.closes {
            stream.close();
        }
    }
}

/// Returns the first line of a request, as far as it is there.
fn first_line(head: &[u8]) -> &[u8] {
    let line = head.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or(head);
    &line[..line.len().min(request::LINE_MAX)]
}
