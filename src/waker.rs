//! Wakes from other threads.
//!
//! A wake is a flag and a notifier. The thread that raises the flag also notifies, with one system
//! call; further wakes find the flag raised and cost nothing more. The loop lowers the flag before
//! it delivers `Woken`, so a later wake notifies again and none is lost.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::system::{Notifier, System};

/// Wakes a loop from any thread. [`EventLoop::waker`](crate::EventLoop::waker) creates it.
///
/// It carries no data: pass that through a channel or behind a lock, then wake the loop. A clone
/// wakes the same loop.
#[derive(Clone)]
pub struct Waker {
    shared: Arc<Shared>,
}

struct Shared {
    /// Raised by a wake that the loop has not seen yet.
    is_raised: AtomicBool,
    notifier: Notifier,
}

impl Waker {
    pub(crate) fn new(system: &System) -> io::Result<Self> {
        let (is_raised, notifier) = (AtomicBool::new(false), system.notifier()?);
        Ok(Self { shared: Arc::new(Shared { is_raised, notifier }) })
    }

    /// Wakes the loop, which then delivers [`Event::Woken`](crate::Event::Woken).
    ///
    /// Several wakes may be merged into one event, but at least one event follows every wake, and
    /// everything this thread wrote before it called `wake` is visible to the handler. Does nothing
    /// if the loop was dropped.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error. None is expected in practice.
    pub fn wake(&self) -> io::Result<()> {
        if !self.raise() {
            return Ok(());
        }
        (self.shared.notifier)().inspect_err(|_| {
            // The next wake tries again.
            self.shared.is_raised.store(false, Ordering::Release);
        })
    }

    /// Ends the loop's wait, or its next one, without an event.
    pub(crate) fn notify_loop(&self) {
        // No error is expected in practice.
        let _ = (self.shared.notifier)();
    }

    /// Raises the flag, and returns whether the notifier must be used.
    pub(crate) fn raise(&self) -> bool {
        !self.shared.is_raised.swap(true, Ordering::AcqRel)
    }

    /// Lowers the flag, and returns whether it was raised.
    pub(crate) fn lower(&self) -> bool {
        self.shared.is_raised.swap(false, Ordering::AcqRel)
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}
