//! Numbers the lines of its clients. Each connection comes to its own end, and harms no other.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
/// The most received bytes that wait to be taken: no line is longer.
const RECEIVED_MAX: usize = 64 * 1024;
const CONNECTIONS_MAX: usize = 1000;

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
    unsent: Vec<u8>,
    lines: usize,
    /// What the kernel is asked for.
    interest: Interest,
    /// What the kernel has reported, until a call has shown otherwise.
    may_read: bool,
    may_write: bool,
    /// Whether the client has sent its end.
    peer_finished: bool,
    output: Output,
}

/// How far our direction has come.
#[derive(PartialEq)]
enum Output {
    Open,
    /// Its end is to follow the last unsent byte.
    Finishing,
    Finished,
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
    // Those that can go on without another report.
    let mut ready = BTreeSet::new();
    loop {
        let timeout = (!ready.is_empty()).then_some(Duration::ZERO);
        wait(&mut poll, &mut events, timeout)?;
        for event in &events {
            let Token(key) = event.token();
            if let Some(connection) = connections.get_mut(key) {
                connection.note(event);
                ready.insert(key);
            }
        }
        // The whole batch is noted: from here on a slot may have another owner.
        for key in mem::take(&mut ready) {
            let outcome = connections[key].serve(poll.registry(), Token(key));
            if let Err(error) = &outcome {
                println!("A client is gone: {error}");
            }
            if !outcome.unwrap_or(false) {
                connections.remove(key);
            } else if connections[key].can_go_on() {
                ready.insert(key);
            }
        }
        while connections.len() < CONNECTIONS_MAX
            && let Some(mut stream) = accept(&listener)?
        {
            let slot = connections.vacant_entry();
            poll.registry().register(&mut stream, Token(slot.key()), Interest::READABLE)?;
            slot.insert(Connection::new(stream));
        }
    }
}

/// Blocks until there are events, or the time is over. A signal may end the wait early.
fn wait(poll: &mut Poll, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
    match poll.poll(events, timeout) {
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
        Err(error) => {
            println!("Cannot accept a client: {error}");
            Ok(None)
        }
    }
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        let interest = Interest::READABLE;
        let (received, unsent) = (Vec::new(), Vec::new());
        let (may_read, may_write) = (false, true);
        let (peer_finished, output) = (false, Output::Open);
        Self {
            stream,
            received,
            unsent,
            lines: 0,
            interest,
            may_read,
            may_write,
            peer_finished,
            output,
        }
    }

    /// Remembers what the kernel reports. An end or an error is found by reading or writing.
    fn note(&mut self, event: &Event) {
        self.may_read |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.may_write |= event.is_writable() || event.is_write_closed() || event.is_error();
    }

    /// Whether there is something to do that needs no further report.
    fn can_go_on(&self) -> bool {
        self.may_read && self.wants_to_read() || self.may_write && self.wants_to_write()
    }

    /// A client that does not take its answers is not asked for more. One that gets no more of
    /// them is heard to its end.
    fn wants_to_read(&self) -> bool {
        !self.peer_finished && (self.unsent.is_empty() || self.output != Output::Open)
    }

    fn wants_to_write(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Answers what has arrived, and sends what the kernel takes. Returns whether the connection
    /// goes on.
    fn serve(&mut self, registry: &Registry, token: Token) -> io::Result<bool> {
        self.flush()?;
        if self.wants_to_read() {
            self.fill()?;
            if self.output == Output::Open {
                self.answer_lines();
            } else {
                self.received.clear();
            }
            self.flush()?;
        }
        self.finish()?;
        self.settle(registry, token)?;
        Ok(!self.peer_finished || self.output != Output::Finished)
    }

    /// Sends our end when it is due: behind the last unsent byte.
    fn finish(&mut self) -> io::Result<()> {
        let is_due = self.peer_finished || self.output == Output::Finishing;
        if is_due && self.unsent.is_empty() && self.output != Output::Finished {
            self.stream.shutdown(Shutdown::Write)?;
            self.output = Output::Finished;
        }
        Ok(())
    }

    /// Moves what has arrived into the read buffer.
    fn fill(&mut self) -> io::Result<()> {
        let mut buffer = [0; 1024];
        while self.may_read && self.received.len() < RECEIVED_MAX {
            let room = buffer.len().min(RECEIVED_MAX - self.received.len());
            match self.stream.read(&mut buffer[..room]) {
                Ok(0) => (self.may_read, self.peer_finished) = (false, true),
                Ok(count) => self.received.extend(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.may_read = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes every whole line out of the read buffer, and answers it.
    fn answer_lines(&mut self) {
        let received = mem::take(&mut self.received);
        let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in received[..whole].split_inclusive(|byte| *byte == b'\n') {
            self.answer(line);
        }
        self.received = received[whole..].to_vec();
        if self.received.len() == RECEIVED_MAX {
            self.unsent.extend(b"line too long\n");
            self.output = Output::Finishing;
            self.received.clear();
        }
    }

    /// Puts a line with its number before it into the write buffer.
    fn answer(&mut self, line: &[u8]) {
        self.lines += 1;
        self.unsent.extend(format!("{} ", self.lines).as_bytes());
        self.unsent.extend(line);
    }

    /// Hands unsent bytes to the kernel until nothing is left, or there is no more room.
    fn flush(&mut self) -> io::Result<()> {
        while self.may_write && !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.may_write = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Tells the kernel what this connection waits for, if that has changed.
    fn settle(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = self.wanted();
        if interest != self.interest {
            registry.reregister(&mut self.stream, token, interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// The interest rule.
    fn wanted(&self) -> Interest {
        match (self.wants_to_read(), self.wants_to_write()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            _ => Interest::READABLE,
        }
    }
}
