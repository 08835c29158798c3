//! The public interface: what a program does with a loop.
//!
//! Nothing is decided here. Each method finds the connection or listener that an id names and
//! passes the call on to the part that does the work. Each file of the folder holds methods that
//! belong together; `next_event.rs` has those that every program uses.

// First, so that its methods come first on the page.
mod next_event;

mod connecting;
mod embedding;
mod listening;
mod relaying;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::ops::{Index, IndexMut};
use std::time::Instant;

use crate::connection::Connection;
use crate::explanation::Explanation;
use crate::metrics::Metrics;
use crate::observer::Observer;
use crate::slots::ConnectionId;
#[cfg(any(test, feature = "simulation"))]
use crate::system::simulated::{SharedNetwork, Simulated};
use crate::turn::Turns;

/// A single-threaded readiness event loop with buffered connections.
///
/// `T` is the program's own state for each connection ([`Connection::data`]).
///
/// The program asks for the next event and acts on connections by their id. What it does takes
/// effect at its next call; nothing happens in between, and nothing calls back.
///
/// ```no_run
/// use readiness::{Event, EventLoop};
///
/// fn main() -> std::io::Result<()> {
///     let mut server: EventLoop = EventLoop::new()?;
///     server.listen("127.0.0.1:65432")?;
///     loop {
///         if let Event::Received(id) = server.next_event()? {
///             server[id].send_received(); // what came in goes out, whole
///         }
///     }
/// }
/// ```
///
/// Dropping the loop closes everything at once, as the end of the process would: unsent bytes are
/// lost, and their peers read an end of file in their place. No more events are delivered. To leave
/// nothing half sent, call [`shutdown`](Self::shutdown) first.
///
/// # Forked processes
///
/// A loop belongs to the process that made it. A forked child has duplicates of all its
/// descriptors: it shares the epoll or kqueue descriptor, and with it the registrations, so a call
/// into the loop there takes events from the parent and changes what is reported to the parent. The
/// child may do one thing with its copy: drop it. That closes the child's duplicates; it neither
/// deregisters anything nor removes the file of a Unix-domain socket. Until then, the peers of
/// connections that the parent closes do not read an end of file, because the child's duplicates
/// keep them open. A program that runs another by [`Command`](std::process::Command) need not do
/// anything: all descriptors are closed when the other program starts.
#[doc(alias = "epoll")]
#[doc(alias = "selectors")]
#[doc(alias = "reactor")]
pub struct EventLoop<T = ()> {
    pub(crate) turns: Turns<T>,
}

impl<T> EventLoop<T> {
    /// Sets the observer, which is shown each step that the loop takes. It replaces one set
    /// earlier.
    pub fn set_observer(&mut self, observer: impl Observer + 'static) {
        self.turns.resources.observers.set(Box::new(observer));
    }

    /// Returns the time of the loop's clock: the simulated time in a simulation.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.turns.resources.system.now()
    }

    /// Explains what each connection and listener waits for, who must move next, and for how long
    /// nothing has moved.
    ///
    /// `Display` shows a line for each; as data it can be searched. It needs no feature, and it
    /// costs nothing until it is called.
    ///
    /// ```
    /// use readiness::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server: EventLoop = EventLoop::new()?;
    /// server.listen("127.0.0.1:0")?;
    /// let explanation = server.explain().to_string();
    /// assert!(explanation.starts_with("0 connections, 1 listener\n  l0.1 at 127.0.0.1:"));
    /// assert!(explanation.ends_with("waits for a peer to connect"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    #[doc(alias = "debug")]
    #[doc(alias = "diagnose")]
    pub fn explain(&self) -> Explanation {
        self.turns.explain()
    }

    /// Returns what the loop has done since it was made, in numbers that only grow: turns, events,
    /// bytes read and written. Reading them costs nothing.
    ///
    /// ```
    /// use readiness::EventLoop;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let before = event_loop.metrics();
    /// event_loop.poll_event(Some(Duration::ZERO))?;
    /// let after = event_loop.metrics();
    /// assert_eq!(after.waits - before.waits, 1);
    /// assert_eq!(after.bytes_read, 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    #[doc(alias = "statistics")]
    #[doc(alias = "counters")]
    #[doc(alias = "uv_metrics_info")]
    pub fn metrics(&self) -> Metrics {
        self.turns.resources.metrics
    }
}

/// Returns the connection of the event at hand.
///
/// # Panics
///
/// Panics if the connection's [`Closed`](crate::event::Event::Closed) has been handled; [`EventLoop::get`] does
/// not.
impl<T> Index<ConnectionId> for EventLoop<T> {
    type Output = Connection<T>;

    fn index(&self, id: ConnectionId) -> &Connection<T> {
        self.get(id).unwrap_or_else(|| panic!("there is no connection {id} any more"))
    }
}

/// Returns the connection of the event at hand, to act on it.
///
/// # Panics
///
/// Panics if the connection's [`Closed`](crate::event::Event::Closed) has been handled;
/// [`EventLoop::get_mut`] does not.
impl<T> IndexMut<ConnectionId> for EventLoop<T> {
    fn index_mut(&mut self, id: ConnectionId) -> &mut Connection<T> {
        self.get_mut(id).unwrap_or_else(|| panic!("there is no connection {id} any more"))
    }
}

impl<T> fmt::Debug for EventLoop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.connection_count();
        f.debug_struct("EventLoop").field("connection_count", &count).finish_non_exhaustive()
    }
}

/// What the simulation makes loops with.
#[cfg(any(test, feature = "simulation"))]
impl<T> EventLoop<T> {
    pub(crate) fn simulated(limits: crate::limits::Limits, network: SharedNetwork) -> Self {
        let system = crate::system::System::Simulated(Simulated::new(network));
        let turns = Turns::new(limits, system);
        Self { turns: turns.expect("the simulated system gives a notifier to every loop") }
    }
}
