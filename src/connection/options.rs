//! What can be set and asked on a connection besides the bytes: deadlines, limits, addresses, the
//! descriptor.

use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[cfg(unix)]
use super::Connection;
use super::Stream;
use crate::interest::Interest;
use crate::limits::{ConnectionLimits, check_idle_timeout, check_keepalive};
use crate::slots::ListenerId;
use crate::system::{Socket, no_ip_address};

impl Stream {
    /// Delivers one [`Deadline`](crate::Event::Deadline) event after `after` has elapsed. Replaces
    /// any deadline set earlier; `None` cancels it. The time counts from the next call into the
    /// loop. The event is never early, and never delivered before
    /// [`Connected`](crate::Event::Connected).
    pub fn set_deadline(&mut self, after: Option<Duration>) {
        self.exchange.forget_deadline();
        self.deadlines_mut().set_program(after);
    }

    /// Sets how long the connection may stay open while no byte moves in either direction; `None`
    /// for no limit. Replaces the limit [`idle_timeout`](ConnectionLimits::idle_timeout), whose
    /// docs say more.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the timeout is zero; then nothing is changed.
    pub fn set_idle_timeout(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        check_idle_timeout(timeout)?;
        self.deadlines_mut().idle_timeout = timeout;
        Ok(())
    }

    /// Sets how long the connection may be silent before the kernel sends keepalive probes, from
    /// 1 s to 32,767 s; `None` turns them off.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the time is out of range, `Unsupported` for a Unix-domain socket
    /// (its peer is on the same machine and cannot vanish unnoticed), or the operating system's
    /// error. In each case nothing is changed.
    pub fn set_keepalive(&mut self, after: Option<Duration>) -> io::Result<()> {
        check_keepalive(after)?;
        let socket = self.socket()?;
        if socket.is_unix() {
            let message = "a Unix-domain socket has no keepalive";
            return Err(io::Error::new(io::ErrorKind::Unsupported, message));
        }
        socket.set_keepalive(after)?;
        // The limits keep saying what the socket has.
        let limits = ConnectionLimits::clone(self.exchange.limits());
        self.exchange.set_limits(Arc::new(ConnectionLimits { keepalive: after, ..limits }));
        Ok(())
    }

    /// Sets the limits of this connection.
    ///
    /// They replace whatever was set by [`set_idle_timeout`](Self::set_idle_timeout) and
    /// [`set_keepalive`](Self::set_keepalive). The unsent bytes are compared with the new marks at
    /// once: the connection may become clogged, or [`Drained`](crate::Event::Drained) may follow. A
    /// change of `reads_while_unsent` takes effect at once on an accepted connection that is not
    /// coupled to another. Socket options are ignored for Unix-domain sockets.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the limits contradict each other, or the operating system's error
    /// for an option; then nothing is changed.
    pub fn set_limits(&mut self, limits: ConnectionLimits) -> io::Result<()> {
        limits.check()?;
        let before = self.exchange.limits().clone();
        let sockets = self.socket.iter().chain(self.origin.attempts());
        for socket in sockets.filter(|socket| !socket.is_unix()) {
            if limits.keepalive != before.keepalive {
                socket.set_keepalive(limits.keepalive)?;
            }
            if limits.nodelay != before.nodelay
                && let Err(error) = socket.set_nodelay(limits.nodelay)
            {
                if limits.keepalive != before.keepalive {
                    socket.set_keepalive(before.keepalive)?;
                }
                return Err(error);
            }
        }
        // Also if the limit is the same as before: `set_idle_timeout` may have changed the timeout
        // since.
        if self.deadlines.is_some() || limits.idle_timeout.is_some() {
            self.deadlines_mut().idle_timeout = limits.idle_timeout;
        }
        if self.listener().is_some() && limits.reads_while_unsent != before.reads_while_unsent {
            self.exchange.set_reads_while_unsent(limits.reads_while_unsent);
        }
        self.exchange.set_limits(Arc::new(limits));
        Ok(())
    }

