//! A server of static files over HTTP/1.1.
//!
//! | file | |
//! |---|---|
//! | `../request.rs` | bytes → a request, or the status that refuses it |
//! | `files.rs` | the path of a request → a file, a list of what is there, or a status |
//! | `response.rs` | responses: the whole of a file or a part, nothing new, a page, a refusal |
//!
//! One request is handled for each event. A small file leaves with the head of its response. A
//! large one is sent as the peer takes it, and until then the next request waits: so memory stays
//! constant.

mod files;
mod response;

use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Take, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;
use readiness::{Connection, Event, EventLoop, Limits, Stream, TimerId};

use crate::request::{CLOSE, FIELDS, Request, Status, TIMEOUT, first_line};
use files::Root;
use response::Response;

/// How long a peer has for a request, from its first byte to its last.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// How long a connection stays open on which nothing moves, such as between two requests.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a line of the log waits for others: a write for each would cost too much.
const GATHERED_FOR: Duration = Duration::from_millis(100);
/// How many bytes of a file are read at once. It clogs, so that `Drained` follows each piece.
const PIECE: usize = 4 * 1024;
/// The most bytes of a file that the kernel moves at once, so that other clients get their turn.
#[cfg(target_os = "linux")]
const SENDFILE_MAX: u64 = 1024 * 1024;

/// The server: all that its connections share.
pub struct HttpServer {
    root: Root,
    log: Option<BufWriter<Box<dyn Write>>>,
    log_has_failed: bool,
    /// When the gathered lines of the log are written.
    flush: Option<TimerId>,
}

/// What the server remembers of a connection.
#[derive(Debug, Default)]
pub struct Client {
    /// How many bytes of the last request's body are still to be skipped.
    body_left: u64,
    /// What is still to be sent of a file.
    sending: Option<Take<File>>,
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
    /// Returns a server of what is in a folder, with an access log if it is to have one. Where that
    /// goes must not block: while it does, all connections wait.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error if the folder cannot be had, or is none.
    pub fn new(folder: &Path, log: Option<Box<dyn Write>>) -> io::Result<Self> {
        let (root, log) = (Root::new(folder)?, log.map(BufWriter::new));
        Ok(Self { root, log, log_has_failed: false, flush: None })
    }

    /// Handles an event of the server's loop.
    pub fn handle(&mut self, server: &mut EventLoop<Client>, event: Event) {
        match event {
            Event::Received(id) => server[id].attend(|connection| self.receive(connection)),
            Event::Drained(id) => send_on(&mut server[id]),
            Event::Deadline(id) => server[id].attend(|connection| self.refuse(connection, TIMEOUT)),
            Event::Timer(id) if Some(id) == self.flush => self.flush(),
            _ => {}
        }
        if self.flush.is_none() && self.log.as_ref().is_some_and(|log| !log.buffer().is_empty()) {
            self.flush = Some(server.set_timer(GATHERED_FOR));
        }
    }

    /// Answers the next request, once the whole of its head has arrived.
    fn receive(&mut self, connection: &mut Connection<Client>) -> io::Result<()> {
        let (client, stream) = connection.split();
        if client.sending.is_some() {
            return Ok(()); // `Drained` announces it again
        }
        let skipped = stream.received().len().min(client.body_left as usize);
        stream.consume(skipped);
        client.body_left -= skipped as u64;
        while stream.received().starts_with(b"\r\n") {
            stream.consume(2); // an empty line before a request is allowed
        }
        let has_begun = client.body_left > 0 || !stream.received().is_empty();
        let mut fields = FIELDS;
        match Request::parse(stream.received(), &mut fields) {
            Ok(Some(request)) => {
                let (length, line) = (request.head_length, request.connection);
                (client.body_left, client.closes) = (request.body_length, line == CLOSE);
                let mut response = self.root.find(&request).unwrap_or_else(files::failure);
                if request.is_head {
                    (response.text, response.file) = (String::new(), None);
                }
                self.begin(stream, &response, line);
                stream.consume(length);
                (client.sending, client.has_deadline) = (response.file, false);
                stream.set_deadline(None);
                send_on(connection);
            }
            Ok(None) if has_begun && !client.has_deadline => {
                client.has_deadline = true;
                stream.set_deadline(Some(REQUEST_DEADLINE));
            }
            Ok(None) => {}
            Err(status) => return self.refuse(stream, status),
        }
        Ok(())
    }

