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
    /// busy are left out, so that it does not come in a burst.
    pub(crate) fn ring(&mut self, id: TimerId, tools: &mut Tools) {
        let Some(timer) = self.slots.get(id) else { return };
        let Some(period) = timer.period else {
            self.slots.remove(id);
            return;
        };
        let now = tools.system.now();
        let in_step = timer.alarm.and_then(|alarm| alarm.at().checked_add(period));
        let next = in_step.filter(|at| *at > now).or_else(|| now.checked_add(period));
        self.set_alarm(id, next, tools);
    }

    fn set_alarm(&mut self, id: TimerId, at: Option<Instant>, tools: &mut Tools) {
        let alarm = at.map(|at| tools.alarms.set(at, Called::Timer(id)));
        if let Some(timer) = self.slots.get_mut(id) {
            timer.alarm = alarm;
        }
    }
}
