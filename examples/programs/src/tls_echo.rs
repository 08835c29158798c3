//! An echo over TLS: what a client sends is sent back, and both ends say when they are done.
//!
//! rustls does no input or output itself. It turns bytes of the peer into records, records into
//! plaintext, and back; so a session is between the two halves of a stream, and [`Session::serve`]
//! moves what can be moved until one of them would block:
//!
//! | would block | goes on with |
//! |---|---|
//! | nothing more has arrived | `Received` or `PeerFinished` |
//! | the write buffer is full | `Drained` |
//!
//! Nothing grows with what a client sends. A connection reads only while nothing is unsent, the
//! write buffer is bounded by [`limits`], and rustls holds at most [`RUSTLS_BUFFER_MAX`] bytes of
//! records, and one record of plaintext.
//!
//! An end without `close_notify` can be an attacker's, who cuts a stream short. So it is an error
//! here, and never taken for the end that the peer wanted.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use readiness::{Connection, Event, EventLoop, Limits, Stream};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// The most bytes of records that a session holds in addition to the write buffer.
const RUSTLS_BUFFER_MAX: usize = 64 * 1024;

/// The most unsent bytes of a connection: what keeps a kernel's send buffer filled.
const UNSENT_MAX: usize = 64 * 1024;

/// The plaintext that a record holds at most.
const RECORD_MAX: usize = 16 * 1024;

/// How long a client may take for its handshake.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);

/// What the server knows of a client: the state of its TLS connection.
pub struct Session {
    tls: ServerConnection,
    phase: Phase,
}

#[derive(PartialEq)]
enum Phase {
    Serving,
    /// The server shuts down: the session ends once it has echoed what has arrived.
    Leaving,
    /// The connection is closed, as far as we are concerned.
    Over,
}

/// Reads the certificate chain and the private key, both PEM.
///
/// # Errors
///
/// Returns which of the files cannot be used, and why.
pub fn configuration(cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, Box<dyn Error>> {
    let bad = |path: &Path, why: &dyn Error| format!("cannot use {}: {why}", path.display());
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| bad(cert, &error))?;
    if chain.is_empty() {
        return Err(format!("cannot use {}: there is no certificate in it", cert.display()).into());
    }
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| bad(key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| bad(key, &error))?;
    Ok(Arc::new(config))
}

/// Returns the limits of a loop whose connections hold little, however much a client sends.
#[must_use]
pub fn limits() -> Limits {
    let mut limits = Limits::default();
    (limits.connection.high_water, limits.connection.unsent_max) = (UNSENT_MAX, UNSENT_MAX);
    // A client may be silent for ever; the kernel finds out one that has vanished.
    limits.connection.keepalive = Some(Duration::from_secs(60));
    limits
}

impl Session {
    /// Creates the session of a client that has just connected.
    ///
    /// # Panics
    ///
    /// Panics if the configuration asks for a fragment size that there cannot be.
    #[must_use]
    pub fn new(config: &Arc<ServerConfig>) -> Self {
        let mut tls = ServerConnection::new(config.clone()).expect("a fragment size is not set");
        tls.set_buffer_limit(Some(RUSTLS_BUFFER_MAX));
        Self { tls, phase: Phase::Serving }
    }

    /// Moves what can be moved, in both directions.
    fn serve(&mut self, stream: &mut Stream) -> io::Result<()> {
        loop {
            let outcome = self.tls.process_new_packets();
            self.flush(stream)?; // also the alert, if it failed
            outcome.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            match self.echo_record() {
                Ok(0) => return self.close(stream),
                Ok(_) => continue,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match self.tls.read_tls(stream) {
                Err(error)
                    if error.kind() == ErrorKind::WouldBlock && self.phase == Phase::Leaving =>
                {
                    return self.close(stream);
                }
                outcome => outcome?,
            };
        }
    }

    /// Encrypts one record of what has arrived, and returns its length: zero once the peer has said
    /// that it is done. The buffer for records is empty, so that the plaintext fits.
    fn echo_record(&mut self) -> io::Result<usize> {
        let mut plaintext = [0; RECORD_MAX];
        let count = match self.tls.reader().read(&mut plaintext) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                let what = match self.tls.is_handshaking() {
                    true => "the peer ended within the handshake",
                    false => "truncated: the peer ended without close_notify",
                };
                return Err(io::Error::new(ErrorKind::UnexpectedEof, what));
            }
            outcome => outcome?,
        };
        self.tls.writer().write_all(&plaintext[..count])?;
        Ok(count)
    }

    /// Says that nothing more follows, and closes. Until all of it has gone to the stream, the next
    /// event is passed here again.
    fn close(&mut self, stream: &mut Stream) -> io::Result<()> {
        self.tls.send_close_notify();
        self.flush(stream)?;
        self.phase = Phase::Over;
        stream.close();
        Ok(())
    }

    /// Moves the records of the session to the unsent bytes.
    fn flush(&mut self, stream: &mut Stream) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(stream)?;
        }
        Ok(())
    }
}

/// Handles an event of the server's loop. What fails on one connection ends that one.
pub fn handle(server: &mut EventLoop<Session>, event: Event) {
    match event {
        Event::Accepted(_, id) => server[id].set_deadline(Some(HANDSHAKE_DEADLINE)),
        Event::Received(id) | Event::Drained(id) | Event::PeerFinished(id) => {
            server[id].attend(serve);
        }
        Event::Deadline(id) if server[id].data.tls.is_handshaking() => {
            log::info!("{id} is closed: there was no handshake in time");
            server[id].data.phase = Phase::Over;
            server[id].close_with(ErrorKind::TimedOut);
        }
        _ => {}
    }
}

/// Ends every session once it has echoed what has arrived, before the loop shuts down: TLS has a
/// word for the end, which the loop knows nothing of.
pub fn say_goodbye(server: &mut EventLoop<Session>) {
    for connection in server.connections_mut() {
        if connection.data.phase == Phase::Serving {
            connection.data.phase = Phase::Leaving;
        }
        connection.attend(serve);
    }
}

fn serve(connection: &mut Connection<Session>) -> io::Result<()> {
    let (session, stream) = connection.split();
    if session.phase == Phase::Over {
        return Ok(());
    }
    let outcome = session.serve(stream);
    match &outcome {
        Err(error) if error.kind() != ErrorKind::WouldBlock => {
            session.phase = Phase::Over;
            log::info!("{} is closed: {error}", stream.id());
        }
        _ => {}
    }
    outcome
}
