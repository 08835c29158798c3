//! The deadlines of one connection: when it must have moved on.
//!
//! The next deadline depends on what the exchange waits for (its [`Phase`]), on when that began,
//! and on when bytes last moved:
//!
//! | phase | deadline |
//! |---|---|
//! | connecting | `connect_deadline` after it began; before that, when another attempt is due |
//! | stalled, closing | `stalled_write_deadline` after the kernel last took a byte |
//! | broken | `close_deadline` after it began |
//! | lingering | the earlier of `close_quiet_deadline` after the last byte, and `close_deadline` after it began |
//! | unbounded, stalled | the idle timeout, after anything moved |
//! | any | `stalled_read_deadline` after the read buffer became full without progress |
//! | any | the program's own deadline |
//!
//! One alarm serves all of them, and it is moved lazily: activity only notes the time, and an alarm
//! that fires before the deadline is set again for the rest of the time.

use std::time::{Duration, Instant};

use crate::alarms::Alarm;
use crate::event::Deadline;
use crate::exchange::Phase;
use crate::limits::ConnectionLimits;

/// What happens when a deadline passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passed {
    /// The connection ends.
    Limit(Deadline),
    /// The program's own deadline: `Deadline` is delivered.
    Program,
    /// Another attempt to connect is due, which is no deadline.
    Again,
}

/// The deadline that the program set. The time counts from when the loop first looks at it.
#[derive(Clone, Copy, Debug, Default)]
enum ProgramDeadline {
    #[default]
    None,
    After(Duration),
    At(Instant),
}

/// When things began and when they last moved, and the alarm for the next deadline.
#[derive(Debug, Default)]
pub(crate) struct Deadlines {
    phase: Phase,
    /// When the phase began; `None` until the loop has first looked at the connection.
    began: Option<Instant>,
    /// When bytes last moved in either direction; initially the same as `began`.
    moved: Option<Instant>,
    /// When the kernel last took unsent bytes. Reading does not count: otherwise a peer that sends
    /// and never reads would keep the connection open forever.
    flushed: Option<Instant>,
    /// Since when the read buffer has been full without progress. It is separate from the phase,
    /// because a connection can be stalled in writing at the same time.
    full_since: Option<Instant>,
    pub(crate) idle_timeout: Option<Duration>,
    program: ProgramDeadline,
    /// When another attempt to connect is due, if one is.
    pub(crate) again: Option<Instant>,
    pub(crate) alarm: Option<Alarm>,
}

impl Deadlines {
    pub(crate) fn new(idle_timeout: Option<Duration>) -> Self {
        Self { idle_timeout, ..Self::default() }
    }

    /// Notes what the exchange waits for now, and whether the read buffer is full without progress.
    pub(crate) fn enter(&mut self, phase: Phase, is_stalled_in_reading: bool, now: Instant) {
        if is_stalled_in_reading {
            self.full_since.get_or_insert(now);
        } else {
            self.full_since = None;
        }
        if self.phase == Phase::Connecting && phase != Phase::Connecting {
            // Nothing could move before, so the idle timeout counts from here.
            self.moved = Some(now);
        }
        if self.phase != phase || self.began.is_none() {
            self.phase = phase;
            self.began = Some(now);
        }
        self.moved.get_or_insert(now);
        if let ProgramDeadline::After(after) = self.program {
            self.program =
                now.checked_add(after).map_or(ProgramDeadline::None, ProgramDeadline::At);
        }
    }

    /// Notes that bytes moved.
    pub(crate) fn moved(&mut self, now: Instant) {
        self.moved = Some(now);
    }

    /// Notes that the kernel took unsent bytes.
    pub(crate) fn flushed(&mut self, now: Instant) {
        self.moved = Some(now);
        self.flushed = Some(now);
    }

    pub(crate) fn set_program(&mut self, after: Option<Duration>) {
        self.program = after.map_or(ProgramDeadline::None, ProgramDeadline::After);
    }

    /// Returns the earliest deadline and what it is, if there is one. A time that the clock cannot
    /// represent never passes.
    pub(crate) fn next(&self, limits: &ConnectionLimits) -> Option<(Instant, Passed)> {
        let (began, moved) = (self.began?, self.moved?);
        let since_flushed = self.flushed.map_or(began, |flushed| flushed.max(began));
        let since_moved = began.max(moved);
        let phase = match self.phase {
            Phase::Unbounded => None,
            Phase::Connecting => limit(Deadline::Connect, began, limits.connect_deadline),
            Phase::Stalled | Phase::Closing => {
                limit(Deadline::StalledWrite, since_flushed, limits.stalled_write_deadline)
            }
            Phase::Broken => limit(Deadline::Close, began, limits.close_deadline),
            Phase::Lingering => earliest([
                limit(Deadline::Close, since_moved, limits.close_quiet_deadline),
                limit(Deadline::Close, began, limits.close_deadline),
            ]),
        };
        let full = self
            .full_since
            .and_then(|since| limit(Deadline::StalledRead, since, limits.stalled_read_deadline));
        // In the other phases, other deadlines end the connection, and unsent bytes may leave until
        // then.
        let may_idle = matches!(self.phase, Phase::Unbounded | Phase::Stalled);
        let idle_timeout = self.idle_timeout.filter(|_| may_idle);
        let idle = idle_timeout.and_then(|timeout| limit(Deadline::Idle, moved, timeout));
        let program = match self.program {
            ProgramDeadline::At(at) => Some((at, Passed::Program)),
            ProgramDeadline::None | ProgramDeadline::After(_) => None,
        };
        let again = self.again.filter(|_| self.phase == Phase::Connecting);
        // Of several at the same time the first takes effect: no attempt to connect is made once
        // the deadline has passed.
        earliest([phase, full, idle, program, again.map(|at| (at, Passed::Again))])
    }
}

