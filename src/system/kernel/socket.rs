//! Connected sockets of the kernel, and those that are connecting.
//!
//! One of TCP and one of the Unix domain differ in more than their addresses: the second has no
//! options of TCP, knows no reset, connects at once or not at all, and a short transfer on it
//! proves nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, TcpStream as StdTcpStream};
#[cfg(unix)]
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixStream as StdUnixStream};
#[cfg(unix)]
use std::path::Path;
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
#[cfg(unix)]
use mio::net::UnixStream;
#[cfg(unix)]
use socket2::{Domain, SockAddr, Type};
use socket2::{SockRef, TcpKeepalive};

#[cfg(unix)]
use crate::address::UnixAddress;
use crate::limits::ConnectionLimits;
use crate::system::ConnectOutcome;
#[cfg(unix)]
use crate::system::{no_ip_address, no_unix_address};
use crate::transfer::{Attempt, attempt};

/// A connected socket, or one that is connecting. Dropping it closes it, which also ends its
/// registration.
#[derive(Debug)]
pub(crate) enum KernelSocket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// `EINPROGRESS`, for which `ErrorKind` has no stable name.
const IN_PROGRESS: Option<i32> = match () {
    () if cfg!(any(target_os = "linux", target_os = "android")) => Some(115),
    () if cfg!(windows) => Some(10_036),
    () if cfg!(unix) => Some(36),
    () => None,
};

/// What the system knows an address as; an error if it cannot be one.
#[cfg(unix)]
pub(super) fn system_address(address: &UnixAddress) -> io::Result<SockAddr> {
    use std::os::unix::ffi::OsStrExt;

    address.check()?;
    SockAddr::unix(Path::new(std::ffi::OsStr::from_bytes(&address.bytes())))
}

impl KernelSocket {
    // Opening.

    /// Begins a connect.
    pub(crate) fn connect(address: SocketAddr, limits: &ConnectionLimits) -> io::Result<Self> {
        let socket = Self::Tcp(TcpStream::connect(address)?);
        socket.set_options(limits)?;
        Ok(socket)
    }

    pub(crate) fn adopt(stream: StdTcpStream, limits: &ConnectionLimits) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        let socket = Self::Tcp(TcpStream::from_std(stream));
        socket.set_options(limits)?;
        Ok(socket)
    }

    /// One of the Unix domain that is not connected yet.
    #[cfg(unix)]
    pub(crate) fn new_unix() -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        Self::adopt_unix(socket.into())
    }

    #[cfg(unix)]
    pub(crate) fn adopt_unix(stream: StdUnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self::Unix(UnixStream::from_std(stream)))
    }

    /// Connects. It is not ready if those that wait to be accepted are too many, and then nothing
    /// is under way: the kernel will not tell when there is room.
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

    /// Looks at what became of a connect, once the kernel has reported something.
    pub(crate) fn connect_outcome(&self) -> ConnectOutcome {
        let error = match self {
            Self::Tcp(stream) => stream.take_error(),
            #[cfg(unix)]
            Self::Unix(stream) => stream.take_error(),
        };
        match error {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return ConnectOutcome::Failed(error),
        }
        let peer = match self {
            Self::Tcp(stream) => stream.peer_addr().map(|_| ()),
            #[cfg(unix)]
            Self::Unix(stream) => stream.peer_addr().map(|_| ()),
        };
        match peer {
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

    /// The same if there was a hint of an end or an error. That may be of the connect, or of what
    /// came after it: a socket that was connected may have no peer any more, and an error pending,
    /// and still hold what the peer had sent before. So it is looked into first.
    pub(crate) fn hinted_outcome(&self) -> ConnectOutcome {
        match attempt(|| self.options().peek(&mut [MaybeUninit::uninit()])) {
            Attempt::Done(1..) => ConnectOutcome::Connected,
            // It is at its end, so that a connect is no longer under way.
            Attempt::Done(0) => match self.connect_outcome() {
                ConnectOutcome::UnderWay => ConnectOutcome::Failed(ErrorKind::NotConnected.into()),
                outcome => outcome,
            },
            Attempt::NotReady => self.connect_outcome(),
            // So say sockets that are not connected yet.
            Attempt::Failed(error)
                if matches!(error.kind(), ErrorKind::NotConnected | ErrorKind::InvalidInput) =>
            {
                self.connect_outcome()
            }
            Attempt::Failed(error) => ConnectOutcome::Failed(error),
        }
    }

    // What it is.

    #[cfg(unix)]
    pub(crate) fn is_unix(&self) -> bool {
        matches!(self, Self::Unix(_))
    }

    /// So it is for a TCP socket whose readiness comes as edges from epoll or kqueue. On one of
    /// the Unix domain a read ends also where the sender of what follows is another.
    pub(crate) fn short_proves_blocked(&self) -> bool {
        match self {
            Self::Tcp(_) => cfg!(any(
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

    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp(stream) => stream,
            #[cfg(unix)]
            Self::Unix(stream) => stream,
        }
    }

    // Ending.

    /// Sends the end of our direction. A peer that has gone meanwhile shows elsewhere.
    pub(crate) fn finish(&self) {
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Write),
            #[cfg(unix)]
            Self::Unix(stream) => stream.shutdown(Shutdown::Write),
        };
    }

    /// There is no reset in the Unix domain: the peer of a socket that is closed with unread bytes
    /// reads an error, and that of any other an end.
    pub(crate) fn reset_on_close(&self) {
        let _ = match self {
            Self::Tcp(stream) => SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            #[cfg(unix)]
            Self::Unix(_) => Ok(()),
        };
    }

    // Addresses and options.

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr(),
            #[cfg(unix)]
            Self::Unix(_) => Err(no_ip_address()),
        }
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr(),
            #[cfg(unix)]
            Self::Unix(_) => Err(no_ip_address()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        match self {
            Self::Tcp(_) => Err(no_unix_address()),
            Self::Unix(stream) => stream.local_addr(),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_peer_addr(&self) -> io::Result<UnixSocketAddr> {
        match self {
            Self::Tcp(_) => Err(no_unix_address()),
            Self::Unix(stream) => stream.peer_addr(),
        }
    }

    pub(crate) fn set_keepalive(&self, after: Option<Duration>) -> io::Result<()> {
        set_keepalive(&self.options(), after)
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.options().set_tcp_nodelay(nodelay)
    }

    pub(super) fn set_options(&self, limits: &ConnectionLimits) -> io::Result<()> {
        self.set_nodelay(limits.nodelay)?;
        match limits.keepalive {
            None => Ok(()),
            after => self.set_keepalive(after),
        }
    }

    fn options(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            #[cfg(unix)]
            Self::Unix(stream) => SockRef::from(stream),
        }
    }

    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        use std::os::fd::AsFd;

        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
        }
    }
}

pub(super) fn set_keepalive(socket: &SockRef<'_>, after: Option<Duration>) -> io::Result<()> {
    match after {
        None => socket.set_keepalive(false),
        Some(after) => socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(after)),
    }
}

impl Read for &KernelSocket {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            KernelSocket::Tcp(stream) => (&*stream).read(into),
            #[cfg(unix)]
            KernelSocket::Unix(stream) => (&*stream).read(into),
        }
    }
}

impl Write for &KernelSocket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            KernelSocket::Tcp(stream) => (&*stream).write(bytes),
            #[cfg(unix)]
            KernelSocket::Unix(stream) => (&*stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
