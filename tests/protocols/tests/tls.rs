//! rustls on a connection of the loop, by hand (`read_tls`, `write_tls`) and by its own
//! `rustls::Stream`, against a blocking client of the same crate.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../common/mod.rs"]
mod common;

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use common::{PATIENCE, connection_limits, pattern, pattern_at, peer, until};
use readiness::{CloseReason, Connection, Event, EventLoop, Stream};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{StreamOwned, SupportedProtocolVersion, version};

const SMALL: usize = 5;
const LARGE: usize = 16 << 20;
/// So little may be unsent that a large answer meets the limit often.
const UNSENT_MAX: usize = 256 * 1024;

// The protocol: a letter and a length. After `D` the server sends that many bytes of the pattern;
// after `U` the client does, and the server answers how many of them were right.

const REQUEST: usize = 9;

/// How far the server is with a request.
enum Served {
    Reading { request: [u8; REQUEST], count: usize },
    Receiving { place: usize, right: usize, end: usize },
    Sending { answer: Answer, place: usize },
}

/// What the server sends.
enum Answer {
    Pattern(usize),
    Number([u8; 8]),
}

impl Answer {
    fn piece(&self, place: usize) -> Vec<u8> {
        match self {
            Self::Pattern(end) => pattern(place, (end - place).min(20_000)),
            Self::Number(bytes) => bytes[place..].to_vec(),
        }
    }
}

impl Served {
    fn new() -> Self {
        Self::Reading { request: [0; REQUEST], count: 0 }
    }

    fn is_sending(&self) -> bool {
        matches!(self, Self::Sending { .. })
    }

    /// Serves as far as it goes, to the client's end or an error, `WouldBlock` above all.
    fn serve(&mut self, tls: &mut (impl Read + Write)) -> io::Result<()> {
        loop {
            tls.flush()?;
            match self {
                Self::Reading { request, count } => match tls.read(&mut request[*count..])? {
                    0 => return Ok(()),
                    read => *count += read,
                },
                Self::Receiving { place, right, end } => {
                    let mut bytes = vec![0; (*end - *place).min(20_000)];
                    let read = tls.read(&mut bytes)?;
                    if read == 0 {
                        return Err(ErrorKind::UnexpectedEof.into());
                    }
                    let is_right = |(byte, place): &(&u8, usize)| **byte == pattern_at(*place);
                    *right += bytes[..read].iter().zip(*place..).filter(is_right).count();
                    *place += read;
                }
                Self::Sending { answer, place } => *place += tls.write(&answer.piece(*place))?,
            }
            self.go_on();
        }
    }

    /// The next state, where this one is done.
    fn go_on(&mut self) {
        match self {
            Self::Reading { request, count: REQUEST } => {
                let (kind, length) = (request[0], request[1..].try_into().unwrap());
                let length = usize::try_from(u64::from_be_bytes(length)).unwrap();
                *self = match kind {
                    b'D' => Self::Sending { answer: Answer::Pattern(length), place: 0 },
                    b'U' => Self::Receiving { place: 0, right: 0, end: length },
                    other => panic!("there is no request {other}"),
                };
            }
            Self::Receiving { place, right, end } if place == end => {
                let answer = Answer::Number((*right as u64).to_be_bytes());
                *self = Self::Sending { answer, place: 0 };
            }
            Self::Sending { answer, place } if answer.piece(*place).is_empty() => {
                *self = Self::new();
            }
            _ => {}
        }
    }
}

/// A session on a stream, moved by `read_tls` and `write_tls`.
struct ByHand<'c> {
    session: &'c mut ServerConnection,
    stream: &'c mut Stream,
}

impl Read for ByHand<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return outcome,
            }
            self.session.read_tls(self.stream)?;
            let outcome = self.session.process_new_packets();
            // The handshake's answers, or the alert that says why it fails.
            self.flush()?;
            outcome.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        }
    }
}

impl Write for ByHand<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        self.session.writer().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            self.session.write_tls(self.stream)?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    ByHand,
    RustlsStream,
}

/// What the server knows of its connection.
struct Tls {
    session: ServerConnection,
    served: Served,
}

fn handle(way: Way, connection: &mut Connection<Tls>) -> io::Result<()> {
    let (Tls { session, served }, stream) = connection.split();
    match way {
        Way::ByHand => served.serve(&mut ByHand { session, stream }),
        Way::RustlsStream => served.serve(&mut rustls::Stream::new(session, stream)),
    }
}

