//! A connection: an exchange and its socket, with the program's own state beside them.
//!
//! [`Stream`] is what a program acts on. Its methods only change the exchange; what follows from
//! that for the socket happens when the loop settles the connection, at a later call: see
//! `service.rs`.
//!
//! What it deliberately does not do: it decides nothing. What comes next is the exchange's state.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
#[cfg(unix)]
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::deadlines::Deadlines;
use crate::event::{ConnectionId, ListenerId};
use crate::exchange::Exchange;
use crate::interest::Interest;
use crate::limits::ConnectionLimits;
use crate::origin::Origin;
use crate::system::{Socket, no_ip_address};

/// One connection of a loop: a [`Stream`], to which it derefs, and the program's own state.
pub struct Connection<T> {
    /// The program's own state for this connection.
    pub data: T,
    pub(crate) stream: Stream,
}

impl<T> Connection<T> {
    pub(crate) fn new(data: T, stream: Stream) -> Self {
        Self { data, stream }
    }

    /// Lends the program's state and the stream at once, as a protocol's state machine needs them.
    ///
    /// ```
    /// use std::io::Write;
    ///
    /// fn greet(connection: &mut readiness::Connection<String>) -> std::io::Result<()> {
    ///     let (name, stream) = connection.split();
    ///     write!(stream, "hello, {name}\n")
    /// }
    /// ```
    pub fn split(&mut self) -> (&mut T, &mut Stream) {
        (&mut self.data, &mut self.stream)
    }
}

impl<T> Deref for Connection<T> {
    type Target = Stream;

    fn deref(&self) -> &Stream {
        &self.stream
    }
}

impl<T> DerefMut for Connection<T> {
    fn deref_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }
}

impl<T: fmt::Debug> fmt::Debug for Connection<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("data", &self.data)
            .field("stream", &self.stream)
            .finish()
    }
}

/// The queue in which a connection waits to be served, if in any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queued {
    No,
    Fresh,
    LeftOver,
}

/// The two byte streams of a connection, one from the peer and one to it.
///
/// Nothing here blocks. What is sent leaves at a later call into the loop, so that many small
/// sends leave in one system call; it has been sent when the kernel has taken it, which says
/// nothing of the peer.
///
/// [`Read`](io::Read), [`BufRead`](io::BufRead) and [`Write`](io::Write) work on the received and
/// the unsent bytes. Reading from nothing is `WouldBlock`, or `Ok(0)` after the peer's end.
/// `read_line`, `read_until`, `read_exact`, `read_to_end` and `read_to_string` are all or nothing:
/// until the whole is there they consume nothing and give `WouldBlock`. A line that fills the read
/// buffer can never be whole and is `InvalidData`.
///
/// ```
/// use std::io::{BufRead, ErrorKind, Write};
///
/// /// Answers each whole line; half a line stays for the next time.
/// fn answer(stream: &mut readiness::Stream) -> std::io::Result<()> {
///     let mut line = String::new();
///     loop {
///         match stream.read_line(&mut line) {
///             Ok(0) => return Ok(()),
///             Ok(_) => write!(stream, "you said {line}")?,
///             Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
///             Err(error) => return Err(error),
///         }
///         line.clear();
///     }
/// }
/// ```
// In the order of C, so that what `Stream::may_write_once` compares lies side by side.
#[derive(Debug)]
#[repr(C)]
pub struct Stream {
    pub(crate) exchange: Exchange,
    /// None only if a connect failed before there was a socket.
    pub(crate) socket: Option<Socket>,
    id: ConnectionId,
    pub(crate) origin: Origin,
    pub(crate) deadlines: Option<Box<Deadlines>>,
    /// How many bytes count against the write budget in the turn of the number `flushed_in`.
    pub(crate) flushed: usize,
    pub(crate) touched: bool,
    /// The last fill or flush stopped while the socket may have been ready for more.
    pub(crate) stopped_early: bool,
    /// Others read only while this one has nothing unsent.
    pub(crate) has_readers: bool,
    /// Invariant: what the kernel was told last.
    pub(crate) interest: Interest,
    pub(crate) flushed_in: u16,
    pub(crate) queued: Queued,
}