fn limit(deadline: Deadline, since: Instant, within: Duration) -> Option<(Instant, Passed)> {
    Some((since.checked_add(within)?, Passed::Limit(deadline)))
}

fn earliest<const N: usize>(all: [Option<(Instant, Passed)>; N]) -> Option<(Instant, Passed)> {
    all.into_iter().flatten().min_by_key(|(at, _)| *at)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn idle_timeout_counts_from_when_it_connected() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(Some(SECOND));
        deadlines.enter(Phase::Connecting, false, start);
        deadlines.enter(Phase::Connecting, false, start + 2 * SECOND);
        deadlines.enter(Phase::Unbounded, false, start + 3 * SECOND);
        deadlines.enter(Phase::Unbounded, false, start + 3 * SECOND + SECOND / 2);
        let idle = Passed::Limit(Deadline::Idle);
        let limits = ConnectionLimits::default();
        assert_eq!(deadlines.next(&limits), Some((start + 4 * SECOND, idle)));
    }

    fn started(start: Instant, idle_timeout: Option<Duration>) -> Deadlines {
        let mut deadlines = Deadlines::new(idle_timeout);
        deadlines.enter(Phase::Unbounded, false, start);
        deadlines
    }

    fn next_after(deadlines: &Deadlines, start: Instant) -> Option<(u64, Passed)> {
        let next = deadlines.next(&ConnectionLimits::default());
        next.map(|(at, passed)| ((at - start).as_secs(), passed))
    }

    #[test]
    fn at_rest_there_is_no_deadline() {
        let start = Instant::now();
        assert_eq!(next_after(&started(start, None), start), None);
    }

    #[test]
    fn stalled_write_counts_from_the_last_byte_that_the_kernel_took() {
        let start = Instant::now();
        let mut deadlines = started(start, None);
        deadlines.enter(Phase::Stalled, false, start + SECOND);
        assert_eq!(
            next_after(&deadlines, start),
            Some((61, Passed::Limit(Deadline::StalledWrite)))
        );
        deadlines.flushed(start + 5 * SECOND);
        deadlines.enter(Phase::Stalled, false, start + 6 * SECOND);
        deadlines.moved(start + 7 * SECOND);
        assert_eq!(
            next_after(&deadlines, start),
            Some((65, Passed::Limit(Deadline::StalledWrite)))
        );
    }

    #[test]
    fn lingering_ends_after_silence_or_after_all_however_much_comes() {
        let start = Instant::now();
        let mut deadlines = started(start, None);
        deadlines.enter(Phase::Lingering, false, start);
        assert_eq!(next_after(&deadlines, start), Some((5, Passed::Limit(Deadline::Close))));
        deadlines.moved(start + 27 * SECOND);
        assert_eq!(next_after(&deadlines, start), Some((30, Passed::Limit(Deadline::Close))));
    }

    #[test]
    fn idle_moves_with_activity_and_the_earliest_deadline_counts() {
        let start = Instant::now();
        let mut deadlines = started(start, Some(9 * SECOND));
        deadlines.moved(start + 3 * SECOND);
        assert_eq!(next_after(&deadlines, start), Some((12, Passed::Limit(Deadline::Idle))));
        deadlines.set_program(Some(9 * SECOND));
        deadlines.enter(Phase::Unbounded, false, start + 2 * SECOND);
        assert_eq!(next_after(&deadlines, start), Some((11, Passed::Program)));
        deadlines.enter(Phase::Connecting, false, start);
        assert_eq!(next_after(&deadlines, start), Some((10, Passed::Limit(Deadline::Connect))));
    }

    #[test]
    fn idle_timeout_that_is_set_or_taken_back_counts_from_the_last_activity() {
        let start = Instant::now();
        let mut deadlines = started(start, None);
        deadlines.moved(start + 3 * SECOND);
        deadlines.idle_timeout = Some(9 * SECOND);
        assert_eq!(next_after(&deadlines, start), Some((12, Passed::Limit(Deadline::Idle))));
        deadlines.idle_timeout = None;
        assert_eq!(next_after(&deadlines, start), None);
    }

    #[test]
    fn idle_does_not_cut_off_a_close_that_still_sends() {
        let start = Instant::now();
        let mut deadlines = started(start, Some(9 * SECOND));
        deadlines.enter(Phase::Closing, false, start);
        assert_eq!(
            next_after(&deadlines, start),
            Some((60, Passed::Limit(Deadline::StalledWrite)))
        );
    }

    #[test]
    fn full_read_buffer_counts_from_when_the_program_began_to_take_nothing() {
        let start = Instant::now();
        let mut deadlines = started(start, None);
        deadlines.enter(Phase::Unbounded, true, start + SECOND);
        deadlines.enter(Phase::Stalled, true, start + 2 * SECOND);
        let stalled = Passed::Limit(Deadline::StalledRead);
        assert_eq!(next_after(&deadlines, start), Some((61, stalled)));
        deadlines.enter(Phase::Unbounded, false, start + 3 * SECOND);
        assert_eq!(next_after(&deadlines, start), None);
        deadlines.enter(Phase::Unbounded, true, start + 4 * SECOND);
        assert_eq!(next_after(&deadlines, start), Some((64, stalled)));
    }

    #[test]
    fn a_deadline_beyond_the_clock_never_comes() {
        let start = Instant::now();
        assert_eq!(next_after(&started(start, Some(Duration::MAX)), start), None);
    }
}
