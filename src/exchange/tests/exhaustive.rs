//! Every state of a connection in a tiny world, found breadth first, and what must hold in each.
//!
//! The world is one connection with a kernel, a peer and a program (`exhaustive/`). The kernel's
//! buffers hold two bytes each, ours three at most. In each state everything happens that can: the
//! peer writes, reads, finishes, resets; the network connects or refuses; the kernel reports an
//! edge, late or without a reason; a transfer is cut short anywhere, or blocks; registering fails;
//! a deadline passes; the program does any of what it can do, at any time. Each step runs the
//! shipped code: the exchange, `transfer::fill` and `transfer::flush`. What `serving.rs`,
//! `settling.rs`, `ready_queues.rs` and `turn.rs` do around it is written again in `world.rs`, for one
//! connection, so that a state can be kept in a few bytes; those files themselves are searched in
//! `src/simulation/tests/exhaustive.rs`, with two connections and far fewer states.
//!
//! A state keeps how many bytes there are, not which: each step numbers them anew and checks that
//! they leave in order. It keeps neither the time nor how much was lost.
//!
//! Two kinds of kernel are searched. One is epoll and kqueue: a new interest reports what is true
//! already, and a short transfer proves the socket empty or full. The other reports only what
//! happens later (and room to write), and there a short transfer proves nothing. A third kind would
//! report only what happens later, although a short read is taken as proof. It would lose an end
//! that arrived after the bytes while the interest did not include reading: the loop relies on
//! there being no such kernel.
//!
//! From every state a kind world (a peer that reads and finishes, a program that consumes and
//! resumes, no deadline) must lead to the end, and on the way everything that is unsent must leave.
//!
//! The search ends after 300,000 states in a usual run. To go through more:
//!
//! ```text
//! READINESS_STATES=5000000 cargo test --release --lib every_reachable_state -- --nocapture
//! ```
//!
//! A promise that does not hold prints the shortest way that leads there.

mod kernel;
mod world;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

use self::kernel::{Connect, Reset};
use self::world::{Input, Kept, Queue, Setting, World};
use super::*;
use crate::system::simulated::Choices;

/// How many states a run finds, unless the environment says otherwise.
const STATES_MAX: usize = 300_000;

#[test]
fn every_reachable_state_keeps_the_promises() {
    let states_max = std::env::var("READINESS_STATES");
    let states_max = states_max.map_or(STATES_MAX, |count| count.parse().unwrap());
    let mut search = Search::default();
    for setting in settings() {
        search.add(World::accepted(setting), None);
        search.add(World::connecting(setting), None);
    }
    let is_whole = search.run(states_max);
    let whole = if is_whole { "all there are" } else { "there are more" };
    println!("{} states ({whole}), {} steps", search.states.len(), search.steps);
}

fn settings() -> Vec<Setting> {
    let mut settings = Vec::new();
    for budget in [1, 2] {
        for (rearms, short_proves_blocked) in [(true, true), (false, false)] {
            settings.push(Setting { budget, rearms, short_proves_blocked });
        }
    }
    settings
}

type Worlds = HashSet<World, BuildHasherDefault<Mixer>>;

/// A quick hash: the search has no attacker to fear.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517C_C1B7_2722_0A95);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.mix(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.mix(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }
}

/// The states that were found, in the order of their distance from the first.
#[derive(Default)]
struct Search {
    states: Vec<World>,
    /// For each state the one that it was reached from, and how.
    ways: Vec<Option<(u32, Input)>>,
    known: Worlds,
    /// From these a kind world leads to the end.
    ending: Worlds,
    steps: u64,
}

impl Search {
    fn add(&mut self, world: World, way: Option<(u32, Input)>) {
        if self.known.insert(world) {
            self.states.push(world);
            self.ways.push(way);
        }
    }

