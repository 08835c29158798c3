//! A run: the kernel, the peers and the program do what the seed says, and every promise is checked
//! after every step. Then all must come to rest: see `rest.rs`.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::OnceLock;
use std::time::Duration;

use super::checker::{Checker, look};
use super::embedding::Embedding;
use super::flow::{PeerEnd, Told};
use crate::event::{ConnectionId, Event, ListenerId, TimerId};
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::observer::Step;
use crate::simulation::{Faults, Peer, PeerListener, Simulation};
use crate::system::simulated::{Random, lock};

/// One line of a run's script, made into text only if it fails.
#[derive(Clone, Copy, Debug)]
#[expect(dead_code, reason = "the fields are for the script that a failure prints")]
pub(super) enum Line {
    Loop(Step),
    Event(Event),
    Program(&'static str, ConnectionId, usize),
    Peer(&'static str, u16, usize),
    Timer(&'static str, TimerId, Duration),
    Around(&'static str),
    Rest,
}

/// What the program under test panics with, so that a failed assertion is told from it.
struct ProgramPanics;

/// How the program of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Echoes,
    Fickle,
    NeverConsumes,
    WritesAlways,
    Floods,
}

pub(super) struct Run {
    pub(super) simulation: Simulation,
    pub(super) random: Random,
    pub(super) event_loop: EventLoop,
    pub(super) checker: Checker,
    pub(super) embedding: Embedding,
    pub(super) limits: Limits,
    pub(super) style: Style,
    /// The most bytes of one send or write, so that small buffers do not take all day.
    pub(super) piece_max: usize,
    pub(super) flows_max: usize,
    pub(super) listeners: Vec<(ListenerId, bool)>,
    pub(super) peer_listener: PeerListener,
    pub(super) is_resting: bool,
    pub(super) script: Vec<Line>,
    /// How many calls could have failed before the rest.
    pub(super) calls: u64,
}

impl Run {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed ^ 0xABCD_EF01);
        let limits = draw_limits(&mut random);
        let sizes = &limits.connection;
        let unit = sizes.read_budget.min(sizes.write_budget).min(sizes.read_buffer_max);
        let unit = unit.min(faults.send_buffer).min(faults.receive_buffer).min(faults.piece_max);
        let simulation = Simulation::with_faults(seed, faults);
        let mut event_loop = simulation.event_loop_with_limits(limits.clone()).unwrap();
        let checker = Checker::new(&simulation);
        let trace = checker.trace.clone();
        look(&trace).fruitless_max = 400;
        let embedding = Embedding::new(seed, &simulation, &event_loop);
        let pulse = embedding.pulse();
        event_loop.set_observer(move |step| {
            pulse.see(step);
            look(&trace).see(step);
        });
        let styles = [
            Style::Echoes,
            Style::Fickle,
            Style::Fickle,
            Style::NeverConsumes,
            Style::WritesAlways,
            Style::Floods,
        ];
        Self {
            peer_listener: simulation.listen("127.0.0.9:81".parse().unwrap()),
            simulation,
            style: random.one_of(&styles),
            flows_max: 1 + random.below(9),
            random,
            event_loop,
            checker,
            embedding,
            limits,
            piece_max: (unit * 24).clamp(24, 3000),
            listeners: Vec::new(),
            is_resting: false,
            script: Vec::new(),
            calls: 0,
        }
    }

    pub(super) fn run(&mut self, actions: usize) {
        self.listen();
        for _ in 0..actions {
            match self.random.below(64) {
                0..3 if self.checker.flows.len() < self.flows_max => self.add_peer(),
                3..6 if self.checker.flows.len() < self.flows_max => self.connect(),
                6 => self.change_listeners(),
                7..27 => self.move_peer(),
                _ if self.embedding.is_hosted => self.turn_of_host(),
                _ => self.poll(),
            }
            self.embed();
        }
        self.calls = lock(&self.simulation.network).calls;
        if self.random.below(8) > 0 {
            self.come_to_rest();
        }
    }

    /// The last steps, for a run that failed.
    pub(super) fn last_steps(&self) -> String {
        let trace = look(&self.checker.trace);
        let unseen = trace.news.iter().map(|step| format!("  {:?}\n", Line::Loop(*step)));
        let seen = self.script.iter().map(|line| format!("  {line:?}\n"));
        let all: Vec<String> = seen.chain(unseen).collect();
        all[all.len().saturating_sub(50)..].concat()
    }

    // What the program does to its listeners and connects.

    fn listen(&mut self) {
        for _ in 0..50 {
            if let Ok(id) = self.event_loop.listen("127.0.0.1:0") {
                return self.listeners.push((id, false));
            }
        }
    }

    fn change_listeners(&mut self) {
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

    fn connect(&mut self) {
        let address = match self.random.below(8) {
            0 => "127.0.0.9:9".parse().unwrap(),
            _ => self.peer_listener.address(),
        };
        let id = self.event_loop.connect(address, ());
        let local = self.event_loop[id].local_addr();
        let flow = self.checker.add_flow(local.map_or(0, |address| address.port()));
        self.checker.bind(id, flow);
        self.script.push(Line::Program("connects", id, 0));
        for _ in 0..self.random.below(3) {
            self.act(id);
        }
    }

    // What the peers do.

    fn add_peer(&mut self) {
        let Some(place) = self.listeners.len().checked_sub(1) else { return };
        let (id, _) = self.listeners[self.random.below(place + 1)];
        let address = self.event_loop.listener_addr(id).unwrap();
        let peer = self.simulation.connect(address);
        let flow = self.checker.add_flow(peer.local_port());
        self.script.push(Line::Peer("connects", peer.local_port(), 0));
        self.checker.flows[flow].peer = Some(peer);
    }

    pub(super) fn accept_peers(&mut self) {
        while let Some(peer) = self.peer_listener.accept() {
            self.add_accepted(peer);
        }
    }

    fn add_accepted(&mut self, peer: Peer) {
        let flow = self.checker.flow_by_port(peer.local_port());
        let flow = flow.expect("a peer that was connected to");
        self.checker.flows[flow].peer = Some(peer);
    }

    fn move_peer(&mut self) {
        self.accept_peers();
        let count = self.checker.flows.len();
        if count == 0 {
            return;
        }
        let place = self.random.below(count);
        let size = 1 + self.random.below(self.piece_max);
        let written = fill_bytes(&mut self.random, size);
        let choice = self.random.below(48);
        let flow = &mut self.checker.flows[place];
        let Some(peer) = &mut flow.peer else { return };
        let port = flow.port;
        let (what, size) = match choice {
            0 | 1 => {
                if flow.peer_end == PeerEnd::Open {
                    flow.peer_end = PeerEnd::Finished;
                }
                peer.finish();
                ("finishes", 0)
            }
            2 => {
                flow.peer_closes(true);
                ("resets", 0)
            }
            3 => {
                flow.peer_closes(false);
                ("closes", 0)
            }
            4..8 => {
                peer.mark_urgent();
                ("marks urgent", 0)
            }
            8..28 if flow.peer_end == PeerEnd::Open => {
                let count = peer.write(written);
                flow.wrote.extend(&written[..count]);
                ("writes", count)
            }
            _ => ("reads", flow.peer_reads(size)),
        };
        self.script.push(Line::Peer(what, port, size));
    }

    // The loop.

    fn poll(&mut self) {
        let timeout = match self.random.below(40) {
            0 => Duration::from_secs(self.random.below(20) as u64),
            1 | 2 => Duration::from_millis(1),
            _ => Duration::ZERO,
        };
        self.poll_for(timeout);
    }

    /// Returns whether there was an event.
    pub(super) fn poll_for(&mut self, timeout: Duration) -> bool {
        self.checker.before_call(timeout);
        let event = self.event_loop.poll_event(Some(timeout)).unwrap();
        let steps = self.checker.absorb();
        self.script.extend(steps.into_iter().map(Line::Loop));
        self.checker.check(&self.event_loop);
        if let Some(event) = event {
            self.script.push(Line::Event(event));
        }
        self.check_embedding(event);
        let Some(event) = event else { return false };
        self.checker.event(event, &self.event_loop);
        if let Some(id) = event.connection() {
            match self.is_resting {
                true => self.behave(event, id),
                false => self.misbehave(event, id),
            }
        }
        self.answer_around(event);
        true
    }

    /// Handles an event as the style has it, and panics on the way now and then.
    fn misbehave(&mut self, event: Event, id: ConnectionId) {
        let actions = self.random.below(4);
        let panics = self.random.below(64) == 0;
        let handled = catch_unwind(AssertUnwindSafe(|| {
            match (self.style, event) {
                (Style::Echoes, Event::Received(_)) => self.send_received(id),
                (Style::WritesAlways, _) => self.send(id, 1),
                (Style::Floods, Event::Received(_) | Event::Drained(_)) => {
                    while !self.event_loop[id].is_clogged() {
                        self.send(id, 2);
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
            10..22 => self.send(id, 1 + size),
            22..24 => self.send_received(id),
            24..26 => self.transfer(id),
            26..29 => self.couple(id),
            29 => self.event_loop.uncouple(id),
            30..32 => self.set_deadline(id),
            32 => self.set_limits(id),
            33 if size < 400 => self.send(id, self.limits.connection.unsent_max + 1 - size.min(1)),
            34..44 => self.change(id, choice, size),
            _ => {}
        }
    }

    fn change(&mut self, id: ConnectionId, choice: usize, size: usize) {
        let Some(connection) = self.event_loop.get_mut(id) else { return };
        let flow = self.checker.flow(id);
        let what = match choice {
            34 | 35 => {
                connection.pause();
                (flow.was_paused, flow.is_paused) = (true, true);
                "pauses"
            }
            36..39 => {
                connection.resume();
                flow.is_paused = false;
                "resumes"
            }
            39 => {
                connection.finish();
                "finishes"
            }
            40 if size.is_multiple_of(3) => {
                connection.close();
                flow.is_closing = true;
                "closes"
            }
            41 if size.is_multiple_of(4) => {
                connection.abort();
                (flow.is_closing, flow.was_aborted) = (true, true);
                "aborts"
            }
            42 => {
                connection.allow_half_open(size.is_multiple_of(2));
                "changes half-open"
            }
            _ => {
                let timeout = Duration::from_secs(1 + size as u64 % 50);
                connection.set_idle_timeout(Some(timeout));
                // One that was set before may have come due already.
                let least = flow.idle_timeout.map_or(timeout, |before| before.min(timeout));
                flow.idle_timeout = Some(least);
                "sets an idle timeout"
            }
        };
        self.script.push(Line::Program(what, id, size));
    }

    fn any_open(&mut self) -> Option<ConnectionId> {
        let open: Vec<ConnectionId> = self.checker.open().collect();
        (!open.is_empty()).then(|| self.random.one_of(&open))
    }

    pub(super) fn consume(&mut self, id: ConnectionId, most: usize) {
        let connection = &mut self.event_loop[id];
        let count = connection.received().len().min(most);
        connection.consume(count);
        self.checker.flow(id).consumed += count;
        self.script.push(Line::Program("consumes", id, count));
    }

    fn send(&mut self, id: ConnectionId, count: usize) {
        let bytes = fill_bytes(&mut self.random, count);
        let connection = &mut self.event_loop[id];
        let unsent = connection.unsent();
        connection.send(bytes);
        let is_taken = connection.unsent() == unsent + count;
        let flow = self.checker.flow(id);
        flow.offered += count as u64;
        if is_taken {
            flow.sent.extend(bytes);
        }
        self.note_clogged(id);
        self.script.push(Line::Program("sends", id, count));
    }

    fn send_received(&mut self, id: ConnectionId) {
        let connection = &mut self.event_loop[id];
        let (unsent, count) = (connection.unsent(), connection.received().len());
        connection.send_received();
        let is_taken = connection.unsent() == unsent + count;
        let flow = self.checker.flow(id);
        flow.offered += count as u64;
        if is_taken {
            flow.sent.extend_from_slice(&flow.wrote[flow.consumed..flow.consumed + count]);
        }
        flow.consumed += count;
        self.note_clogged(id);
        self.script.push(Line::Program("sends what it received", id, count));
    }

    /// Moves what one has received to another, which may be the same or just closed.
    fn transfer(&mut self, from: ConnectionId) {
        let Some(to) = self.any_open() else { return };
        let moved = self.event_loop.transfer(from, to);
        let flow = self.checker.flow(from);
        let bytes = flow.wrote[flow.consumed..flow.consumed + moved].to_vec();
        flow.consumed += moved;
        let flow = self.checker.flow(to);
        flow.offered += bytes.len() as u64;
        flow.sent.extend(bytes);
        self.note_clogged(to);
        self.script.push(Line::Program("transfers", from, moved));
    }

    fn note_clogged(&mut self, id: ConnectionId) {
        let Some(connection) = self.event_loop.get(id) else { return };
        if connection.exchange.takes_bytes() && connection.is_clogged() {
            let high_water = connection.exchange.limits().high_water;
            let flow = self.checker.flow(id);
            flow.is_clogged |= connection.unsent() > high_water;
        }
    }

    fn couple(&mut self, reader: ConnectionId) {
        let Some(writer) = self.any_open() else { return };
        self.event_loop.couple(reader, writer);
        self.script.push(Line::Program("is coupled", reader, 0));
        if self.random.below(2) == 0 {
            self.event_loop.couple(writer, reader);
        }
    }

    fn set_deadline(&mut self, id: ConnectionId) {
        let after = Duration::from_millis(self.random.below(3000) as u64);
        let after = (self.random.below(4) > 0).then_some(after);
        let now = self.simulation.now();
        self.event_loop[id].set_deadline(after);
        self.checker.flow(id).deadline = after.map(|after| now + after);
        self.script.push(Line::Program("sets a deadline", id, 0));
    }

    fn set_limits(&mut self, id: ConnectionId) {
        let mut limits = draw_limits(&mut self.random).connection;
        let connection = &mut self.event_loop[id];
        // Only ever up, so that the bounds of what is held go on to hold.
        let before = connection.exchange.limits();
        limits.read_buffer_max = limits.read_buffer_max.max(before.read_buffer_max);
        limits.unsent_max = limits.unsent_max.max(before.unsent_max);
        limits.high_water = before.high_water;
        limits.low_water = before.low_water;
        limits.idle_timeout = before.idle_timeout;
        connection.set_limits(limits).unwrap();
        self.script.push(Line::Program("changes its limits", id, 0));
    }

    /// Drops the loop and then the peers, and looks that nothing is left.
    pub(super) fn tear_down(self) -> u64 {
        let Self { simulation, event_loop, mut checker, peer_listener, .. } = self;
        drop(event_loop);
        assert_eq!(lock(&simulation.network).open_and_watched(0), (0, 0), "7: after the drop");
        drop(peer_listener);
        checker.flows.iter_mut().for_each(|flow| flow.peer = None);
        while simulation.step() {}
        assert_eq!(lock(&simulation.network).socket_count(), 0, "7: nothing is left at all");
        checker.digest
    }
}

impl Checker {
    /// The connections whose `Closed` has not come.
    pub(super) fn open(&self) -> impl Iterator<Item = ConnectionId> {
        let open = self.flows.iter().filter(|flow| !matches!(flow.told, Told::Closed(_)));
        open.filter_map(|flow| flow.id)
    }
}

fn draw_limits(random: &mut Random) -> Limits {
    let mut limits = Limits::default();
    let sizes = [1, 2, 5, 64, 1000, 64 * 1024];
    limits.connection.read_buffer_max = random.one_of(&sizes);
    limits.connection.read_budget = random.one_of(&sizes);
    limits.connection.write_budget = random.one_of(&sizes);
    limits.connection.high_water = random.one_of(&sizes[..5]);
    limits.connection.low_water = random.below(limits.connection.high_water + 1);
    limits.connection.unsent_max = limits.connection.high_water + random.one_of(&sizes[..5]);
    limits.accept_budget = 1 + random.below(3);
    if random.below(4) == 0 {
        limits.connections_max = Some(1 + random.below(4));
    }
    limits
}

/// So many bytes of a table of chance, from a place of chance.
fn fill_bytes(random: &mut Random, count: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut random = Random::new(1);
        (0..1 << 16).map(|_| random.next() as u8).collect()
    });
    let start = random.below(table.len() / 2);
    &table[start..start + count]
}
