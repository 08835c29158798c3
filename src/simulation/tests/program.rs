//! The program of a run: it handles its events in its own style, and acts at random in addition.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use super::acts::Change;
use super::checker::ports;
use super::draws::{draw_limits, fill_bytes};
use super::run::{Line, Run};
use crate::event::Event;
use crate::simulation::Simulation;
use crate::slots::{ConnectionId, ListenerId};
use crate::system::simulated::Random;

/// What the program under test panics with, to distinguish this from a failed assertion.
struct ProgramPanics;

/// The address of a host that never answers.
pub(super) const UNREACHABLE: [u8; 4] = [192, 0, 2, 1];

/// Names that stand for the peers, some behind others that do not answer, and names that do not.
const HOSTS: [&str; 6] = ["peers", "peers", "late", "nobody", "silent", "unknown"];

/// Makes the network know these names.
pub(super) fn set_hosts(simulation: &Simulation) {
    let (peers, nobody) = (IpAddr::from([127, 0, 0, 9]), IpAddr::from([127, 0, 0, 8]));
    let unreachable = IpAddr::from(UNREACHABLE);
    simulation.set_unreachable(unreachable);
    let soon = Duration::from_millis(10);
    simulation.set_host("peers", soon, Ok(vec![unreachable, nobody, peers]));
    simulation.set_host("late", Duration::from_secs(3), Ok(vec![peers, peers]));
    simulation.set_host("nobody", soon, Ok(vec![nobody]));
    simulation.set_host("silent", Duration::MAX, Ok(vec![peers]));
}

/// How the program of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// What most programs do, and seldom anything else.
    Answers,
    Echoes,
    Fickle,
    NeverConsumes,
    WritesAlways,
    Floods,
    /// Takes a part of what has arrived in each event, as a program that takes one message.
    TakesParts,
    /// Takes nothing until this many bytes have arrived.
    HoldsBack(usize),
}

impl Style {
    pub(super) fn drawn(random: &mut Random) -> Self {
        random.one_of(&[
            Self::Echoes,
            Self::Fickle,
            Self::Fickle,
            Self::NeverConsumes,
            Self::WritesAlways,
            Self::Floods,
            Self::TakesParts,
            Self::TakesParts,
            Self::HoldsBack(3),
            Self::HoldsBack(100),
        ])
    }
}

impl Run {
    // Its listeners and connects.

    pub(super) fn listen(&mut self) {
        for _ in 0..50 {
            if let Ok(id) = self.try_listen() {
                return self.listeners.push((id, false));
            }
        }
    }

    fn try_listen(&mut self) -> io::Result<ListenerId> {
        #[cfg(unix)]
        if self.random.below(3) == 0 {
            // A name that was not used before.
            return self.event_loop.listen_unix(format!("/{}", self.simulation.steps()));
        }
        self.event_loop.listen("127.0.0.1:0")
    }

    pub(super) fn change_listeners(&mut self) {
        let Some(place) = self.listeners.len().checked_sub(1) else { return self.listen() };
        let place = self.random.below(place + 1);
        let (id, is_paused) = self.listeners[place];
        match self.random.below(8) {
            0 if self.listeners.len() < 3 => self.listen(),
            1 => {
                self.event_loop.close_listener(id).unwrap();
                self.listeners.remove(place);
                assert!(self.event_loop.pause_accepting(id).is_err(), "a stale listener");
            }
            2 | 3 if !is_paused => {
                self.event_loop.pause_accepting(id).unwrap();
                self.listeners[place].1 = true;
            }
            // Registering may fail; the listener stays paused then.
            _ if is_paused && self.event_loop.resume_accepting(id).is_ok() => {
                self.listeners[place].1 = false;
            }
            _ => {}
        }
        self.checker.absorb();
    }

    pub(super) fn connect(&mut self) {
        let id = match self.random.below(20) {
            0 | 1 => self.event_loop.connect("127.0.0.9:9".parse().unwrap(), ()),
            16 | 17 => self.connect_to_any(),
            18 | 19 => {
                let port = self.peer_listener.address().port();
                let host = self.random.one_of(&HOSTS);
                self.event_loop.connect_name(&format!("{host}:{port}"), ())
            }
            #[cfg(unix)]
            2 => self.event_loop.connect_unix("/nobody", ()),
            #[cfg(unix)]
            3..7 => self.event_loop.connect_unix(format!("/peers/{}", self.checker.poller), ()),
            _ => self.event_loop.connect(self.peer_listener.address(), ()),
        };
        self.begin_connect(id);
    }

    fn connect_to_any(&mut self) -> ConnectionId {
        let addresses = [
            self.peer_listener.address(),
            SocketAddr::from(([127, 0, 0, 9], 9)),
            SocketAddr::from((UNREACHABLE, 80)),
        ];
        let count = self.random.below(4);
        let chosen: Vec<SocketAddr> = (0..count).map(|_| self.random.one_of(&addresses)).collect();
        self.event_loop.connect_any(chosen, ())
    }

