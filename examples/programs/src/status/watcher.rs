//! The observer: counts what happens to connections always, and records steps while it is watched.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use readiness::{CloseReason, ConnectionId, Deadline, ListenerId, Observer, Step, TimerId};

/// How many steps are recorded of each period: the first ones, which follow from each other.
const STEPS_MAX: usize = 64;
/// How many changes of an interest, and beginnings and ends, are recorded of each period besides.
const CHANGES_MAX: usize = 512;

/// What the page and the observer share. The loop has one thread, so nobody waits for the lock; an
/// observer must be `Send`, so that a loop can move.
#[derive(Debug)]
pub(super) struct Shared {
    is_watched: AtomicBool,
    start: Instant,
    /// When the wait began that is under way, in nanoseconds since the start; 0 if unknown.
    wait_began: AtomicU64,
    seen: Mutex<Seen>,
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    listener: ListenerId,
    timer: Option<TimerId>,
    /// The connections to the page, which are not counted.
    viewers: Vec<ConnectionId>,
    pub(super) counts: Counts,
    steps: Vec<(Duration, Step)>,
    /// How many of the steps have a place of their own for being a change.
    changes: usize,
    watched_since: Option<Instant>,
    wait_ended: Option<Duration>,
}

/// Numbers that only grow.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) accepted: u64,
    pub(super) connected: u64,
    pub(super) accept_failures: u64,
    pub(super) lost: u64,
    /// By the name of the reason.
    pub(super) closed: BTreeMap<&'static str, u64>,
    /// These three grow only while somebody watches.
    watched: Duration,
    pub(super) waiting: Duration,
    pub(super) working: Duration,
}

