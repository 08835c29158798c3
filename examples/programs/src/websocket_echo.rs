//! An echo over WebSocket (RFC 6455): what a client sends is sent back as a message of its kind.
//!
//! tungstenite's per-call interface does the protocol. A [`WebSocketContext`] holds no socket: it is
//! lent the stream for each call, and a call that would block is made again at the next event. So
//! one function, [`Session::serve`], is called at each:
//!
//! | would block | goes on with |
//! |---|---|
//! | nothing more has arrived | `Received` or `PeerFinished` |
//! | the write buffer is full | `Drained` |
//!
//! A message is sent before the next is read. So a client costs at most one message each way in
//! addition to the buffers of [`limits`]. A client that breaks the protocol is sent a close code
//! that says how.

use std::io::{self, ErrorKind, Write};
use std::time::Duration;

use readiness::{Connection, Event, EventLoop, Limits, Stream};
use tungstenite::error::{CapacityError, Error, ProtocolError};
use tungstenite::handshake::machine::TryParse;
use tungstenite::handshake::server::{Request, create_response, write_response};
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Bytes, Message};

/// The longest message, whether in one frame or in many.
pub const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// The longest request that opens a connection.
pub const REQUEST_MAX: usize = 8 * 1024;

/// The most unsent bytes of a connection. tungstenite moves what is left of a message at each write,
/// so a message of [`MESSAGE_MAX`] should not take too many of them.
const UNSENT_MAX: usize = 1024 * 1024;

/// How long a client may take for that request.
pub const OPENING_DEADLINE: Duration = Duration::from_secs(10);

/// How often a client is pinged. It is closed if nothing arrives from one ping to the next.
pub const PING_PERIOD: Duration = Duration::from_secs(30);

/// What a browser is shown that asks for `/`: a page to try the echo with.
const PAGE: &str = include_str!("websocket_page.html");

/// What the server knows of a client.
#[derive(Debug, Default)]
pub struct Session {
    phase: Phase,
    /// Something has arrived since the last ping.
    was_heard: bool,
}

#[derive(Debug, Default)]
enum Phase {
    /// The request has not arrived whole.
    #[default]
    Opening,
    Open(Box<WebSocketContext>),
    /// The connection is closed, as far as we are concerned.
    Over,
}

/// Returns the limits of a loop whose connections hold little beyond one message each way.
#[must_use]
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    let connection = &mut limits.connection;
    (connection.low_water, connection.high_water) = (128 * 1024, UNSENT_MAX);
    connection.unsent_max = UNSENT_MAX;
    limits
}

impl Session {
    /// Does what can be done now.
    fn serve(&mut self, stream: &mut Stream) -> io::Result<()> {
        if matches!(self.phase, Phase::Opening) {
            match open(stream)? {
                Some(phase) => self.phase = phase,
                None => return Ok(()),
            }
        }
        let Phase::Open(context) = &mut self.phase else { return Ok(()) };
        match echo(context, stream) {
            Ok(()) => Ok(()),
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(Error::ConnectionClosed) => {
                self.phase = Phase::Over;
                stream.close();
                Ok(())
            }
            Err(error) => Err(end(context, stream, error)),
        }
    }
}

/// Answers the request that opens a connection, once it has arrived whole, and returns the phase
/// that follows.
fn open(stream: &mut Stream) -> io::Result<Option<Phase>> {
    match Request::try_parse(stream.received()) {
        Ok(None) if stream.received().len() < REQUEST_MAX => Ok(None),
        Ok(None) => Err(refuse(stream, &CapacityError::TooManyHeaders.into())),
        Ok(Some((length, request))) => {
            stream.consume(length);
            match create_response(&request) {
                Ok(response) => {
                    write_response(stream, &response).map_err(io::Error::other)?;
                    let context = WebSocketContext::new(Role::Server, Some(config()));
                    Ok(Some(Phase::Open(Box::new(context))))
                }
                Err(Error::Protocol(
                    ProtocolError::MissingConnectionUpgradeHeader
                    | ProtocolError::MissingUpgradeWebSocketHeader,
                )) if request.uri().path() == "/" => {
                    answer(stream, "200 OK", "Content-Type: text/html; charset=utf-8\r\n", PAGE)?;
                    stream.close();
                    Ok(Some(Phase::Over))
                }
                Err(error) => Err(refuse(stream, &error)),
            }
        }
        Err(error) => Err(refuse(stream, &error)),
    }
}

/// Answers a request that opens nothing, and returns the reason for which the connection closes.
fn refuse(stream: &mut Stream, error: &Error) -> io::Error {
    use ProtocolError::{
        HttparseError, MissingConnectionUpgradeHeader, MissingSecWebSocketVersionHeader,
        MissingUpgradeWebSocketHeader, WrongHttpMethod, WrongHttpVersion,
    };
    let too_many = matches!(
        error,
        Error::Capacity(_) | Error::Protocol(HttparseError(httparse::Error::TooManyHeaders))
    );
    let (status, headers) = match error {
        _ if too_many => ("431 Request Header Fields Too Large", ""),
        Error::Protocol(WrongHttpMethod) => ("405 Method Not Allowed", "Allow: GET\r\n"),
        Error::Protocol(WrongHttpVersion) => ("505 HTTP Version Not Supported", ""),
        Error::Protocol(MissingConnectionUpgradeHeader | MissingUpgradeWebSocketHeader) => {
            ("404 Not Found", "")
        }
        Error::Protocol(MissingSecWebSocketVersionHeader) => {
            ("426 Upgrade Required", "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\n")
        }
        _ => ("400 Bad Request", ""),
    };
    let headers = format!("{headers}Content-Type: text/plain; charset=utf-8\r\n");
    match answer(stream, status, &headers, &format!("{status}: {error}\n")) {
        Ok(()) => io::Error::new(ErrorKind::InvalidData, error.to_string()),
        Err(error) => error,
    }
}

