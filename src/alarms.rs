//! Alarms: what is due at which time, in order.
//!
//! An ordered map from time to target. Setting and cancelling take logarithmic time, a cancelled
//! alarm leaves nothing behind, and alarms for the same time fire in the order they were set. An
//! owner keeps the [`Alarm`] that it was given, so that it can cancel it.
//!
//! It deliberately neither reads the clock nor knows what an alarm is for.

use std::collections::BTreeMap;
use std::time::Instant;

/// A set alarm: its time, and a number that keeps alarms for the same time in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alarm {
    at: Instant,
    number: u64,
}

impl Alarm {
    /// When it fires.
    pub(crate) fn at(self) -> Instant {
        self.at
    }
}

/// The alarms that were due at one moment: those that were set by then, for that time or earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due(Alarm);

/// All set alarms, the earliest first.
#[derive(Debug)]
pub(crate) struct Alarms<K> {
    set: BTreeMap<Alarm, K>,
    next_number: u64,
}

impl<K> Default for Alarms<K> {
    fn default() -> Self {
        Self { set: BTreeMap::new(), next_number: 0 }
    }
}

impl<K> Alarms<K> {
    pub(crate) fn set(&mut self, at: Instant, target: K) -> Alarm {
        let alarm = Alarm { at, number: self.next_number };
        self.next_number += 1;
        self.set.insert(alarm, target);
        alarm
    }

    /// Cancels an alarm. Does nothing if it has fired already.
    pub(crate) fn cancel(&mut self, alarm: Alarm) {
        self.set.remove(&alarm);
    }

    /// Returns the time of the earliest alarm.
    pub(crate) fn earliest(&self) -> Option<Instant> {
        self.set.first_key_value().map(|(alarm, _)| alarm.at)
    }

    /// Returns all set alarms, in order.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = (Instant, &K)> {
        self.set.iter().map(|(alarm, target)| (alarm.at, target))
    }

    /// Returns a mark of the alarms that are due now, for [`Alarms::take_due`].
    pub(crate) fn due(&self, now: Instant) -> Due {
        Due(Alarm { at: now, number: self.next_number })
    }

    /// Removes and returns the earliest alarm if it was due at the mark. An alarm that was set
    /// since is not, however soon it is to fire.
    pub(crate) fn take_due(&mut self, due: Due) -> Option<K> {
        let (alarm, _) = self.set.first_key_value()?;
        if alarm.at > due.0.at || alarm.number >= due.0.number {
            return None;
        }
        self.set.pop_first().map(|(_, target)| target)
    }

    /// Returns how many are set.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.set.len()
    }

    /// Returns how many were ever set.
    #[cfg(test)]
    pub(crate) fn set_count(&self) -> u64 {
        self.next_number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn take_due<K>(alarms: &mut Alarms<K>, now: Instant) -> Option<K> {
        alarms.take_due(alarms.due(now))
    }

    #[test]
    fn alarms_ring_in_the_order_of_their_times_and_never_early() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut alarms = Alarms::default();
        for millis in [30, 10, 20] {
            alarms.set(after(millis), millis);
        }
        assert_eq!(alarms.earliest(), Some(after(10)));
        assert_eq!(take_due(&mut alarms, after(9)), None);
        assert_eq!(take_due(&mut alarms, after(20)), Some(10));
        assert_eq!(take_due(&mut alarms, after(20)), Some(20));
        assert_eq!(take_due(&mut alarms, after(20)), None);
    }

    #[test]
    fn alarms_for_one_time_ring_in_the_order_they_were_set() {
        let at = Instant::now();
        let mut alarms = Alarms::default();
        let set: Vec<Alarm> = (0..5).map(|target| alarms.set(at, target)).collect();
        alarms.cancel(set[2]);
        let notified: Vec<i32> = std::iter::from_fn(|| take_due(&mut alarms, at)).collect();
        assert_eq!(notified, [0, 1, 3, 4]);
    }

    #[test]
    fn an_alarm_set_for_now_while_due_ones_ring_waits_for_the_next_time() {
        let now = Instant::now();
        let mut alarms = Alarms::default();
        alarms.set(now, 1);
        let due = alarms.due(now);
        alarms.set(now, 2);
        assert_eq!((alarms.take_due(due), alarms.take_due(due)), (Some(1), None));
        assert_eq!(take_due(&mut alarms, now), Some(2));
    }

    #[test]
    fn a_cancelled_alarm_leaves_nothing_behind() {
        let at = Instant::now();
        let mut alarms = Alarms::default();
        for _ in 0..1_000 {
            let alarm = alarms.set(at, ());
            alarms.cancel(alarm);
            alarms.cancel(alarm);
        }
        assert_eq!(alarms.len(), 0);
    }
}
