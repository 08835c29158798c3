//! What serving a connection needs: the limits, the system, the pool, the alarms, the metrics and the
//! observers, lent together.

use std::time::{Duration, Instant};

use crate::alarms::{Alarm, Alarms};
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::observer::Observers;
use crate::pool::Pool;
use crate::slots::{ConnectionId, ListenerId, TimerId};
use crate::system::System;

/// What an alarm is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum AlarmTarget {
    Connection(ConnectionId),
    Listener(ListenerId),
    /// One of the program's timers.
    Timer(TimerId),
    /// The deadline of a shutdown.
    Shutdown,
}

pub(crate) struct Resources {
    /// The turn number. It wraps around, which is harmless: it is only compared to reset budgets.
    pub(crate) turn: u16,
    /// The time at which the turn began, in milliseconds since the loop was made. It wraps around
    /// after seven weeks.
    pub(crate) moment: u32,
    made: Instant,
    pub(crate) limits: Limits,
    pub(crate) system: System,
    pub(crate) pool: Pool,
    pub(crate) alarms: Alarms<AlarmTarget>,
    pub(crate) metrics: Metrics,
    pub(crate) observers: Observers,
}

impl Resources {
    pub(crate) fn new(system: System, limits: Limits) -> Self {
        Self {
            turn: 0,
            moment: 0,
            made: system.now(),
            limits,
            system,
            pool: Pool::default(),
            alarms: Alarms::default(),
            metrics: Metrics::default(),
            observers: Observers::new(),
        }
    }

    /// Begins a turn at this time; every connection has new budgets.
    pub(crate) fn begin_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        self.moment = self.moment_of(self.system.now());
    }

    /// Returns how much time has passed since a moment, by the clock.
    pub(crate) fn since(&self, moment: u32) -> Duration {
        let now = self.moment_of(self.system.now());
        Duration::from_millis(u64::from(now.wrapping_sub(moment)))
    }

    fn moment_of(&self, at: Instant) -> u32 {
        let since = at.saturating_duration_since(self.made);
        // It wraps around, as intended.
        (since.as_secs() as u32).wrapping_mul(1_000).wrapping_add(since.subsec_millis())
    }

    /// Cancels an alarm, if there is one.
    pub(crate) fn cancel(&mut self, alarm: Option<Alarm>) {
        if let Some(alarm) = alarm {
            self.alarms.cancel(alarm);
        }
    }
}
