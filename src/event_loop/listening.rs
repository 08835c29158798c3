//! The public face, what concerns listeners.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};

use super::EventLoop;
use crate::event::ListenerId;
use crate::listener::{Accepting, MakeData};
use crate::observer::Step;
use crate::system::ListeningSocket;
use crate::turn::Turns;

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
    /// its own. It is made non-blocking.
    ///
    /// # Errors
    ///
    /// What the operating system says.
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
        mut socket: ListeningSocket,
        make_data: MakeData<T>,
    ) -> io::Result<ListenerId> {
        let id = self.turns.listeners.next_id();
        if let Err(error) = self.turns.tools.system.watch_listener(&mut socket, id.slot, true) {
            self.turns.tools.system.close_listener(socket);
            return Err(error);
        }
        let address = socket.local_addr().ok();
        self.turns.listeners.insert(id, socket, make_data);
        self.turns.tools.observers.see(Step::Listening(id, address));
        Ok(id)
    }

    /// The address that a listener listens at.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, `Unsupported` if it listens in the Unix domain, or what
    /// the operating system says.
    pub fn listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        self.turns.listeners.get(id)?.socket.local_addr()
    }

    /// Accepts no more from this listener until it is resumed. Peers wait in the backlog.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, or what the operating system says.
    pub fn pause_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.set_accepting(id, Accepting::Paused)
    }

    /// Accepts again after a pause, first of all those that have waited.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, or what the operating system says.
    pub fn resume_accepting(&mut self, id: ListenerId) -> io::Result<()> {
        self.set_accepting(id, Accepting::Open)
    }

    fn set_accepting(&mut self, id: ListenerId, accepting: Accepting) -> io::Result<()> {
        let Turns { listeners, tools, .. } = &mut self.turns;
        let is_paused = listeners.get(id)?.accepting() == Accepting::Paused;
        if is_paused == (accepting == Accepting::Paused) {
            return Ok(());
        }
        listeners.set_accepting(id.slot, accepting, tools)
    }

    /// Closes a listener. What it has accepted goes on; peers that wait are reset. The file of a
    /// Unix-domain path that we have bound is removed.
    ///
    /// # Errors
    ///
    /// `NotFound` if it was closed before.
    pub fn close_listener(&mut self, id: ListenerId) -> io::Result<()> {
        let listener = self.turns.listeners.remove(id)?;
        if let Accepting::OutOfRoom(alarm) = listener.accepting() {
            self.turns.tools.cancel(alarm);
        }
        self.turns.tools.system.close_listener(listener.socket);
        self.turns.tools.observers.see(Step::ListenerClosed(id));
        Ok(())
    }
}
