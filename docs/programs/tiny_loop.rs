//! A loop for many connections in one thread.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Write};
use std::mem;
use std::net::Shutdown;
use std::time::Duration;

use mio::event::Event;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Registry, Token};
use slab::Slab;

const LISTENER: Token = Token(usize::MAX);
/// The most received bytes that wait to be taken: no message is longer.
pub(crate) const RECEIVED_MAX: usize = 64 * 1024;
const CONNECTIONS_MAX: usize = 1000;

pub(crate) struct TinyLoop {
    poll: Poll,
    events: Events,
    pub(crate) listener: TcpListener,
    connections: Slab<Connection>,
    /// The keys of those that can go on without another report.
    ready: BTreeSet<usize>,
}

impl TinyLoop {
    pub(crate) fn listen(address: &str) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (events, connections) = (Events::with_capacity(1024), Slab::new());
        Ok(Self { poll, events, listener, connections, ready: BTreeSet::new() })
    }

    /// Waits until something can be done, and does it. `handle` is called with each connection that
    /// has received bytes.
    pub(crate) fn turn(&mut self, mut handle: impl FnMut(&mut Connection)) -> io::Result<()> {
        self.wait()?;
        for key in mem::take(&mut self.ready) {
            let connection = &mut self.connections[key];
            let outcome = connection.serve(self.poll.registry(), Token(key), &mut handle);
            if let Err(error) = &outcome {
                println!("A client is gone: {error}");
            }
            if !outcome.unwrap_or(false) {
                self.connections.remove(key);
            } else if connection.can_go_on() {
                self.ready.insert(key);
            }
        }
        self.accept()
    }

    /// Notes what the kernel reports. Blocks only if no connection can go on without a report.
    fn wait(&mut self) -> io::Result<()> {
        let timeout = (!self.ready.is_empty()).then_some(Duration::ZERO);
        if let Err(error) = self.poll.poll(&mut self.events, timeout)
            && error.kind() != ErrorKind::Interrupted
        {
            return Err(error);
        }
        for event in &self.events {
            let Token(key) = event.token();
            if let Some(connection) = self.connections.get_mut(key) {
                connection.note(event);
                self.ready.insert(key);
            }
        }
        Ok(())
    }

    /// Accepts the clients that wait, while there is room for them.
    fn accept(&mut self) -> io::Result<()> {
        while self.connections.len() < CONNECTIONS_MAX {
            match self.listener.accept() {
                Ok((mut stream, _)) => {
                    let slot = self.connections.vacant_entry();
                    let token = Token(slot.key());
                    self.poll.registry().register(&mut stream, token, Interest::READABLE)?;
                    slot.insert(Connection::new(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    println!("Cannot accept a client: {error}");
                    break;
                }
            }
        }
        Ok(())
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    pub(crate) received: Vec<u8>,
    unsent: Vec<u8>,
    /// What the kernel is asked for.
    interest: Interest,
    /// What the kernel has reported, until a call has shown otherwise.
    may_read: bool,
    may_write: bool,
    /// Whether the client has sent its end.
    peer_finished: bool,
    output: Output,
    /// The handler's own.
    pub(crate) data: usize,
}

/// How far our direction has come.
#[derive(PartialEq)]
enum Output {
    Open,
    /// Its end is to follow the last unsent byte.
    Finishing,
    Finished,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            received: Vec::new(),
            unsent: Vec::new(),
            interest: Interest::READABLE,
            may_read: false,
            may_write: true,
            peer_finished: false,
            output: Output::Open,
            data: 0,
        }
    }

    /// Sends bytes: all of them, in order, as soon as the client takes them.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.unsent.extend(bytes);
    }

    /// Sends back everything that was received.
    pub(crate) fn send_received(&mut self) {
        self.unsent.append(&mut self.received);
    }

    /// Ends our direction behind what was sent. What the client still says is dropped.
    pub(crate) fn finish(&mut self) {
        self.output = Output::Finishing;
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

    /// Does what can be done now. Returns whether the connection goes on.
    fn serve(
        &mut self,
        registry: &Registry,
        token: Token,
        handle: &mut impl FnMut(&mut Connection),
    ) -> io::Result<bool> {
        self.flush()?;
        if self.wants_to_read() {
            self.fill()?;
            if self.output == Output::Open {
                handle(self);
            }
            if self.output != Output::Open {
                self.received.clear();
            }
            if self.received.len() == RECEIVED_MAX {
                return Err(io::Error::other("the handler takes nothing from a full buffer"));
            }
            self.flush()?;
        }
        self.end()?;
        self.settle(registry, token)?;
        Ok(!self.peer_finished || self.output != Output::Finished)
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

    /// Sends our end when it is due: behind the last unsent byte.
    fn end(&mut self) -> io::Result<()> {
        let is_due = self.peer_finished || self.output == Output::Finishing;
        if is_due && self.unsent.is_empty() && self.output != Output::Finished {
            self.stream.shutdown(Shutdown::Write)?;
            self.output = Output::Finished;
        }
        Ok(())
    }

    /// Tells the kernel what this connection waits for, if that has changed: the interest rule.
    fn settle(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let interest = match (self.wants_to_read(), self.wants_to_write()) {
            (true, true) => Interest::READABLE | Interest::WRITABLE,
            (false, true) => Interest::WRITABLE,
            _ => Interest::READABLE,
        };
        if interest != self.interest {
            registry.reregister(&mut self.stream, token, interest)?;
            self.interest = interest;
        }
        Ok(())
    }
}
