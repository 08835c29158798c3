//! mio as textbooks have it: read to the connection's own buffer until it would block, ask for
//! writable, write when that is reported, ask for readable again.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use readiness_benches_servers::{BUFFER, listener};

const LISTENER: Token = Token(0);

struct Connection {
    socket: TcpStream,
    unsent: Vec<u8>,
    /// The client has finished; what is unsent still goes.
    finished: bool,
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::from_std(listener()?);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut connections = HashMap::new();
    let mut next_token = 1;
    let mut buffer = vec![0; BUFFER];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            outcome => outcome?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((mut socket, _)) = listener.accept() {
                    let token = Token(next_token);
                    next_token += 1;
                    poll.registry().register(&mut socket, token, Interest::READABLE)?;
                    let connection = Connection { socket, unsent: Vec::new(), finished: false };
                    connections.insert(token, connection);
                }
            } else if let Some(connection) = connections.get_mut(&event.token()) {
                let goes_on = connection.serve(poll.registry(), event.token(), &mut buffer);
                if !goes_on.unwrap_or(false) {
                    connections.remove(&event.token());
                }
            }
        }
    }
}

impl Connection {
    fn serve(&mut self, registry: &Registry, token: Token, buffer: &mut [u8]) -> io::Result<bool> {
        if self.unsent.is_empty() {
            self.read(buffer)?;
            if !self.unsent.is_empty() {
                registry.reregister(&mut self.socket, token, Interest::WRITABLE)?;
            }
        } else {
            self.write()?;
            if self.unsent.is_empty() {
                registry.reregister(&mut self.socket, token, Interest::READABLE)?;
            }
        }
        Ok(!self.finished || !self.unsent.is_empty())
    }

    /// Reads until it would block, or enough is unsent.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        while self.unsent.len() < BUFFER && !self.finished {
            match self.socket.read(buffer) {
                Ok(0) => self.finished = true,
                Ok(count) => self.unsent.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.socket.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
