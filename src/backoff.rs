//! A pause that doubles, for what can only be retried: accepting without a free descriptor, and
//! connects to a full backlog.

use std::time::Duration;

/// The next pause, and the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Backoff {
    next: Duration,
    max: Duration,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { next: min, max }
    }

    /// Returns how long to wait now, and doubles the next pause.
    pub(crate) fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = pause.saturating_mul(2).min(self.max);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_millis(5), Duration::from_millis(30));
        let pauses: Vec<u128> = (0..5).map(|_| backoff.take().as_millis()).collect();
        assert_eq!(pauses, [5, 10, 20, 30, 30]);
    }

    #[test]
    fn pause_beyond_the_clock_stays_there() {
        let mut backoff = Backoff::new(Duration::MAX, Duration::MAX);
        assert_eq!([backoff.take(), backoff.take()], [Duration::MAX; 2]);
    }
}
