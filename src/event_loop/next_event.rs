//! The public interface: what every program uses, from making a loop to `next_event`.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use super::EventLoop;
use super::listening::from_ip;
use crate::connection::Connection;
use crate::event::Event;
use crate::limits::Limits;
use crate::slots::{ConnectionId, ListenerId};
use crate::system::System;
use crate::turn::Turns;

impl<T> EventLoop<T> {
    /// Creates a loop with the default [`Limits`].
    ///
    /// If the type of the connections' data does not follow from anything else, name it:
    /// `EventLoop::<()>::new()`, or as below.
    ///
    /// ```
    /// use readiness::EventLoop;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let event_loop: EventLoop = EventLoop::new()?;
    /// assert_eq!(event_loop.connection_count(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the operating system's error, most often because the process is out of descriptors.
    #[doc(alias = "epoll_create")]
    #[doc(alias = "kqueue")]
    pub fn new() -> io::Result<Self> {
        Self::with_limits(Limits::default())
    }

    /// Creates a loop with these limits.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the limits contradict each other, or the operating system's error.
    pub fn with_limits(limits: Limits) -> io::Result<Self> {
        limits.check()?;
        let system = System::kernel(limits.event_capacity)?;
        Ok(Self { turns: Turns::new(limits, system)? })
    }

    /// Listens at an address. Each connection's `data` begins as its default.
    ///
    /// If the address stands for several, the first one that can be bound is used. With port 0 the
    /// system chooses a port, which [`listener_addr`](Self::listener_addr) returns. A name is
    /// resolved here, which may block. On most systems `[::]` accepts IPv4 clients too, whose
    /// addresses then look like `::ffff:127.0.0.1`.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error for the last address, such as `AddrInUse` or
    /// `AddrNotAvailable`, or `InvalidInput` if there is no address.
    #[doc(alias = "bind")]
    pub fn listen(&mut self, address: impl ToSocketAddrs) -> io::Result<ListenerId>
    where
        T: Default + 'static,
    {
        self.listen_with(address, |_| T::default())
    }

    /// Listens at an address. Each connection's `data` begins as what the closure returns, which is
    /// given the peer's address.
    ///
    /// So each listener can have a protocol of its own. The closure is `Send`, so that a loop can be
    /// moved to another thread.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::net::SocketAddr;
    ///
    /// enum Protocol { Echo, Log(SocketAddr) }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = EventLoop::new()?;
    /// server.listen_with("127.0.0.1:0", |_| Protocol::Echo)?;
    /// let log = server.listen_with("127.0.0.1:0", Protocol::Log)?;
    ///
    /// let peer = std::net::TcpStream::connect(server.listener_addr(log)?)?;
    /// let Event::Accepted(_, id) = server.next_event()? else { panic!("it comes first") };
    /// let Protocol::Log(address) = server[id].data else { panic!("it came to the log") };
    /// assert_eq!(address, peer.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`listen`](Self::listen).
    pub fn listen_with(
        &mut self,
        address: impl ToSocketAddrs,
        make_data: impl FnMut(SocketAddr) -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let none = io::Error::new(io::ErrorKind::InvalidInput, "there is no address to listen at");
        let mut outcome = Err(none);
        let resources = &self.turns.resources;
        for address in address.to_socket_addrs()? {
            outcome = resources.system.listen(address, &resources.limits);
            if outcome.is_ok() {
                break;
            }
        }
        self.add_listener(outcome?, from_ip(make_data))
    }

    /// Waits for the next event, forever if there is nothing to wait for.
    ///
    /// Each call first carries out what the program did since the last one: it flushes what was
    /// [sent](crate::Stream::send), closes what was closed, and frees the connection whose
    /// [`Closed`](Event::Closed) was handled. Nothing else happens while the program handles an
    /// event, so handle it without blocking and call again soon: until then, all connections wait.
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
    /// Returns an error only if the loop itself failed: the operating system refused to wait. What
    /// fails on one connection is that connection's [`Closed`](Event::Closed).
    ///
    /// # Panics
    ///
    /// Panics if two connections that were borrowed from this loop were swapped, since each would
    /// answer to the other's id: at each call until they are swapped back. A swap with a connection
    /// of another loop is noticed only if their slots differ. In debug builds, panics if a wake-up
    /// was lost, which is a bug of this crate.
    #[doc(alias = "epoll_wait")]
    #[doc(alias = "select")]
    #[doc(alias = "poll")]
    #[doc(alias = "run")]
    pub fn next_event(&mut self) -> io::Result<Event> {
        loop {
            let outcome = self.turns.next_event(None);
            if let Some(event) = self.turns.end_call(outcome)? {
                return Ok(event);
            }
        }
    }

    /// Waits for the next event for at most `timeout`, or forever if that is `None`.
    ///
    /// With `Some(Duration::ZERO)` it does not wait, and returns `None` at the end of every turn,
    /// even when more is ready, so that a host with a loop of its own is never held up.
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
    /// See [`next_event`](Self::next_event).
    ///
    /// # Panics
    ///
    /// See [`next_event`](Self::next_event).
    #[doc(alias = "poll_one")]
    #[doc(alias = "run_once")]
    pub fn poll_event(&mut self, timeout: Option<Duration>) -> io::Result<Option<Event>> {
        let outcome = self.turns.next_event(timeout);
        self.turns.end_call(outcome)
    }

    // Connections.

    /// Returns the connection that an id names, unless its [`Closed`](Event::Closed) has been
    /// handled.
    #[must_use]
    pub fn get(&self, id: ConnectionId) -> Option<&Connection<T>> {
        self.turns.connections.get(id)
    }

    /// Returns the connection that an id names, to act on it.
    ///
    /// Use this for an id that the program has remembered; indexing is for the id of the event at
    /// hand.
    #[must_use]
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<T>> {
        self.turns.connections.get_mut(id)
    }

    /// Returns all connections, including those that are connecting, except the one whose
    /// [`Closed`](Event::Closed) is being handled.
    pub fn connections(&self) -> impl Iterator<Item = &Connection<T>> {
        self.turns.connections.iter()
    }

    /// Returns all connections, to act on them.
    ///
    /// Every connection that it yields is settled at the next call, changed or not. To act on a few
    /// of many, find them with [`connections`](Self::connections) or remember their ids, and use
    /// [`get_mut`](Self::get_mut) or [`send_each`](Self::send_each).
    pub fn connections_mut(&mut self) -> impl Iterator<Item = &mut Connection<T>> {
        self.turns.connections.iter_mut()
    }

    /// Returns the number of connections that [`connections`](Self::connections) yields.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.turns.connections.len()
    }

    /// Sends the same bytes to several connections, and returns to how many.
    ///
    /// Ids of connections that have closed are skipped. Connections that are not named cost nothing.
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
}
