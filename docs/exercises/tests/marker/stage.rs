//! A simulated network with clients, and what happens on it.

use std::cell::Cell;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use readiness::simulation::{Driven, Peer, PeerState, Program, Simulation};
use readiness::{Event, EventLoop, Limits, Step};

use crate::record::Record;

/// No check takes more, unless the program goes on and on.
const ADVANCES_MAX: usize = 3_000;

/// A program whose events and steps are recorded.
pub(crate) type Running<T> = Program<T, Handle<T>>;

type Handle<T> = Box<dyn FnMut(&mut EventLoop<T>, Event) -> io::Result<()>>;

/// One run: its network and its record.
pub(crate) struct Stage<'s> {
    pub(crate) simulation: &'s Simulation,
    pub(crate) record: Record,
    /// A run that is not shorter than this is of no use.
    length_max: usize,
    advances: Cell<usize>,
}

impl<'s> Stage<'s> {
    pub(crate) fn new(simulation: &'s Simulation, record: Record, length_max: usize) -> Self {
        Self { simulation, record, length_max, advances: Cell::new(0) }
    }

    /// Creates a program that listens, and returns its address too.
    pub(crate) fn server<T: Default + 'static>(
        &self,
        limits: Limits,
        handle: impl FnMut(&mut EventLoop<T>, Event) -> io::Result<()> + 'static,
    ) -> io::Result<(Running<T>, SocketAddr)> {
        let mut server = self.program("the server", limits, handle)?;
        let listener = server.event_loop.listen("127.0.0.1:65432")?;
        let address = server.event_loop.listener_addr(listener)?;
        Ok((server, address))
    }

    /// Creates a program whose events and steps are recorded.
    pub(crate) fn program<T>(
        &self,
        name: &'static str,
        limits: Limits,
        mut handle: impl FnMut(&mut EventLoop<T>, Event) -> io::Result<()> + 'static,
    ) -> io::Result<Running<T>> {
        let mut event_loop = self.simulation.event_loop_with_limits(limits)?;
        self.record.name_program(name);
        let record = self.record.clone();
        event_loop.set_observer(move |step: Step| record.note_step(name, step));
        let record = self.record.clone();
        let handle: Handle<T> = Box::new(move |event_loop, event| {
            record.note_event(name, event);
            handle(event_loop, event).map_err(|error| {
                io::Error::other(format!("{name} ends, for all its clients: {error}"))
            })
        });
        Ok(Program::new(event_loop, handle))
    }

    /// Creates a client that connects.
    pub(crate) fn client(&self, name: &'static str, address: SocketAddr) -> Client {
        let peer = self.simulation.connect(address);
        self.record.name(peer.local_addr(), name);
        self.record.note(format!("{name} connects"));
        Client {
            name,
            peer,
            record: self.record.clone(),
            unsent: Vec::new(),
            finishes: false,
            heard: Vec::new(),
            expected: Vec::new(),
            expects_end: false,
            is_deaf: false,
        }
    }

    /// Makes one thing happen.
    pub(crate) fn advance(&self, programs: &mut [&mut dyn Driven]) -> io::Result<()> {
        self.advances.set(self.advances.get() + 1);
        assert!(self.advances.get() < ADVANCES_MAX, "it goes on and on: the loop never sleeps");
        assert!(self.record.len() <= self.length_max, "a shorter run is known");
        let before = self.simulation.now();
        let outcome = self.simulation.advance(programs);
        let passed = self.simulation.now() - before;
        if passed >= Duration::from_millis(500) {
            self.record.note(format!("{passed:.1?} pass"));
        }
        outcome
    }

    /// Lets everything happen until each client has heard all that it expects, and nothing else.
    pub(crate) fn converse(
        &self,
        programs: &mut [&mut dyn Driven],
        clients: &mut [&mut Client],
    ) -> io::Result<()> {
        loop {
            clients.iter_mut().for_each(|client| client.act());
            if clients.iter().all(|client| client.is_content()) {
                return Ok(());
            }
            self.advance(programs).map_err(|error| match error.kind() {
                ErrorKind::TimedOut => {
                    let waiting = clients.iter().filter_map(|client| client.waits_for());
                    io::Error::other(waiting.collect::<String>() + &error.to_string())
                }
                _ => error,
            })?;
        }
    }

    /// Lets time pass, and everything happen that happens in it.
    pub(crate) fn let_pass(
        &self,
        time: Duration,
        programs: &mut [&mut dyn Driven],
        clients: &mut [&mut Client],
    ) -> io::Result<()> {
        // A program of the stage's own, whose only event is that the time has passed.
        let end = Rc::new(Cell::new(false));
        let passed = end.clone();
        let mut clock = Program::new(
            self.simulation.event_loop(),
            move |_: &mut EventLoop, _| -> io::Result<()> {
                passed.set(true);
                Ok(())
            },
        );
        clock.event_loop.set_timer(time);
        while !end.get() {
            clients.iter_mut().for_each(|client| client.act());
            let mut all: Vec<&mut dyn Driven> = Vec::with_capacity(programs.len() + 1);
            for program in programs.iter_mut() {
                all.push(&mut **program);
            }
            all.push(&mut clock);
            self.advance(&mut all)?;
        }
        Ok(())
    }
}