fn answer(stream: &mut Stream, status: &str, headers: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024) // each connection has one, also while it is idle
        .max_message_size(Some(MESSAGE_MAX))
        .max_frame_size(Some(MESSAGE_MAX))
}

/// Sends back messages until a call would block, or the connection ends. Pings and closes are
/// answered by the context itself, as soon as it reads on.
fn echo(context: &mut WebSocketContext, stream: &mut Stream) -> Result<(), Error> {
    loop {
        context.flush(stream)?;
        let message = context.read(stream)?;
        // After our own close a client may still be in the middle of something.
        if (message.is_text() || message.is_binary()) && context.can_write() {
            context.write(stream, message)?;
        }
    }
}

/// Tells the client how it has broken the protocol, and returns the reason for which the connection
/// closes.
fn end(context: &mut WebSocketContext, stream: &mut Stream, error: Error) -> io::Error {
    let code = match &error {
        Error::Capacity(_) => CloseCode::Size,
        Error::Utf8(_) => CloseCode::Invalid,
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => {
            let what = "the peer ended without a close frame";
            return io::Error::new(ErrorKind::UnexpectedEof, what);
        }
        Error::Protocol(_) => CloseCode::Protocol,
        Error::Io(_) => return io::Error::other(error),
        _ => CloseCode::Error,
    };
    // A close frame takes 123 bytes of text.
    let reason: String = error.to_string().chars().filter(char::is_ascii).take(123).collect();
    // Its own failure would say less than what the client did.
    let _ = context.close(stream, Some(CloseFrame { code, reason: reason.into() }));
    io::Error::new(ErrorKind::InvalidData, format!("{error}, close code {code}"))
}

/// Handles an event of the server's loop. What fails on one connection ends that one.
pub fn handle(server: &mut EventLoop<Session>, event: Event) {
    match event {
        Event::Accepted(_, id) => server[id].set_deadline(Some(OPENING_DEADLINE)),
        Event::Received(id) => {
            server[id].data.was_heard = true;
            server[id].attend(serve);
        }
        Event::Drained(id) => server[id].attend(serve),
        Event::PeerFinished(id) => server[id].attend(|connection| {
            serve(connection)?;
            match connection.data.phase {
                Phase::Opening => Err(ErrorKind::UnexpectedEof.into()),
                Phase::Open(_) | Phase::Over => Ok(()),
            }
        }),
        Event::Deadline(id) => server[id].attend(check_alive),
        _ => {}
    }
}

/// Tells every client that the server goes away, behind what has arrived, before the loop shuts
/// down: WebSocket has a word for it, which the loop knows nothing of.
pub fn say_goodbye(server: &mut EventLoop<Session>) {
    for connection in server.connections_mut() {
        connection.attend(|connection| {
            serve(connection)?;
            let (session, stream) = connection.split();
            let Phase::Open(context) = &mut session.phase else { return Ok(()) };
            let frame = CloseFrame { code: CloseCode::Away, reason: "the server stops".into() };
            context.close(stream, Some(frame)).map_err(io_error)
        });
    }
}

/// Looks whether a client is still there, and asks it to say so by the next time.
fn check_alive(connection: &mut Connection<Session>) -> io::Result<()> {
    let (session, stream) = connection.split();
    // Nothing is read from a client that reads slowly itself; its loop watches that it does read.
    let is_reading = stream.unsent() > 0;
    let is_alive = std::mem::take(&mut session.was_heard) || is_reading;
    match &mut session.phase {
        Phase::Open(context) if is_alive => {
            stream.set_deadline(Some(PING_PERIOD));
            if !is_reading && context.can_write() {
                context.write(stream, Message::Ping(Bytes::new())).map_err(io_error)?;
                context.flush(stream).map_err(io_error)?;
            }
            Ok(())
        }
        Phase::Over => Ok(()),
        Phase::Opening | Phase::Open(_) => {
            session.phase = Phase::Over;
            Err(io::Error::new(ErrorKind::TimedOut, "nothing has arrived in time"))
        }
    }
}

/// `WouldBlock` stays what it is: the context goes on at the next event.
fn io_error(error: Error) -> io::Error {
    match error {
        Error::Io(error) => error,
        error => io::Error::other(error),
    }
}

fn serve(connection: &mut Connection<Session>) -> io::Result<()> {
    let (session, stream) = connection.split();
    session.serve(stream).inspect_err(|error| {
        session.phase = Phase::Over;
        log::info!("{} is closed: {error}", stream.id());
    })
}
