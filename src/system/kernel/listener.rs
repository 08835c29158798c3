//! Listening sockets of the kernel.

use std::io;
use std::net::{SocketAddr, TcpListener};
#[cfg(unix)]
use std::os::unix::net::{SocketAddr as UnixSocketAddr, UnixListener};

use mio::event::Source;
use mio::net;
use socket2::{Domain, Protocol, SockRef, Type};

#[cfg(unix)]
use super::bound::Bound;
use super::socket::{KernelSocket, check_kind, set_options};
#[cfg(unix)]
use crate::address::UnixAddress;
use crate::attempt::{Attempt, attempt};
use crate::limits::{ConnectionLimits, Limits};
use crate::system::PeerAddr;

/// A listening socket. Dropping it closes it. Deregister it first, like any other socket.
#[derive(Debug)]
pub(crate) enum KernelListener {
    Tcp {
        listener: net::TcpListener,
        /// Others may have set its options, which accepted sockets inherit.
        is_adopted: bool,
    },
    #[cfg(unix)]
    Unix {
        /// Removed when this is dropped. The field precedes the socket, so that the file is removed
        /// while the socket still holds its inode.
        _file: Option<Bound>,
        listener: net::UnixListener,
    },
}

/// Whether accepted sockets inherit the listener's options, so that they need not be set again.
const OPTIONS_ARE_INHERITED: bool = cfg!(target_os = "linux");

impl KernelListener {
    pub(crate) fn listen(address: SocketAddr, limits: &Limits) -> io::Result<Self> {
        let stream = Type::STREAM;
        let socket =
            socket2::Socket::new(Domain::for_address(address), stream, Some(Protocol::TCP))?;
        // Without it, a restarted server waits minutes for its port. On Windows the same option
        // would let another process take over the port.
        #[cfg(unix)]
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(backlog(limits))?;
        Self::open(socket.into(), limits, false)
    }

    pub(crate) fn adopt(listener: TcpListener, limits: &Limits) -> io::Result<Self> {
        check_kind(&SockRef::from(&listener), true)?;
        Self::open(listener, limits, true)
    }

    fn open(listener: TcpListener, limits: &Limits, is_adopted: bool) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        set_options(&SockRef::from(&listener), &limits.connection)?;
        Ok(Self::Tcp { listener: net::TcpListener::from_std(listener), is_adopted })
    }

    #[cfg(unix)]
    pub(crate) fn listen_unix(address: &UnixAddress, limits: &Limits) -> io::Result<Self> {
        let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
        let file = Bound::bind(&socket, address)?;
        socket.listen(backlog(limits))?;
        socket.set_nonblocking(true)?;
        Ok(Self::Unix { _file: file, listener: net::UnixListener::from_std(socket.into()) })
    }

    #[cfg(unix)]
    pub(crate) fn adopt_unix(listener: UnixListener) -> io::Result<Self> {
        check_kind(&SockRef::from(&listener), true)?;
        listener.set_nonblocking(true)?;
        Ok(Self::Unix { _file: None, listener: net::UnixListener::from_std(listener) })
    }

    /// Accepts a connection, with its peer's address.
    pub(crate) fn accept(&self, limits: &ConnectionLimits) -> Attempt<(KernelSocket, PeerAddr)> {
        match self {
            Self::Tcp { listener, is_adopted } => {
                attempt(|| listener.accept()).map(|(stream, peer)| {
                    let socket = KernelSocket::tcp(stream, *is_adopted);
                    if !OPTIONS_ARE_INHERITED {
                        // A socket on which an option cannot be set still works, or fails when it
                        // is used.
                        let _ = set_options(&socket.options(), limits);
                    }
                    (socket, PeerAddr::Ip(peer))
                })
            }
            #[cfg(unix)]
            Self::Unix { listener, .. } => attempt(|| listener.accept())
                .map(|(stream, peer)| (KernelSocket::Unix(stream), PeerAddr::Unix(peer))),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Tcp { listener, .. } => listener.local_addr(),
            #[cfg(unix)]
            Self::Unix { .. } => Err(crate::system::no_ip_address()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        match self {
            Self::Tcp { .. } => Err(crate::system::no_unix_address()),
            Self::Unix { listener, .. } => listener.local_addr(),
        }
    }

    pub(crate) fn source(&mut self) -> &mut dyn Source {
        match self {
            Self::Tcp { listener, .. } => listener,
            #[cfg(unix)]
            Self::Unix { listener, .. } => listener,
        }
    }
}

fn backlog(limits: &Limits) -> i32 {
    i32::try_from(limits.listen_backlog).unwrap_or(i32::MAX)
}