impl Stream {
    pub(crate) fn new(
        id: ConnectionId,
        origin: Origin,
        socket: Option<Socket>,
        exchange: Exchange,
    ) -> Self {
        let mut stream = Self {
            exchange,
            socket,
            id,
            origin,
            deadlines: None,
            interest: Interest::None,
            queued: Queued::No,
            touched: false,
            stopped_early: false,
            flushed: 0,
            flushed_in: 0,
            has_readers: false,
        };
        if stream.exchange.limits().idle_timeout.is_some() {
            stream.deadlines_mut();
        }
        stream
    }

    /// The id of this connection.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The bytes received and not yet consumed.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        self.exchange.received()
    }

    /// Gives up the first `count` received bytes.
    ///
    /// # Panics
    ///
    /// If fewer are there.
    pub fn consume(&mut self, count: usize) {
        self.exchange.consume(count);
    }

    /// Appends `bytes` to the unsent ones; they leave at the next call into the loop, or as soon
    /// after it as the kernel takes them. Never blocks and never fails: after
    /// [`finish`](Self::finish), [`close`](Self::close) or an end the bytes count as
    /// [`lost`](Self::lost). A send that would pass
    /// [`unsent_max`](ConnectionLimits::unsent_max) takes nothing and ends the connection.
    pub fn send(&mut self, bytes: &[u8]) {
        self.exchange.send(bytes);
    }

    /// Sends all that was received back where it came from, and consumes it. Where nothing is
    /// unsent, as by default with an accepted connection, not a byte is copied.
    #[inline]
    pub fn send_received(&mut self) {
        self.exchange.send_received();
    }

    /// How many bytes were sent and not yet taken by the kernel.
    #[must_use]
    #[inline]
    pub fn unsent(&self) -> usize {
        self.exchange.unsent()
    }

    /// How many bytes were sent when they could no longer leave, or given up by a broken
    /// connection. While [`Closed`](crate::Event::Closed) is handled, what is
    /// [`unsent`](Self::unsent) will not be sent either.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.exchange.lost()
    }

    /// Whether to stop sending: more than [`high_water`](ConnectionLimits::high_water) bytes are
    /// unsent, and [`Drained`](crate::Event::Drained) will tell when they have come down to
    /// [`low_water`](ConnectionLimits::low_water). Also when what is sent can no longer leave, so
    /// that sending until clogged always ends. Bytes sent before the connection is connected do
    /// not clog it.
    ///
    /// ```
    /// /// Sends the squares, as far as they go. To be called again at `Event::Drained`.
    /// fn produce(connection: &mut readiness::Connection<u64>) {
    ///     while !connection.is_clogged() {
    ///         connection.data += 1;
    ///         let line = format!("{}\n", connection.data * connection.data);
    ///         connection.send(line.as_bytes());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.exchange.is_clogged()
    }

    /// Ends our direction once everything unsent has left: the peer reads the end. What it still
    /// sends is received as before, until it ends too. On a connect under way this waits until it
    /// has succeeded.
    pub fn finish(&mut self) {
        self.exchange.finish();
    }

    /// Closes gracefully: sends what is unsent and our end, throws away what still comes in, and
    /// waits for the peer's end. From here on the program hears only
    /// [`Closed`](crate::Event::Closed).
    ///
    /// The wait has bounds: while bytes are unsent
    /// [`stalled_write_deadline`](ConnectionLimits::stalled_write_deadline), then
    /// [`close_quiet_deadline`](ConnectionLimits::close_quiet_deadline) and
    /// [`close_deadline`](ConnectionLimits::close_deadline). A connect under way with nothing
    /// unsent is given up at once; with something unsent it goes on until that has left.
    ///
    /// ```
    /// use readiness::{CloseReason, Event, EventLoop};
    /// use std::io::Read;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server: EventLoop = EventLoop::new()?;
    /// let listener = server.listen("127.0.0.1:0")?;
    /// let mut peer = std::net::TcpStream::connect(server.listener_addr(listener)?)?;
    /// let Event::Accepted(_, id) = server.next_event()? else { panic!("it comes first") };
    /// server[id].send(b"bye");
    /// server[id].close();
    /// server.poll_event(Some(std::time::Duration::ZERO))?; // takes effect at the next call
    ///
    /// let mut received = String::new();
    /// peer.read_to_string(&mut received)?; // to the end
    /// assert_eq!(received, "bye");
    /// drop(peer);
    /// assert_eq!(server.next_event()?, Event::Closed(id, CloseReason::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&mut self) {
        self.exchange.close();
    }

    /// Closes at once, with a reset: what is unsent is not sent, and the peer may lose what it has
    /// not read yet. The program hears only [`Closed`](crate::Event::Closed).
    ///
    /// The Unix domain knows no reset. There the peer reads what the kernel has taken and then an
    /// end, as after a [`finish`](Self::finish); only if it had sent something that was not read,
    /// an error (`ECONNRESET`). A protocol that must tell the two apart says in its own words where
    /// a message ends.
    pub fn abort(&mut self) {
        self.exchange.abort();
    }

    /// Stops reading. Until [`resume`](Self::resume) there is neither
    /// [`Received`](crate::Event::Received) nor [`PeerFinished`](crate::Event::PeerFinished), and
    /// the connection does not close by itself. What was received before stays, and sending goes
    /// on. The peer's bytes wait in the kernels, until they take no more of them. A paused
    /// connection with nothing unsent is not watched: its peer's end or reset is learnt when it is
    /// resumed, at the next send, or from a deadline.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::io::Write;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server: EventLoop = EventLoop::new()?;
    /// let listener = server.listen("127.0.0.1:0")?;
    /// let mut peer = std::net::TcpStream::connect(server.listener_addr(listener)?)?;
    /// peer.write_all(b"hello")?;
    /// let Event::Accepted(_, id) = server.next_event()? else { panic!("it comes first") };
    /// server[id].pause();
    /// assert_eq!(server.poll_event(Some(Duration::from_millis(10)))?, None);
    ///
    /// server[id].resume();
    /// assert_eq!(server.next_event()?, Event::Received(id));
    /// # Ok(())
    /// # }
    /// ```
    pub fn pause(&mut self) {
        self.exchange.pause();
    }

    /// Reads again after a pause. What was received before and not consumed is announced again.
    pub fn resume(&mut self) {
        self.exchange.resume();
    }

    /// Whether the connection stays open after the peer has finished, until the program finishes
    /// or closes it too. Not at first: a connection then closes by itself once the program has
    /// handled [`PeerFinished`](crate::Event::PeerFinished) and everything unsent has left.
    pub fn allow_half_open(&mut self, allowed: bool) {
        self.exchange.allow_half_open(allowed);
    }

    /// Has [`Deadline`](crate::Event::Deadline) come once after this time, in place of one set
    /// before; `None` takes it back. Counted from the next call into the loop, never early, and
    /// never before [`Connected`](crate::Event::Connected).
    pub fn set_deadline(&mut self, after: Option<Duration>) {
        self.exchange.forget_deadline();
        self.deadlines_mut().set_program(after);
    }

    /// Ends the connection, with a reset, when nothing has moved in either direction for so long;
    /// `None` for never. In place of the limit of the same name.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) {
        self.deadlines_mut().set_idle_timeout(timeout);
    }

    /// Has the kernel probe the peer after so long a silence; `None` for never.
    ///
    /// # Errors
    ///
    /// `Unsupported` in the Unix domain, where a peer cannot be cut off without our kernel knowing
    /// it; or what the operating system says.
    pub fn set_keepalive(&mut self, after: Option<Duration>) -> io::Result<()> {
        let socket = self.socket()?;
        if socket.is_unix() {
            let message = "a Unix-domain socket has no keepalive";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        socket.set_keepalive(after)?;
        // So that the limits say what the socket has.
        let limits = ConnectionLimits::clone(self.exchange.limits());
        self.exchange.set_limits(Arc::new(ConnectionLimits { keepalive: after, ..limits }));
        Ok(())
    }

    /// Gives this connection limits of its own, with the socket options and the idle timeout among
    /// them, whatever was set before by a call of its own. The options are TCP's, and are passed
    /// over in the Unix domain.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the limits contradict each other, or what the operating system says of an
    /// option; then nothing is changed but options that could be.
    pub fn set_limits(&mut self, limits: ConnectionLimits) -> io::Result<()> {
        limits.check()?;
        let before = self.exchange.limits();
        if let Some(socket) = self.socket.as_ref().filter(|socket| !socket.is_unix()) {
            if limits.nodelay != before.nodelay {
                socket.set_nodelay(limits.nodelay)?;
            }
            if limits.keepalive != before.keepalive {
                socket.set_keepalive(limits.keepalive)?;
            }
        }
        // Not only if it differs: a call of its own may have set another since.
        if self.deadlines.is_some() || limits.idle_timeout.is_some() {
            self.set_idle_timeout(limits.idle_timeout);
        }
        self.exchange.set_limits(Arc::new(limits));
        Ok(())
    }

    /// The peer's address: the one that accept gave, or that was connected to. Known as long as
    /// the connection is, also when the peer has gone. Only of a stream that was
    /// [adopted](crate::EventLoop::adopt_stream) the operating system is asked.
    ///
    /// # Errors
    ///
    /// `Unsupported` in the Unix domain, where there is
    #[cfg_attr(unix, doc = "[`unix_peer_addr`](Self::unix_peer_addr);")]
    #[cfg_attr(not(unix), doc = "`unix_peer_addr`;")]
    /// of an adopted stream what the operating system says.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match (self.origin.peer(), &self.socket) {
            (Some(peer), _) => Ok(peer),
            (None, Some(socket)) => socket.peer_addr(),
            (None, None) => Err(no_ip_address()),
        }
    }

    /// Our own address.
    ///
    /// # Errors
    ///
    /// `Unsupported` in the Unix domain, or what the operating system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket()?.local_addr()
    }

    /// The peer's address in the Unix domain, as the operating system tells it. A peer that has
    /// connected mostly has none: it is unnamed.
    ///
    /// ```
    /// use readiness::{Event, EventLoop, UnixAddress};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let path = format!("/tmp/peer-{}.socket", std::process::id());
    /// let listener = event_loop.listen_unix(path.as_str())?;
    /// let client = event_loop.connect_unix(event_loop.unix_listener_addr(listener)?, ());
    /// while event_loop.next_event()? != Event::Connected(client) {}
    /// let peer = event_loop[client].unix_peer_addr()?;
    /// assert_eq!(peer.as_pathname(), Some(path.as_ref()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// `Unsupported` with TCP, or what the operating system says.
    #[cfg(unix)]
    pub fn unix_peer_addr(&self) -> io::Result<UnixSocketAddr> {
        self.socket()?.unix_peer_addr()
    }

    /// Our own address in the Unix domain, as the operating system tells it: that of its listener
    /// for a connection that was accepted, mostly none for another.
    ///
    /// # Errors
    ///
    /// `Unsupported` with TCP, or what the operating system says.
    #[cfg(unix)]
    pub fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        self.socket()?.unix_local_addr()
    }

    /// The listener that accepted this connection, if one did.
    #[must_use]
    pub fn listener(&self) -> Option<ListenerId> {
        self.origin.listener()
    }

    /// The interest that the kernel was told last.
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.interest
    }

    fn socket(&self) -> io::Result<&Socket> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    pub(crate) fn deadlines_mut(&mut self) -> &mut Deadlines {
        let idle_timeout = self.exchange.limits().idle_timeout;
        self.deadlines.get_or_insert_with(|| Box::new(Deadlines::new(idle_timeout)))
    }
}

/// For socket options.
///
/// # Panics
///
/// If a connect failed before there was a socket: its `Closed` is then the only event.
#[cfg(unix)]
impl std::os::fd::AsFd for Stream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        let socket = self.socket.as_ref();
        socket.expect("the connect failed before there was a socket").descriptor()
    }
}

/// As that of its [`Stream`].
#[cfg(unix)]
impl<T> std::os::fd::AsFd for Connection<T> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
