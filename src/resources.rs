//! What it takes to serve: the system, the pool, the alarms and the observers, lent together.

use std::time::{Duration, Instant};

use crate::alarms::{Alarm, Alarms};
use crate::observer::Observers;
use crate::pool::Pool;
use crate::slots::{ConnectionId, ListenerId, TimerId};
use crate::system::System;

/// What an alarm is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AlarmTarget {
    Connection(ConnectionId),
    Listener(ListenerId),
    /// A timer of the program's.
    Timer(TimerId),
    /// The end of the time that a shutdown has.
    Shutdown,
}

pub(crate) struct Resources {
    /// The turn number. It wraps around, which is harmless: it is only compared to reset budgets.
    pub(crate) turn: u16,
    /// The time at which the turn began, in milliseconds since the loop was made. It wraps around
    /// after seven weeks.
    pub(crate) moment: u32,
    made: Instant,
    pub(crate) system: System,
    pub(crate) pool: Pool,
    pub(crate) alarms: Alarms<AlarmTarget>,
    pub(crate) observers: Observers,
}

impl Resources {
    pub(crate) fn new(system: System) -> Self {
        Self {
            turn: 0,
            moment: 0,
            made: system.now(),
            system,
            pool: Pool::default(),
            alarms: Alarms::default(),
            observers: Observers::new(),
        }
    }

    /// A turn begins: with a budget of its own for every connection, and at this time.
    pub(crate) fn begin_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.moment = self.moment_of(self.system.now());
    }

    /// How much time has passed since a moment, by the clock.
    pub(crate) fn since(&self, moment: u32) -> Duration {
        let now = self.moment_of(self.system.now());
        Duration::from_millis(u64::from(now.wrapping_sub(moment)))
    }

    fn moment_of(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.made);
        // As intended, it wraps around.
        (since.as_secs() as u32).wrapping_mul(1_000).wrapping_add(since.subsec_millis())
    }

    /// Takes an alarm back, if there is one.
    pub(crate) fn cancel(&mut self, alarm: Option<Alarm>) {
        if let Some(alarm) = alarm {
            self.alarms.cancel(alarm);
        }
    }
}
