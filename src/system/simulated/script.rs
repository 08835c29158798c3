//! What a test makes the kernel do at chosen calls, in addition to its faults.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use crate::readiness::Readiness;

/// What a test makes the kernel do at chosen calls.
#[derive(Default)]
pub(crate) struct Script {
    /// Each entry makes the call of its number fail, and all later ones if it is persistent.
    pub(crate) failures: Vec<Failing>,
    /// What the next wait reports besides.
    pub(crate) spurious: Vec<(usize, Readiness)>,
    /// Maximum number of bytes of each of the next reads and writes that move any.
    pub(crate) reads: VecDeque<usize>,
    pub(crate) writes: VecDeque<usize>,
    /// Wakes that another thread performs at some time, possibly in the middle of a wait.
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
