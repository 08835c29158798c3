//! Counts the steps of loops over many connections, listeners or bytes.
//!
//! A test compares the counts for 1,000 and for 8,000, and so shows without a clock that a cost is
//! linear. Outside tests nothing is counted.

#[cfg(test)]
thread_local! {
    static STEPS: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Counts one step of a loop.
#[inline]
pub(crate) fn step() {
    steps(1);
}

/// Counts `count` steps.
#[inline]
pub(crate) fn steps(count: usize) {
    #[cfg(test)]
    STEPS.set(STEPS.get() + count as u64);
    #[cfg(not(test))]
    let _ = count;
}

/// Runs something and returns how many steps it took.
#[cfg(test)]
pub(crate) fn steps_of(run: impl FnOnce()) -> u64 {
    let before = STEPS.get();
    run();
    STEPS.get() - before
}