    /// Connects to another program's listener. Returns the port that it connects from, and 0 if it
    /// has failed already.
    pub(super) fn connect_to(&mut self, other: &Self, listener: ListenerId) -> u16 {
        let id = match other.event_loop.listener_addr(listener) {
            Ok(address) => self.event_loop.connect(address, ()),
            #[cfg(unix)]
            Err(_) => {
                let address = other.event_loop.unix_listener_addr(listener).unwrap();
                self.event_loop.connect_unix(address, ())
            }
            #[cfg(not(unix))]
            Err(error) => panic!("{error}"),
        };
        self.begin_connect(id)
    }

    fn begin_connect(&mut self, id: ConnectionId) -> u16 {
        let port = ports(&self.simulation, &self.event_loop[id]).0;
        let flow = self.checker.add_flow(port);
        self.checker.bind(&self.event_loop[id], flow);
        self.note(Line::Program("connects", id, 0));
        for _ in 0..self.random.below(3) {
            self.act(id);
        }
        port
    }

    // Its connections.

    /// Handles an event as the style has it, and panics on the way now and then.
    pub(super) fn misbehave(&mut self, event: Event, id: ConnectionId) {
        let acts = self.style != Style::Answers || self.random.below(16) == 0;
        let actions = if acts { self.random.below(4) } else { 0 };
        let panics = self.random.below(64) == 0;
        let handled = catch_unwind(AssertUnwindSafe(|| {
            match (self.style, event) {
                (Style::Answers, Event::Received(_)) => self.answer(id),
                (Style::Echoes, Event::Received(_)) => self.send_received(id),
                (Style::TakesParts, Event::Received(_)) => {
                    let size = 1 + self.random.below(8);
                    self.consume(id, size);
                    self.send_some(id, size % 4);
                }
                (Style::HoldsBack(count), Event::Received(_))
                    if self.event_loop[id].received().len() >= count =>
                {
                    self.consume(id, count);
                    self.send_some(id, count);
                }
                (Style::WritesAlways, _) => self.send_some(id, 1),
                (Style::Floods, Event::Received(_) | Event::Drained(_)) => {
                    while !self.event_loop[id].is_clogged() {
                        self.send_some(id, 2);
                    }
                }
                _ => {}
            }
            for _ in 0..actions {
                if panics {
                    resume_unwind(Box::new(ProgramPanics));
                }
                self.act(id);
            }
        }));
        if let Err(panicked) = handled
            && !panicked.is::<ProgramPanics>()
        {
            resume_unwind(panicked);
        }
    }

    fn answer(&mut self, id: ConnectionId) {
        if self.random.below(2) == 0 {
            return self.send_received(id);
        }
        self.consume(id, usize::MAX);
        let size = self.random.below(self.piece_max);
        self.send_some(id, size);
    }

    fn act(&mut self, id: ConnectionId) {
        // Mostly the connection at hand, sometimes any other.
        let id = match self.random.below(6) {
            0 => self.any_open().unwrap_or(id),
            _ => id,
        };
        let choice = self.random.below(48);
        let size = self.random.below(self.piece_max);
        if self.event_loop.get(id).is_none() {
            return;
        }
        match choice {
            0..10 if self.style != Style::NeverConsumes => self.consume(id, size),
            10..18 => self.send_some(id, 1 + size),
            18 | 19 => {
                let bytes = fill_bytes(&mut self.random, 1 + size);
                self.write(id, bytes);
            }
            20 | 21 => {
                let bytes = fill_bytes(&mut self.random, 1 + size);
                self.write_all(id, bytes);
            }
            22..24 => self.send_received(id),
            24..26 => {
                if let Some(to) = self.any_open() {
                    self.transfer(id, to);
                }
            }
            26..29 => self.couple_to_any(id),
            29 => self.uncouple(id),
            30..32 => {
                let after = Duration::from_millis(self.random.below(3000) as u64);
                let after = (self.random.below(4) > 0).then_some(after);
                self.set_deadline(id, after);
            }
            32 => {
                let limits = draw_limits(&mut self.random).connection;
                self.set_limits(id, limits);
            }
            33 if size < 400 => {
                self.send_some(id, self.limits.connection.unsent_max + 1 - size.min(1));
            }
            34..44 => {
                let change = match choice {
                    34 | 35 => Change::Pause,
                    36..39 => Change::Resume,
                    39 => Change::Finish,
                    40 if size.is_multiple_of(6) => Change::CloseWith(io::ErrorKind::InvalidData),
                    40 if size.is_multiple_of(3) => Change::Close,
                    41 if size.is_multiple_of(8) => Change::AbortWith(io::ErrorKind::Other),
                    41 if size.is_multiple_of(4) => Change::Abort,
                    42 => Change::AllowHalfOpen(size.is_multiple_of(2)),
                    _ => Change::SetIdleTimeout(Duration::from_secs(1 + size as u64 % 50)),
                };
                self.change(id, change);
            }
            _ => {}
        }
    }

    fn any_open(&mut self) -> Option<ConnectionId> {
        let open: Vec<ConnectionId> = self.checker.open().collect();
        (!open.is_empty()).then(|| self.random.one_of(&open))
    }

    fn send_some(&mut self, id: ConnectionId, count: usize) {
        let bytes = fill_bytes(&mut self.random, count);
        self.send(id, bytes);
    }

    fn couple_to_any(&mut self, reader: ConnectionId) {
        let Some(writer) = self.any_open() else { return };
        self.couple(reader, writer);
        if self.random.below(2) == 0 {
            self.couple(writer, reader);
        }
    }
}
