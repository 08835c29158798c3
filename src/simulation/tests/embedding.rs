//! What a run does around its loop: timers, wakes from other threads, a shutdown, a host.
//!
//! All of it has its own source of chance, so that it does not affect the other choices of a run,
//! and half of the runs do without. `timing.rs` and `leaving.rs` check what must follow from it.

use std::time::Duration;

use super::leaving::{self, Leaving};
use super::run::{Line, Run};
use super::timing::{Pulse, Timing};
use super::trace::look;
use crate::event::Event;
use crate::event_loop::EventLoop;
use crate::simulation::Simulation;
use crate::slots::TimerId;
use crate::system::simulated::{Random, lock};

/// How many timers there are at once, with repeats among them.
const TIMERS_MAX: usize = 8;
const REPEATS_MAX: usize = 2;

/// Never in a run, and yet not beyond the clock.
const LONG: Duration = Duration::from_secs(u64::MAX / 4);

pub(super) struct Embedding {
    random: Random,
    /// The program sets timers, is woken and shuts down.
    is_used: bool,
    /// The loop is called only when it or its descriptor has asked for it.
    pub(super) is_hosted: bool,
    /// Each wake causes the next.
    storms: bool,
    timing: Timing,
    leaving: Option<Leaving>,
    is_resting: bool,
    /// Calls in a row of a host for nothing, and the steps that had moved something before them.
    idle_calls: usize,
    moves: u64,
}

impl Embedding {
    pub(super) fn new(simulation: &Simulation, event_loop: &EventLoop, poller: usize) -> Self {
        Self {
            random: Random::new(simulation.seed() ^ 0x71E5_BE11),
            is_used: false,
            is_hosted: false,
            storms: false,
            timing: Timing::new(simulation, event_loop.waker(), poller),
            leaving: None,
            is_resting: false,
            idle_calls: 0,
            moves: 0,
        }
    }

    /// Chooses what there is to be in a run; until then there is nothing.
    pub(super) fn draw(&mut self) {
        self.is_used = self.random.below(2) == 0;
        self.is_hosted = self.random.below(3) == 0;
        self.storms = self.random.below(4) == 0;
    }

    pub(super) fn pulse(&self) -> Pulse {
        self.timing.pulse()
    }

    /// Returns whether no event of a shutdown or of a wake is pending.
    pub(super) fn is_at_rest(&self) -> bool {
        self.leaving.is_none() && !self.timing.is_wake_pending()
    }
}

impl Run {
    // What the program and other threads do.

    /// Now and then, something of all this.
    pub(super) fn embed(&mut self) {
        if !self.embedding.is_used || self.embedding.random.below(4) > 0 {
            return;
        }
        match self.embedding.random.below(64) {
            0..20 => self.set_timer(),
            20..30 => self.cancel_timer(),
            30..42 => self.wake(),
            42..56 => self.wake_later(),
            56 => self.shut_down(),
            _ => {}
        }
    }

    fn set_timer(&mut self) {
        let Embedding { random, timing, .. } = &mut self.embedding;
        if timing.ids().count() >= TIMERS_MAX {
            return;
        }
        let after = match random.below(10) {
            0 | 1 => Duration::ZERO,
            2 => Duration::MAX,
            3 => LONG,
            4..7 => Duration::from_micros(random.below(5_000) as u64),
            // Whole ones, so that many are for the same time.
            7 => Duration::from_millis(random.below(3) as u64),
            _ => Duration::from_millis(random.below(4_000) as u64),
        };
        let repeats = random.below(5) == 0 && timing.repeating().count() < REPEATS_MAX;
        let id = match repeats {
            true => self.event_loop.set_repeating_timer(after),
            false => self.event_loop.set_timer(after),
        };
        timing.set(id, after, repeats);
        self.note(Line::Timer("is set", id, after));
    }

