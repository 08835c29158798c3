//! A run: the kernel, the peers and the program do what the seed says, and every promise is checked
//! after every step. Then all must come to rest: see `rest.rs`.

use std::cell::RefCell;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

use super::checker::Checker;
use super::draws::{draw_limits, draw_plain_limits, is_plain};
use super::embedding::Embedding;
use super::flow::Delivered;
use super::program::{Style, set_hosts};
use super::trace::{ObserverPanics, look};
use crate::event::Event;
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::observer::Step;
use crate::simulation::{Faults, Peer, PeerListener, Simulation};
use crate::slots::{ConnectionId, ListenerId, TimerId};
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

/// The lines of all runs on one simulation, in their order, each with the number of its loop.
pub(super) type Script = Rc<RefCell<Vec<(usize, Line)>>>;

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
    /// Peers that accepted an attempt of a connect which has others: of the one that wins, or not.
    pub(super) strays: Vec<Peer>,
    pub(super) listeners: Vec<(ListenerId, bool)>,
    pub(super) peer_listener: PeerListener,
    #[cfg(unix)]
    pub(super) unix_peer_listener: PeerListener,
    /// What the program does with an event.
    pub(super) handle: fn(&mut Self, Event, ConnectionId),
    pub(super) script: Script,
    /// How many calls could have failed before the rest.
    pub(super) calls: u64,
}

impl Run {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let mut random = Random::new(seed ^ 0xABCD_EF01);
        let mut limits = match is_plain(seed) {
            true => draw_plain_limits(&mut random),
            false => draw_limits(&mut random),
        };
        // Some spin before they wait, which is to change nothing else.
        limits.spin = (seed % 7 == 3).then_some(Duration::from_micros(50));
        let mut run = Self::on(&Simulation::with_faults(seed, faults), limits, random);
        run.embedding.draw();
        if is_plain(seed) {
            run.style = Style::Answers;
        }
        run
    }

    /// Returns a loop with its own program and peers, on a network that others may share.
    pub(super) fn on(simulation: &Simulation, limits: Limits, mut random: Random) -> Self {
        let sizes = &limits.connection;
        let unit = sizes.read_budget.min(sizes.write_budget).min(sizes.read_buffer_max);
        let unit = {
            let faults = &lock(&simulation.network).faults;
            unit.min(faults.send_buffer).min(faults.receive_buffer).min(faults.piece_max)
        };
        let mut event_loop = simulation.event_loop_with_limits(limits.clone()).unwrap();
        let checker = Checker::new(simulation, &event_loop);
        let trace = checker.trace.clone();
        look(&trace).fruitless_max = 400;
        let embedding = Embedding::new(simulation, &event_loop, checker.poller);
        let pulse = embedding.pulse();
        event_loop.set_observer(move |step| {
            pulse.see(step);
            look(&trace).see(step);
        });
        set_hosts(simulation);
        let peers_address = format!("127.0.0.9:{}", 81 + checker.poller);
        Self {
            peer_listener: simulation.listen(peers_address.parse().unwrap()),
            #[cfg(unix)]
            unix_peer_listener: simulation.listen_unix(format!("/peers/{}", checker.poller)),
            simulation: simulation.clone(),
            style: Style::drawn(&mut random),
            flows_max: 1 + random.below(9),
            random,
            event_loop,
            checker,
            embedding,
            limits,
            piece_max: (unit * 24).clamp(24, 3000),
            strays: Vec::new(),
            listeners: Vec::new(),
            handle: Self::misbehave,
            script: Script::default(),
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

    pub(super) fn note(&self, line: Line) {
        self.script.borrow_mut().push((self.checker.poller, line));
    }

    /// Returns the last steps, for a run that failed.
    pub(super) fn last_steps(&self) -> String {
        let trace = look(&self.checker.trace);
        let script = self.script.borrow();
        let seen = &script[script.len().saturating_sub(50)..];
        let seen = seen.iter().map(|(number, line)| format!("  {number} {line:?}\n"));
        let unseen = trace.unchecked.iter().map(|step| format!("    {:?}\n", Line::Loop(*step)));
        seen.chain(unseen).collect()
    }

    // The loop.

    pub(super) fn poll(&mut self) {
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
        let event = self.call(timeout).unwrap();
        for step in self.checker.absorb() {
            self.note(Line::Loop(step));
        }
        self.checker.check(&self.event_loop);
        if let Some(event) = event {
            self.note(Line::Event(event));
        }
        self.check_embedding(event);
        let Some(event) = event else { return false };
        self.checker.event(event, &self.event_loop);
        if let Event::Connected(id) = event {
            self.claim_peer(id);
        }
        if let Some(id) = event.connection() {
            (self.handle)(self, event, id);
        }
        self.answer_around(event);
        true
    }

    /// Calls the loop, again if the observer has panicked.
    fn call(&mut self, timeout: Duration) -> io::Result<Option<Event>> {
        let Self { event_loop, checker, .. } = self;
        loop {
            look(&checker.trace).is_in_call = true;
            let polled = catch_unwind(AssertUnwindSafe(|| event_loop.poll_event(Some(timeout))));
            look(&checker.trace).is_in_call = false;
            match polled {
                Ok(event) => return event,
                Err(payload) if payload.is::<ObserverPanics>() => checker.look_away(),
                Err(payload) => resume_unwind(payload),
            }
        }
    }

    /// Drops the loop and then the peers, and looks that nothing is left.
    pub(super) fn tear_down(self) -> u64 {
        let simulation = self.simulation.clone();
        let digest = self.drop_loop_and_peers();
        while simulation.step() {}
        assert_eq!(lock(&simulation.network).socket_count(), 0, "7: nothing is left at all");
        digest
    }

    pub(super) fn drop_loop_and_peers(self) -> u64 {
        let Self { simulation, event_loop, mut checker, peer_listener, .. } = self;
        #[cfg(unix)]
        let unix_peer_listener = self.unix_peer_listener;
        assert_eq!(event_loop.metrics(), look(&checker.trace).sums, "what the loop has counted");
        drop(event_loop);
        let count = lock(&simulation.network).open_and_watched(checker.poller);
        assert_eq!(count, (0, 0), "7: after the drop");
        drop((peer_listener, self.strays));
        #[cfg(unix)]
        drop(unix_peer_listener);
        checker.flows.iter_mut().for_each(|flow| flow.peer = None);
        checker.digest
    }
}

impl Checker {
    /// Returns the connections whose `Closed` was not delivered yet.
    pub(super) fn open(&self) -> impl Iterator<Item = ConnectionId> {
        let open = self.flows.iter().filter(|flow| !matches!(flow.delivered, Delivered::Closed(_)));
        open.filter_map(|flow| flow.id)
    }
}