    /// Looks at states until there are no more, or too many; says whether it was all.
    fn run(&mut self, states_max: usize) -> bool {
        let inputs = Input::all();
        let mut pool = Pool::default();
        let mut looked_at = 0;
        while looked_at < self.states.len() {
            if self.states.len() >= states_max {
                return false;
            }
            let world = self.states[looked_at];
            let here = u32::try_from(looked_at).unwrap();
            let found_before = self.states.len();
            let mut nexts = Vec::new();
            {
                let mut way = Way { search: self, here, input: None };
                for input in &inputs {
                    if !world.takes(*input) {
                        continue;
                    }
                    way.input = Some(*input);
                    let mut choices = Choices::default();
                    loop {
                        let next = world.after(*input, &mut choices, &mut pool);
                        assert!(*input != Input::Serve || next != world, "a service for nothing");
                        nexts.push((next, *input));
                        if !choices.advance() {
                            break;
                        }
                    }
                }
            }
            self.steps += nexts.len() as u64;
            for (next, input) in nexts {
                self.add(next, Some((here, input)));
            }
            for found in found_before..self.states.len() {
                let here = u32::try_from(found).unwrap();
                let _way = Way { search: self, here, input: None };
                check(&self.states[found]);
            }
            let ending = {
                let way = Way { search: self, here, input: None };
                way.search.end_of(world, &mut pool)
            };
            self.ending.extend(ending);
            looked_at += 1;
        }
        true
    }

    /// Returns the way on, with a peer, a network and a program that do their part, until the end
    /// or a state from which the end is known. Panics if there is no end.
    fn end_of(&self, mut world: World, pool: &mut Pool) -> Vec<World> {
        let mut way = Vec::new();
        while !world.freed && !self.ending.contains(&world) {
            way.push(world);
            assert!(way.len() < 200, "no end is reached: {}", shown(&way));
            let Some(input) = kind_input(&world) else {
                panic!("stuck: {}", shown(&way));
            };
            world = world.after(input, &mut Choices::default(), pool);
        }
        way
    }
}

fn shown(way: &[World]) -> String {
    let mut text = String::new();
    for pair in way.windows(2) {
        let _ = write!(text, "\n{:?}\n{}", kind_input(&pair[0]), changes(&pair[0], &pair[1]));
    }
    text
}

/// Returns what differs between a state and the next.
fn changes(from: &World, to: &World) -> String {
    let (from, to) = (format!("{from:#?}"), format!("{to:#?}"));
    let lines = from.lines().zip(to.lines()).filter(|(from, to)| from != to);
    lines.fold(String::new(), |text, (_, to)| text + "    " + to.trim() + "\n")
}

/// Prints how a state was reached if a check of it panics.
struct Way<'s> {
    search: &'s Search,
    here: u32,
    input: Option<Input>,
}

impl Drop for Way<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let Search { states, ways, .. } = self.search;
        let mut steps = Vec::new();
        let mut at = self.here as usize;
        while let Some((from, input)) = ways[at] {
            let from = from as usize;
            steps.push(format!("{input:?}\n{}", changes(&states[from], &states[at])));
            at = from;
        }
        println!("With {} states found, from\n{:#?}", states.len(), states[at]);
        println!("{}", steps.into_iter().rev().collect::<String>());
        println!("{:#?}\n{:?}", states[self.here as usize], self.input);
    }
}

/// Returns the next input if neither side holds anything back and nothing fails.
fn kind_input(world: &World) -> Option<Input> {
    let World { kept, kernel, .. } = world;
    let inputs = [
        (kept.paused, Input::Resume),
        (kept.half_open, Input::HalfOpen(false)),
        (kept.coupling == Coupling::Writer { has_unsent: true }, Input::WriterUnsent(false)),
        (kept.received == 1, Input::Consume(1)),
        (kept.received == 2, Input::Consume(2)),
        (true, Input::Call),
        (true, Input::Serve),
        (true, Input::Wait),
        (kernel.connect == Connect::UnderWay, Input::Connects),
        (kernel.send > 0, Input::PeerReads(kernel.send.max(1))),
    ];
    let kind = inputs.into_iter().find(|(is_due, input)| *is_due && world.takes(*input));
    if let Some((_, input)) = kind {
        return Some(input);
    }
    // All is quiet: everything must have left, and everything must have been read.
    let is_over = kernel.end_was_read || kept.state == State::Closed;
    assert!(kept.unsent == 0, "a peer that reads everything gets everything: {world:?}");
    assert!(kernel.receive == 0 || is_over, "a program that reads everything gets it: {world:?}");
    world.takes(Input::PeerFinishes).then_some(Input::PeerFinishes)
}