impl Shared {
    pub(super) fn new(listener: ListenerId) -> Self {
        let seen = Seen {
            listener,
            timer: None,
            viewers: Vec::new(),
            counts: Counts::default(),
            steps: Vec::new(),
            changes: 0,
            watched_since: None,
            wait_ended: None,
        };
        Self {
            is_watched: AtomicBool::new(false),
            start: Instant::now(),
            wait_began: AtomicU64::new(0),
            seen: Mutex::new(seen),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records from here on, the steps of messages from the next turn on. The timer is the page's
    /// own.
    pub(super) fn watch(&self, timer: TimerId) {
        let mut seen = self.lock();
        (seen.timer, seen.watched_since) = (Some(timer), Some(Instant::now()));
        self.wait_began.store(0, Ordering::Relaxed);
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Records nothing more.
    pub(super) fn rest(&self) {
        let mut seen = self.lock();
        self.is_watched.store(false, Ordering::Relaxed);
        seen.counts.watched = seen.watched_time();
        (seen.timer, seen.watched_since, seen.wait_ended) = (None, None, None);
        seen.take_steps();
    }

    /// Measures a wait that has ended, and the work between it and the one before.
    fn measure_wait(&self, seen: &mut Seen) {
        let ended = self.now();
        let began = Duration::from_nanos(self.wait_began.swap(0, Ordering::Relaxed));
        if let Some(last) = seen.wait_ended.replace(ended)
            && !began.is_zero()
        {
            seen.counts.waiting += ended.saturating_sub(began);
            seen.counts.working += began.saturating_sub(last);
        }
    }

    /// Returns the time since the page was mounted.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

impl Seen {
    /// Returns for how long somebody has watched, in all.
    pub(super) fn watched_time(&self) -> Duration {
        let now = self.watched_since.map_or(Duration::ZERO, |since| since.elapsed());
        self.counts.watched + now
    }

    /// Returns whether a connection is one to the page.
    pub(super) fn is_viewer(&self, id: ConnectionId) -> bool {
        self.viewers.contains(&id)
    }

    /// Returns whether a listener is the page's.
    pub(super) fn is_own_listener(&self, id: ListenerId) -> bool {
        self.listener == id
    }

    /// Returns the steps since it was called last.
    pub(super) fn take_steps(&mut self) -> Vec<(Duration, Step)> {
        self.changes = 0;
        std::mem::take(&mut self.steps)
    }

    /// Returns whether changes alone are recorded for the rest of this period.
    fn is_full(&self) -> bool {
        self.steps.len() - self.changes >= STEPS_MAX
    }

    /// Returns whether steps of this period may be missing.
    pub(super) fn skips_steps(&self) -> bool {
        self.is_full() || self.changes >= CHANGES_MAX
    }

    /// Returns whether a step is about the page itself.
    fn is_own(&self, step: &Step) -> bool {
        match *step {
            Step::Accepted { listener, .. } => listener == self.listener,
            Step::AcceptFailed { id, .. }
            | Step::AcceptPaused { id, .. }
            | Step::AcceptSkipped { id }
            | Step::Listening { id, .. }
            | Step::ListenerClosed { id } => id == self.listener,
            Step::TimerFired { id } => Some(id) == self.timer,
            Step::Ready { id, .. }
            | Step::Filled { id, .. }
            | Step::Discarded { id, .. }
            | Step::ReadBlocked { id }
            | Step::PeerEnded { id }
            | Step::Queued { id, .. }
            | Step::Flushed { id, .. }
            | Step::WriteBlocked { id }
            | Step::InterestChanged { id, .. }
            | Step::Finished { id }
            | Step::DeadlinePassed { id, .. }
            | Step::Closed { id, .. } => self.is_viewer(id),
            _ => false,
        }
    }

    fn count(&mut self, step: &Step) {
        let Counts { accepted, connected, accept_failures, lost, closed, .. } = &mut self.counts;
        match *step {
            Step::Accepted { .. } => *accepted += 1,
            Step::Connected { .. } => *connected += 1,
            Step::AcceptFailed { .. } => *accept_failures += 1,
            Step::Closed { reason, lost: bytes, .. } => {
                *closed.entry(reason_name(reason)).or_default() += 1;
                *lost += bytes;
            }
            _ => {}
        }
    }

    /// Returns whether there is room for a step. Changes have room of their own, since the page
    /// draws them.
    fn has_room(&mut self, step: &Step) -> bool {
        let is_change = matches!(
            step,
            Step::InterestChanged { .. }
                | Step::Accepted { .. }
                | Step::Connected { .. }
                | Step::Closed { .. }
                | Step::AcceptFailed { .. }
        );
        let has_room = match is_change {
            true => self.changes < CHANGES_MAX,
            false => !self.is_full(),
        };
        self.changes += usize::from(is_change && has_room);
        has_room
    }
}

/// The observer of the loop.
pub(super) struct Watcher {
    shared: Arc<Shared>,
}

impl Watcher {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }
}

impl Observer for Watcher {
    fn observe(&mut self, step: Step) {
        let is_watched = self.shared.is_watched.load(Ordering::Relaxed);
        if let Step::Waited { .. } | Step::InterestChanged { .. } = step
            && !is_watched
        {
            return;
        }
        let mut seen = self.shared.lock();
        if let Step::Waited { .. } = step {
            self.shared.measure_wait(&mut seen);
        }
        if seen.is_own(&step) {
            match step {
                Step::Accepted { id, .. } => seen.viewers.push(id),
                Step::Closed { id, .. } => seen.viewers.retain(|viewer| *viewer != id),
                _ => {}
            }
            return;
        }
        seen.count(&step);
        if is_watched && seen.has_room(&step) {
            seen.steps.push((self.shared.now(), step));
        }
    }

    /// The loop asks this right before each wait.
    fn wants_everything(&self) -> bool {
        if !self.shared.is_watched.load(Ordering::Relaxed) {
            return false;
        }
        let now = u64::try_from(self.shared.now().as_nanos()).unwrap_or(0);
        self.shared.wait_began.store(now, Ordering::Relaxed);
        !self.shared.lock().is_full()
    }
}

/// Returns the name of a reason, as a label of a metric has it.
fn reason_name(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Finished => "finished",
        CloseReason::Closed => "closed",
        CloseReason::Aborted => "aborted",
        CloseReason::Reset => "reset",
        CloseReason::Refused => "refused",
        CloseReason::TimedOut(Deadline::Connect) => "connect_deadline",
        CloseReason::TimedOut(Deadline::StalledRead) => "stalled_read_deadline",
        CloseReason::TimedOut(Deadline::StalledWrite) => "stalled_write_deadline",
        CloseReason::TimedOut(Deadline::Close) => "close_deadline",
        CloseReason::TimedOut(Deadline::Idle) => "idle_timeout",
        CloseReason::Overflow => "overflow",
        CloseReason::Rejected(_) => "rejected",
        CloseReason::Failed(_) => "failed",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use readiness::EventLoop;
    use std::io;

    #[test]
    fn everything_is_wanted_only_while_somebody_watches_and_the_period_has_room() -> io::Result<()>
    {
        let mut event_loop: EventLoop = EventLoop::new()?;
        let listener = event_loop.listen("127.0.0.1:0")?;
        let timer = event_loop.set_timer(Duration::from_secs(1));
        let shared = Arc::new(Shared::new(listener));
        let mut watcher = Watcher::new(Arc::clone(&shared));
        assert!(!watcher.wants_everything());
        shared.watch(timer);
        for _ in 0..STEPS_MAX {
            assert!(watcher.wants_everything());
            watcher.observe(Step::Woken);
        }
        assert!(!watcher.wants_everything() && shared.lock().skips_steps());
        shared.lock().take_steps();
        assert!(watcher.wants_everything());
        shared.rest();
        assert!(!watcher.wants_everything());
        Ok(())
    }
}