    /// Takes back one that is set, or that has been.
    fn cancel_timer(&mut self) {
        let Embedding { random, timing, .. } = &mut self.embedding;
        let known: Vec<TimerId> = match random.below(5) {
            0 => timing.gone().to_vec(),
            _ => timing.ids().collect(),
        };
        if !known.is_empty() {
            let id = random.one_of(&known);
            self.cancel(id);
        }
    }

    fn cancel(&mut self, id: TimerId) {
        let was_set = self.event_loop.cancel_timer(id);
        self.embedding.timing.cancelled(id, was_set);
        self.note(Line::Timer("is cancelled", id, Duration::ZERO));
    }

    fn wake(&mut self) {
        for _ in 0..1 + self.embedding.random.below(3) {
            self.embedding.timing.wake();
        }
        self.note(Line::Around("a wake"));
    }

    fn wake_later(&mut self) {
        for _ in 0..1 + self.embedding.random.below(2) {
            let wake = self.embedding.timing.wake_later();
            lock(&self.simulation.network).script.wakes.push_back(wake);
        }
        self.note(Line::Around("a wake to come"));
    }

    fn shut_down(&mut self) {
        let random = &mut self.embedding.random;
        let after = match random.below(8) {
            0 => Duration::ZERO,
            1 => Duration::from_micros(random.below(5_000) as u64),
            2..5 => Duration::from_millis(random.below(20_000) as u64),
            _ => Duration::MAX,
        };
        let before = self.embedding.leaving.take();
        let listeners = self.listeners.iter_mut().map(|(id, is_paused)| {
            *is_paused = false;
            *id
        });
        let leaving = Leaving::begin(before, after, &mut self.checker, &self.event_loop, listeners);
        self.embedding.leaving = Some(leaving);
        self.event_loop.shutdown(after);
        self.note(Line::Around("shuts down"));
    }

    // The loop.

    /// Takes in what a call did, before its event is handled.
    pub(super) fn check_embedding(&mut self, event: Option<Event>) {
        let may_hold_back = {
            let faults = &lock(&self.simulation.network).faults;
            faults.delayed_rate + faults.interrupted_rate > 0
        };
        let Embedding { timing, leaving, .. } = &mut self.embedding;
        let begins = timing.absorb(may_hold_back);
        if let Some(leaving) = leaving {
            for now in begins {
                leaving.turn(now, &self.checker, &self.event_loop);
            }
        }
        self.forget_listeners_that_have_gone();
        let Embedding { timing, leaving, .. } = &mut self.embedding;
        leaving::check_closed(leaving.as_ref(), &mut self.checker, &self.event_loop);
        let Some(event) = event else { return self.check_nothing() };
        leaving::check_event(leaving.as_ref(), event, &mut self.checker, &self.event_loop);
        match event {
            Event::Timer(id) => timing.rang(id),
            Event::Woken => timing.woken(),
            Event::ShutDown => *leaving = None,
            _ => {}
        }
    }

    fn forget_listeners_that_have_gone(&mut self) {
        let (event_loop, checker) = (&self.event_loop, &mut self.checker);
        let leaving = self.embedding.leaving.as_ref();
        self.listeners.retain(|(id, _)| {
            let is_there = event_loop.turns.listeners.get(*id).is_ok();
            if !is_there {
                let leaving =
                    leaving.unwrap_or_else(|| panic!("5: {id} is closed without a cause"));
                leaving.listener_has_gone(*id, checker);
            }
            is_there
        });
    }

    /// After a turn without an event the loop returns how long it can be left alone.
    fn check_nothing(&mut self) {
        let Embedding { timing, leaving, .. } = &self.embedding;
        let (turns, timeout) = (&self.event_loop.turns, self.event_loop.next_timeout());
        let has_left = turns.listeners.ready_count() > 0
            || turns.connections.all().any(|connection| {
                let exchange = &connection.exchange;
                exchange.can_fill() || exchange.can_flush() || exchange.next_pending().is_some()
            });
        let now = self.simulation.now();
        let until = leaving.as_ref().and_then(Leaving::rings_at);
        if let Some(at) = timing.earliest().into_iter().chain(until).min() {
            let most = at.saturating_duration_since(now);
            assert!(
                timeout.is_some_and(|time| time <= most),
                "3: it would sleep too long: {timeout:?}"
            );
        }
        assert!(
            !has_left || timeout == Some(Duration::ZERO),
            "3: it would sleep, and has work left"
        );
        if let Some(leaving) = leaving {
            leaving.nothing(&self.event_loop);
        }
    }

