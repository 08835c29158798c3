//! The timers and the wakes of a run, and when each must be delivered.
//!
//! A turn begins when its wait has ended. What is due then is delivered in that very turn, and so
//! is a wake that was sent by then. So the rules are exact. Only where a fault makes the kernel
//! hold an event back may a wake be delivered a few turns later.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::observer::Step;
use crate::simulation::Simulation;
use crate::slots::TimerId;
use crate::system::simulated::Wake;
use crate::waker::Waker;

/// Where a wake may be held back by chance: no run has this many such turns in a row.
const HELD_BACK_MAX: u32 = 80;

/// What was true when a turn began.
#[derive(Clone, Copy, Debug)]
struct Begin {
    now: Instant,
    /// How many wakes there had been.
    wakes: u64,
}

/// Notes it for each turn, as an observer.
#[derive(Clone)]
pub(super) struct Pulse {
    simulation: Simulation,
    wakes: Arc<AtomicU64>,
    begins: Arc<Mutex<Vec<Begin>>>,
}

impl Pulse {
    pub(super) fn see(&self, step: Step) {
        if matches!(step, Step::Waited { .. }) {
            let wakes = self.wakes.load(Ordering::SeqCst);
            let begin = Begin { now: self.simulation.now(), wakes };
            self.begins.lock().unwrap_or_else(PoisonError::into_inner).push(begin);
        }
    }
}

/// A timer that is set.
#[derive(Clone, Copy, Debug)]
struct Timer {
    id: TimerId,
    /// None if its time lies beyond the clock.
    at: Option<Instant>,
    /// Timers for the same time fire in this order.
    number: u64,
    period: Option<Duration>,
}

/// The turn that is under way, or was the last.
#[derive(Clone, Copy, Debug)]
struct Turn {
    begin: Begin,
    /// What was set before it has a number below this.
    numbers: u64,
    /// A fault may have hidden a wake from it.
    may_hold_back: bool,
}

impl Turn {
    fn has_due(self, timer: &Timer) -> bool {
        timer.number < self.numbers && timer.at.is_some_and(|at| at <= self.begin.now)
    }
}

pub(super) struct Timing {
    pulse: Pulse,
    waker: Waker,
    poller: usize,
    set: Vec<Timer>,
    /// The timers that have fired or were cancelled: stale ids.
    gone: Vec<TimerId>,
    next_number: u64,
    turn: Option<Turn>,
    /// The wakes that the last `Woken` reported.
    told_wakes: u64,
    /// The turns in a row that have not reported a wake before them.
    held_back: u32,
}

impl Timing {
    pub(super) fn new(simulation: &Simulation, waker: Waker, poller: usize) -> Self {
        let (wakes, begins) = Default::default();
        Self {
            pulse: Pulse { simulation: simulation.clone(), wakes, begins },
            waker,
            poller,
            set: Vec::new(),
            gone: Vec::new(),
            next_number: 0,
            turn: None,
            told_wakes: 0,
            held_back: 0,
        }
    }

    pub(super) fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    // What the program and other threads do.

    pub(super) fn set(&mut self, id: TimerId, after: Duration, repeats: bool) {
        let is_new = self.ids().chain(self.gone.iter().copied()).all(|known| known != id);
        assert!(is_new, "8: {id} was given out twice");
        let at = self.pulse.simulation.now().checked_add(after);
        let period = repeats.then_some(after);
        self.set.push(Timer { id, at, number: self.next_number, period });
        self.next_number += 1;
    }

    pub(super) fn cancelled(&mut self, id: TimerId, was_set: bool) {
        let place = self.set.iter().position(|timer| timer.id == id);
        assert_eq!(was_set, place.is_some(), "8: what a cancel says of {id}");
        if let Some(place) = place {
            self.set.remove(place);
            self.gone.push(id);
        }
    }

    /// Another thread wakes the loop while it is between two calls.
    pub(super) fn wake(&self) {
        self.pulse.wakes.fetch_add(1, Ordering::SeqCst);
        self.waker.wake().unwrap();
    }

