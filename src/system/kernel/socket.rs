//! Connected and connecting sockets of the kernel.
//!
//! TCP and Unix-domain sockets differ in more than their addresses: a Unix-domain socket has no TCP
//! options and no reset, connects at once or not at all, and a short transfer on it proves nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::event::Source;
use mio::net;
use socket2::{SockRef, TcpKeepalive, Type};

#[cfg(unix)]
use crate::address::UnixAddress;
use crate::attempt::{Attempt, attempt};
use crate::limits::ConnectionLimits;
use crate::system::ConnectOutcome;

/// A connected or connecting socket. Dropping it closes it and never blocks. Deregister it first:
/// if its descriptor has a duplicate, closing it does not end the registration.
#[derive(Debug)]
pub(crate) enum KernelSocket {
    Tcp {
        stream: net::TcpStream,
        /// Whether it may have a linger time (`SO_LINGER`) that this crate has not set.
        ///
        /// A linger time above zero makes `close(2)` block until the peer has acknowledged
        /// everything, even on a non-blocking socket; zero turns the close into a reset. Everything
        /// that has the descriptor can set it, and accepted sockets inherit it from their listener.
        may_linger: AtomicBool,
    },
    #[cfg(unix)]
    Unix(net::UnixStream),
}

/// Makes the same call on the stream of either domain.
macro_rules! stream {
    ($socket:expr, |$stream:ident| $call:expr) => {
        match $socket {
            KernelSocket::Tcp { stream: $stream, .. } => $call,
            #[cfg(unix)]
            KernelSocket::Unix($stream) => $call,
        }
    };
}

/// `EINPROGRESS`, for which `ErrorKind` has no stable name.
const IN_PROGRESS: Option<i32> = match () {
    () if cfg!(any(target_os = "linux", target_os = "android")) => Some(115),
    () if cfg!(windows) => Some(10_036),
    () if cfg!(unix) => Some(36),
    () => None,
};

/// Converts an address to the system's form; fails if it cannot be one.
#[cfg(unix)]
pub(super) fn system_address(address: &UnixAddress) -> io::Result<socket2::SockAddr> {
    use std::os::unix::ffi::OsStrExt;

    address.check()?;
    socket2::SockAddr::unix(std::ffi::OsStr::from_bytes(&address.bytes()))
}

impl KernelSocket {
    // Opening.

    pub(super) fn tcp(stream: net::TcpStream, may_linger: bool) -> Self {
        Self::Tcp { stream, may_linger: AtomicBool::new(may_linger) }
    }

    /// Begins a connect.
    pub(crate) fn connect(address: SocketAddr, limits: &ConnectionLimits) -> io::Result<Self> {
        let socket = Self::tcp(net::TcpStream::connect(address)?, false);
        set_options(&socket.options(), limits)?;
        Ok(socket)
    }

    pub(crate) fn adopt(stream: TcpStream, limits: &ConnectionLimits) -> io::Result<Self> {
        // First, so that an error does not close the socket with its linger time.
        let socket = Self::tcp(net::TcpStream::from_std(stream), true);
        check_kind(&socket.options(), false)?;
        socket.options().set_nonblocking(true)?;
        set_options(&socket.options(), limits)?;
        Ok(socket)
    }

