//! Wakes from other threads.
//!
//! A wake is a flag and a notifier. Who raises the flag first rings the notifier, with one system call; all
//! who come before the loop has looked find the flag raised, and are done. The loop lowers the flag
//! before it tells the program, so that a wake which comes later rings again: none is lost.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::system::{Notifier, System};

/// Wakes a loop from any thread: [`EventLoop::waker`](crate::EventLoop::waker) makes it.
///
/// It carries nothing. What a thread has for the loop goes through a channel or behind a lock, and
/// the wake says that it is there. A clone wakes the same loop.
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

    /// Has the loop give [`Event::Woken`](crate::Event::Woken) soon, also while it waits. Many
    /// wakes may come as one event, but after each wake at least one comes, and what this thread
    /// did before can be seen then. When the loop has gone nothing happens.
    ///
    /// # Errors
    ///
    /// What the operating system says, which has no reason to refuse.
    pub fn wake(&self) -> io::Result<()> {
        if !self.raise() {
            return Ok(());
        }
        self.shared.notifier.notify().inspect_err(|_| {
            // The next one is to try again.
            self.shared.is_raised.store(false, Ordering::Release);
        })
    }

    /// Ends the loop's wait, or else its next, without telling the program.
    pub(crate) fn notify_loop(&self) {
        // The system has no reason to refuse.
        let _ = self.shared.notifier.notify();
    }

    /// Raises the flag, and returns whether the notifier is to be notified.
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
