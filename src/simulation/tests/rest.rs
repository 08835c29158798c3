//! The second phase of a run: the faults are off, every peer reads everything, the program behaves
//! and does nothing of its own accord, and all must come to rest within a bound that is computed
//! from what is left to do.

use std::collections::HashSet;
use std::time::Duration;

use super::acts::Change;
use super::flow::{Flow, PeerEnd};
use super::run::{Line, Run};
use super::trace::look;
use crate::event::Event;
use crate::exchange::Coupling;
use crate::simulation::{Peer, PeerState};
use crate::slots::ConnectionId;
use crate::system::simulated::{Script, lock};

impl Run {
    /// Handles an event as a program that does nothing of its own accord.
    fn behave(&mut self, event: Event, id: ConnectionId) {
        if matches!(event, Event::Accepted(..) | Event::Connected(_) | Event::PeerFinished(_)) {
            self.event_loop[id].finish();
        }
        self.consume(id, usize::MAX);
    }

    /// Handles an event like `behave`, but reads whatever else the connection has received. Of two
    /// programs against each other one must, or else each could wait for the other to read first.
    fn behave_uncoupled(&mut self, event: Event, id: ConnectionId) {
        self.uncouple_accepted(id);
        self.behave(event, id);
    }

    /// Uncouples a connection that has connected, unless the program wants the coupling.
    fn uncouple_accepted(&mut self, id: ConnectionId) {
        if self.event_loop[id].listener().is_some() || self.checker.flow(id).was_coupled {
            self.uncouple(id);
        }
    }

    pub(super) fn come_to_rest(&mut self) {
        come_to_rest(std::slice::from_mut(self), |_| {});
    }

    /// From here on the program behaves.
    fn begin_rest(&mut self, reads_always: bool) {
        self.handle = if reads_always { Self::behave_uncoupled } else { Self::behave };
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
            if reads_always {
                self.uncouple_accepted(id);
            }
            self.change(id, Change::Pause);
            self.change(id, Change::Resume);
            self.change(id, Change::Finish);
        }
        self.rest_around();
    }

    fn needs_connects(&self, id: ConnectionId) -> bool {
        // A reader that is coupled to a connect that hangs waits with it.
        let exchange = &self.event_loop[id].exchange;
        exchange.is_connecting() || exchange.coupling() == Coupling::Writer { has_unsent: true }
    }

    /// Returns the bytes that move in a turn at least, where any do.
    fn unit(&self, flow: &Flow) -> usize {
        let connection = flow.id.and_then(|id| self.event_loop.get(id));
        let limits = match connection {
            Some(connection) => connection.exchange.limits(),
            None => &self.limits.connection,
        };
        let faults = &lock(&self.simulation.network).faults;
        let least = faults.send_buffer.min(faults.receive_buffer);
        least.min(limits.read_budget).min(limits.write_budget).min(limits.read_buffer_max)
    }

    fn unit_of_all(&self) -> usize {
        self.checker.flows.iter().map(|flow| self.unit(flow)).min().unwrap_or(usize::MAX)
    }

    /// In each turn at least one unit of what is left moves, for each of a few reasons to be
    /// served. What is between two programs moves in the unit of the slower.
    fn rest_bound(&self, unit_max: usize) -> u64 {
        let bound = |flow: &Flow| {
            let unit = self.unit(flow).min(unit_max);
            let left = flow.wrote.len() - flow.consumed + flow.sent.len() - flow.read;
            40 + 6 * left.div_ceil(unit) as u64
        };
        200 + self.checker.flows.iter().map(bound).sum::<u64>()
    }

    /// Lets every peer read all that has arrived, and finish. Returns whether anything moved.
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

    /// Finishes the peers of attempts that no `Connected` has claimed: one wins after the program has
    /// closed. Returns whether one had not finished yet.
    fn finish_strays(&mut self, finished: &mut HashSet<u16>) -> bool {
        let mut has_moved = false;
        for peer in &mut self.strays {
            has_moved |= !peer.read().is_empty();
            if finished.insert(peer.local_port()) {
                peer.finish();
                has_moved = true;
            }
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
        lock(&self.simulation.network).waiting_count(self.checker.poller) > 0
    }

    fn is_at_rest(&self) -> bool {
        self.event_loop.connection_count() == 0
            && self.embedding.is_at_rest()
            && self.checker.open().next().is_none()
            && !self.has_waiting()
            && self.peers().all(|peer| peer.state() != PeerState::Open)
    }

    fn peers(&self) -> impl Iterator<Item = &Peer> {
        let of_flows = self.checker.flows.iter().filter_map(|flow| flow.peer.as_ref());
        of_flows.chain(&self.strays)
    }

    /// At rest the loop waits forever without a turn, and then nothing is left of anything.
    fn leave_nothing(&mut self) {
        self.leave_no_timer();
        let turns = self.checker.turns;
        self.poll_for(Duration::from_secs(3600));
        assert!(self.checker.turns - turns <= 8, "4: a loop at rest takes turns");
        self.wake_from_rest();
        assert!(self.checker.flows.iter().all(|flow| !flow.is_open()));
    }

    fn describe(&self) -> String {
        let settled = self.event_loop.connections();
        settled.map(|connection| format!("{:?}\n", connection.stream)).collect()
    }
}

