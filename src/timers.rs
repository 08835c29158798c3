//! The program's timers: which are set, and when each repeats.
//!
//! A timer is an alarm for which the program has an id. When it fires, `Timer` is delivered in the
//! same turn. A timer that is set during a turn fires in a later one at the earliest, so a program
//! that keeps setting timers of zero duration still has its sockets served.

use std::time::{Duration, Instant};

use crate::alarms::Alarm;
use crate::resources::{AlarmTarget, Resources};
use crate::slots::{Slots, TimerId};

#[derive(Debug)]
struct Timer {
    /// `None` if the clock cannot represent its time.
    alarm: Option<Alarm>,
    period: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    slots: Slots<TimerId, Timer>,
}

impl Timers {
    /// Sets a timer that fires after this time, and then once per period if it has one.
    pub(crate) fn set(
        &mut self,
        after: Duration,
        period: Option<Duration>,
        resources: &mut Resources,
    ) -> TimerId {
        let id = self.slots.insert(Timer { alarm: None, period });
        let at = resources.system.now().checked_add(after);
        self.set_alarm(id, at, resources);
        id
    }

    /// Cancels a timer. Returns whether it was still set.
    pub(crate) fn cancel(&mut self, id: TimerId, resources: &mut Resources) -> bool {
        let Some(timer) = self.slots.remove(id) else { return false };
        resources.cancel(timer.alarm);
        true
    }

    /// Handles the alarm of a timer that has fired: a repeating timer is set again, any other is
    /// removed.
    ///
    /// The times of a repeating timer do not drift. Those that have passed while the program was
    /// busy are skipped, so that it does not fire in a burst.
    pub(crate) fn fired(&mut self, id: TimerId, resources: &mut Resources) {
        let Some(timer) = self.slots.get(id) else { return };
        let Some(period) = timer.period else {
            self.slots.remove(id);
            return;
        };
        let now = resources.system.now();
        let next = timer.alarm.and_then(|alarm| next_in_step(alarm.at(), period, now));
        self.set_alarm(id, next, resources);
    }

    fn set_alarm(&mut self, id: TimerId, at: Option<Instant>, resources: &mut Resources) {
        let alarm = at.map(|at| resources.alarms.set(at, AlarmTarget::Timer(id)));
        if let Some(timer) = self.slots.get_mut(id) {
            timer.alarm = alarm;
        }
    }
}

/// Returns the first time after `now` that is a whole number of periods after `last`; `now` itself
/// if the period is zero.
fn next_in_step(last: Instant, period: Duration, now: Instant) -> Option<Instant> {
    let since = now.saturating_duration_since(last).as_nanos();
    let into = since.checked_rem(period.as_nanos()).unwrap_or(0);
    // 64 bits hold the nanoseconds since any clock started.
    let into = Duration::from_nanos(u64::try_from(into).unwrap_or(0));
    now.checked_add(period.saturating_sub(into))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use crate::system::System;

    fn new() -> (Timers, Resources) {
        (Timers::default(), Resources::new(System::kernel(8).unwrap(), Limits::default()))
    }

    #[test]
    fn the_next_time_of_a_repeat_is_in_step_however_late_it_is() {
        let start = Instant::now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let next = |period, now| {
            next_in_step(start, Duration::from_millis(period), at(now)).map(|next| next - start)
        };
        for (period, now, expected) in
            [(10, 0, 10), (10, 9, 10), (10, 10, 20), (10, 11, 20), (10, 999, 1_000), (0, 5, 5)]
        {
            assert_eq!(next(period, now), Some(Duration::from_millis(expected)), "{period} {now}");
        }
        assert_eq!(next_in_step(start, Duration::MAX, at(5)), None);
    }

    #[test]
    fn timers_that_are_set_anew_again_and_again_leave_nothing_behind() {
        let (mut timers, mut resources) = new();
        let repeating = timers.set(Duration::ZERO, Some(Duration::ZERO), &mut resources);
        for _ in 0..10_000 {
            let late = timers.set(Duration::from_secs(1_000), None, &mut resources);
            assert!(timers.cancel(late, &mut resources));
            timers.set(Duration::ZERO, None, &mut resources);
            let due = resources.alarms.due(Instant::now());
            while let Some(called) = resources.alarms.take_due(due) {
                let AlarmTarget::Timer(id) = called else { panic!("{called:?} was not set") };
                timers.fired(id, &mut resources);
            }
            assert_eq!((timers.slots.iter().count(), resources.alarms.len()), (1, 1));
        }
        assert!(timers.cancel(repeating, &mut resources));
        assert_eq!((timers.slots.iter().count(), resources.alarms.len()), (0, 0));
    }
}
