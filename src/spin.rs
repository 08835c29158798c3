//! When to spin: to look for events again and again for a moment before a wait blocks.
//!
//! Putting a thread to sleep and waking it takes longer than a peer on the same machine takes to
//! answer. Where the answer comes within the moment, spinning saves both; where it does not, the
//! moment is lost. So a spin that found nothing is remembered: after a few in a row the loop rests
//! from it, for twice as many waits each time, until one finds something again.

use std::time::Duration;

/// So many spins in a row that find nothing begin a rest.
const FRUITLESS_MAX: u32 = 4;
/// The longest rest, in waits: a loop that is idle now may be busy later.
const REST_MAX: u32 = 1024;

#[derive(Debug)]
pub(crate) struct Spin {
    moment: Option<Duration>,
    /// How many spins in a row have found nothing.
    fruitless: u32,
    /// So many waits are still to block at once.
    resting: u32,
    /// How long the last rest was, in waits.
    rest: u32,
}

impl Spin {
    pub(crate) fn new(moment: Option<Duration>) -> Self {
        Self { moment, fruitless: 0, resting: 0, rest: 0 }
    }

    /// For how long to spin before the wait that is about to block, if at all.
    pub(crate) fn before_wait(&mut self) -> Option<Duration> {
        if self.resting > 0 {
            self.resting -= 1;
            return None;
        }
        self.moment
    }

    /// Notes whether a spin has found something.
    pub(crate) fn spun(&mut self, is_fruitful: bool) {
        if is_fruitful {
            (self.fruitless, self.rest) = (0, 0);
            return;
        }
        self.fruitless += 1;
        if self.fruitless >= FRUITLESS_MAX {
            // Each spin after a rest that finds nothing begins another.
            self.fruitless = FRUITLESS_MAX - 1;
            self.rest = (self.rest * 2).clamp(1, REST_MAX);
            self.resting = self.rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOMENT: Duration = Duration::from_micros(50);

    /// How many waits block at once before the next spin, which finds what it is told to find.
    fn waits_until_spin(spin: &mut Spin, is_fruitful: bool) -> u32 {
        let mut count = 0;
        while spin.before_wait().is_none() {
            count += 1;
        }
        spin.spun(is_fruitful);
        count
    }

    #[test]
    fn without_a_moment_it_never_spins() {
        assert_eq!(Spin::new(None).before_wait(), None);
    }

    #[test]
    fn fruitless_spins_rest_for_doubling_numbers_of_waits_and_a_fruitful_one_resets_that() {
        let mut spin = Spin::new(Some(MOMENT));
        let mut next = |is_fruitful| waits_until_spin(&mut spin, is_fruitful);
        let rests: Vec<u32> = (0..8).map(|_| next(false)).collect();
        assert_eq!(rests, [0, 0, 0, 0, 1, 2, 4, 8]);
        assert_eq!(next(true), 16);
        let rests: Vec<u32> = (0..6).map(|_| next(false)).collect();
        assert_eq!(rests, [0, 0, 0, 0, 1, 2]);
        for _ in 0..20 {
            next(false);
        }
        assert_eq!(next(false), REST_MAX);
    }
}
