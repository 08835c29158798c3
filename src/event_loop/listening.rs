//! The public interface: listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::EventLoop;
use crate::listener::MakeData;
use crate::slots::ListenerId;
use crate::system::ListeningSocket;

impl<T> EventLoop<T> {
    /// Takes over a socket that already listens, because it was inherited or made with special
    /// options.
    ///
    /// It is made non-blocking. `TCP_NODELAY` is set if the limit
    /// [`nodelay`](crate::ConnectionLimits::nodelay) is true, keepalive if
    /// [`keepalive`](crate::ConnectionLimits::keepalive) is given; every other option stays as it
    /// is. A linger time (`SO_LINGER`), which accepted connections inherit, is removed before they
    /// are closed.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if it is not a stream socket that listens, or the operating system's
    /// error. The socket is then closed.
    pub fn adopt_listener(
        &mut self,
        listener: TcpListener,
        make_data: impl FnMut(SocketAddr) -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let resources = &self.turns.resources;
        let socket = resources.system.adopt_listener(listener, &resources.limits)?;
        self.add_listener(socket, from_ip(make_data))
    }

    pub(super) fn add_listener(
        &mut self,
        socket: ListeningSocket,
        make_data: MakeData<T>,
    ) -> io::Result<ListenerId> {
        self.turns.listeners.insert(socket, make_data, &mut self.turns.resources)
    }

    /// Returns the address at which a listener listens.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the listener was closed, `Unsupported` if it listens at a Unix-domain
    /// address, or the operating system's error.
    #[doc(alias = "local_addr")]
    #[doc(alias = "getsockname")]
    pub fn listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        self.turns.listeners.get(id)?.socket.local_addr()
    }

    /// Stops accepting from a listener until it is resumed. Peers wait in the backlog until then.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the listener was closed, or the operating system's error.
    pub fn pause_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.pause(id, true, &mut self.turns.resources)
    }

    /// Resumes accepting after a pause, beginning with the peers in the backlog.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the listener was closed, or the operating system's error.
    pub fn resume_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.pause(id, false, &mut self.turns.resources)
    }

    /// Closes a listener. The connections that it has accepted go on; peers that wait in the backlog
    /// are reset. The file of a Unix-domain path that the loop has bound is removed.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if it was closed before.
    pub fn close_listener(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.close(id, &mut self.turns.resources)
    }
}

pub(super) fn from_ip<T>(
    mut make_data: impl FnMut(SocketAddr) -> T + Send + 'static,
) -> MakeData<T> {
    Box::new(move |peer| make_data(peer.ip().expect("a TCP listener accepts from IP addresses")))
}