/// Brings the runs on one network to rest together. Calls `look_across` whenever the next run has
/// its turn.
pub(super) fn come_to_rest(runs: &mut [Run], mut look_across: impl FnMut(&mut [Run])) {
    let simulation = runs[0].simulation.clone();
    runs[0].note(Line::Rest);
    {
        let mut network = lock(&simulation.network);
        network.faults = network.faults.calmed();
        network.script = Script::default();
    }
    for (place, run) in runs.iter_mut().enumerate() {
        run.begin_rest(place > 0);
    }
    let turns = |runs: &[Run]| runs.iter().map(|run| run.checker.turns).sum::<u64>();
    let unit_max = match &*runs {
        [_] => usize::MAX,
        _ => runs.iter().map(Run::unit_of_all).min().unwrap_or(usize::MAX),
    };
    let bounds = runs.iter().map(|run| run.rest_bound(unit_max));
    let most = turns(runs) + bounds.sum::<u64>() * runs.len() as u64;
    let (mut quiet_rounds, mut waited) = (0, Duration::ZERO);
    let mut finished = HashSet::new();
    let mut has_moved = true;
    // What one program has sent may still be on its way to the other.
    while has_moved || !runs.iter().all(Run::is_at_rest) {
        let is_over = turns(runs) >= most;
        assert!(!is_over, "11: not at rest after {most} turns:\n{}", describe(runs));
        has_moved = false;
        for place in 0..runs.len() {
            look_across(runs);
            has_moved |= runs[place].peers_let_all_leave() | runs[place].turn_to_its_end();
        }
        if has_moved {
            quiet_rounds = 0;
            continue;
        }
        quiet_rounds += 1;
        if quiet_rounds > 3 {
            quiet_rounds = 0;
            if runs.iter_mut().fold(false, |any, run| run.finish_strays(&mut finished) | any) {
                continue;
            }
            waited += wait_as_allowed(runs, waited);
        }
    }
    runs.iter_mut().for_each(Run::leave_nothing);
    let resets: u64 = runs.iter().map(|run| run.checker.resets).sum();
    // Just the resets were asked for that must be.
    assert_eq!(lock(&simulation.network).resets_asked, resets, "9: resets asked for");
}

/// Lets time pass only for accepting that has failed and for connects that hang. Nothing else may
/// need time to come to rest.
fn wait_as_allowed(runs: &mut [Run], waited: Duration) -> Duration {
    let has_waiting = runs.iter().any(Run::has_waiting);
    let time = match has_waiting {
        true => runs[0].limits.accept_pause_max,
        false => runs[0].limits.connection.connect_deadline,
    };
    let needs_time = match &*runs {
        [run] => run.checker.open().all(|id| run.needs_connects(id)),
        // What one program waits for may be what the other has coupled to a connect.
        _ => runs.iter().any(|run| run.checker.open().any(|id| run.needs_connects(id))),
    };
    assert!(has_waiting || needs_time, "11: it needs time to rest:\n{}", describe(runs));
    assert!(waited < Duration::from_secs(20), "11: no rest in time:\n{}", describe(runs));
    let before = runs[0].simulation.now();
    for run in &mut *runs {
        run.wait_at_most(time);
    }
    runs[0].simulation.now() - before
}

fn describe(runs: &[Run]) -> String {
    runs.iter().map(Run::describe).collect()
}
