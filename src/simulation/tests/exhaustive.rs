//! Every state of a whole loop in a tiny world, found breadth first, and what must hold in each.
//!
//! The loop is the shipped one, with its queues, its slab, its listener and its deadlines; the
//! world is the simulated network with room for two bytes in each buffer, and two connections that
//! share the slab and a batch, also one after the other in the same slot. In each state everything
//! happens that can: any event is taken, the network moves on at any socket, a peer writes, reads,
//! finishes, resets, closes or connects, a wait reports what is not so, a transfer is cut anywhere
//! or blocks, a registration or a connect fails, time passes to the next deadline, and the program
//! does any of what it can do to either of the two, or relays between them. See `world.rs` for the
//! list, and `settings.rs` for the worlds.
//!
//! After every step the checker of the runs looks at every promise that it knows. From every state
//! all must come to rest by itself once the peers read and finish: no wake-up may be lost. Then the
//! loop is dropped, and nothing may be left.
//!
//! A loop cannot be copied, so a state is restored by repeating the steps that led to it. Two
//! states are one if the same can follow from them, which their fingerprints show: bytes are
//! counted there, not compared, and times count by how far off they are.
//!
//! There are far more states than a test can go through. It takes the nearest to the beginning of
//! each world, 30,000 in all; for more:
//!
//! ```text
//! READINESS_STATES=1000000 cargo test --release --lib two_connections_keep -- --nocapture
//! ```
//!
//! A promise that does not hold prints the shortest way that leads there.

mod settings;
mod world;

use std::collections::HashSet;

use self::settings::{Setting, settings};
use self::world::{Input, World};
use super::seeds::variable;
use crate::system::simulated::Choices;

/// How many states a run looks at, in all worlds together, unless the environment says otherwise.
const STATES_MAX: u64 = 30_000;

#[test]
fn two_connections_keep_the_promises_in_every_state() {
    let settings = settings();
    let states_max = variable("READINESS_STATES").unwrap_or(STATES_MAX);
    for setting in &settings {
        let mut search = Search::new(setting);
        let is_whole = search.run(states_max as usize / settings.len());
        let whole = if is_whole { "all there are" } else { "there are more" };
        let (states, steps) = (search.ways.len(), search.steps);
        println!("{}: {states} states ({whole}), {steps} steps", setting.name);
    }
}

/// A single step, with its outcome where there are several.
#[derive(Clone, Debug)]
struct Step {
    input: Input,
    choices: Choices,
}

struct Search<'s> {
    setting: &'s Setting,
    /// For each state the one that it was reached from, and how.
    ways: Vec<Option<(usize, Step)>>,
    known: HashSet<u64>,
    steps: u64,
}

impl<'s> Search<'s> {
    fn new(setting: &'s Setting) -> Self {
        Self { setting, ways: Vec::new(), known: HashSet::new(), steps: 0 }
    }

    /// Looks at states until there are no more, or too many; says whether it was all.
    fn run(&mut self, states_max: usize) -> bool {
        let world = World::new(self.setting);
        self.found(world, None);
        let mut looked_at = 0;
        while looked_at < self.ways.len() {
            let way = self.way_to(looked_at);
            for input in self.world_after(&way).inputs() {
                let mut choices = Choices::default();
                loop {
                    if self.ways.len() >= states_max {
                        return false;
                    }
                    choices = self.look(looked_at, &way, Step { input, choices });
                    if !choices.advance() {
                        break;
                    }
                }
            }
            looked_at += 1;
        }
        true
    }

    /// Goes the way and one step more, and returns what was chosen on that.
    fn look(&mut self, from: usize, way: &[Step], step: Step) -> Choices {
        let mut telling = Telling { setting: self.setting, way, last: Some(step.clone()) };
        let mut world = self.world_after(way);
        let choices = world.take(step.input, step.choices);
        self.steps += 1;
        let step = Step { input: step.input, choices: choices.clone() };
        telling.last = Some(step.clone());
        self.found(world, Some((from, step)));
        choices
    }

    /// Keeps a state that is new, if everything comes to rest from it.
    fn found(&mut self, world: World, way: Option<(usize, Step)>) {
        if self.known.insert(world.fingerprint()) {
            self.ways.push(way);
            world.come_to_rest();
        }
    }

    fn way_to(&self, state: usize) -> Vec<Step> {
        let mut way = Vec::new();
        let mut at = state;
        while let Some((from, step)) = &self.ways[at] {
            way.push(step.clone());
            at = *from;
        }
        way.reverse();
        way
    }

    fn world_after(&self, way: &[Step]) -> World {
        let mut world = World::new(self.setting);
        for step in way {
            world.take(step.input, step.choices.clone().again());
        }
        world
    }
}

/// Prints how a state was reached if a check that follows fails.
struct Telling<'w> {
    setting: &'w Setting,
    way: &'w [Step],
    last: Option<Step>,
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("In the world {:?}, after", self.setting.name);
            for step in self.way.iter().chain(&self.last) {
                println!("  {step:?}");
            }
        }
    }
}
