//! Two programs with a loop each, which connect to each other: the events of a connection are
//! checked against what the other program has done to it. Each is a [`Run`], with the same acts,
//! the same checker and the same rest as against peers that a test moves.

use super::draws::{draw_limits, draw_plain_limits, is_plain};
use super::program::Style;
use super::rest::come_to_rest;
use super::run::Run;
use crate::simulation::{Faults, Simulation};
use crate::system::simulated::{Random, lock};

pub(super) struct TwoPrograms {
    pub(super) simulation: Simulation,
    pub(super) runs: [Run; 2],
    /// The places of the two ends of each connection among the flows of the two.
    ends: Vec<[usize; 2]>,
}

impl TwoPrograms {
    pub(super) fn new(seed: u64, faults: Faults) -> Self {
        let simulation = Simulation::with_faults(seed, faults);
        let runs = [0x1234_5678, 0x8765_4321].map(|salt| {
            let mut random = Random::new(seed ^ salt);
            let mut limits = match is_plain(seed) {
                true => draw_plain_limits(&mut random),
                false => draw_limits(&mut random),
            };
            if salt == 0x8765_4321 {
                // Or else each could wait for the other to accept first.
                limits.connections_max = None;
            }
            let mut run = Run::on(&simulation, limits, random);
            if is_plain(seed) {
                run.style = Style::Answers;
            }
            run
        });
        let [mut one, other] = runs;
        one.script = other.script.clone();
        Self { simulation, runs: [one, other], ends: Vec::new() }
    }

    pub(super) fn run(&mut self, actions: usize) {
        self.runs.iter_mut().for_each(Run::listen);
        let ends_max = 1 + self.simulation.below(9);
        for _ in 0..actions {
            let place = self.simulation.below(2);
            match self.simulation.below(64) {
                0..6 if self.ends.len() < ends_max => self.connect(place),
                6 => self.runs[place].change_listeners(),
                _ => self.runs[place].poll(),
            }
            look_across(&mut self.runs, &self.ends);
            for run in &mut self.runs {
                run.checker.check(&run.event_loop);
            }
        }
        if self.simulation.below(8) > 0 {
            let ends = &self.ends;
            come_to_rest(&mut self.runs, |runs| look_across(runs, ends));
        }
    }

    /// One of the two connects to a listener of the other.
    fn connect(&mut self, place: usize) {
        let [one, other] = &mut self.runs;
        let (from, to) = if place == 0 { (one, other) } else { (other, one) };
        let Some(listener) = to.listeners.first() else { return };
        let port = from.connect_to(to, listener.0);
        // A connection that failed at once has no other end.
        if port > 0 {
            let flows = [from.checker.flows.len() - 1, to.checker.add_flow(port)];
            self.ends.push(if place == 0 { flows } else { [flows[1], flows[0]] });
        }
    }

    pub(super) fn tear_down(self) -> u64 {
        let Self { simulation, runs, .. } = self;
        let digests = runs.map(Run::drop_loop_and_peers);
        while simulation.step() {}
        assert_eq!(lock(&simulation.network).socket_count(), 0, "7: nothing is left at all");
        digests[0].rotate_left(1) ^ digests[1]
    }
}

/// What each side has done is what the other's peer has.
fn look_across(runs: &mut [Run], ends: &[[usize; 2]]) {
    let [one, other] = runs else { panic!("there are two") };
    for [place, place_of_other] in ends {
        let flow = &mut one.checker.flows[*place];
        let flow_of_other = &mut other.checker.flows[*place_of_other];
        flow.follow(flow_of_other);
        flow_of_other.follow(flow);
    }
}