    /// Returns a wake that is sent at some time, while the loop waits or works.
    pub(super) fn wake_later(&self) -> Wake {
        let (wakes, waker) = (self.pulse.wakes.clone(), self.waker.clone());
        let raise = move || {
            wakes.fetch_add(1, Ordering::SeqCst);
            waker.raise()
        };
        Wake { poller: self.poller, raise: Box::new(raise) }
    }

    // What can be asked.

    pub(super) fn ids(&self) -> impl Iterator<Item = TimerId> {
        self.set.iter().map(|timer| timer.id)
    }

    pub(super) fn gone(&self) -> &[TimerId] {
        &self.gone
    }

    pub(super) fn repeating(&self) -> impl Iterator<Item = TimerId> {
        self.set.iter().filter(|timer| timer.period.is_some()).map(|timer| timer.id)
    }

    pub(super) fn earliest(&self) -> Option<Instant> {
        self.set.iter().filter_map(|timer| timer.at).min()
    }

    pub(super) fn is_wake_pending(&self) -> bool {
        self.pulse.wakes.load(Ordering::SeqCst) > self.told_wakes
    }

    // What the loop did.

    /// Takes in the turns that have begun in a call, before the event that it returned. Returns
    /// when each began.
    pub(super) fn absorb(&mut self, may_hold_back: bool) -> Vec<Instant> {
        let begins =
            std::mem::take(&mut *self.pulse.begins.lock().unwrap_or_else(PoisonError::into_inner));
        for begin in &begins {
            self.end_turn();
            self.turn = Some(Turn { begin: *begin, numbers: self.next_number, may_hold_back });
        }
        begins.iter().map(|begin| begin.now).collect()
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn else { return };
        let passed_over = self.set.iter().find(|timer| turn.has_due(timer));
        assert!(passed_over.is_none(), "8: a turn is over, and was due: {passed_over:?}");
        let is_owed = turn.begin.wakes > self.told_wakes;
        self.held_back = if is_owed { self.held_back + 1 } else { 0 };
        let most = if turn.may_hold_back { HELD_BACK_MAX } else { 0 };
        assert!(
            self.held_back <= most,
            "10: a wake is not delivered after {} turns",
            self.held_back
        );
    }

    pub(super) fn rang(&mut self, id: TimerId) {
        let place = self.set.iter().position(|timer| timer.id == id);
        let place = place.unwrap_or_else(|| panic!("8: {id} rings and is not set"));
        let (timer, turn) = (self.set[place], self.turn.expect("a turn"));
        assert!(turn.has_due(&timer), "8: early, or in the turn it was set in: {timer:?}");
        let is_before = |other: &&Timer| {
            turn.has_due(other) && (other.at, other.number) < (timer.at, timer.number)
        };
        let before = self.set.iter().find(is_before);
        assert!(before.is_none(), "8: {timer:?} rings before {before:?}");
        match timer.period {
            None => {
                self.set.remove(place);
                self.gone.push(id);
            }
            Some(period) => {
                let at = self.next_of_repeat(timer.at.expect("one that is due"), period);
                self.set[place] = Timer { at, number: self.next_number, ..timer };
                self.next_number += 1;
            }
        }
    }

    /// Times that have passed already are left out.
    fn next_of_repeat(&self, rang: Instant, period: Duration) -> Option<Instant> {
        let now = self.pulse.simulation.now();
        if period.is_zero() {
            return Some(now);
        }
        let mut at = rang.checked_add(period)?;
        // A clock that has leapt far is followed by leaps that grow.
        let mut leap = period;
        while at <= now {
            let further = at.checked_add(leap).filter(|further| *further <= now);
            (at, leap) = match further {
                Some(further) => (further, leap.saturating_mul(2)),
                None if leap > period => (at, period),
                None => (at.checked_add(period)?, period),
            };
        }
        Some(at)
    }

    pub(super) fn woken(&mut self) {
        let wakes = self.turn.expect("a turn").begin.wakes;
        assert!(wakes > self.told_wakes, "5: woken without a wake, or delivered twice");
        (self.told_wakes, self.held_back) = (wakes, 0);
    }
}
