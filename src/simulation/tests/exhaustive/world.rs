//! One state of the search, alive: a run in which nothing is left to chance, and what can happen
//! next.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use super::settings::{Beginning, Does, Setting};
use crate::connection::Stream;
use crate::limits::ConnectionLimits;
use crate::readiness::Readiness;
use crate::simulation::Simulation;
use crate::simulation::tests::acts::Change;
use crate::simulation::tests::flow::{Flow, PeerEnd};
use crate::simulation::tests::peers::PeerMove;
use crate::simulation::tests::run::Run;
use crate::slots::ConnectionId;
use crate::system::Socket;
use crate::system::simulated::{Choices, Random, lock};

/// What can happen. Connections and peers go by their place among all that there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// The program takes the next event, if there is one without time passing.
    Poll,
    /// The network moves on at a socket.
    Network(usize),
    /// Time passes to the next alarm.
    Time,
    Spurious(usize, Readiness),
    PeerConnects,
    Peer(usize, PeerInput),
    Connects,
    PauseAccepting,
    ResumeAccepting,
    Program(usize, Act),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerInput {
    Write,
    Read(usize),
    Finish,
    Reset,
    Close,
    MarkUrgent,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Consume(usize),
    Send(usize),
    SendReceived,
    Transfer(usize),
    Couple(usize),
    Uncouple,
    SetDeadline,
    SetBudgets(usize),
    Change(Change),
}

/// How many connections may be open, or have a peer, at once.
const FLOWS_MAX: usize = 2;

/// How many bytes may be sent or written and not yet received by the other side.
const UNDER_WAY_MAX: usize = 4;

/// A bound on what needs none but for ending the search: time passes in few steps.
const TIME_MAX: Duration = Duration::from_secs(200);

pub(super) struct World {
    run: Run,
    does: Does,
    is_wild: bool,
    start: std::time::Instant,
}

impl World {
    pub(super) fn new(setting: &Setting) -> Self {
        let simulation = Simulation::with_faults(1, crate::simulation::Faults::none());
        let mut run = Run::on(&simulation, setting.limits.clone(), Random::new(1));
        run.listen();
        let Setting { does, is_wild, .. } = *setting;
        let mut world = Self { run, does, is_wild, start: simulation.now() };
        lock(&simulation.network).random.choices = Some(Choices::default());
        for begins in &setting.begins {
            match begins {
                Beginning::Waiting => world.run.add_peer(),
                Beginning::Connecting => world.connect(),
                Beginning::Accepted => {
                    world.run.handle = |_, _, _| {};
                    world.run.add_peer();
                    world.run.poll_for(Duration::ZERO);
                }
            }
        }
        simulation.set_faults(setting.faults.clone());
        world.run.handle = setting.handle;
        world
    }

    fn connect(&mut self) {
        let address = self.run.peer_listener.address();
        let id = self.run.event_loop.connect(address, ());
        let local = self.run.event_loop[id].local_addr();
        let flow = self.run.checker.add_flow(local.map_or(0, |address| address.port()));
        self.run.checker.bind(&self.run.event_loop[id], flow);
    }

    /// Lets the input happen, with what these choices say where they are not through yet. Returns
    /// all that were made.
    pub(super) fn take(&mut self, input: Input, choices: Choices) -> Choices {
        let network = self.run.simulation.network.clone();
        lock(&network).random.choices = Some(choices);
        match input {
            Input::Poll => {
                self.run.poll_for(Duration::ZERO);
            }
            Input::Network(place) => {
                lock(&network).step_at(place);
            }
            Input::Time => {
                if let Some(at) = self.run.event_loop.turns.resources.alarms.earliest() {
                    let now = self.run.simulation.now();
                    self.run.simulation.pass_time(at.saturating_duration_since(now));
                }
            }
            Input::Spurious(place, readiness) => {
                if let Some(index) = self.stream(place).and_then(socket_of) {
                    lock(&network).script.spurious.push((index, readiness));
                }
            }
            Input::PeerConnects => self.run.add_peer(),
            Input::Peer(place, what) => self.peer_does(place, what),
            Input::Connects => self.connect(),
            Input::PauseAccepting => {
                let id = self.run.listeners[0].0;
                self.run.event_loop.pause_accepting(id).unwrap();
                self.run.listeners[0].1 = true;
            }
            Input::ResumeAccepting => {
                let id = self.run.listeners[0].0;
                // Registering may fail; the listener stays paused then.
                self.run.listeners[0].1 = self.run.event_loop.resume_accepting(id).is_err();
            }
            Input::Program(place, act) => self.act(place, act),
        }
        self.run.accept_peers();
        self.run.checker.absorb();
        self.run.checker.check(&self.run.event_loop);
        lock(&network).random.choices.replace(Choices::default()).unwrap_or_default()
    }