/// The promises that can be seen in one state.
fn check(world: &World) {
    if world.freed {
        return;
    }
    let World { kept, kernel, .. } = world;
    let (wants_read, wants_write) = wants(world);
    let rule = match (wants_read, wants_write) {
        (true, false) => Interest::Readable,
        (true, true) => Interest::ReadableWritable,
        (false, true) => Interest::Writable,
        (false, false) => Interest::None,
    };
    let mut exchange = world.exchange();
    assert_eq!(exchange.interest(), rule, "the interest follows the rule");
    assert!(kept.received <= 2 && kept.unsent <= 3, "the limits are kept to");
    assert_eq!(kept.reason.is_some(), matches!(kept.state, State::Broken | State::Closed));
    let drained = world.program.was_clogged && !kept.clogged && !exchange.is_ending();
    let is_delivered = kept.pending.contains(Pending::Drained);
    assert!(!drained || is_delivered, "it has drained, and Drained is not pending");
    if !world.is_at_rest() {
        return;
    }
    let is_queued = world.queued != Queue::None;
    let is_closed = kept.state == State::Closed;
    if !is_queued {
        assert!(!is_closed, "Closed is pending and will not be delivered");
        assert_eq!(world.interest, rule, "the kernel was asked for the interest");
        assert_eq!(world.awaits, exchange.phase(), "the deadline is the phase's");
        assert_eq!(exchange.next_pending(), None, "an event is pending and will not be delivered");
        check_reading_program(world);
    }
    assert!(!exchange.advance(), "it could go on");
    assert_eq!(exchange.state, kept.state, "it could go on");
    if is_closed {
        return;
    }
    // No lost wake-up.
    if wants_read && kernel.is_readable() {
        let is_remembered = is_queued && kept.readiness.is_readable();
        let is_coming = kernel.listed && world.interest.is_readable();
        assert!(is_remembered || is_coming, "there is something to read, and nothing will read it");
    }
    let is_connecting = exchange.is_connecting();
    if is_connecting && kernel.connect != Connect::UnderWay {
        let is_remembered = is_queued && kept.readiness != Readiness::default();
        let is_coming = kernel.listed && world.interest.is_writable();
        assert!(is_remembered || is_coming, "the connect has a result, and nothing looks at it");
    }
    if kept.unsent > 0 && !is_connecting {
        let is_remembered = is_queued && kept.readiness.is_writable();
        let peer_must_read =
            kernel.reset == Reset::None && kernel.was_full && !kernel.reports_room();
        let is_coming = world.interest.is_writable() && (kernel.listed || peer_must_read);
        assert!(is_remembered || is_coming, "bytes are unsent, and nothing will send them");
    }
}

/// Checks that a program that can answer what it has received got its `Received`, and that `Full`
/// was delivered for a full buffer.
fn check_reading_program(world: &World) {
    let World { kept, kernel, program, .. } = world;
    let takes_input = program.opened && !program.has_closed && kept.state != State::Closed;
    let is_free = !program.paused && !is_held_back(kept) && !kept.clogged;
    if !takes_input || !is_free || kept.received == 0 {
        return;
    }
    assert!(!program.is_received_due, "Received is due and will not be delivered");
    if kept.received == 2 && !kernel.end_was_read {
        assert!(program.heard_full, "the read buffer is full and Full was not delivered");
        assert!(world.awaits_room, "the read buffer is full and no deadline bounds that");
    }
}

fn is_held_back(kept: &Kept) -> bool {
    match kept.coupling {
        Coupling::None => false,
        Coupling::Itself => kept.unsent > 0,
        Coupling::Writer { has_unsent } => has_unsent,
    }
}

/// Computes the interest rule, from what has happened to the connection rather than from its state.
fn wants(world: &World) -> (bool, bool) {
    let World { kept, kernel, program, .. } = world;
    if kept.state == State::Closed {
        return (false, false);
    }
    let connecting = [State::Connecting, State::ConnectingToFinish, State::ConnectingToClose];
    if connecting.contains(&kept.state) {
        return (false, true);
    }
    // A full buffer wants to find out whether the end follows it.
    let has_use = kept.received < 2 || kept.behind == Behind::Unknown;
    let may_read = program.has_closed || !program.paused && !is_held_back(kept) && has_use;
    let wants_write = kept.unsent > 0 && !kept.readiness.is_writable();
    (may_read && !kernel.end_was_read, wants_write)
}
