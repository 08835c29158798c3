//! The operating system's kernel, by mio: TCP.
//!
//! What mio lacks is set through socket2: the backlog, a reset on close, keepalive. All reading and
//! writing goes through mio's own sockets, which on Windows re-arm their registration there.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener};
use std::time::{Duration, Instant};

pub use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Poll, Token};
use socket2::{Domain, Protocol, SockRef, TcpKeepalive, Type};

use super::{ConnectOutcome, Socket, Watched};
use crate::interest::{Interest, Readiness};
use crate::limits::{ConnectionLimits, Limits};
use crate::transfer::{Attempt, attempt, was_interrupted};

/// The highest two bits of a token tell what its slot is of.
const KIND: usize = 3 << (usize::BITS - 2);
const LISTENER: usize = 1 << (usize::BITS - 2);
const SOURCE: usize = 2 << (usize::BITS - 2);
const BELL: Token = Token(KIND);

/// What another thread rings to end a wait.
pub(crate) type KernelBell = mio::Waker;

/// A socket as something to read from and write to.
pub(crate) type KernelIo<'s> = &'s TcpStream;

impl Watched {
    fn token(self) -> Token {
        match self {
            Self::Connection(slot) => Token(slot as usize),
            Self::Listener(slot) => Token(LISTENER | slot as usize),
            Self::Source(slot) => Token(SOURCE | slot as usize),
            Self::Bell => BELL,
        }
    }

    fn of(token: Token) -> Self {
        let slot = u32::try_from(token.0 & !KIND);
        let slot = slot.expect("a token is made from a slot, which has 32 bits");
        match token.0 & KIND {
            0 => Self::Connection(slot),
            LISTENER => Self::Listener(slot),
            SOURCE => Self::Source(slot),
            _ => Self::Bell,
        }
    }
}

/// One mio `Poll`, and the room for the events of one wait.
pub(crate) struct Kernel {
    poll: Poll,
    events: Events,
    /// The last wait brought as many events as there is room for.
    was_filled: bool,
}

impl Kernel {
    pub(crate) fn new(event_capacity: usize) -> io::Result<Self> {
        let events = Events::with_capacity(event_capacity);
        Ok(Self { poll: Poll::new()?, events, was_filled: false })
    }

    /// Waits for events, at most so long, and says how many came. A signal ends the wait early.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if was_interrupted(&error) => self.events.clear(),
            Err(error) => return Err(error),
        }
        let count = self.events.iter().count();
        self.was_filled = count >= self.events.capacity();
        Ok(count)
    }

    pub(crate) fn spin(&mut self, moment: Duration) -> io::Result<usize> {
        let start = Instant::now();
        loop {
            let count = self.wait(Some(Duration::ZERO))?;
            if count > 0 || start.elapsed() >= moment {
                return Ok(count);
            }
        }
    }

    /// Whether there may be more events than the last wait had room for.
    pub(crate) fn was_filled(&self) -> bool {
        self.was_filled
    }

    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self.poll.registry())
    }

    pub(crate) fn bell(&self) -> io::Result<KernelBell> {
        KernelBell::new(self.poll.registry(), BELL)
    }

    /// Hands over each event of the last wait.
    pub(crate) fn take_events(&mut self, mut take: impl FnMut(Watched, Readiness)) {
        for event in &self.events {
            take(Watched::of(event.token()), readiness(event));
        }
    }

    /// Tells the kernel the new interest in a socket, which differs from the one told last.
    pub(crate) fn tell(
        &self,
        socket: &mut KernelSocket,
        slot: u32,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        self.tell_source(&mut socket.0, Watched::Connection(slot), from, to)
    }

    /// The same for anything that can be watched. Told the same again, the kernel reports again
    /// what is ready.
    pub(crate) fn tell_source(
        &self,
        source: &mut (impl Source + ?Sized),
        watched: Watched,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        let registry = self.poll.registry();
        let token = watched.token();
        match (from, interest(to)) {
            (Interest::None, None) => Ok(()),
            (_, None) => registry.deregister(source),
            (Interest::None, Some(to)) => registry.register(source, token, to),
            (_, Some(to)) => registry.reregister(source, token, to),
        }
    }

    /// Has the kernel tell, or no longer tell, when a listener has peers that wait.
    pub(crate) fn watch_listener(
        &self,
        listener: &mut KernelListener,
        slot: u32,
        watch: bool,
    ) -> io::Result<()> {
        let registry = self.poll.registry();
        if watch {
            let token = Watched::Listener(slot).token();
            registry.register(&mut listener.0, token, mio::Interest::READABLE)
        } else {
            registry.deregister(&mut listener.0)
        }
    }

    pub(crate) fn listen(
        &self,
        address: SocketAddr,
        limits: &Limits,
    ) -> io::Result<KernelListener> {
        let stream = Type::STREAM;
        let socket =
            socket2::Socket::new(Domain::for_address(address), stream, Some(Protocol::TCP))?;
        // Without it a restarted server waits minutes for its port. On Windows the same option
        // would let another process take the port over.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(i32::try_from(limits.listen_backlog).unwrap_or(i32::MAX))?;
        self.adopt_listener(socket.into(), limits)
    }

    pub(crate) fn adopt_listener(
        &self,
        listener: StdListener,
        limits: &Limits,
    ) -> io::Result<KernelListener> {
        listener.set_nonblocking(true)?;
        let options = SockRef::from(&listener);
        options.set_tcp_nodelay(limits.connection.nodelay)?;
        set_keepalive(&options, limits.connection.keepalive)?;
        Ok(KernelListener(TcpListener::from_std(listener)))
    }

    pub(crate) fn accept(
        &self,
        listener: &KernelListener,
        limits: &ConnectionLimits,
    ) -> Attempt<(Socket, SocketAddr)> {
        attempt(|| listener.0.accept()).map(|(stream, peer)| {
            let socket = KernelSocket(stream);
            if !OPTIONS_ARE_INHERITED {
                // A socket that cannot take an option still works, or fails when it is used.
                let _ = socket.set_options(limits);
            }
            (Socket::Kernel(socket), peer)
        })
    }

    /// Begins a connect.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
        limits: &ConnectionLimits,
    ) -> io::Result<KernelSocket> {
        let socket = KernelSocket(TcpStream::connect(address)?);
        socket.set_options(limits)?;
        Ok(socket)
    }

    /// Looks at what became of a connect, once the kernel has reported something.
    pub(crate) fn connect_outcome(&self, socket: &KernelSocket) -> ConnectOutcome {
        match socket.0.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return ConnectOutcome::Failed(error),
        }
        match socket.0.peer_addr() {
            Ok(_) => ConnectOutcome::Connected,
            Err(error)
                if error.kind() == ErrorKind::NotConnected
                    || error.raw_os_error() == IN_PROGRESS =>
            {
                ConnectOutcome::UnderWay
            }
            Err(error) => ConnectOutcome::Failed(error),
        }
    }

    /// The socket as something to read from and write to.
    pub(crate) fn io<'s>(&self, socket: &'s KernelSocket) -> KernelIo<'s> {
        &socket.0
    }

    /// Sends the end of our direction. A peer that has gone meanwhile shows elsewhere.
    pub(crate) fn finish(&self, socket: &KernelSocket) {
        let _ = socket.0.shutdown(Shutdown::Write);
    }

    pub(crate) fn reset_on_close(&self, socket: &KernelSocket) {
        let _ = SockRef::from(&socket.0).set_linger(Some(Duration::ZERO));
    }

    /// So it is for a TCP socket whose readiness comes as edges from epoll or kqueue.
    pub(crate) fn short_proves_blocked(&self) -> bool {
        cfg!(any(
            target_os = "linux",
            target_os = "android",
            target_vendor = "apple",
            target_os = "freebsd",
            target_os = "netbsd",
            target_os = "openbsd",
            target_os = "dragonfly",
        ))
    }
}

