//! Many runs, each from its seed.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::draws::draw_faults;
use super::run::Run;
use super::trace::look;
use super::two_programs::TwoPrograms;
use crate::connection::without_fast_path;
use crate::simulation::Faults;
use crate::system::simulated::Random;

/// The result of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Of all that the loop did.
    pub(super) digest: u64,
    pub(super) steps: u64,
    /// The calls that could have failed, up to its end or its rest.
    pub(super) calls: u64,
}

pub(super) fn run_seed(seed: u64) -> Outcome {
    let actions = 50 + Random::new(!seed).below(400);
    run_with(seed, draw_faults(seed), actions, |_| {})
}

/// Runs a seed. A run that fails prints the line that replays it and its last steps.
pub(super) fn run_with(
    seed: u64,
    faults: Faults,
    actions: usize,
    prepare: impl FnOnce(&mut Run),
) -> Outcome {
    let mut run = Run::new(seed, faults.clone());
    prepare(&mut run);
    let outcome = catch_unwind(AssertUnwindSafe(|| run.run(actions)));
    let (steps, calls) = (run.simulation.steps(), run.calls);
    if outcome.is_err() {
        eprintln!("{}  {faults:?}\n  after {steps} steps", run.last_steps());
        panic!("READINESS_SEED={seed} cargo test --lib simulation");
    }
    let digest = catch_unwind(AssertUnwindSafe(|| run.tear_down()));
    let Ok(digest) = digest else {
        panic!("READINESS_SEED={seed} cargo test --lib simulation (at its teardown)");
    };
    Outcome { digest, steps, calls }
}

/// Runs two programs against each other.
fn run_two(seed: u64) -> Outcome {
    let faults = draw_faults(seed);
    let mut two = TwoPrograms::new(seed, faults.clone());
    let actions = 50 + Random::new(!seed).below(500);
    let outcome = catch_unwind(AssertUnwindSafe(|| two.run(actions)));
    let steps = two.simulation.steps();
    if outcome.is_err() {
        eprintln!("{}  {faults:?}\n  after {steps} steps", two.runs[0].last_steps());
        panic!("READINESS_SEED={seed} cargo test --lib simulation");
    }
    let digest = catch_unwind(AssertUnwindSafe(|| two.tear_down()));
    let Ok(digest) = digest else {
        panic!("READINESS_SEED={seed} cargo test --lib simulation (at its teardown)");
    };
    Outcome { digest, steps, calls: 0 }
}

pub(super) fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

/// `READINESS_SEED` replays one seed. `READINESS_SEEDS` says how many are run, and
/// `READINESS_FIRST_SEED` from which on.
fn try_many(count: u64, run: fn(u64) -> Outcome) {
    if let Some(seed) = variable("READINESS_SEED") {
        run(seed);
        return;
    }
    let first = variable("READINESS_FIRST_SEED").unwrap_or(0);
    let count = variable("READINESS_SEEDS").unwrap_or(count);
    let start = Instant::now();
    let steps: u64 = (first..first + count).map(|seed| run(seed).steps).sum();
    let per_second = steps as f64 / start.elapsed().as_secs_f64();
    println!("{count} seeds, {steps} steps, {per_second:.0} steps a second");
}

#[test]
fn promises_hold_under_every_seed() {
    try_many(2_000, run_seed);
}

#[test]
fn seeds_come_to_every_kind_of_event_and_end() {
    let mut kinds = BTreeSet::new();
    for seed in 0..400 {
        let actions = 50 + Random::new(!seed).below(400);
        let mut run = Run::new(seed, draw_faults(seed));
        run.run(actions);
        kinds.extend(&run.checker.kinds);
    }
    // There is no foreign source in a simulation.
    let all = "accept failed, accepted, closed by us, closed: aborted, closed: close deadline, \
        closed: connect deadline, closed: failed, closed: finished, closed: idle, \
        closed: overflow, closed: refused, closed: rejected, closed: reset, \
        closed: stalled in reading, closed: stalled in writing, connected, deadline, drained, \
        full, peer finished, received, shut down, timer, woken";
    let all: BTreeSet<&str> = all.split(", ").collect();
    assert_eq!(kinds, all);
}

#[test]
fn promises_hold_under_every_seed_between_two_programs() {
    try_many(500, run_two);
}

#[test]
fn promises_hold_although_the_observer_panics() {
    try_many(500, |seed| {
        let prepare = |run: &mut Run| {
            look(&run.checker.trace).panics = Some(Random::new(seed));
        };
        run_with(seed, draw_faults(seed), 200, prepare)
    });
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..100 {
        assert_eq!(run_seed(seed), run_seed(seed), "seed {seed}");
        assert_eq!(run_two(seed), run_two(seed), "seed {seed} of two programs");
    }
}

#[test]
fn the_fast_path_takes_the_steps_of_the_slow_one() {
    for seed in 0..variable("READINESS_SEEDS").unwrap_or(300) {
        assert_eq!(run_seed(seed), without_fast_path(|| run_seed(seed)), "seed {seed}");
        let two_without = without_fast_path(|| run_two(seed));
        assert_eq!(run_two(seed), two_without, "seed {seed} of two programs");
    }
}

/// A connection was moved forward by an event that it pending and queued as a deferred connection once more, in
/// the turn that had chosen it as its deferred one.
#[test]
fn seed_of_the_deferred_one_that_stood_in_line_twice() {
    run_seed(4404);
}

/// A call that waited took many turns. A connection that was served in one of them and was queued
/// again counted as never served. The error was the checker's.
#[test]
fn seed_of_the_turns_that_nobody_saw() {
    run_two(23014);
}

/// A connection was served in vain, because what it had sent in the same turn had spent its budget,
/// and counted as not served. The error was the checker's.
#[test]
fn seed_of_the_service_that_had_no_budget() {
    run_seed(25869);
}