    /// Answers what is no request for a file, and the connection closes.
    fn refuse(&mut self, stream: &mut Stream, status: Status) -> io::Result<()> {
        let more = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        self.begin(stream, &Response::plain(status, more), CLOSE);
        Err(io::Error::new(ErrorKind::InvalidData, status))
    }

    /// Sends what comes before the file, and writes a line of the access log in the common format.
    fn begin(&mut self, stream: &mut Stream, response: &Response, connection: &str) {
        let head = response.head(connection).into_bytes();
        let is_large = response.file.as_ref().is_some_and(|file| file.limit() > PIECE as u64);
        let sent = if is_large { send_ahead(stream, &head) } else { 0 };
        stream.send(&head[sent..]);
        let Some(log) = &mut self.log else { return };
        let peer = stream.peer_addr().map_or("-".to_owned(), |peer| peer.ip().to_string());
        let date = HttpDate::from(SystemTime::now()).to_string(); // Sun, 06 Nov 1994 08:49:37 GMT
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        let line = first_line(stream.received()).escape_ascii();
        let (status, length) = (&response.status[..3], response.length());
        let line = format!(
            "{peer} - - [{day}/{month}/{year}:{time} +0000] \"{line}\" {status} {length}\n"
        );
        let _ = log.write_all(line.as_bytes()); // an error is there again when it is flushed
    }

    /// Writes the lines of the log that were gathered. The last of them are written when the log is
    /// dropped.
    fn flush(&mut self) {
        self.flush = None;
        if let Some(Err(error)) = self.log.as_mut().map(Write::flush) {
            let has_failed = std::mem::replace(&mut self.log_has_failed, true);
            let level = if has_failed { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "cannot write the access log: {error}");
        }
    }
}

/// Goes on with the response: sends of the file until the connection is clogged, which brings
/// `Drained`, and goes over to the next request behind its last byte.
fn send_on(connection: &mut Connection<Client>) {
    let (client, stream) = connection.split();
    while let Some(file) = client.sending.as_mut().filter(|file| file.limit() > 0) {
        if stream.is_clogged() {
            return;
        }
        if stream.unsent() == 0 {
            send_by_kernel(stream, file);
        }
        let mut piece = [0; PIECE];
        let piece = &mut piece[..PIECE.min(file.limit() as usize)];
        // It fails if the file has become shorter than was announced.
        if let Err(error) = file.read_exact(piece) {
            return stream.abort_with(error);
        }
        stream.send(piece);
    }
    client.sending = None;
    if client.closes {
        stream.close();
    }
}

/// Has the kernel take the head of a large response at once and keep it until bytes of the file
/// follow, so that both leave in full segments. Returns how many bytes it has taken. Like
/// [`send_by_kernel`], it is for when nothing is unsent.
#[cfg(target_os = "linux")]
fn send_ahead(stream: &Stream, head: &[u8]) -> usize {
    use rustix::net::{SendFlags, send};
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    let socket = stream.try_as_fd().ok().filter(|_| stream.unsent() == 0);
    socket.and_then(|socket| send(socket, head, flags).ok()).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn send_ahead(_: &Stream, _: &[u8]) -> usize {
    0
}

/// Has the kernel move bytes of a file, without a copy here, as far as there is room. It goes past
/// the loop, which waits for room and finds out about errors at the next send; so it is for when
/// nothing is unsent.
#[cfg(target_os = "linux")]
fn send_by_kernel(stream: &Stream, file: &mut Take<File>) {
    let count = file.limit().min(SENDFILE_MAX) as usize;
    if let Ok(socket) = stream.try_as_fd()
        && let Ok(count) = rustix::fs::sendfile(socket, file.get_ref(), None, count)
    {
        file.set_limit(file.limit() - count as u64);
    }
}

#[cfg(not(target_os = "linux"))]
fn send_by_kernel(_: &Stream, _: &mut Take<File>) {}