/// `EINPROGRESS`, for which `ErrorKind` has no stable name.
const IN_PROGRESS: Option<i32> = match () {
    () if cfg!(any(target_os = "linux", target_os = "android")) => Some(115),
    () if cfg!(windows) => Some(10_036),
    () if cfg!(unix) => Some(36),
    () => None,
};

/// What mio reports, as bits. Ends, errors and urgent data are hints: what they announce is learnt
/// by reading on, and a failed socket is ready for everything.
fn readiness(event: &mio::event::Event) -> Readiness {
    let mut readiness = Readiness::default();
    if event.is_readable() {
        readiness.fold(Readiness::READABLE);
    }
    if event.is_writable() {
        readiness.fold(Readiness::WRITABLE);
    }
    if event.is_read_closed() || event.is_priority() {
        readiness.fold(Readiness::READABLE | Readiness::HINTED);
    }
    if event.is_write_closed() || event.is_error() {
        readiness.fold(Readiness::READABLE | Readiness::WRITABLE | Readiness::HINTED);
    }
    readiness
}

/// The interest in mio's terms, which has no word for none. On Linux urgent data is asked for with
/// it, because a read stops short at the mark although more may follow.
fn interest(interest: Interest) -> Option<mio::Interest> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let readable = mio::Interest::READABLE | mio::Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let readable = mio::Interest::READABLE;
    match interest {
        Interest::None => None,
        Interest::Readable => Some(readable),
        Interest::Writable => Some(mio::Interest::WRITABLE),
        Interest::ReadableWritable => Some(readable | mio::Interest::WRITABLE),
    }
}

/// A connected socket, or one that is connecting. Dropping it closes it, which also ends its
/// registration.
#[derive(Debug)]
pub(crate) struct KernelSocket(TcpStream);

impl KernelSocket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(crate) fn set_keepalive(&self, after: Option<Duration>) -> io::Result<()> {
        set_keepalive(&SockRef::from(&self.0), after)
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.set_nodelay(nodelay)
    }

    fn set_options(&self, limits: &ConnectionLimits) -> io::Result<()> {
        self.0.set_nodelay(limits.nodelay)?;
        match limits.keepalive {
            None => Ok(()),
            after => self.set_keepalive(after),
        }
    }

    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.0)
    }
}

/// Whether accepted sockets have the listener's options, so that they need not be set again.
const OPTIONS_ARE_INHERITED: bool = cfg!(target_os = "linux");

fn set_keepalive(socket: &SockRef<'_>, after: Option<Duration>) -> io::Result<()> {
    match after {
        None => socket.set_keepalive(false),
        Some(after) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after)),
    }
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) struct KernelListener(TcpListener);

impl KernelListener {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}
