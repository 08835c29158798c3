//! What the loop of a run did, step by step, as its observer saw it.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::event::{CloseReason, Deadline, Event};
use crate::metrics::Metrics;
use crate::observer::Step;
use crate::system::simulated::Random;

/// What the loop did, as an observer saw it.
#[derive(Default)]
pub(super) struct Trace {
    /// Since the checker looked last.
    pub(super) unchecked: Vec<Step>,
    /// The waits of the current call that nothing has followed.
    pub(super) fruitless: usize,
    pub(super) fruitless_max: usize,
    /// If there is one, it makes the observer panic now and then in a call.
    pub(super) panics: Option<Random>,
    pub(super) is_in_call: bool,
    /// The sums of all steps.
    pub(super) sums: Metrics,
}

/// What an observer panics with that is to.
pub(super) struct ObserverPanics;

impl Trace {
    /// A loop that spins never returns, so it is stopped here.
    pub(super) fn see(&mut self, step: Step) {
        add(&mut self.sums, &step);
        match step {
            Step::Waited { .. } => {
                self.fruitless += 1;
                let (fruitless, most) = (self.fruitless, self.fruitless_max);
                assert!(fruitless <= most, "4: {fruitless} waits in a row lead to nothing");
            }
            _ if is_fruitless(&step) => {}
            _ => self.fruitless = 0,
        }
        self.unchecked.push(step);
        if self.is_in_call
            && let Some(random) = &mut self.panics
            && random.below(8) == 0
        {
            // Without a word.
            resume_unwind(Box::new(ObserverPanics));
        }
    }
}

fn add(sums: &mut Metrics, step: &Step) {
    match *step {
        Step::Waited { events, .. } => {
            sums.waits += 1;
            sums.events += events as u64;
        }
        Step::Filled { count, .. } | Step::Discarded { count, .. } => {
            sums.fills += 1;
            sums.bytes_read += count as u64;
        }
        Step::Flushed { count, .. } => {
            sums.flushes += 1;
            sums.bytes_written += count as u64;
        }
        Step::InterestChanged { .. } => sums.interest_changes += 1,
        _ => {}
    }
}

/// Returns whether by this step nothing has moved on.
pub(super) fn is_fruitless(step: &Step) -> bool {
    matches!(
        step,
        Step::Waited { .. }
            | Step::Ready { .. }
            | Step::InterestChanged { .. }
            | Step::ReadBlocked { .. }
            | Step::WriteBlocked { .. }
    )
}

pub(super) type SharedTrace = Arc<Mutex<Trace>>;

pub(super) fn look(trace: &SharedTrace) -> MutexGuard<'_, Trace> {
    trace.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the name of an event, or of how a connection has ended.
pub(super) fn kind(event: Event) -> &'static str {
    match event {
        Event::Accepted(..) => "accepted",
        Event::Connected(_) => "connected",
        Event::Received(_) => "received",
        Event::Full(_) => "full",
        Event::Drained(_) => "drained",
        Event::PeerFinished(_) => "peer finished",
        Event::Deadline(_) => "deadline",
        Event::AcceptFailed(..) => "accept failed",
        Event::Timer(_) => "timer",
        Event::Woken => "woken",
        Event::Ready(..) => "ready",
        Event::ShutDown => "shut down",
        Event::Closed(_, reason) => match reason {
            CloseReason::Finished => "closed: finished",
            CloseReason::Closed => "closed by us",
            CloseReason::Aborted => "closed: aborted",
            CloseReason::Reset => "closed: reset",
            CloseReason::Refused => "closed: refused",
            CloseReason::Overflow => "closed: overflow",
            CloseReason::Rejected(_) => "closed: rejected",
            CloseReason::Failed(_) => "closed: failed",
            CloseReason::TimedOut(Deadline::Connect) => "closed: connect deadline",
            CloseReason::TimedOut(Deadline::StalledRead) => "closed: stalled in reading",
            CloseReason::TimedOut(Deadline::StalledWrite) => "closed: stalled in writing",
            CloseReason::TimedOut(Deadline::Close) => "closed: close deadline",
            CloseReason::TimedOut(Deadline::Idle) => "closed: idle",
        },
    }
}

/// Returns a number for a step, for comparing runs.
pub(super) fn digest(step: &Step) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    std::mem::discriminant(step).hash(&mut hasher);
    match *step {
        Step::Waited { at_most: timeout, events: count } => (timeout, count).hash(&mut hasher),
        Step::Ready { id, readiness } => (id, readiness).hash(&mut hasher),
        Step::Filled { id, count } | Step::Discarded { id, count } | Step::Queued { id, count } => {
            (id, count).hash(&mut hasher);
        }
        Step::Flushed { id, count, unsent: left } => (id, count, left).hash(&mut hasher),
        Step::InterestChanged { id, from, to } => (id, from, to).hash(&mut hasher),
        Step::Closed { id, reason, unsent, lost } => (id, reason, unsent, lost).hash(&mut hasher),
        _ => {}
    }
    hasher.finish()
}