    /// Returns the peer's address: the one that `accept` reported, or the one that was connected
    /// to.
    ///
    /// Available for the life of the connection, even after the peer has gone. For an
    /// [adopted](crate::EventLoop::adopt_stream) stream the operating system is asked each time.
    ///
    /// # Errors
    ///
    /// Returns `NotConnected` while several addresses are tried, `Unsupported` for a Unix-domain
    /// socket, which has
    #[cfg_attr(unix, doc = "[`unix_peer_addr`](Self::unix_peer_addr);")]
    #[cfg_attr(not(unix), doc = "`unix_peer_addr`;")]
    /// for an adopted stream the operating system's error.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match (self.origin.peer(), &self.socket) {
            (Some(peer), _) => Ok(peer),
            (None, Some(socket)) => socket.peer_addr(),
            (None, None) if self.origin.is_unix() => Err(no_ip_address()),
            (None, None) => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Returns our own address.
    ///
    /// # Errors
    ///
    /// Returns `NotConnected` if there is no socket, as while
    /// [`Closed`](crate::Event::Closed) is handled, `Unsupported` for a Unix-domain socket, or the
    /// operating system's error.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket()?.local_addr()
    }

    /// Returns the peer's Unix-domain address, as the operating system reports it. A peer that
    /// connected is usually unnamed.
    ///
    /// ```
    /// use readiness::{Event, EventLoop, UnixAddress};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let path = std::env::temp_dir().join(format!("readiness-peer-{}", std::process::id()));
    /// let listener = event_loop.listen_unix(path.clone())?;
    /// let client = event_loop.connect_unix(event_loop.unix_listener_addr(listener)?, ());
    /// while event_loop.next_event()? != Event::Connected(client) {}
    /// let peer = event_loop[client].unix_peer_addr()?;
    /// assert_eq!(peer.as_pathname(), Some(path.as_path()));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `NotConnected` if there is no socket, `Unsupported` for a TCP socket, or the operating
    /// system's error.
    #[cfg(unix)]
    pub fn unix_peer_addr(&self) -> io::Result<UnixSocketAddr> {
        self.socket()?.unix_peer_addr()
    }

    /// Returns our own Unix-domain address, as the operating system reports it: the listener's for
    /// an accepted connection; an outgoing one is usually unnamed.
    ///
    /// # Errors
    ///
    /// Returns `NotConnected` if there is no socket, `Unsupported` for a TCP socket, or the operating
    /// system's error.
    #[cfg(unix)]
    pub fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        self.socket()?.unix_local_addr()
    }

    /// Returns the listener that accepted this connection, if one did.
    #[must_use]
    pub fn listener(&self) -> Option<ListenerId> {
        self.origin.listener()
    }

    /// Returns the interest last given to the kernel (`epoll_ctl`, `kevent`).
    #[must_use]
    pub fn interest(&self) -> Interest {
        self.standing.interest
    }

    /// Returns the descriptor of the socket. [`AsFd`](std::os::fd::AsFd) does the same and panics
    /// where this fails.
    ///
    /// # Errors
    ///
    /// Returns `NotConnected` if there is no socket: it is closed already while
    /// [`Closed`](crate::Event::Closed) is handled, and a connect may fail before there is one.
    /// Returns `Unsupported` in a simulation, which has no descriptors.
    #[cfg(unix)]
    pub fn try_as_fd(&self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        self.socket()?.descriptor()
    }

    fn socket(&self) -> io::Result<&Socket> {
        self.socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

/// Lends the descriptor of the socket, to set and read its options.
///
/// The socket must stay non-blocking. A linger time (`SO_LINGER`) is removed before it is closed.
///
/// # Panics
///
/// Panics if there is no socket or no descriptor: see [`try_as_fd`](Stream::try_as_fd), which does
/// not panic.
#[cfg(unix)]
impl std::os::fd::AsFd for Stream {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.try_as_fd().expect("the connection has a descriptor")
    }
}

/// Lends the descriptor of the [`Stream`]'s socket.
#[cfg(unix)]
impl<T> std::os::fd::AsFd for Connection<T> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