    /// Creates a Unix-domain socket that is not connected yet.
    #[cfg(unix)]
    pub(crate) fn new_unix() -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self::Unix(net::UnixStream::from_std(socket.into())))
    }

    #[cfg(unix)]
    pub(crate) fn adopt_unix(stream: UnixStream) -> io::Result<Self> {
        check_kind(&SockRef::from(&stream), false)?;
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(net::UnixStream::from_std(stream)))
    }

    /// Connects. `NotReady` means that the listener's backlog is full: nothing is under way, and
    /// the kernel will not report when there is room.
    #[cfg(unix)]
    pub(crate) fn connect_unix(&self, address: &UnixAddress) -> Attempt<()> {
        let address = match system_address(address) {
            Ok(address) => address,
            Err(error) => return Attempt::Failed(error),
        };
        match attempt(|| self.options().connect(&address)) {
            Attempt::Failed(error) if error.raw_os_error() == IN_PROGRESS => Attempt::Done(()),
            outcome => outcome,
        }
    }

    /// Checks the outcome of a connect, once the kernel has reported that the socket is writable,
    /// or HUP or an error.
    pub(crate) fn connect_outcome(&self, is_hup: bool) -> ConnectOutcome {
        if is_hup {
            return self.hup_outcome();
        }
        match self.outcome() {
            ConnectOutcome::UnderWay => self.begin_deferred(),
            outcome => outcome,
        }
    }

    /// Begins a connect that waits for something to be sent, as with TCP fast open
    /// (`TCP_FASTOPEN_CONNECT` on Linux): such a socket counts as writable before it is connected.
    /// An empty write begins the connect, and does nothing if one is under way.
    fn begin_deferred(&self) -> ConnectOutcome {
        if self.is_unix() || !cfg!(any(target_os = "linux", target_os = "android")) {
            return ConnectOutcome::UnderWay;
        }
        let is_pending = |error: &io::Error| {
            // `ENOTCONN` is the answer of a socket for which no connect was begun.
            error.raw_os_error() == IN_PROGRESS || error.kind() == ErrorKind::BrokenPipe
        };
        match attempt(|| self.write(&[])) {
            Attempt::Failed(error) if !is_pending(&error) => ConnectOutcome::Failed(error),
            _ => ConnectOutcome::UnderWay,
        }
    }

    fn outcome(&self) -> ConnectOutcome {
        match self.options().take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return ConnectOutcome::Failed(error),
        }
        match stream!(self, |stream| stream.peer_addr().map(|_| ())) {
            Ok(()) => ConnectOutcome::Connected,
            Err(error)
                if error.kind() == ErrorKind::NotConnected
                    || error.raw_os_error() == IN_PROGRESS =>
            {
                ConnectOutcome::UnderWay
            }
            Err(error) => ConnectOutcome::Failed(error),
        }
    }

    /// Checks the outcome of a connect after HUP or an error was reported. That may concern the
    /// connect or what followed it: the socket may have been connected, may have lost its peer
    /// since, and may still hold what the peer had sent. So look for input first.
    fn hup_outcome(&self) -> ConnectOutcome {
        match attempt(|| self.peek()) {
            Attempt::Done(true) => ConnectOutcome::Connected,
            // It has an end of file, so no connect is under way any more.
            Attempt::Done(false) => match self.outcome() {
                ConnectOutcome::UnderWay => ConnectOutcome::Failed(ErrorKind::NotConnected.into()),
                outcome => outcome,
            },
            Attempt::NotReady => self.outcome(),
            // Sockets that are not connected yet answer with these.
            Attempt::Failed(error)
                if matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::InvalidInput) =>
            {
                self.outcome()
            }
            Attempt::Failed(error) => ConnectOutcome::Failed(error),
        }
    }

    // Reading and writing.

    /// Returns whether there is a byte to read; if not, there is an end of file. The call goes
    /// through mio's socket, which re-arms its registration on Windows if it would block.
    pub(crate) fn peek(&self) -> io::Result<bool> {
        let count = match self {
            Self::Tcp { stream, .. } => stream.peek(&mut [0])?,
            #[cfg(unix)]
            Self::Unix(stream) => {
                SockRef::from(stream).peek(&mut [std::mem::MaybeUninit::uninit()])?
            }
        };
        Ok(count > 0)
    }

    #[inline]
    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        stream!(self, |stream| (&*stream).read(into))
    }

    #[inline]
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        stream!(self, |stream| (&*stream).write(bytes))
    }

    // What it is.

    pub(crate) fn is_unix(&self) -> bool {
        !matches!(self, Self::Tcp { .. })
    }

    /// It does for a TCP socket with epoll or kqueue. On a Unix-domain socket, a read also ends
    /// where the following bytes have another sender.
    pub(crate) fn short_proves_blocked(&self) -> bool {
        match self {
            Self::Tcp { .. } => cfg!(any(
                target_os = "linux",
                target_os = "android",
                target_vendor = "apple",
                target_os = "freebsd",
                target_os = "netbsd",
                target_os = "openbsd",
                target_os = "dragonfly",
            )),
            #[cfg(unix)]
            Self::Unix(_) => false,
        }
    }

    pub(crate) fn source(&mut self) -> &mut dyn Source {
        stream!(self, |stream| stream)
    }

    // Ending.

    /// Sends our end of file (`shutdown(SHUT_WR)`). A failure shows at the next read.
    pub(crate) fn finish(&self) {
        let _ = self.options().shutdown(Shutdown::Write);
    }

    /// The Unix domain has no reset: if a socket is closed with unread bytes, its peer reads an
    /// error, otherwise an end of file.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Self::Tcp { stream, may_linger } => {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                may_linger.store(false, Ordering::Relaxed);
            }
            #[cfg(unix)]
            Self::Unix(_) => {}
        }
    }

    // Addresses and options.

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp { stream, .. } => stream.local_addr(),
            #[cfg(unix)]
            Self::Unix(_) => Err(crate::system::no_ip_address()),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp { stream, .. } => stream.peer_addr(),
            #[cfg(unix)]
            Self::Unix(_) => Err(crate::system::no_ip_address()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        match self {
            Self::Tcp { .. } => Err(crate::system::no_unix_address()),
            Self::Unix(stream) => stream.local_addr(),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_peer_addr(&self) -> io::Result<UnixSocketAddr> {
        match self {
            Self::Tcp { .. } => Err(crate::system::no_unix_address()),
            Self::Unix(stream) => stream.peer_addr(),
        }
    }

    pub(crate) fn set_keepalive(&self, after: Option<Duration>) -> io::Result<()> {
        set_keepalive(&self.options(), after)
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.options().set_tcp_nodelay(nodelay)
    }

    pub(super) fn options(&self) -> SockRef<'_> {
        stream!(self, |stream| SockRef::from(stream))
    }

    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;

        match self {
            Self::Tcp { stream, may_linger } => {
                may_linger.store(true, Ordering::Relaxed);
                stream.as_fd()
            }
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

impl Drop for KernelSocket {
    /// Removes a linger time, so that the following close neither blocks nor resets the connection.
    fn drop(&mut self) {
        if let Self::Tcp { stream, may_linger } = self
            && *may_linger.get_mut()
        {
            // It fails only if the descriptor is not a socket any more.
            let _ = SockRef::from(&*stream).set_linger(None);
        }
    }
}

/// Refuses a socket that was made elsewhere and is of an unexpected kind.
pub(super) fn check_kind(socket: &SockRef<'_>, listens: bool) -> io::Result<()> {
    // Windows and some other systems cannot say whether a socket listens.
    #[cfg(any(target_os = "linux", target_os = "android", target_os = "freebsd"))]
    let is_listener = socket.is_listener()?;
    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "freebsd")))]
    let is_listener = listens;
    let message = match socket.r#type()? {
        Type::STREAM if is_listener == listens => return Ok(()),
        Type::STREAM if listens => "the socket does not listen",
        Type::STREAM => "the socket listens: adopt it as a listener",
        _ => "the socket is not a stream socket",
    };
    Err(io::Error::new(ErrorKind::InvalidInput, message))
}

/// Sets the options that the limits ask for, and no others.
pub(super) fn set_options(socket: &SockRef<'_>, limits: &ConnectionLimits) -> io::Result<()> {
    if limits.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    match limits.keepalive {
        None => Ok(()),
        after => set_keepalive(socket, after),
    }
}

/// Sets when keepalive probes are sent, or turns them off. If it fails, nothing is changed.
fn set_keepalive(socket: &SockRef<'_>, after: Option<Duration>) -> io::Result<()> {
    let Some(after) = after else { return socket.set_keepalive(false) };
    let was_on = socket.keepalive()?;
    // socket2 turns probes on before it sets the time.
    let outcome = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after));
    if outcome.is_err() && !was_on {
        socket.set_keepalive(false)?;
    }
    outcome
}