    fn peer_does(&mut self, place: usize, what: PeerInput) {
        let byte = [self.run.checker.flows[place].wrote.len() as u8];
        let what = match what {
            PeerInput::Write => PeerMove::Write(&byte),
            PeerInput::Read(most) => PeerMove::Read(most),
            PeerInput::Finish => PeerMove::Finish,
            PeerInput::Reset => PeerMove::Reset,
            PeerInput::Close => PeerMove::Close,
            PeerInput::MarkUrgent => PeerMove::MarkUrgent,
        };
        self.run.peer_does(place, what);
    }

    fn act(&mut self, place: usize, act: Act) {
        let Some(id) = self.run.checker.flows[place].id else { return };
        let run = &mut self.run;
        match act {
            Act::Consume(most) => run.consume(id, most),
            Act::Send(count) => {
                let first = run.checker.flows[place].sent.len() as u8;
                let bytes: Vec<u8> = (0..count as u8).map(|more| first + more).collect();
                run.send(id, &bytes);
            }
            Act::SendReceived => run.send_received(id),
            Act::Transfer(to) => {
                if let Some(to) = run.checker.flows[to].id {
                    run.transfer(id, to);
                }
            }
            Act::Couple(writer) => {
                if let Some(writer) = run.checker.flows[writer].id {
                    run.couple(id, writer);
                }
            }
            Act::Uncouple => run.uncouple(id),
            Act::SetDeadline => run.set_deadline(id, Some(Duration::from_secs(1))),
            Act::SetBudgets(budget) => {
                let limits = ConnectionLimits {
                    read_budget: budget,
                    write_budget: budget,
                    read_buffer_max: 1,
                    ..run.limits.connection.clone()
                };
                run.set_limits(id, limits);
            }
            Act::Change(change) => run.change(id, change),
        }
    }

    /// Returns the connection of a flow, where the program can still do something to it.
    fn stream(&self, place: usize) -> Option<&Stream> {
        let id = self.run.checker.flows[place].id?;
        self.run.event_loop.get(id).map(|connection| &connection.stream)
    }

    /// Returns all that can happen now.
    pub(super) fn inputs(&self) -> Vec<Input> {
        let mut inputs = vec![Input::Poll];
        let simulation = &self.run.simulation;
        let is_spurious = {
            let network = lock(&simulation.network);
            inputs.extend(network.places().map(Input::Network));
            !network.script.spurious.is_empty()
        };
        let has_time = simulation.now() - self.start < TIME_MAX;
        if has_time && self.run.event_loop.turns.resources.alarms.earliest().is_some() {
            inputs.push(Input::Time);
        }
        let live: Vec<usize> = self.live().map(|(place, _)| place).collect();
        if live.len() < FLOWS_MAX {
            inputs.push(Input::PeerConnects);
            if self.is_wild {
                inputs.push(Input::Connects);
            }
        }
        if self.is_wild {
            let is_paused = self.run.listeners[0].1;
            inputs.push(if is_paused { Input::ResumeAccepting } else { Input::PauseAccepting });
        }
        for place in &live {
            let flow = &self.run.checker.flows[*place];
            let moves =
                peer_inputs(flow).into_iter().filter(|(_, is_wild)| self.is_wild || !is_wild);
            inputs.extend(moves.map(|(input, _)| Input::Peer(*place, input)));
            let Some(stream) = self.stream(*place) else { continue };
            if self.is_wild && !is_spurious && stream.interest() != crate::Interest::None {
                let readable = Readiness::READABLE;
                for readiness in [readable, Readiness::WRITABLE, readable | Readiness::HUP] {
                    inputs.push(Input::Spurious(*place, readiness));
                }
            }
            let other = live.iter().find(|other| *other != place).copied();
            let acts =
                acts(flow, stream, *place, other).into_iter().filter(|act| (self.does)(*act));
            inputs.extend(acts.map(|act| Input::Program(*place, act)));
        }
        inputs
    }

