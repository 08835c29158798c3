//! What it takes to serve: the system, the pool, the alarms and the observers, lent together.

use crate::alarms::{Alarm, Alarms};
use crate::event::{ConnectionId, ListenerId, TimerId};
use crate::observer::Observers;
use crate::pool::Pool;
use crate::system::System;

/// Whom an alarm calls.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Called {
    Connection(ConnectionId),
    Listener(ListenerId),
    /// A timer of the program's.
    Timer(TimerId),
    /// The end of the time that a shutdown has.
    Shutdown,
}

pub(crate) struct Tools {
    /// The number of the turn. It comes round again, which is harmless: what goes by it is a
    /// budget.
    pub(crate) turn: u16,
    pub(crate) system: System,
    pub(crate) pool: Pool,
    pub(crate) alarms: Alarms<Called>,
    pub(crate) observers: Observers,
}

impl Tools {
    pub(crate) fn new(system: System) -> Self {
        Self {
            turn: 0,
            system,
            pool: Pool::default(),
            alarms: Alarms::default(),
            observers: Observers::new(),
        }
    }

    /// Takes an alarm back, if there is one.
    pub(crate) fn cancel(&mut self, alarm: Option<Alarm>) {
        if let Some(alarm) = alarm {
            self.alarms.cancel(alarm);
        }
    }
}
