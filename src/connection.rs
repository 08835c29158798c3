//! A connection: an exchange and its socket, with the program's own state beside them.
//!
//! [`Stream`] is what a program acts on. Its methods change only the exchange. What follows for the
//! socket happens when the loop settles the connection, at a later call.
//!
//! | file | |
//! |---|---|
//! | `read_write_halves.rs` | both directions lent at once, and whole messages without copying |
//! | `std_io.rs` | `Read`, `BufRead` and `Write` |
//! | `options.rs` | deadlines, limits, addresses, the descriptor |
//! | `serving.rs` | readiness → bytes: looks at a connect, flushes, fills |
//! | `settling.rs` | what the program did → system calls: flushes, finishes, asks for an interest |
//! | `connecting.rs` | connects that take more than one try |
//! | `origin.rs` | where a connection came from, and its peer's address |
//! | `waits_for.rs` | who must move next |
//!
//! It deliberately decides nothing: what comes next follows from the exchange's state.

mod connecting;
mod options;
mod origin;
mod read_write_halves;
mod serving;
mod settling;
mod std_io;
mod waits_for;

use std::io;
use std::ops::{Deref, DerefMut};

pub(crate) use self::connecting::{Connecting, Race};
pub(crate) use self::origin::Origin;
pub use self::read_write_halves::{ReadHalf, WriteHalf};
#[cfg(test)]
pub(crate) use self::settling::without_fast_path;
pub use self::waits_for::WaitsFor;
pub(crate) use self::waits_for::assert_somebody_moves;
use crate::attempt::is_would_block;
use crate::deadlines::Deadlines;
use crate::event::Failure;
use crate::exchange::Exchange;
use crate::interest::Interest;
use crate::observer::log_cause;
use crate::slots::ConnectionId;
use crate::system::Socket;

/// One connection of a loop: a [`Stream`], to which it derefs, and the program's own state.
#[derive(Debug)]
pub struct Connection<T> {
    /// The program's own state for this connection.
    pub data: T,
    pub(crate) stream: Stream,
}

impl<T> Connection<T> {
    /// Lends the program's state and the stream at once, as a protocol's state machine needs both.
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

    /// Runs a handler whose error ends this connection alone.
    ///
    /// `Ok` and `WouldBlock` mean that the connection goes on. Any other error closes it
    /// gracefully, so an error answer that was sent still arrives. The reason of
    /// [`Closed`](crate::Event::Closed) is then [`Rejected`](crate::CloseReason::Rejected) with the
    /// error's kind and number, unless the connection has ended for another reason before. The
    /// error's message is logged at debug level.
    ///
    /// This way a handler can use the `?` operator without ending the server:
    ///
    /// ```
    /// use readiness::{CloseReason, Event, EventLoop};
    /// use std::io::{ErrorKind, Write};
    ///
    /// /// Adds the numbers of each line.
    /// fn answer(connection: &mut readiness::Connection<()>) -> std::io::Result<()> {
    ///     let (mut read, mut write) = connection.halves();
    ///     while let Some(line) = read.take_line(1_000)? {
    ///         let line = std::str::from_utf8(line).map_err(|_| ErrorKind::InvalidData)?;
    ///         let mut sum = 0_i64;
    ///         for number in line.split_whitespace() {
    ///             sum += number.parse::<i64>().map_err(|_| ErrorKind::InvalidInput)?;
    ///         }
    ///         writeln!(write, "{sum}")?;
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server: EventLoop = EventLoop::new()?;
    /// let listener = server.listen("127.0.0.1:0")?;
    /// let mut client = std::net::TcpStream::connect(server.listener_addr(listener)?)?;
    /// client.write_all(b"1 2 3\n4 five\n")?;
    /// let client = std::thread::spawn(move || std::io::read_to_string(client));
    /// let reason = loop {
    ///     match server.next_event()? {
    ///         Event::Received(id) => server[id].attend(answer),
    ///         Event::Closed(_, reason) => break reason,
    ///         _ => {}
    ///     }
    /// };
    /// assert_eq!(reason, CloseReason::Rejected(ErrorKind::InvalidInput.into()));
    /// assert_eq!(client.join().expect("the client has ended")?, "6\n");
    /// # Ok(())
    /// # }
    /// ```
    pub fn attend(&mut self, handle: impl FnOnce(&mut Self) -> io::Result<()>) {
        if let Err(error) = handle(self)
            && !is_would_block(&error)
        {
            log_cause(self.id(), "is rejected", &error);
            self.close_with(error);
        }
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

/// The queue in which a connection waits to be served, if in any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Queued {
    #[default]
    No,
    Fresh,
    Deferred,
}

/// Whether other connections are coupled to this one as their writer, and whether they may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Readers {
    #[default]
    None,
    /// They may read: this connection has nothing unsent.
    Read,
    /// They wait until this connection has nothing unsent.
    Wait,
}

