//! mio, as well as one can by hand: asked once for both directions, one buffer shared by all,
//! writing first, and memory of a connection's own only for what the kernel did not take.

use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use readiness_benches_servers::{BUFFER, listener};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const READS_A_TURN: usize = 4;

struct Connection {
    socket: TcpStream,
    owed: Option<Box<Owed>>,
    /// It is queued, since it stopped at [`READS_A_TURN`].
    left_over: bool,
}

struct Owed {
    bytes: Vec<u8>,
    start: usize,
}

/// What became of a connection that was served.
enum Outcome {
    Waits,
    HasMore,
    Ended,
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(listener()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections = Slab::new();
    let mut left_over = Vec::new();
    let mut buffer = vec![0; BUFFER];
    loop {
        let timeout = if left_over.is_empty() { None } else { Some(Duration::ZERO) };
        match poll.poll(&mut events, timeout) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            match event.token() {
                LISTENER => accept_all(&listener, poll.registry(), &mut connections)?,
                Token(slot) => {
                    let ended = event.is_read_closed() || event.is_error();
                    serve(&mut connections, slot, ended, &mut buffer, &mut left_over);
                }
            }
        }
        if let Some(slot) = left_over.pop() {
            connections[slot].left_over = false;
            serve(&mut connections, slot, true, &mut buffer, &mut left_over);
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    registry: &Registry,
    connections: &mut Slab<Connection>,
) -> io::Result<()> {
    while let Ok((mut socket, _)) = listener.accept() {
        let entry = connections.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut socket, Token(entry.key()), both)?;
        entry.insert(Connection { socket, owed: None, left_over: false });
    }
    Ok(())
}

/// `to_the_end`: a short read does not prove that there is no more.
fn serve(
    connections: &mut Slab<Connection>,
    slot: usize,
    to_the_end: bool,
    buffer: &mut [u8],
    left_over: &mut Vec<usize>,
) {
    let connection = &mut connections[slot];
    match connection.serve(to_the_end, buffer).unwrap_or(Outcome::Ended) {
        Outcome::Waits => {}
        Outcome::HasMore if connection.left_over => {}
        Outcome::HasMore => {
            connection.left_over = true;
            left_over.push(slot);
        }
        Outcome::Ended => {
            if connection.left_over {
                left_over.retain(|other| *other != slot);
            }
            connections.remove(slot);
        }
    }
}

impl Connection {
    fn serve(&mut self, to_the_end: bool, buffer: &mut [u8]) -> io::Result<Outcome> {
        self.flush()?;
        for _ in 0..READS_A_TURN {
            if self.owed.is_some() {
                return Ok(Outcome::Waits);
            }
            let count = match self.socket.read(buffer) {
                Ok(0) => return Ok(Outcome::Ended),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Outcome::Waits),
                Err(error) => return Err(error),
            };
            self.echo(&buffer[..count])?;
            if count < buffer.len() && !to_the_end {
                return Ok(Outcome::Waits);
            }
        }
        Ok(Outcome::HasMore)
    }

    fn echo(&mut self, bytes: &[u8]) -> io::Result<()> {
        let sent = write_some(&mut self.socket, bytes)?;
        if sent < bytes.len() {
            self.owed = Some(Box::new(Owed { bytes: bytes[sent..].to_vec(), start: 0 }));
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(owed) = &mut self.owed {
            owed.start += write_some(&mut self.socket, &owed.bytes[owed.start..])?;
            if owed.start == owed.bytes.len() {
                self.owed = None;
            }
        }
        Ok(())
    }
}

fn write_some(socket: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match socket.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        outcome => outcome,
    }
}
