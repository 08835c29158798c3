//! The public face: what a program does with a loop.
//!
//! Nothing here decides anything: it finds the connection or listener that an id names and hands
//! on to the part that knows. The files of the folder hold the methods that belong together.

mod connecting;
mod embedding;
mod listening;
mod relaying;
#[cfg(unix)]
mod unix;

use std::fmt;
use std::io;
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::event::Event;
use crate::explanation::Explanation;
use crate::limits::Limits;
use crate::observer::Observer;
use crate::slots::ConnectionId;
use crate::system::System;
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
/// lost, and their peers read an end where those would have come. No more events come. To leave
/// nothing half sent, [`shutdown`](Self::shutdown) first.
///
/// # Forked processes
///
/// A loop belongs to the process that made it. A forked child has duplicates of all its
/// descriptors: it shares the epoll or kqueue descriptor, and with it the registrations, so that a
/// call into the loop there takes events from the parent and changes what the parent is told.
/// The child may do one thing with its copy: drop it. That closes the child's duplicates, and
/// neither deregisters anything nor removes the file of a Unix-domain socket. Until then the peers
/// of connections that the parent closes do not read an end, because the child's duplicates hold
/// them open. A program that runs another by [`Command`](std::process::Command) need not care: all
/// descriptors are closed when the other program starts.
pub struct EventLoop<T = ()> {
    turns: Turns<T>,
}

impl<T> EventLoop<T> {
    /// A loop with the default [`Limits`].
    ///
    /// # Errors
    ///
    /// If the operating system has no descriptor for it.
    pub fn new() -> io::Result<Self> {
        Self::with_limits(Limits::default())
    }

    /// A loop with these limits.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the limits contradict each other, or what the operating system says.
    pub fn with_limits(limits: Limits) -> io::Result<Self> {
        limits.check()?;
        let system = System::kernel(limits.event_capacity)?;
        Ok(Self { turns: Turns::new(limits, system)? })
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn simulated(limits: Limits, network: SharedNetwork) -> Self {
        let system = System::Simulated(Simulated::new(network));
        let turns = Turns::new(limits, system);
        Self { turns: turns.expect("the simulated system gives a notifier to every loop") }
    }

    /// How long it would wait next: zero if there is something to do, `None` for ever.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn simulated_timeout(&self) -> Option<Duration> {
        self.turns.simulated_timeout()
    }

    /// Has a closure see each step that the loop takes, in place of one set before.
    pub fn set_observer(&mut self, observer: impl Observer + 'static) {
        self.turns.resources.observers.set(Box::new(observer));
    }

    /// The time by the loop's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.turns.resources.system.now()
    }

    /// For tests that look at what the loop has inside.
    #[cfg(test)]
    pub(crate) fn turns(&self) -> &Turns<T> {
        &self.turns
    }

    // Events.

    /// Waits for the next event: for ever, if there is nothing to wait for.
    ///
    /// Each call first makes good what the program did since the last one: it sends what was
    /// [sent](crate::Stream::send), closes what was closed, frees the connection whose
    /// [`Closed`](Event::Closed) was handled. So handle the event, and come back soon.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// // Both ends in one loop: a server that echoes, and its client.
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let listener = event_loop.listen("127.0.0.1:0")?;
    /// let client = event_loop.connect(event_loop.listener_addr(listener)?, ());
    /// event_loop[client].send(b"hello");
    /// while event_loop[client].received() != b"hello" {
    ///     match event_loop.next_event()? {
    ///         Event::Received(id) if id != client => event_loop[id].send_received(),
    ///         Event::Closed(id, reason) => panic!("{id} {reason}"),
    ///         _ => {} // there may be more kinds of event one day
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Only if the loop itself failed: the operating system refused to wait. What fails on one
    /// connection is that connection's [`Closed`](Event::Closed).
    ///
    /// # Panics
    ///
    /// If two connections that were borrowed from this loop were swapped, since each would answer
    /// to the other's id: at each call until they are swapped back. With one of another loop that
    /// is noticed only if their slots differ.
    pub fn next_event(&mut self) -> io::Result<Event> {
        loop {
            let outcome = self.turns.next_event(None);
            if let Some(event) = self.turns.end_call(outcome)? {
                return Ok(event);
            }
        }
    }

    /// Waits for the next event for at most `timeout`, or for ever if that is `None`.
    ///
    /// With `Some(Duration::ZERO)` it does not wait, and `None` comes at the end of every turn,
    /// even when more is ready, so that a host with a loop of its own is never held.
    ///
    /// ```
    /// use readiness::EventLoop;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// // What a host with its own loop does now and then:
    /// while let Some(event) = event_loop.poll_event(Some(Duration::ZERO))? {
    ///     panic!("nobody is there, and yet: {event:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`next_event`](Self::next_event).
    ///
    /// # Panics
    ///
    /// As [`next_event`](Self::next_event).
    pub fn poll_event(&mut self, timeout: Option<Duration>) -> io::Result<Option<Event>> {
        let outcome = self.turns.next_event(timeout);
        self.turns.end_call(outcome)
    }

    // Connections.

    /// The connection that an id names, unless its [`Closed`](Event::Closed) has passed.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection<T>> {
        self.turns.connections.get(id)
    }

    /// The connection that an id names, to act on it. Use this for an id that was remembered:
    /// indexing is for the id of the event at hand.
    #[must_use]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<T>> {
        self.turns.connections.get_mut(id)
    }

    /// All connections, connecting ones too, without the one whose [`Closed`](Event::Closed) is
    /// being handled.
    pub fn connections(&self) -> impl Iterator<Item = &Connection<T>> {
        self.turns.connections.iter()
    }

    /// The same, to act on them. Each that is yielded is settled at the next call, so what need
    /// not be changed is better looked at through [`connections`](Self::connections).
    pub fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection<T>> {
        self.turns.connections.iter_mut()
    }

    /// Sends the same bytes to several connections, and returns to how many. Ids of connections that
    /// have closed are skipped. It costs nothing for connections that are not named.
    ///
    /// ```
    /// use readiness::{ConnectionId, EventLoop};
    ///
    /// /// Tells all members but one what that one has said.
    /// fn broadcast(chat: &mut EventLoop, members: &[ConnectionId], from: ConnectionId, line: &[u8]) {
    ///     let others = members.iter().copied().filter(|id| *id != from);
    ///     chat.send_each(others, line);
    /// }
    /// ```
    #[doc(alias = "broadcast")]
    pub fn send_each(
        &mut self,
        ids: impl IntoIterator<Item = ConnectionId>,
        bytes: &[u8],
    ) -> usize {
        let mut count = 0;
        for id in ids {
            if let Some(connection) = self.get_mut(id) {
                connection.send(bytes);
                count += 1;
            }
        }
        count
    }

    /// Explains what each connection and listener waits for, who must move next, and for how long
    /// nothing has moved. Shown as a line for each; as data it can be searched.
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
    pub fn explain(&self) -> Explanation {
        self.turns.explain()
    }

    /// How many connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.turns.connections.len()
    }
}

/// For the id of the event at hand.
///
/// # Panics
///
/// If the connection's [`Closed`](Event::Closed) has passed; [`EventLoop::get`] does not.
impl<T> Index<ConnectionId> for EventLoop<T> {
    type Output = Connection<T>;

    fn index(&self, id: ConnectionId) -> &Connection<T> {
        self.get(id).unwrap_or_else(|| panic!("there is no connection {id} any more"))
    }
}

/// As `Index`.
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