    /// What the program does at an event.
    pub(super) fn answer_around(&mut self, event: Event) {
        if self.embedding.is_resting {
            return;
        }
        if event == Event::Woken && self.embedding.storms && self.embedding.random.below(16) > 0 {
            self.wake();
        }
        self.embed();
    }

    // A host.

    /// Returns whether a host would call the loop now.
    pub(super) fn is_called(&self) -> bool {
        !self.embedding.is_hosted
            || self.event_loop.turns.simulated_timeout() == Some(Duration::ZERO)
    }

    /// One round of a host: it calls the loop if there is a reason to, or else it sleeps until
    /// something has happened or the time is over.
    pub(super) fn turn_of_host(&mut self) {
        match self.event_loop.turns.simulated_timeout() {
            Some(Duration::ZERO) => self.call_as_host(),
            // A host has other things to do as well, and may call for nothing.
            _ if self.embedding.random.below(16) == 0 => self.call_as_host(),
            asleep => {
                if !self.simulation.step() || self.embedding.random.below(8) == 0 {
                    self.sleep_as_host(asleep, Duration::from_secs(10));
                }
            }
        }
    }

    /// Sleeps for as long as the loop has said, but for `most`. Calls it then if it had said so.
    fn sleep_as_host(&mut self, asleep: Option<Duration>, most: Duration) {
        let time = asleep.map_or(most, |time| time.min(most));
        lock(&self.simulation.network).pass_time(time);
        if asleep.is_some_and(|asleep| asleep <= most) {
            self.call_as_host();
        }
    }

    /// Lets time pass, by a wait of the loop's or a sleep of its host's.
    pub(super) fn wait_at_most(&mut self, time: Duration) {
        match self.embedding.is_hosted {
            true => self.sleep_as_host(self.event_loop.turns.simulated_timeout(), time),
            false => _ = self.poll_for(time),
        }
    }

    fn call_as_host(&mut self) {
        let has_event = self.poll_for(Duration::ZERO);
        let has_moved = self.checker.moves > self.embedding.moves;
        self.embedding.moves = self.checker.moves;
        self.embedding.idle_calls = match has_event || has_moved {
            true => 0,
            false => self.embedding.idle_calls + 1,
        };
        let most = look(&self.checker.trace).fruitless_max;
        assert!(self.embedding.idle_calls <= most, "4: a host calls again and again for nothing");
    }

    // The rest.

    /// Stops what the program does of its own accord.
    pub(super) fn rest_around(&mut self) {
        self.embedding.is_resting = true;
        let repeating: Vec<TimerId> = self.embedding.timing.repeating().collect();
        repeating.into_iter().for_each(|id| self.cancel(id));
    }

    /// What is left at rest are timers.
    pub(super) fn leave_no_timer(&mut self) {
        let left: Vec<TimerId> = self.embedding.timing.ids().collect();
        left.into_iter().for_each(|id| self.cancel(id));
    }

    /// The loop sleeps, and goes on to be of use.
    pub(super) fn wake_from_rest(&mut self) {
        assert_eq!(self.event_loop.next_timeout(), None, "4: a loop at rest would not sleep");
        let id = self.event_loop.set_timer(Duration::from_secs(1));
        self.embedding.timing.set(id, Duration::from_secs(1), false);
        assert!(self.poll_for(Duration::MAX), "8: a timer never rings");
        self.wake();
        assert!(self.poll_for(Duration::MAX), "10: a wake is never delivered");
        assert!(!self.embedding.timing.is_wake_pending(), "10: a wake is not delivered first");
    }
}