    /// Returns the flows of which something is left.
    fn live(&self) -> impl Iterator<Item = (usize, &Flow)> {
        let is_live = |flow: &Flow| {
            let is_there = |id: ConnectionId| self.run.event_loop.get(id).is_some();
            flow.peer.is_some() || flow.id.is_some_and(is_there)
        };
        self.run.checker.flows.iter().enumerate().filter(move |(_, flow)| is_live(flow))
    }

    pub(super) fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        lock(&self.run.simulation.network).fingerprint(&mut hasher);
        self.run.event_loop.turns.fingerprint(&mut hasher);
        for (_, flow) in self.live() {
            let Flow { delivered, peer_end, is_clogged, is_closing, was_paused, deadline, .. } =
                flow;
            let slot = flow.id.map(|id| id.slot);
            let delivered = format!("{delivered:?}{peer_end:?}");
            let peer = flow.peer.as_ref().map(|peer| peer.index());
            (slot, delivered, is_clogged, is_closing, was_paused, deadline.is_some())
                .hash(&mut hasher);
            peer.hash(&mut hasher);
        }
        self.run.listeners[0].1.hash(&mut hasher);
        hasher.finish()
    }

    /// Lets the peers only read and finish from here on, and the program behave. Everything must
    /// come to its end, and then nothing may be left.
    pub(super) fn come_to_rest(mut self) {
        lock(&self.run.simulation.network).random.choices = None;
        self.run.come_to_rest();
        self.run.tear_down();
    }
}

fn socket_of(stream: &Stream) -> Option<usize> {
    match &stream.socket {
        Some(Socket::Simulated(socket)) => Some(socket.index()),
        _ => None,
    }
}

/// Returns what a peer can do, and whether it is seldom.
fn peer_inputs(flow: &Flow) -> Vec<(PeerInput, bool)> {
    let Some(peer) = &flow.peer else { return Vec::new() };
    let mut inputs = vec![(PeerInput::Reset, false), (PeerInput::Close, true)];
    if flow.peer_end == PeerEnd::Open {
        inputs.extend([(PeerInput::Finish, false), (PeerInput::MarkUrgent, true)]);
        if flow.wrote.len() - flow.consumed < UNDER_WAY_MAX {
            inputs.push((PeerInput::Write, false));
        }
    }
    if peer.has_unread() {
        inputs.extend([(PeerInput::Read(usize::MAX), false), (PeerInput::Read(1), true)]);
    }
    inputs
}

fn acts(flow: &Flow, stream: &Stream, place: usize, other: Option<usize>) -> Vec<Act> {
    let mut acts = vec![
        Act::Change(Change::Finish),
        Act::Change(Change::Close),
        Act::Change(Change::Abort),
        Act::Change(Change::AllowHalfOpen(true)),
        Act::Uncouple,
        Act::Couple(place),
        Act::SetBudgets(1),
        Act::SetBudgets(2),
        Act::Change(if stream.exchange.is_paused() { Change::Resume } else { Change::Pause }),
    ];
    if flow.sent.len() - flow.read < UNDER_WAY_MAX {
        acts.extend([Act::Send(1), Act::Send(3)]);
    }
    if flow.deadline.is_none() {
        acts.push(Act::SetDeadline);
    }
    if !stream.received().is_empty() {
        acts.extend([Act::Consume(1), Act::Consume(usize::MAX), Act::SendReceived]);
        acts.extend(other.map(Act::Transfer));
    }
    acts.extend(other.map(Act::Couple));
    acts
}
