//! The public face, what concerns connections that are not accepted.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::EventLoop;
use crate::connection::{Origin, Race};
use crate::event::CloseReason;
use crate::names::{self, Target};
use crate::observer::{Step, log_unresolved};
use crate::slots::ConnectionId;
use crate::system::Socket;
use crate::turn::Turns;

impl<T> EventLoop<T> {
    /// Begins a connect, and returns at once. Never fails here: every failure, also one known at
    /// once, is that connection's [`Closed`](crate::Event::Closed). What is sent before
    /// [`Connected`](crate::Event::Connected) leaves in order afterwards. For names see
    /// [`connect_name`](Self::connect_name).
    ///
    /// One that is connected reads on while it has unsent bytes, other than one that was accepted:
    /// see [`couple`](Self::couple).
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
        let Turns { resources, limits, .. } = &mut self.turns;
        let socket = resources.system.connect(address, &limits.connection);
        let id = self.turns.add_outgoing(data, Origin::connected(address), Some(socket));
        self.turns.resources.observers.see(Step::Connecting { id, address: Some(address) });
        id
    }

    /// Begins a connect to the first of several addresses that succeeds, under one id.
    ///
    /// The addresses are tried in their order, but alternately of each family, as RFC 8305 (*Happy
    /// Eyeballs*) has it: a further one 250 ms after the last began, or as soon as none is under way
    /// any more. The first to succeed wins, and the others are closed. The limit
    /// [`connect_deadline`](crate::ConnectionLimits::connect_deadline) covers all of it. Like
    /// [`connect`](Self::connect) it never fails here: if all attempts fail, `Closed` gives the
    /// reason of the last; without an address it is `Failed` with `InvalidInput`.
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
    /// The name is looked up on a helper thread, so that nothing blocks; its addresses are then
    /// tried as by [`connect_any`](Self::connect_any). The helper threads are started when they are
    /// first needed, are four at most, and end with the loop. The limit
    /// [`connect_deadline`](crate::ConnectionLimits::connect_deadline) covers the look-up too. An
    /// IPv4 address, or an IPv6 address in brackets, is taken as it is.
    ///
    /// Like [`connect`](Self::connect) it never fails here. What is no name and port is `Closed`
    /// with `Failed` and `InvalidInput`, and a name that stands for no address with `NotFound`; the
    /// log says more at debug.
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
                log_unresolved(id, &reason);
                id
            }
        }
    }

    /// Takes over a stream that was made elsewhere: by `std`, or with options of its own by
    /// socket2, whose sockets become one of `std`'s. It may be connected, or connecting without
    /// blocking: it counts as connecting until that is proven, so that its first event is
    /// [`Connected`](crate::Event::Connected), or [`Closed`](crate::Event::Closed) if that fails.
    /// It is coupled to nobody, also if it was accepted elsewhere: see [`couple`](Self::couple).
    ///
    /// It is made non-blocking. `TCP_NODELAY` is set if the limit
    /// [`nodelay`](crate::ConnectionLimits::nodelay) is true, keepalive if
    /// [`keepalive`](crate::ConnectionLimits::keepalive) is given; every other option stays as it
    /// is. Only a linger time (`SO_LINGER`) is taken off before the socket is closed, because it
    /// would block the loop. What was read from the stream before is not ours; what the kernel
    /// still holds is.
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
    /// Returns `InvalidInput` if it is not a stream socket, or one that listens, or the operating
    /// system's error for an option. The stream is closed then.
    pub fn adopt_stream(&mut self, stream: TcpStream, data: T) -> io::Result<ConnectionId> {
        let Turns { resources, limits, .. } = &mut self.turns;
        let socket = resources.system.adopt_stream(stream, &limits.connection)?;
        Ok(self.add_adopted(socket, data))
    }

    pub(super) fn add_adopted(&mut self, socket: Socket, data: T) -> ConnectionId {
        let id = self.turns.add_outgoing(data, Origin::Adopted, Some(Ok(socket)));
        self.turns.resources.observers.see(Step::Adopted { id });
        id
    }
}
