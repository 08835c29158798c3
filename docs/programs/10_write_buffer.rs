//! Numbers the lines of its clients. What the kernel does not take stays in the write buffer.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
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
            } else if let Some(connection) = connections.get_mut(key) {
                // Asks again each time, so that no report is missed.
                poll.registry().reregister(&mut connection.stream, Token(key), BOTH)?;
            }
        }
        // Only now may others have their slots: no event of this batch is left to be misread.
        for key in gone {
            connections.try_remove(key);
        }
        while let Some(mut stream) = accept(&listener)? {
            let slot = connections.vacant_entry();
            poll.registry().register(&mut stream, Token(slot.key()), BOTH)?;
            slot.insert(Connection::new(stream));
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
    fn new(stream: TcpStream) -> Self {
        Self { stream, received: Vec::new(), unsent: Vec::new(), lines: 0 }
    }

    /// Answers what has arrived, and sends what the kernel takes. Returns whether the client is
    /// still there.
    fn serve(&mut self) -> io::Result<bool> {
        let is_there = self.fill()?;
        self.answer_lines();
        self.flush()?;
        Ok(is_there)
    }

    /// Moves what has arrived into the read buffer. Returns whether the client is still there.
    fn fill(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => self.received.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes every whole line out of the read buffer, and answers it.
    fn answer_lines(&mut self) {
        let received = mem::take(&mut self.received);
        let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in received[..whole].split_inclusive(|byte| *byte == b'\n') {
            self.answer(line);
        }
        self.received = received[whole..].to_vec();
    }

    /// Puts a line with its number before it into the write buffer.
    fn answer(&mut self, line: &[u8]) {
        self.lines += 1;
        self.unsent.extend(format!("{} ", self.lines).as_bytes());
        self.unsent.extend(line);
    }

    /// Hands unsent bytes to the kernel until nothing is left, or there is no more room.
    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
