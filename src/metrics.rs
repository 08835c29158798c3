//! What a loop has done so far, in numbers.

/// What a loop has done since it was made, in numbers that only grow. Returned by
/// [`EventLoop::metrics`](crate::EventLoop::metrics).
///
/// They are what a program cannot count from its events. An [`Observer`](crate::Observer) could
/// count the same from the steps that it is shown; keeping these costs an addition each, whether or
/// not somebody reads them.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// How many times the loop has waited, which is how many turns it has had.
    pub waits: u64,
    /// How many fills have brought bytes. A fill is one read, or several in a row.
    pub fills: u64,
    /// How many flushes have taken bytes. A flush is one write, or several in a row.
    pub flushes: u64,
    /// How many times a connection's interest has changed (`epoll_ctl`). Where a connect tries
    /// several addresses, the attempts are not counted.
    pub interest_changes: u64,
    // A count and its sum are not neighbours: the compiler would add to both as a vector, with three
    // times the instructions. `.ci/instructions` shows it.
    /// How many events the kernel has reported.
    pub events: u64,
    /// How many bytes were read, including those that were discarded.
    pub bytes_read: u64,
    /// How many bytes were written: the kernel has taken them, and the peer may not have.
    pub bytes_written: u64,
}

impl Metrics {
    pub(crate) fn waited(&mut self, events: usize) {
        self.waits += 1;
        self.events += events as u64;
    }

    /// Counts a fill, unless it has read nothing.
    #[inline]
    pub(crate) fn filled(&mut self, count: usize) {
        self.fills += u64::from(count > 0);
        self.bytes_read += count as u64;
    }

    /// Counts a flush, unless it has written nothing.
    #[inline]
    pub(crate) fn flushed(&mut self, count: usize) {
        self.flushes += u64::from(count > 0);
        self.bytes_written += count as u64;
    }
}
