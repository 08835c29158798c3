//! The public face: listeners.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::EventLoop;
use crate::listener::MakeData;
use crate::slots::ListenerId;
use crate::system::ListeningSocket;

impl<T> EventLoop<T> {
    /// Listens at an address. Each connection's `data` begins as its default.
    ///
    /// If the address stands for several, the first one that can be bound is used. With port 0 the
    /// system chooses a port, which [`listener_addr`](Self::listener_addr) returns. A name is
    /// resolved here, which may block.
    ///
    /// # Errors
    ///
    /// Returns the operating system's error for the last address, such as `AddrInUse` or
    /// `AddrNotAvailable`, or `InvalidInput` if there is no address.
    #[doc(alias = "bind")]
    pub fn listen(&mut self, address: impl ToSocketAddrs) -> io::Result<ListenerId>
    where
        T: Default + 'static,
    {
        self.listen_with(address, |_| T::default())
    }

    /// Listens at an address. Each connection's `data` begins as what the closure returns, which is
    /// given the peer's address.
    ///
    /// So each listener can have a protocol of its own. The closure is `Send`, so that a loop can be
    /// moved to another thread.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::net::SocketAddr;
    ///
    /// enum Protocol { Echo, Log(SocketAddr) }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server = EventLoop::new()?;
    /// server.listen_with("127.0.0.1:0", |_| Protocol::Echo)?;
    /// let log = server.listen_with("127.0.0.1:0", Protocol::Log)?;
    ///
    /// let peer = std::net::TcpStream::connect(server.listener_addr(log)?)?;
    /// let Event::Accepted(_, id) = server.next_event()? else { panic!("it comes first") };
    /// let Protocol::Log(address) = server[id].data else { panic!("it came to the log") };
    /// assert_eq!(address, peer.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`listen`](Self::listen).
    pub fn listen_with(
        &mut self,
        address: impl ToSocketAddrs,
        make_data: impl FnMut(SocketAddr) -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let none = io::Error::new(io::ErrorKind::InvalidInput, "there is no address to listen at");
        let mut outcome = Err(none);
        for address in address.to_socket_addrs()? {
            outcome = self.turns.resources.system.listen(address, &self.turns.limits);
            if outcome.is_ok() {
                break;
            }
        }
        self.add_listener(outcome?, from_ip(make_data))
    }

    /// Takes over a socket that already listens: one that was inherited, or was made with options of
    /// its own.
    ///
    /// It is made non-blocking. `TCP_NODELAY` is set if the limit
    /// [`nodelay`](crate::ConnectionLimits::nodelay) is true, keepalive if
    /// [`keepalive`](crate::ConnectionLimits::keepalive) is given; every other option stays as it
    /// is. A linger time (`SO_LINGER`), which accepted connections inherit, is taken off before they
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
        let socket = self.turns.resources.system.adopt_listener(listener, &self.turns.limits)?;
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

    /// Stops accepting from a listener until it is resumed. Meanwhile peers wait in the backlog.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the listener was closed, or the operating system's error.
    pub fn pause_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.pause(id, true, &self.turns.limits, &mut self.turns.resources)
    }

    /// Accepts again after a pause, beginning with the peers that have waited.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the listener was closed, or the operating system's error.
    pub fn resume_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.pause(id, false, &self.turns.limits, &mut self.turns.resources)
    }

    /// Closes a listener. The connections that it has accepted go on; peers that wait in the backlog
    /// are reset. The file of a Unix-domain path that the loop has bound is removed.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if it was closed before.
    pub fn close_listener(&mut self, id: ListenerId) -> io::Result<()> {
        self.turns.listeners.close(id, &self.turns.limits, &mut self.turns.resources)
    }
}

fn from_ip<T>(mut make_data: impl FnMut(SocketAddr) -> T + Send + 'static) -> MakeData<T> {
    Box::new(move |peer| make_data(peer.ip().expect("a TCP listener accepts from IP addresses")))
}
