//! The loop as a future of tokio: [`AsyncEventLoop::next_event`].
//!
//! Copy this file. It keeps the contract of the guide's page on hosts with an edge-triggered host:
//! tokio remembers that the descriptor became readable until that is taken back, so it is taken
//! back before the loop is asked, never after.

use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use readiness::{Event, EventLoop};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::yield_now;
use tokio::time::timeout;

/// An [`EventLoop`] that waits as a future does.
///
/// It belongs to one task. Others reach it as they reach any task, by a channel: the task selects
/// between [`next_event`](Self::next_event) and the channel, and does with the connections what it
/// is asked to.
#[derive(Debug)]
pub struct AsyncEventLoop<T> {
    event_loop: EventLoop<T>,
    /// A duplicate, so that it stays what tokio watches whatever is done with the loop.
    descriptor: AsyncFd<OwnedFd>,
}

impl<T> AsyncEventLoop<T> {
    /// Makes tokio watch the loop.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error.
    ///
    /// # Panics
    ///
    /// Outside of a runtime of tokio that has I/O enabled.
    #[allow(
        deprecated,
        reason = "what replaces it is unsafe, and asks that the descriptor stays: it is our own"
    )]
    pub fn new(event_loop: EventLoop<T>) -> io::Result<Self> {
        let descriptor = event_loop.as_fd().try_clone_to_owned()?;
        let descriptor = AsyncFd::with_interest(descriptor, Interest::READABLE)?;
        Ok(Self { event_loop, descriptor })
    }

    /// Returns the next event. After each turn of the loop the other tasks have theirs.
    ///
    /// Nothing is lost when the future is dropped before it is done. When the program has done
    /// something with connections it calls this again, as it would the loop's own.
    ///
    /// # Errors
    ///
    /// If the loop itself failed.
    pub async fn next_event(&mut self) -> io::Result<Event> {
        loop {
            self.wait().await?;
            if let Some(event) = self.event_loop.poll_event(Some(Duration::ZERO))? {
                return Ok(event);
            }
            yield_now().await;
        }
    }

    /// Waits until the loop has something to do: the descriptor says so, or it is time.
    async fn wait(&mut self) -> io::Result<()> {
        let readable = match self.event_loop.next_timeout() {
            Some(Duration::ZERO) => return Ok(()),
            Some(time) => timeout(time, self.descriptor.readable()).await.ok(),
            None => Some(self.descriptor.readable().await),
        };
        if let Some(readable) = readable {
            readable?.clear_ready(); // what arrives from here on is reported anew
        }
        Ok(())
    }
}

impl<T> Deref for AsyncEventLoop<T> {
    type Target = EventLoop<T>;

    fn deref(&self) -> &EventLoop<T> {
        &self.event_loop
    }
}

impl<T> DerefMut for AsyncEventLoop<T> {
    fn deref_mut(&mut self) -> &mut EventLoop<T> {
        &mut self.event_loop
    }
}