/// A client, and what it is to hear. What it says and hears is text.
pub(crate) struct Client {
    name: &'static str,
    peer: Peer,
    record: Record,
    unsent: Vec<u8>,
    finishes: bool,
    heard: Vec<u8>,
    expected: Vec<u8>,
    expects_end: bool,
    /// Whether it does not read.
    pub(crate) is_deaf: bool,
}

impl Client {
    /// Sends this, as soon as there is room.
    pub(crate) fn say(&mut self, text: impl AsRef<[u8]>) {
        self.unsent.extend_from_slice(text.as_ref());
    }

    /// Ends its direction when it has said everything.
    pub(crate) fn finish(&mut self) {
        self.finishes = true;
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        self.record.note(format!("{} resets the connection", self.name));
        self.peer.reset();
    }

    /// Is to hear this next.
    pub(crate) fn expect(&mut self, text: impl AsRef<[u8]>) {
        self.expected.extend_from_slice(text.as_ref());
    }

    /// Is to read the end of file after what it is to hear.
    pub(crate) fn expect_end(&mut self) {
        self.expects_end = true;
    }

    /// Writes what it can, and reads what has arrived.
    pub(crate) fn act(&mut self) {
        let name = self.name;
        let count = self.peer.write(&self.unsent);
        let written: Vec<u8> = self.unsent.drain(..count).collect();
        if count > 0 {
            self.record.note(format!("{name} writes {}", shown(&written)));
        }
        if self.finishes && self.unsent.is_empty() {
            self.finishes = false;
            self.record.note(format!("{name} finishes"));
            self.peer.finish();
        }
        if self.is_deaf {
            return;
        }
        let heard = self.peer.read();
        if !heard.is_empty() {
            self.record.note(format!("{name} reads {}", shown(&heard)));
        }
        self.heard.extend(heard);
        let (heard, expected) = (shown(&self.heard), shown(&self.expected));
        assert!(
            self.expected.starts_with(&self.heard),
            "{name} has heard {heard} instead of {expected}"
        );
        let state = self.peer.state();
        assert!(
            state != PeerState::Reset,
            "{name}'s connection is reset. It has heard {heard} of {expected}"
        );
        let may_end = self.expects_end && self.heard == self.expected;
        assert!(
            state == PeerState::Open || may_end,
            "{name} reads the end of file too soon. It has heard {heard} of {expected}"
        );
    }

    /// Whether it has said everything.
    pub(crate) fn has_said_all(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Whether it has heard everything.
    pub(crate) fn has_heard_all(&self) -> bool {
        self.heard == self.expected
    }

    /// Whether it has said and heard everything.
    fn is_content(&self) -> bool {
        let has_ended = self.peer.state() == PeerState::Ended;
        self.unsent.is_empty() && self.heard == self.expected && has_ended == self.expects_end
    }

    /// Returns a line about what it still waits for, if for anything.
    fn waits_for(&self) -> Option<String> {
        let (name, rest) = (self.name, shown(&self.expected[self.heard.len()..]));
        if self.is_content() {
            None
        } else if !self.unsent.is_empty() {
            Some(format!("{name} waits for room to write {}\n", shown(&self.unsent)))
        } else if self.heard == self.expected {
            Some(format!("{name} waits for the end of file\n"))
        } else {
            Some(format!("{name} waits for {rest}\n"))
        }
    }
}

/// A short text as it is, of a long one its length.
fn shown(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok("") => String::from("nothing"),
        Ok(text) if text.len() <= 40 => format!("{text:?}"),
        _ => format!("{} bytes", bytes.len()),
    }
}
