//! tungstenite on a connection of the loop, by its context that takes the stream with each call,
//! against a blocking client of the same crate.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../common/mod.rs"]
mod common;

use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use common::{PATIENCE, connection_limits, pattern, peer, until};
use readiness::{CloseReason, Connection, Event, EventLoop, Stream};
use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message, WebSocket, client};

const LARGE: usize = 16 << 20;
/// So little may be unsent that a large message meets the limit often.
const UNSENT_MAX: usize = 256 * 1024;

/// What the server knows of its connection: the key of the handshake, and then the context.
enum Talk {
    Shaking(Option<String>),
    Open(Box<WebSocketContext>),
}

impl Default for Talk {
    fn default() -> Self {
        Self::Shaking(None)
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default().max_frame_size(None).max_message_size(None)
}

/// Answers the handshake, and then sends back each message.
fn handle(connection: &mut Connection<Talk>) -> io::Result<()> {
    let (talk, stream) = connection.split();
    if let Talk::Shaking(key) = talk {
        let Some(context) = shake_hands(key, stream)? else { return Ok(()) };
        *talk = Talk::Open(Box::new(context));
    }
    let Talk::Open(context) = talk else { return Ok(()) };
    match echo(context, stream) {
        Ok(()) => Ok(()),
        Err(Error::ConnectionClosed) => {
            stream.close();
            Ok(())
        }
        Err(Error::Io(error)) => Err(error),
        Err(error) => Err(io::Error::new(ErrorKind::InvalidData, error)),
    }
}

/// Takes the request by lines, and answers it once it is whole.
fn shake_hands(
    key: &mut Option<String>,
    stream: &mut Stream,
) -> io::Result<Option<WebSocketContext>> {
    let (mut read, mut write) = stream.halves();
    while let Some(line) = read.take_line(1_000)? {
        let line = std::str::from_utf8(line).map_err(|_| ErrorKind::InvalidData)?;
        if let Some((name, value)) = line.split_once(": ")
            && name.eq_ignore_ascii_case("Sec-WebSocket-Key")
        {
            *key = Some(value.to_owned());
        }
        if line.is_empty() {
            let key = key.take().ok_or(ErrorKind::InvalidData)?;
            let accept = derive_accept_key(key.as_bytes());
            write!(
                write,
                "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                 Upgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
            )?;
            return Ok(Some(WebSocketContext::new(Role::Server, Some(config()))));
        }
    }
    Ok(None)
}

fn echo(context: &mut WebSocketContext, stream: &mut Stream) -> Result<(), Error> {
    loop {
        // What is left of the answer before leaves first.
        context.flush(stream)?;
        let message = context.read(stream)?;
        if message.is_binary() || message.is_text() {
            context.write(stream, message)?;
        }
    }
}

/// Serves one client until it has closed, and reports whenever an answer met the limit. Returns how
/// often that was.
fn serve(server: &mut EventLoop<Talk>, blocked: &Sender<()>) -> (usize, CloseReason) {
    let mut count = 0;
    let mut attend = |connection: &mut Connection<Talk>| {
        let outcome = handle(connection);
        let would_block = matches!(&outcome, Err(error) if error.kind() == ErrorKind::WouldBlock);
        if would_block && connection.is_clogged() {
            count += 1;
            // The client may have all that it waits for.
            let _ = blocked.send(());
        }
        outcome
    };
    let reason = until(server, |server, event| match event {
        Event::Received(id) | Event::Drained(id) => {
            server[id].attend(&mut attend);
            None
        }
        Event::Closed(_, reason) => Some(reason),
        Event::Accepted(..) | Event::PeerFinished(_) => None,
        other => panic!("{other:?} was not expected"),
    });
    (count, reason)
}

fn listening() -> (EventLoop<Talk>, SocketAddr) {
    common::listening_with(connection_limits(|limits| limits.unsent_max = UNSENT_MAX))
}

type Client = WebSocket<TcpStream>;

fn in_thread(
    address: SocketAddr,
    talk: impl FnOnce(&mut Client) + Send + 'static,
) -> JoinHandle<()> {
    thread::spawn(move || {
        let url = format!("ws://{address}/");
        let (mut client, _) =
            client::client_with_config(url, peer(address), Some(config())).unwrap();
        talk(&mut client);
        client.close(None).unwrap();
        let end = std::iter::repeat_with(|| client.read()).find_map(Result::err).unwrap();
        assert!(matches!(end, Error::ConnectionClosed), "{end:?}");
    })
}

fn assert_comes_back(client: &mut Client, message: Message) {
    let back = client.read().unwrap();
    assert!(back == message, "{} bytes are echoed as they were sent", message.len());
}

/// The client reads a large message only once the server has met the limit, and so is slow.
fn talk(client: &mut Client, blocked: &Receiver<()>) {
    for message in [Message::text("Hello"), Message::binary(Vec::new())] {
        client.send(message.clone()).unwrap();
        assert_comes_back(client, message);
    }
    // Many that arrive together are answered in their order.
    let many = || (0..100_usize).map(|count| Message::binary(pattern(count, count)));
    many().for_each(|message| client.write(message).unwrap());
    client.flush().unwrap();
    many().for_each(|message| assert_comes_back(client, message));
    assert!(blocked.try_recv().is_err(), "nothing small meets the limit");
    for size in [LARGE, LARGE - 1] {
        let message = Message::binary(pattern(0, size));
        client.send(message.clone()).unwrap();
        blocked.recv_timeout(PATIENCE).expect("a large message meets the limit");
        assert_comes_back(client, message);
        while blocked.try_recv().is_ok() {}
    }
}

#[test]
fn messages_of_all_sizes_come_back_and_blocked_writes_go_on() {
    let (mut server, address) = listening();
    let (sender, blocked) = mpsc::channel();
    let client = in_thread(address, move |client| talk(client, &blocked));
    let (count, reason) = serve(&mut server, &sender);
    client.join().unwrap();
    assert_eq!(reason, CloseReason::Closed);
    assert!(count > 10, "the limit was met only {count} times");
}

/// What is no frame ends that connection alone, with a reason.
#[test]
fn peer_that_sends_no_frames_is_rejected() {
    let (mut server, address) = listening();
    let client = thread::spawn(move || {
        let url = format!("ws://{address}/");
        let (mut client, _) = client::client(url, peer(address)).unwrap();
        client.get_mut().write_all(&[0xFF; 100]).unwrap();
        // To the server's end.
        let _ = io::copy(client.get_mut(), &mut io::sink());
    });
    let (_, reason) = serve(&mut server, &mpsc::channel().0);
    client.join().unwrap();
    assert_eq!(reason, CloseReason::Rejected(ErrorKind::InvalidData.into()));
}
