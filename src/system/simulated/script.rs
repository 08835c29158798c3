//! What a test has the kernel do at calls of its choice, beside what its faults make likely.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use crate::interest::Readiness;

/// What a test has the kernel do at calls of its choice.
#[derive(Default)]
pub(crate) struct Script {
    /// Each fails the call of its number, and all behind it if it is persistent.
    pub(crate) failures: Vec<Failing>,
    /// What the next wait reports besides.
    pub(crate) spurious: Vec<(usize, Readiness)>,
    /// The most bytes of each of the next reads and writes that move any.
    pub(crate) reads: VecDeque<usize>,
    pub(crate) writes: VecDeque<usize>,
    /// Wakes that are to come from another thread at some time, in the middle of a wait too.
    pub(crate) wakes: VecDeque<Wake>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Script").field("failures", &self.failures).finish_non_exhaustive()
    }
}

/// A wake of a loop: what it does first tells whether the loop is to be notified for.
pub(crate) struct Wake {
    pub(crate) poller: usize,
    pub(crate) raise: Box<dyn FnOnce() -> bool + Send>,
}

/// A failure at the call of a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing {
    pub(crate) at: u64,
    pub(crate) is_persistent: bool,
    pub(crate) error: fn() -> io::Error,
}
