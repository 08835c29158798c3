//! The public face, what concerns listeners.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::EventLoop;
use crate::event::ListenerId;
use crate::listener::MakeData;
use crate::system::ListeningSocket;

impl<T> EventLoop<T> {
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
    /// its own. It is made non-blocking. `TCP_NODELAY` is set if the limit
    /// [`nodelay`](crate::ConnectionLimits::nodelay) is true, keepalive if
    /// [`keepalive`](crate::ConnectionLimits::keepalive) is given; every other option stays as it
    /// is. A linger time (`SO_LINGER`), which accepted connections inherit, is taken off before they
    /// are closed.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if it is not a stream socket that listens, or the operating system's
    /// error. The socket is closed then.
    pub fn adopt_listener(
        &mut self,
        listener: TcpListener,
        make_data: impl FnMut() -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let socket = self.turns.tools.system.adopt_listener(listener, &self.turns.limits)?;
        self.add_listener(socket, Box::new(make_data))
    }

    pub(super) fn add_listener(
        &mut self,
        socket: ListeningSocket,
        make_data: MakeData<T>,
    ) -> io::Result<ListenerId> {
        self.turns.listeners.insert(socket, make_data, &mut self.turns.tools)
    }

    /// The address that a listener listens at.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, `Unsupported` if it listens in the Unix domain, or
    /// what the operating system says.
    pub fn listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        self.turns.listeners.get(id)?.socket.local_addr()
    }

    /// Accepts no more from this listener until it is resumed. Peers wait in the backlog.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, or what the operating system says.
    pub fn pause_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.pause(id, true, &self.turns.limits, &mut self.turns.tools)
    }

    /// Accepts again after a pause, first of all those that have waited.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, or what the operating system says.
    pub fn resume_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.pause(id, false, &self.turns.limits, &mut self.turns.tools)
    }

    /// Closes a listener. What it has accepted goes on; peers that wait are reset. The file of a
    /// Unix-domain path that we have bound is removed.
    ///
    /// # Errors
    ///
    /// `NotFound` if it was closed before.
    pub fn close_listener(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.close(id, &self.turns.limits, &mut self.turns.tools)
    }
}
