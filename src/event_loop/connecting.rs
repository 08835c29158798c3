//! The public face, what concerns connections that are not accepted.

use std::io;
use std::net::{SocketAddr, TcpStream};

use super::EventLoop;
use crate::event::ConnectionId;
use crate::observer::Step;
use crate::origin::Origin;
use crate::system::Socket;
use crate::turn::Turns;

impl<T> EventLoop<T> {
    /// Begins a connect, and returns at once. Never fails here: every failure, also one known at
    /// once, is that connection's [`Closed`](crate::Event::Closed). What is sent before
    /// [`Connected`](crate::Event::Connected) leaves in order afterwards. Names are not resolved,
    /// since that blocks.
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
        let Turns { tools, limits, .. } = &mut self.turns;
        let socket = tools.system.connect(address, &limits.connection);
        let id = self.turns.add_outgoing(data, Origin::connected(address), socket);
        self.turns.tools.observers.see(Step::Connecting(id, Some(address)));
        id
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
        let Turns { tools, limits, .. } = &mut self.turns;
        let socket = tools.system.adopt_stream(stream, &limits.connection)?;
        Ok(self.add_adopted(socket, data))
    }

    pub(super) fn add_adopted(&mut self, socket: Socket, data: T) -> ConnectionId {
        let id = self.turns.add_outgoing(data, Origin::Adopted, Ok(socket));
        self.turns.tools.observers.see(Step::Adopted(id));
        id
    }
}
