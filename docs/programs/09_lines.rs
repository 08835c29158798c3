//! Numbers the lines of its clients. What is not a whole line yet stays in the read buffer.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    lines: usize,
}

fn main() -> io::Result<()> {
    let port = env::args().nth(1).unwrap_or("65432".into());
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("Listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut connections: Slab<Connection> = Slab::new();
    loop {
        wait(&mut poll, &mut events)?;
        let mut gone = Vec::new();
        for event in &events {
            let Token(key) = event.token();
            if let Some(connection) = connections.get_mut(key)
                && !connection.serve()?
            {
                gone.push(key);
            }
        }
        // Only now may others have their slots: no event of this batch is left to be misread.
        for key in gone {
            connections.try_remove(key);
        }
        while let Some(mut stream) = accept(&listener)? {
            let slot = connections.vacant_entry();
            poll.registry().register(&mut stream, Token(slot.key()), Interest::READABLE)?;
            slot.insert(Connection { stream, received: Vec::new(), lines: 0 });
        }
    }
}

/// Blocks until there are events. A signal may end the wait early, without any.
fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Returns the next client, if one waits.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((client, peer)) => {
            println!("A client from {peer}");
            Ok(Some(client))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

impl Connection {
    /// Answers what has arrived. Returns whether the client is still there.
    fn serve(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => {
                    self.received.extend(&buffer[..count]);
                    self.answer_lines()?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes every whole line out of the read buffer, and answers it.
    fn answer_lines(&mut self) -> io::Result<()> {
        let received = mem::take(&mut self.received);
        let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in received[..whole].split_inclusive(|byte| *byte == b'\n') {
            self.answer(line)?;
        }
        self.received = received[whole..].to_vec();
        Ok(())
    }

    /// Sends a line back with its number before it.
    fn answer(&mut self, line: &[u8]) -> io::Result<()> {
        self.lines += 1;
        self.send_all(format!("{} ", self.lines).as_bytes())?;
        self.send_all(line)
    }

    /// Sends until nothing is left, or an error occurs. Asks again while there is no room.
    fn send_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.stream.write(bytes) {
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
