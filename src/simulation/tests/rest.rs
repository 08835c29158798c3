//! The second phase of a run: the faults are off, every peer reads everything, the program behaves
//! and does nothing of its own accord, and all must come to rest within a bound that is computed
//! from what is left to do.

use std::time::Duration;

use super::checker::look;
use super::flow::{Flow, PeerEnd};
use super::run::{Line, Run};
use crate::event::{ConnectionId, Event};
use crate::exchange::Coupling;
use crate::simulation::PeerState;
use crate::system::simulated::{Script, lock};

impl Run {
    /// The program handles what it is told and does nothing of its own accord.
    pub(super) fn behave(&mut self, event: Event, id: ConnectionId) {
        if matches!(event, Event::Accepted(..) | Event::Connected(_) | Event::PeerFinished(_)) {
            self.event_loop[id].finish();
        }
        self.consume(id, usize::MAX);
    }

    pub(super) fn come_to_rest(&mut self) {
        self.is_resting = true;
        self.script.push(Line::Rest);
        {
            let mut network = lock(&self.simulation.network);
            network.faults = network.faults.calmed();
            network.script = Script::default();
        }
        look(&self.checker.trace).fruitless_max = 12 + 4 * self.checker.flows.len();
        for place in 0..self.listeners.len() {
            let (id, is_paused) = self.listeners[place];
            if is_paused {
                self.event_loop.resume_accepting(id).unwrap();
                self.listeners[place].1 = false;
            }
        }
        // What was left is announced by the resume, and consumed only then.
        let open: Vec<ConnectionId> = self.checker.open().collect();
        for id in open {
            let connection = self.event_loop.get_mut(id).unwrap();
            connection.pause();
            connection.resume();
            connection.finish();
            let flow = self.checker.flow(id);
            (flow.was_paused, flow.is_paused) = (true, false);
        }
        self.rest_around();
        let most = self.checker.turns + self.rest_bound();
        let (mut quiet_rounds, mut waited) = (0, Duration::ZERO);
        while !self.is_at_rest() {
            let turns = self.checker.turns;
            assert!(turns < most, "11: not at rest after {most} turns:\n{}", self.describe());
            if self.peers_let_all_leave() | self.turn_to_its_end() {
                quiet_rounds = 0;
                continue;
            }
            quiet_rounds += 1;
            if quiet_rounds > 3 {
                waited += self.wait_as_allowed(waited);
                quiet_rounds = 0;
            }
        }
        self.leave_nothing();
    }

    /// Time is let pass only for accepting that has failed and for connects that hang: nothing
    /// else may need it to come to rest.
    fn wait_as_allowed(&mut self, waited: Duration) -> Duration {
        let has_waiting = self.has_waiting();
        let time = match has_waiting {
            true => self.limits.accept_pause_max,
            false => self.limits.connection.connect_deadline,
        };
        // One that is coupled to a connect that hangs waits with it.
        let connects = |id| {
            let exchange = &self.event_loop[id].exchange;
            exchange.is_connecting() || exchange.coupling() == Coupling::Writer { has_unsent: true }
        };
        let all_connect = self.checker.open().all(connects);
        assert!(has_waiting || all_connect, "11: it needs time to rest:\n{}", self.describe());
        assert!(waited < Duration::from_secs(20), "11: no rest in time:\n{}", self.describe());
        let before = self.simulation.now();
        match self.embedding.is_hosted {
            true => self.sleep_as_host(self.event_loop.simulated_timeout(), time),
            false => _ = self.poll_for(time),
        }
        self.simulation.now() - before
    }

    /// In each turn at least one unit of what is left moves, for each of a few reasons to be served.
    fn rest_bound(&self) -> u64 {
        let faults = lock(&self.simulation.network).faults.clone();
        let least = faults.send_buffer.min(faults.receive_buffer);
        let bound = |flow: &Flow| {
            let connection = flow.id.and_then(|id| self.event_loop.get(id));
            let limits = match connection {
                Some(connection) => connection.exchange.limits(),
                None => &self.limits.connection,
            };
            let unit = least.min(limits.read_budget).min(limits.write_budget);
            let unit = unit.min(limits.read_buffer_max);
            let left = flow.wrote.len() - flow.consumed + flow.sent.len() - flow.read;
            40 + 6 * left.div_ceil(unit) as u64
        };
        200 + self.checker.flows.iter().map(bound).sum::<u64>()
    }

    /// Every peer reads all that has arrived, and finishes. Returns whether anything moved.
    fn peers_let_all_leave(&mut self) -> bool {
        self.accept_peers();
        let mut has_moved = false;
        for flow in &mut self.checker.flows {
            has_moved |= flow.peer_reads(usize::MAX) > 0;
            if let (Some(peer), PeerEnd::Open) = (&mut flow.peer, flow.peer_end) {
                peer.finish();
                flow.peer_end = PeerEnd::Finished;
                has_moved = true;
            }
        }
        while self.simulation.step() {
            has_moved = true;
        }
        has_moved
    }

    fn turn_to_its_end(&mut self) -> bool {
        let moves = self.checker.moves;
        let mut events = 0;
        while self.is_called() && self.poll_for(Duration::ZERO) {
            events += 1;
            assert!(events < 10_000, "10: a turn never ends");
        }
        self.checker.moves > moves
    }

    fn has_waiting(&self) -> bool {
        lock(&self.simulation.network).waiting_count(0) > 0
    }

    fn is_at_rest(&self) -> bool {
        self.event_loop.connection_count() == 0
            && self.embedding.is_at_rest()
            && self.checker.open().next().is_none()
            && !self.has_waiting()
            && self.checker.flows.iter().all(|flow| {
                let peer = flow.peer.as_ref();
                peer.is_none_or(|peer| peer.state() != PeerState::Open)
            })
    }

    /// At rest the loop waits for ever without a turn, and then nothing is left of anything.
    fn leave_nothing(&mut self) {
        self.leave_no_timer();
        let turns = self.checker.turns;
        self.poll_for(Duration::from_secs(3600));
        assert!(self.checker.turns - turns <= 8, "4: a loop at rest takes turns");
        self.wake_from_rest();
        assert!(self.checker.flows.iter().all(|flow| !flow.is_open()));
        self.checker.check_resets();
    }

    fn describe(&self) -> String {
        let settled = self.event_loop.connections();
        settled.map(|connection| format!("{:?}\n", connection.stream)).collect()
    }
}