impl Readers {
    pub(crate) fn of(has_unsent: bool) -> Self {
        if has_unsent { Self::Wait } else { Self::Read }
    }
}

/// How a connection stands with the loop.
// `repr(C)` keeps the fields that `Stream::may_send_only` compares side by side.
#[derive(Debug, Default)]
#[repr(C)]
pub(crate) struct Standing {
    /// Bytes that count against the write budget of turn `flushed_in`.
    pub(crate) flushed: u32,
    /// When bytes last moved in either direction, as a moment of the loop's clock.
    pub(crate) moved_at: u32,
    /// The program may have changed the connection, and it is not settled yet.
    pub(crate) dirty: bool,
    /// It stopped at a budget, although it could have gone on.
    pub(crate) yielded: bool,
    pub(crate) readers: Readers,
    /// Invariant: the interest last given to the kernel.
    pub(crate) interest: Interest,
    pub(crate) flushed_in: u16,
    pub(crate) queued: Queued,
}

/// The two byte streams of a connection, one from the peer and one to it.
///
/// Nothing here blocks. Bytes that are sent leave at a later call into the loop, so many small
/// sends leave in one system call. Bytes count as sent once the kernel has taken them, which does
/// not mean that the peer has read them.
///
/// [`Read`](io::Read), [`BufRead`](io::BufRead) and [`Write`](io::Write) work on the received and
/// the unsent bytes. If nothing was received, a read returns `WouldBlock`. After the peer's end of
/// file or our [`close`](Stream::close) it returns `Ok(0)`, and after any other end an error that
/// says why. `read_line`, `read_until`, `read_exact`, `read_to_end` and `read_to_string` are all or
/// nothing: until the whole has arrived, they consume nothing and return `WouldBlock`. What is
/// longer than the read buffer can never be whole, and gives `InvalidData`. No byte is searched
/// twice for the same delimiter.
///
/// `write` takes what fits below [`unsent_max`](crate::ConnectionLimits::unsent_max) and returns
/// `WouldBlock` when nothing fits; [`Drained`](crate::Event::Drained) then follows. `write_all` and
/// `write!` act whole, like [`send`](Stream::send): they take everything or nothing, and return
/// `BrokenPipe` when the bytes are lost. None of them reports success for bytes that are lost.
///
/// ```
/// use std::io::{BufRead, Write};
///
/// /// Answers one line. If more have arrived, `Received` is delivered again.
/// fn answer(connection: &mut readiness::Connection<()>) {
///     connection.attend(|connection| {
///         let mut line = String::new();
///         connection.read_line(&mut line)?; // `WouldBlock` while there is half a line
///         write!(connection, "you said {line}")
///     });
/// }
/// ```
#[derive(Debug)]
#[repr(C)]
pub struct Stream {
    pub(crate) exchange: Exchange,
    /// `None` if a connect failed before there was a socket, while a connect races several sockets,
    /// and once `Closed` is delivered.
    pub(crate) socket: Option<Socket>,
    pub(crate) standing: Standing,
    id: ConnectionId,
    pub(crate) origin: Origin,
    pub(crate) deadlines: Option<Box<Deadlines>>,
}

