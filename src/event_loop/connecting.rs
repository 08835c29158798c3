//! The public interface: connections that are not accepted.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::EventLoop;
use crate::connection::{Origin, Race};
use crate::event::CloseReason;
use crate::names::{self, Target};
use crate::observer::{Step, log_cause};
use crate::slots::ConnectionId;
use crate::system::Socket;

impl<T> EventLoop<T> {
    /// Begins a connect and returns at once.
    ///
    /// The call itself never fails: every failure, even one that is known at once, is that
    /// connection's [`Closed`](crate::Event::Closed). Bytes sent before
    /// [`Connected`](crate::Event::Connected) leave in order afterwards. To connect to a name, use
    /// [`connect_name`](Self::connect_name).
    ///
    /// Unlike an accepted connection, an outgoing one goes on reading while it has unsent bytes:
    /// see [`couple`](Self::couple).
    ///
    /// A connect to a port of this host at which nothing listens may connect to itself, if the
    /// system picks that very port for our end. Compare [`local_addr`](crate::Stream::local_addr)
    /// with [`peer_addr`](crate::Stream::peer_addr) where this matters.
    ///
    /// ```
    /// use readiness::{CloseReason, Event, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop<&str> = EventLoop::new()?;
    /// let nobody = "127.0.0.1:1".parse().expect("an address");
    /// let id = event_loop.connect(nobody, "my data");
    /// assert_eq!(event_loop.next_event()?, Event::Closed(id, CloseReason::Refused));
    /// assert_eq!(event_loop[id].data, "my data"); // until the next call
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(&mut self, address: SocketAddr, data: T) -> ConnectionId {
        let resources = &self.turns.resources;
        let socket = resources.system.connect(address, &resources.limits.connection);
        let id = self.turns.add_outgoing(data, Origin::connected(address), Some(socket));
        self.turns.resources.observers.see(Step::Connecting { id, address: Some(address) });
        id
    }

    /// Begins a connect to the first of several addresses that succeeds, under one id.
    ///
    /// The addresses are tried in their order, alternating between IPv6 and IPv4 as RFC 8305
    /// (*Happy Eyeballs*) says. A further attempt begins 250 ms after the last one, or as soon as
    /// no attempt is under way. The first to succeed wins, and the others are closed. The limit
    /// [`connect_deadline`](crate::ConnectionLimits::connect_deadline) covers all of it. Like
    /// [`connect`](Self::connect), the call itself never fails. If all attempts fail, `Closed` has
    /// the reason of the last one; without an address, the reason is `Failed` with `InvalidInput`.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let nobody = "127.0.0.1:1".parse().expect("an address");
    ///
    /// let mut client: EventLoop = EventLoop::new()?;
    /// let id = client.connect_any([nobody, server.local_addr()?], ());
    /// assert_eq!(client.next_event()?, Event::Connected(id));
    /// assert_eq!(client[id].peer_addr()?, server.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "happy eyeballs")]
    pub fn connect_any(
        &mut self,
        addresses: impl IntoIterator<Item = SocketAddr>,
        data: T,
    ) -> ConnectionId {
        self.turns.add_race(data, Race::new(addresses))
    }

    /// Begins a connect to a name and port, such as `"localhost:80"`.
    ///
    /// The name is resolved on a helper thread, so nothing blocks; its addresses are then tried as
    /// in [`connect_any`](Self::connect_any). At most four helper threads are started, when they
    /// are first needed; they end with the loop. The limit
    /// [`connect_deadline`](crate::ConnectionLimits::connect_deadline) covers resolving too. An
    /// IPv4 address, or an IPv6 address in brackets, is used as it is.
    ///
    /// Like [`connect`](Self::connect), the call itself never fails. If `name` is not a name and a
    /// port, `Closed` follows with `Failed` and `InvalidInput`; if the name has no address, with
    /// `NotFound`. The log says more at debug level.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let server = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let port = server.local_addr()?.port();
    ///
    /// let mut client: EventLoop = EventLoop::new()?;
    /// let id = client.connect_name(&format!("localhost:{port}"), ());
    /// client[id].send(b"hello"); // leaves once it is connected
    /// assert_eq!(client.next_event()?, Event::Connected(id));
    /// # Ok(())
    /// # }
    /// ```
    #[doc(alias = "getaddrinfo")]
    #[doc(alias = "resolve")]
    pub fn connect_name(&mut self, name: &str, data: T) -> ConnectionId {
        match names::parse(name) {
            Ok(Target::Address(address)) => self.connect(address, data),
            Ok(Target::Host(host, port)) => self.turns.add_named(data, host, port),
            Err(error) => {
                let reason = CloseReason::of(&error);
                let id = self.turns.add_outgoing(data, Origin::Adopted, Some(Err(error)));
                log_cause(id, "has no address", &reason);
                id
            }
        }
    }

    /// Takes over a stream that was made elsewhere, by `std` or by socket2 (whose sockets convert
    /// into those of `std`).
    ///
    /// It may be connected, or connecting without blocking. It counts as connecting until the
    /// opposite is proven, so its first event is [`Connected`](crate::Event::Connected), or
    /// [`Closed`](crate::Event::Closed) if the connect fails. It is not coupled to any connection,
    /// even if it was accepted elsewhere: see [`couple`](Self::couple).
    ///
    /// It is made non-blocking. `TCP_NODELAY` is set if the limit
    /// [`nodelay`](crate::ConnectionLimits::nodelay) is true, keepalive if
    /// [`keepalive`](crate::ConnectionLimits::keepalive) is given; every other option stays as it
    /// is. Only a linger time (`SO_LINGER`) is removed before the socket is closed, because it
    /// would block the loop. The connection receives what the kernel still holds, and not what was
    /// read from the stream before.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let elsewhere = TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(elsewhere.local_addr()?)?;
    ///
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let id = event_loop.adopt_stream(stream, ())?;
    /// assert_eq!(event_loop.next_event()?, Event::Connected(id));
    /// assert_eq!(event_loop[id].peer_addr()?, elsewhere.local_addr()?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if it is not a stream socket or if it listens, or the operating
    /// system's error for an option. The stream is then closed.
    #[doc(alias = "set_nonblocking")]
    #[doc(alias = "from_std")]
    pub fn adopt_stream(&mut self, stream: TcpStream, data: T) -> io::Result<ConnectionId> {
        let resources = &self.turns.resources;
        let socket = resources.system.adopt_stream(stream, &resources.limits.connection)?;
        Ok(self.add_adopted(socket, data))
    }

    pub(super) fn add_adopted(&mut self, socket: Socket, data: T) -> ConnectionId {
        let id = self.turns.add_outgoing(data, Origin::Adopted, Some(Ok(socket)));
        self.turns.resources.observers.see(Step::Adopted { id });
        id
    }
}
