//! The public face: what a program does with a loop.
//!
//! Nothing here decides anything: it finds the connection or listener that an id names and hands
//! on to the part that knows.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::event::{ConnectionId, Event, ListenerId};
use crate::limits::Limits;
use crate::listener::{Accepting, MakeData};
use crate::observer::{Observer, Step, shown};
#[cfg(any(test, feature = "simulation"))]
use crate::system::simulated::{SharedNetwork, Simulated};
use crate::system::{ListeningSocket, System};
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
/// Dropping the loop closes everything at once: unsent bytes are lost, and no more events come.
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
        Ok(Self { turns: Turns::new(limits, system) })
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn simulated(limits: Limits, network: SharedNetwork) -> Self {
        let system = System::Simulated(Simulated::new(network));
        Self { turns: Turns::new(limits, system) }
    }

    /// How long it would wait next: zero if there is something to do, `None` for ever.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn simulated_timeout(&self) -> Option<Duration> {
        self.turns.simulated_timeout()
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn diagnosis(&self) -> String {
        self.turns.diagnosis()
    }

    /// Has a closure see each step that the loop takes, in place of one set before.
    pub fn set_observer(&mut self, observer: impl Observer + 'static) {
        self.turns.tools.observers.set(Box::new(observer));
    }

    /// The time by the loop's clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.turns.tools.system.now()
    }

    /// For tests that look at what the loop has inside.
    #[cfg(test)]
    pub(crate) fn turns(&self) -> &Turns<T> {
        &self.turns
    }

    // Listening.

    /// Listens at an address; each connection's `data` begins as its default. Of several addresses
    /// the first that can be had is taken. Port 0 has the system choose one:
    /// [`listener_addr`](Self::listener_addr) tells which.
    ///
    /// # Errors
    ///
    /// What the operating system says of the last address, such as `AddrInUse` or
    /// `AddrNotAvailable`; `InvalidInput` if there is none. A name is resolved here, which may
    /// block.
    pub fn listen(&mut self, address: impl ToSocketAddrs) -> io::Result<ListenerId>
    where
        T: Default + 'static,
    {
        self.listen_with(address, T::default)
    }

    /// Listens at an address; each connection's `data` begins as what the closure makes. So each
    /// listener can have a protocol of its own. The closure is `Send`, so that a loop can be handed
    /// to another thread.
    ///
    /// ```
    /// use readiness::EventLoop;
    ///
    /// enum Protocol { Echo, Time }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = EventLoop::new()?;
    /// let echo = server.listen_with("127.0.0.1:0", || Protocol::Echo)?;
    /// let time = server.listen_with("127.0.0.1:0", || Protocol::Time)?;
    /// assert_ne!(server.listener_addr(echo)?, server.listener_addr(time)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`listen`](Self::listen).
    pub fn listen_with(
        &mut self,
        address: impl ToSocketAddrs,
        make_data: impl FnMut() -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let none = io::Error::new(io::ErrorKind::InvalidInput, "no address to listen at");
        let mut outcome = Err(none);
        for address in address.to_socket_addrs()? {
            outcome = self.turns.tools.system.listen(address, &self.turns.limits);
            if outcome.is_ok() {
                break;
            }
        }
        self.add_listener(outcome?, Box::new(make_data))
    }

    /// Takes over a socket that listens already: one that was inherited, or made with options of
    /// its own. It is made non-blocking.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn adopt_listener(
        &mut self,
        listener: TcpListener,
        make_data: impl FnMut() -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let socket = self.turns.tools.system.adopt_listener(listener, &self.turns.limits)?;
        self.add_listener(socket, Box::new(make_data))
    }

    fn add_listener(
        &mut self,
        mut socket: ListeningSocket,
        make_data: MakeData<T>,
    ) -> io::Result<ListenerId> {
        let id = self.turns.listeners.next_id();
        if let Err(error) = self.turns.tools.system.watch_listener(&mut socket, id.slot, true) {
            self.turns.tools.system.close_listener(socket);
            return Err(error);
        }
        let address = shown(socket.local_addr());
        self.turns.listeners.insert(id, socket, make_data);
        self.turns.tools.observers.see(Step::Listening(id, address));
        Ok(id)
    }

    /// The address that a listener listens at.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, or what the operating system says.
    pub fn listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        self.turns.listeners.get(id)?.socket.local_addr()
    }

    /// Accepts no more from this listener until it is resumed. Peers wait in the backlog.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, or what the operating system says.
    pub fn pause_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.set_accepting(id, Accepting::Paused)
    }

    /// Accepts again after a pause, first of all those that have waited.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, or what the operating system says.
    pub fn resume_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.set_accepting(id, Accepting::Open)
    }

    fn set_accepting(&mut self, id: ListenerId, accepting: Accepting) -> io::Result<()> {
        let Turns { listeners, tools, .. } = &mut self.turns;
        let is_paused = listeners.get(id)?.accepting() == Accepting::Paused;
        if is_paused == (accepting == Accepting::Paused) {
            return Ok(());
        }
        listeners.set_accepting(id.slot, accepting, tools)
    }

    /// Closes a listener. What it has accepted goes on; peers that wait are reset.
    ///
    /// # Errors
    ///
    /// `NotFound` if it was closed before.
    pub fn close_listener(&mut self, id: ListenerId) -> io::Result<()> {
        let listener = self.turns.listeners.remove(id)?;
        if let Accepting::OutOfRoom(alarm) = listener.accepting() {
            self.turns.tools.cancel(alarm);
        }
        self.turns.tools.system.close_listener(listener.socket);
        self.turns.tools.observers.see(Step::ListenerClosed(id));
        Ok(())
    }

    // Connecting.

    /// Begins a connect, and returns at once. Never fails here: every failure, also one known at
    /// once, is that connection's [`Closed`](Event::Closed). What is sent before
    /// [`Connected`](Event::Connected) leaves in order afterwards. Names are not resolved, since
    /// that blocks.
    ///
    /// One that is connected reads on while it has unsent bytes, other than one that was accepted:
    /// see [`couple`](Self::couple).
    ///
    /// ```
    /// use readiness::{CloseReason, Event, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop<&str> = EventLoop::new()?;
    /// let nobody = "127.0.0.1:1".parse().expect("an address");
    /// let id = event_loop.connect(nobody, "my data");
    /// assert_eq!(event_loop.next_event()?, Event::Closed(id, CloseReason::Refused));
    /// assert_eq!(event_loop[id].data, "my data"); // until the next call
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(&mut self, address: SocketAddr, data: T) -> ConnectionId {
        self.turns.add_connecting(address, data)
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
    /// to the other's id.
    pub fn next_event(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.turns.next(None)? {
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
        self.turns.next(timeout)
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

    /// How many connections there are.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.turns.connections.len()
    }

    /// Moves all that `from` has received to the unsent bytes of `to`, and returns how many bytes
    /// that was. Where `to` has nothing unsent no byte is copied. Also above the high-water mark,
    /// and also while [`Closed`](Event::Closed) of `from` is handled. If either has gone or `to`
    /// takes no more, nothing is moved and 0 is returned: the bytes stay with `from`. The same if
    /// `to` would have more than [`unsent_max`](crate::ConnectionLimits::unsent_max) bytes unsent,
    /// and that ends it as a send would.
    ///
    /// A proxy is made of this:
    ///
    /// ```
    /// use readiness::{CloseReason, ConnectionId, Event, EventLoop};
    /// use std::io::{Read, Write};
    /// use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    ///
    /// /// Each connection's data is its other half.
    /// type Proxy = EventLoop<Option<ConnectionId>>;
    ///
    /// fn handle(proxy: &mut Proxy, event: Event, target: SocketAddr) {
    ///     match event {
    ///         Event::Accepted(_, client) => {
    ///             let server = proxy.connect(target, Some(client));
    ///             proxy[client].data = Some(server);
    ///             for (one, other) in [(client, server), (server, client)] {
    ///                 // Neither half reads faster than the other can send, and each goes on
    ///                 // when its own peer has finished: the answer is still to come.
    ///                 proxy.couple(one, other);
    ///                 proxy[one].allow_half_open(true);
    ///             }
    ///         }
    ///         Event::Received(id) => {
    ///             if let Some(other) = proxy[id].data {
    ///                 proxy.transfer(id, other);
    ///             }
    ///         }
    ///         Event::PeerFinished(id) => {
    ///             if let Some(other) = proxy[id].data.and_then(|other| proxy.get_mut(other)) {
    ///                 other.finish();
    ///             }
    ///         }
    ///         Event::Closed(id, reason) => {
    ///             if let Some(other) = proxy[id].data.and_then(|other| proxy.get_mut(other)) {
    ///                 match reason {
    ///                     CloseReason::Finished => other.close(),
    ///                     _ => other.abort(),
    ///                 }
    ///             }
    ///         }
    ///         _ => {}
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let target = TcpListener::bind("127.0.0.1:0")?;
    /// let target_address = target.local_addr()?;
    /// let server = std::thread::spawn(move || -> std::io::Result<()> {
    ///     let (mut client, _) = target.accept()?;
    ///     let mut question = String::new();
    ///     client.read_to_string(&mut question)?;
    ///     write!(client, "you said {question}")
    /// });
    /// let mut proxy = Proxy::new()?;
    /// let listener = proxy.listen("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(proxy.listener_addr(listener)?)?;
    /// client.write_all(b"hello")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let client = std::thread::spawn(move || std::io::read_to_string(client));
    /// while !client.is_finished() {
    ///     if let Some(event) = proxy.poll_event(Some(std::time::Duration::from_millis(1)))? {
    ///         handle(&mut proxy, event, target_address);
    ///     }
    /// }
    /// assert_eq!(client.join().expect("the client has its answer")?, "you said hello");
    /// server.join().expect("the server has answered")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transfer(&mut self, from: ConnectionId, to: ConnectionId) -> usize {
        let connections = &mut self.turns.connections;
        if from == to {
            let connection = connections.get_mut(from);
            return connection.map_or(0, |connection| connection.exchange.transfer_to_itself());
        }
        let Some((from, to)) = connections.get_two_mut(from, to) else {
            return 0;
        };
        from.stream.exchange.transfer_to(&mut to.stream.exchange)
    }

    /// Has `reader` read only while `writer` has nothing unsent, in place of what it was coupled
    /// to before. So a proxy, which couples each half to the other (see the example of
    /// [`transfer`](Self::transfer)), holds no more than one read of each half. Does nothing if
    /// either has gone or the reader is closing. It ends with the writer, after which the reader
    /// is coupled to nobody.
    ///
    /// An accepted connection begins coupled to itself: a client that sends and never reads makes
    /// its server stop reading. One that was connected begins coupled to nobody, because if both
    /// ends stop reading while they have unsent bytes, neither ever moves again.
    pub fn couple(&mut self, reader: ConnectionId, writer: ConnectionId) {
        self.turns.connections.couple(reader, writer);
    }

    /// Has `reader` read however much is unsent, by itself or by another. Do so for an accepted
    /// connection whose peer sends much before it reads: a server that answers each request while
    /// the next ones still come in would stop reading until its answers have left.
    pub fn uncouple(&mut self, reader: ConnectionId) {
        self.turns.connections.uncouple(reader);
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