impl Stream {
    pub(crate) fn new(
        id: ConnectionId,
        origin: Origin,
        socket: Option<Socket>,
        exchange: Exchange,
    ) -> Self {
        let idle_timeout = exchange.limits().idle_timeout;
        let deadlines = idle_timeout.map(|_| Box::new(Deadlines::new(idle_timeout)));
        Self { exchange, socket, standing: Standing::default(), id, origin, deadlines }
    }

    /// Returns the id of this connection.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Returns the bytes received and not yet consumed.
    #[must_use]
    #[doc(alias = "recv")]
    pub fn received(&self) -> &[u8] {
        self.exchange.received()
    }

    /// Consumes the first `count` received bytes.
    ///
    /// If bytes are left, [`Received`](crate::Event::Received) is delivered again without a new
    /// read. So a handler may take one message per event, or all that have arrived.
    ///
    /// # Panics
    ///
    /// Panics if fewer bytes were received.
    pub fn consume(&mut self, count: usize) {
        self.exchange.consume(count);
    }

    /// Appends `bytes` to the unsent ones.
    ///
    /// They leave at the next call into the loop, or as soon after it as the kernel takes them. The
    /// call never blocks and never fails. After [`finish`](Self::finish) or [`close`](Self::close),
    /// or when the connection has ended, the bytes count as [`lost`](Self::lost). A send into an
    /// empty write buffer is accepted whatever its size. One that would raise accumulated unsent
    /// bytes above [`unsent_max`](crate::ConnectionLimits::unsent_max) takes nothing and ends the
    /// connection ([`Overflow`](crate::CloseReason::Overflow)).
    #[doc(alias = "sendall")]
    #[doc(alias = "write_all")]
    pub fn send(&mut self, bytes: &[u8]) {
        self.exchange.send(bytes);
    }

    /// Sends everything that was received back to the peer, and consumes it.
    ///
    /// If nothing is unsent, as is usual for an accepted connection, no byte is copied.
    #[inline]
    #[doc(alias = "echo")]
    pub fn send_received(&mut self) {
        self.exchange.send_received();
    }

    /// Returns how many bytes the program has sent and the kernel has not taken yet.
    #[must_use]
    #[inline]
    pub fn unsent(&self) -> usize {
        self.exchange.unsent()
    }