/// Serves one client until it has closed, and reports whenever an answer met the limit. Returns how
/// often that was.
fn serve(server: &mut EventLoop<Tls>, way: Way, blocked: &Sender<()>) -> (usize, CloseReason) {
    let mut count = 0;
    let mut attend = |connection: &mut Connection<Tls>| {
        let outcome = handle(way, connection);
        let would_block = matches!(&outcome, Err(error) if error.kind() == ErrorKind::WouldBlock);
        if would_block && connection.data.served.is_sending() {
            assert!(connection.is_clogged(), "Drained follows");
            count += 1;
            // The client may have all that it waits for.
            let _ = blocked.send(());
        }
        outcome
    };
    let reason = until(server, |server, event| match event {
        Event::Received(id) | Event::Drained(id) | Event::PeerFinished(id) => {
            server[id].attend(&mut attend);
            None
        }
        Event::Closed(_, reason) => Some(reason),
        Event::Accepted(..) => None,
        other => panic!("{other:?} was not expected"),
    });
    (count, reason)
}

/// Returns a certificate for `localhost`, and the client that trusts it.
fn configs(version: &'static SupportedProtocolVersion) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed([String::from("localhost")]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut trusted = RootCertStore::empty();
    trusted.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    let client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    (Arc::new(server), Arc::new(client))
}

fn listening(config: Arc<ServerConfig>) -> (EventLoop<Tls>, SocketAddr) {
    let limits = connection_limits(|limits| limits.unsent_max = UNSENT_MAX);
    let mut server = EventLoop::with_limits(limits).unwrap();
    let make = move |_| Tls {
        session: ServerConnection::new(config.clone()).unwrap(),
        served: Served::new(),
    };
    let listener = server.listen_with("127.0.0.1:0", make).unwrap();
    let address = server.listener_addr(listener).unwrap();
    (server, address)
}

type Client = StreamOwned<ClientConnection, TcpStream>;

fn request(client: &mut Client, kind: u8, length: usize) {
    client.write_all(&[kind]).unwrap();
    client.write_all(&(length as u64).to_be_bytes()).unwrap();
    client.flush().unwrap();
}

fn download(client: &mut Client, length: usize) {
    let mut bytes = vec![0; length];
    client.read_exact(&mut bytes).unwrap();
    assert!(bytes == pattern(0, length), "{length} bytes arrive as they were sent");
}

fn upload(client: &mut Client, length: usize) {
    request(client, b'U', length);
    client.write_all(&pattern(0, length)).unwrap();
    client.flush().unwrap();
    let mut right = [0; 8];
    client.read_exact(&mut right).unwrap();
    assert_eq!(u64::from_be_bytes(right), length as u64);
}

/// Small and large messages in both directions. The client reads the large answer only once the
/// server has met the limit, and so is slow.
fn talk(mut client: Client, blocked: &Receiver<()>) {
    request(&mut client, b'D', SMALL);
    download(&mut client, SMALL);
    upload(&mut client, SMALL);
    assert!(blocked.try_recv().is_err(), "nothing small meets the limit");
    for _ in 0..2 {
        request(&mut client, b'D', LARGE);
        blocked.recv_timeout(PATIENCE).expect("a large answer meets the limit");
        download(&mut client, LARGE);
        while blocked.try_recv().is_ok() {}
    }
    upload(&mut client, LARGE);
    // Requests that arrive together are answered one after the other.
    for _ in 0..16 {
        request(&mut client, b'D', SMALL);
    }
    (0..16).for_each(|_| download(&mut client, SMALL));
    client.conn.send_close_notify();
    client.flush().unwrap();
}

fn assert_all_arrives(way: Way, version: &'static SupportedProtocolVersion) {
    let (server_config, client_config) = configs(version);
    let (mut server, address) = listening(server_config);
    let (sender, blocked) = mpsc::channel();
    let client = thread::spawn(move || {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(client_config, name).unwrap();
        talk(StreamOwned::new(session, peer(address)), &blocked);
    });
    let (count, reason) = serve(&mut server, way, &sender);
    client.join().unwrap();
    assert_eq!(reason, CloseReason::Finished);
    assert!(count > 10, "the limit was met only {count} times");
}

#[test]
fn tls_by_hand_all_arrives_and_blocked_writes_go_on() {
    assert_all_arrives(Way::ByHand, &version::TLS13);
    assert_all_arrives(Way::ByHand, &version::TLS12);
}

#[test]
fn tls_by_the_stream_of_rustls_all_arrives_and_blocked_writes_go_on() {
    assert_all_arrives(Way::RustlsStream, &version::TLS13);
    assert_all_arrives(Way::RustlsStream, &version::TLS12);
}

/// What is no TLS ends that connection, with a reason; the alert that says so arrives.
#[test]
fn peer_that_speaks_no_tls_is_rejected() {
    for way in [Way::ByHand, Way::RustlsStream] {
        let (server_config, _) = configs(&version::TLS13);
        let (mut server, address) = listening(server_config);
        let mut client = peer(address);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        let client = common::read_in_thread(client);
        let (_, reason) = serve(&mut server, way, &mpsc::channel().0);
        assert_eq!(reason, CloseReason::Rejected(ErrorKind::InvalidData.into()), "{way:?}");
        let (alert, outcome) = client.join().unwrap();
        outcome.unwrap();
        assert_eq!(alert.first(), Some(&21), "{way:?}: the type of an alert");
    }
}
