//! The program's timers: which are set, and when each repeats.
//!
//! A timer is an alarm that the program has an id for. One that rings is told in the same turn; one
//! that is set meanwhile is told in a later turn at the earliest, so that a program which sets a
//! timer of no time again and again still has its sockets served.

use std::time::{Duration, Instant};

use crate::alarms::Alarm;
use crate::event::TimerId;
use crate::slots::Slots;
use crate::tools::{Called, Tools};

#[derive(Debug)]
struct Timer {
    /// None if its time lies beyond the clock.
    alarm: Option<Alarm>,
    period: Option<Duration>,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    slots: Slots<TimerId, Timer>,
}

impl Timers {
    /// Sets a timer that comes after this time, and then, if it has a period, again after each.
    pub(crate) fn set(
        &mut self,
        after: Duration,
        period: Option<Duration>,
        tools: &mut Tools,
    ) -> TimerId {
        let id = self.slots.insert(Timer { alarm: None, period });
        let at = tools.system.now().checked_add(after);
        self.set_alarm(id, at, tools);
        id
    }

    /// Takes a timer back. Returns whether it was still set.
    pub(crate) fn cancel(&mut self, id: TimerId, tools: &mut Tools) -> bool {
        let Some(timer) = self.slots.remove(id) else { return false };
        tools.cancel(timer.alarm);
        true
    }

    /// The alarm of a timer has rung: one that repeats is set again, any other has gone.
    ///
    /// The times of a repeating timer do not drift. Those that have passed while the program was
    /// busy are left out, so that it does not come in a burst and stays in step.
    pub(crate) fn ring(&mut self, id: TimerId, tools: &mut Tools) {
        let Some(timer) = self.slots.get(id) else { return };
        let Some(period) = timer.period else {
            self.slots.remove(id);
            return;
        };
        let now = tools.system.now();
        let rang = timer.alarm.map_or(now, Alarm::at);
        self.set_alarm(id, next_in_step(rang, period, now), tools);
    }

    fn set_alarm(&mut self, id: TimerId, at: Option<Instant>, tools: &mut Tools) {
        let alarm = at.map(|at| tools.alarms.set(at, Called::Timer(id)));
        if let Some(timer) = self.slots.get_mut(id) {
            timer.alarm = alarm;
        }
    }
}

/// The first of the times that lie whole periods behind `rang` and are still to come; with a period
/// of zero it is `now`.
fn next_in_step(rang: Instant, period: Duration, now: Instant) -> Option<Instant> {
    let late = now.saturating_duration_since(rang);
    let into_period = match late < period {
        true => late,
        // It was held up for a whole period: so seldom that this may cost more.
        false => {
            let nanos = late.as_nanos().checked_rem(period.as_nanos()).unwrap_or(0);
            u64::try_from(nanos).map_or(Duration::ZERO, Duration::from_nanos)
        }
    };
    now.checked_add(period - into_period)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_time_of_a_repeat_is_in_step_however_late_it_rang() {
        let rang = Instant::now();
        let after = |millis| rang + Duration::from_millis(millis);
        let next = |period, now| next_in_step(rang, Duration::from_millis(period), after(now));
        for (period, now, expected) in
            [(10, 0, 10), (10, 9, 10), (10, 10, 20), (10, 25, 30), (10, 1_000, 1_010), (0, 7, 7)]
        {
            assert_eq!(next(period, now), Some(after(expected)), "{period} {now}");
        }
        assert_eq!(next_in_step(rang, Duration::MAX, after(5)), None);
    }
}