    /// Returns how many bytes were accepted from the program and will never be sent: they were sent
    /// too late, or given up when the connection broke. While [`Closed`](crate::Event::Closed) is
    /// handled, the [`unsent`](Self::unsent) bytes will not be sent either.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.exchange.lost()
    }

    /// Returns whether the program should stop sending: more than
    /// [`high_water`](crate::ConnectionLimits::high_water) bytes are unsent, or a `write` took less
    /// than everything. [`Drained`](crate::Event::Drained) is delivered when they have fallen to
    /// [`low_water`](crate::ConnectionLimits::low_water).
    ///
    /// Exactly `high_water` unsent bytes do not clog. A connection whose bytes can no longer leave
    /// is always clogged, so that sending until clogged always ends. Bytes sent before
    /// [`Connected`](crate::Event::Connected) count too; `Drained` then follows it.
    ///
    /// ```
    /// /// Sends square numbers until clogged. Call it again at `Event::Drained`.
    /// fn produce(connection: &mut readiness::Connection<u64>) {
    ///     while !connection.is_clogged() {
    ///         connection.data += 1;
    ///         let line = format!("{}\n", connection.data * connection.data);
    ///         connection.send(line.as_bytes());
    ///     }
    /// }
    /// ```
    #[must_use]
    #[doc(alias = "pause_writing")]
    #[doc(alias = "back-pressure")]
    #[doc(alias = "drain")]
    pub fn is_clogged(&self) -> bool {
        self.exchange.is_clogged()
    }

    /// Ends our direction once everything unsent has left (*half-close*, `shutdown(SHUT_WR)`): the
    /// peer reads the end of file.
    ///
    /// What the peer still sends is received as before, until it finishes too. While a connect is
    /// under way, this takes effect once it has succeeded.
    #[doc(alias = "shutdown")]
    #[doc(alias = "half-close")]
    pub fn finish(&mut self) {
        self.exchange.finish();
    }

    /// Closes gracefully: sends the unsent bytes and our end of file, discards what still arrives,
    /// and waits for the peer to finish (*lingering close*). From here on only
    /// [`Closed`](crate::Event::Closed) is delivered.
    ///
    /// The wait is bounded: while bytes are unsent by
    /// [`stalled_write_deadline`](crate::ConnectionLimits::stalled_write_deadline), then by
    /// [`close_quiet_deadline`](crate::ConnectionLimits::close_quiet_deadline) and
    /// [`close_deadline`](crate::ConnectionLimits::close_deadline). A connect under way is given up
    /// at once if nothing is unsent; otherwise it goes on until the unsent bytes have left.
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

    /// Closes gracefully and gives a reason: [`Closed`](crate::Event::Closed) carries it as
    /// [`Rejected`](crate::CloseReason::Rejected), unless something else has ended the connection
    /// before.
    pub fn close_with(&mut self, reason: impl Into<Failure>) {
        self.exchange.reject(reason.into());
        self.exchange.close();
    }

    /// Closes at once with a reset (RST): the unsent bytes are not sent, and the peer may lose what
    /// it has not read yet. Only [`Closed`](crate::Event::Closed) is delivered from here on.
    ///
    /// Unix-domain sockets have no reset. Their peer reads what the kernel has taken and then an
    /// end of file, as after a [`finish`](Self::finish); only if it had sent something that was not
    /// read, it reads an error (`ECONNRESET`). A protocol that must tell the two apart needs to
    /// mark the end of each message itself.
    #[doc(alias = "reset")]
    pub fn abort(&mut self) {
        self.exchange.abort();
    }

    /// Closes at once with a reset, and gives a reason: see [`close_with`](Self::close_with).
    pub fn abort_with(&mut self, reason: impl Into<Failure>) {
        self.exchange.reject(reason.into());
        self.exchange.abort();
    }

    /// Stops reading.
    ///
    /// Until [`resume`](Self::resume) neither [`Received`](crate::Event::Received) nor
    /// [`PeerFinished`](crate::Event::PeerFinished) is delivered, and the connection does not close
    /// by itself. So pause a connection whose answer comes later, from another thread or another
    /// connection. What was received before stays, and sending goes on. The peer's bytes wait in
    /// the two kernels' buffers; when those are full, the peer cannot send any more. A paused
    /// connection with nothing unsent is not watched: the loop learns of its peer's end or reset
    /// when it is resumed, at the next send, or from a deadline.
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
    #[doc(alias = "pause_reading")]
    pub fn pause(&mut self) {
        self.exchange.pause();
    }

    /// Resumes reading after a pause. Bytes that were received before and not consumed are
    /// announced again, as soon as no unsent bytes hold the connection back.
    #[doc(alias = "resume_reading")]
    pub fn resume(&mut self) {
        self.exchange.resume();
    }

    /// Sets whether the connection stays open after the peer has finished (half-close), until the
    /// program finishes or closes it too.
    ///
    /// By default it does not: the connection closes by itself once the program has handled
    /// [`PeerFinished`](crate::Event::PeerFinished) and everything unsent has left. A program that
    /// answers later must allow half-open or [pause](Self::pause) the connection.
    pub fn allow_half_open(&mut self, allowed: bool) {
        self.exchange.allow_half_open(allowed);
    }

    pub(crate) fn deadlines_mut(&mut self) -> &mut Deadlines {
        let idle_timeout = self.exchange.limits().idle_timeout;
        self.deadlines.get_or_insert_with(|| Box::new(Deadlines::new(idle_timeout)))
    }
}
