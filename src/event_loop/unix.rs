//! The public interface: Unix-domain sockets.
//!
//! Connections over them are the same [`Connection`](crate::Connection)s. What differs is said at
//! the methods concerned: there is no IP address, no reset, and no option of TCP.

use std::io;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use super::EventLoop;
use crate::address::UnixAddress;
use crate::attempt::Attempt;
use crate::connection::{Connecting, Origin};
use crate::listener::MakeData;
use crate::observer::Step;
use crate::slots::{ConnectionId, ListenerId};
use crate::system::PeerAddr;
use crate::turn::Turns;

impl<T> EventLoop<T> {
    /// Listens at a path of the file system or at an [abstract name](UnixAddress). Each connection's
    /// `data` begins as its default.
    ///
    /// The path becomes a file, which is removed when the listener is closed or the loop dropped,
    /// if it is still the same file then. A file that a crash has left behind makes the next start
    /// fail, unless it may be [replaced](UnixAddress::replacing). The permissions of the file and of
    /// its directory decide who may connect.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let path = format!("/tmp/echo-{}.socket", std::process::id());
    /// let mut server: EventLoop = EventLoop::new()?;
    /// server.listen_unix(path.as_str())?;
    ///
    /// let mut client = UnixStream::connect(&path)?;
    /// client.write_all(b"hello")?;
    /// loop {
    ///     if let Event::Received(id) = server.next_event()? {
    ///         server[id].send_received();
    ///         server[id].close();
    ///         break;
    ///     }
    /// }
    /// drop(server.poll_event(Some(std::time::Duration::ZERO))?); // now it leaves
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer)?;
    /// assert_eq!(answer, "hello");
    ///
    /// drop(server);
    /// assert!(!std::fs::exists(&path)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `AddrInUse` if the path exists or the name is listened at, `AlreadyExists` if the path
    /// was to be replaced and is not a socket, `InvalidInput` if the address is too long, empty or
    /// has a zero byte, or the operating system's error. Each message names the address.
    pub fn listen_unix(&mut self, address: impl Into<UnixAddress>) -> io::Result<ListenerId>
    where
        T: Default + 'static,
    {
        self.listen_unix_with(address, |_| T::default())
    }

    /// Listens like [`listen_unix`](Self::listen_unix). Each connection's `data` begins as what the
    /// closure returns, which is given the peer's address; a peer that has bound none is unnamed.
    ///
    /// # Errors
    ///
    /// See [`listen_unix`](Self::listen_unix).
    pub fn listen_unix_with(
        &mut self,
        address: impl Into<UnixAddress>,
        make_data: impl FnMut(SocketAddr) -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let resources = &self.turns.resources;
        let socket = resources.system.listen_unix(&address.into(), &resources.limits)?;
        self.add_listener(socket, from_unix(make_data))
    }

    /// Takes over a Unix-domain socket that already listens. It is made non-blocking. The file of its
    /// path is not removed.
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if it is not a stream socket that listens, or the operating system's
    /// error. The socket is then closed.
    pub fn adopt_unix_listener(
        &mut self,
        listener: UnixListener,
        make_data: impl FnMut(SocketAddr) -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let socket = self.turns.resources.system.adopt_unix_listener(listener)?;
        self.add_listener(socket, from_unix(make_data))
    }

    /// Returns the address at which a Unix-domain listener listens, as the operating system reports
    /// it.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the listener was closed, `Unsupported` if it listens over TCP, or the
    /// operating system's error.
    pub fn unix_listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        self.turns.listeners.get(id)?.socket.unix_local_addr()
    }

    /// Begins a connect to a Unix-domain address, and returns at once.
    ///
    /// Never fails in the call: every failure is that connection's
    /// [`Closed`](crate::Event::Closed). If the path does not exist, it is `Failed` with `NotFound`;
    /// if nobody listens there, `Refused`; if the address cannot be one, `Failed` with
    /// `InvalidInput`.
    ///
    /// If the listener's backlog is full, the kernel begins nothing and reports nothing later. The
    /// connect is then tried again after 5 ms, and after pauses that double up to 1 s, until the
    /// [`connect_deadline`](crate::ConnectionLimits::connect_deadline).
    ///
    /// ```
    /// use readiness::{CloseReason, Event, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let id = event_loop.connect_unix("/nowhere/at/all", ());
    /// let Event::Closed(closed, CloseReason::Failed(failure)) = event_loop.next_event()? else {
    ///     panic!("nothing is there");
    /// };
    /// assert_eq!((closed, failure.kind()), (id, std::io::ErrorKind::NotFound));
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect_unix(&mut self, address: impl Into<UnixAddress>, data: T) -> ConnectionId {
        let address = address.into();
        let system = &mut self.turns.resources.system;
        let mut origin = Origin::ConnectedUnix;
        let socket = system.unix_socket().and_then(|socket| {
            match socket.connect_unix(&address) {
                Attempt::Done(()) => {}
                Attempt::NotReady => {
                    origin = Origin::Connecting(Box::new(Connecting::retry(address.absolute())));
                }
                Attempt::Failed(error) => {
                    socket.close();
                    return Err(error);
                }
            }
            Ok(socket)
        });
        let id = self.turns.add_outgoing(data, origin, Some(socket));
        let Turns { resources, connections, .. } = &mut self.turns;
        resources.observers.see(Step::Connecting { id, address: None });
        if let Some(connection) = connections.get_mut(id) {
            connection.stream.pause_connecting(resources);
        }
        id
    }

    /// Takes over a Unix-domain stream that was made elsewhere, such as one of a
    /// [pair](UnixStream::pair). See [`adopt_stream`](Self::adopt_stream).
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::io::Write;
    /// use std::os::unix::net::UnixStream;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let (ours, mut theirs) = UnixStream::pair()?;
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let id = event_loop.adopt_unix_stream(ours, ())?;
    /// theirs.write_all(b"hello")?;
    /// assert_eq!(event_loop.next_event()?, Event::Connected(id));
    /// assert_eq!(event_loop.next_event()?, Event::Received(id));
    /// assert_eq!(event_loop[id].received(), b"hello");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if it is not a stream socket, or one that listens, or the operating
    /// system's error. The stream is then closed.
    pub fn adopt_unix_stream(&mut self, stream: UnixStream, data: T) -> io::Result<ConnectionId> {
        let socket = self.turns.resources.system.adopt_unix_stream(stream)?;
        Ok(self.add_adopted(socket, data))
    }
}

fn from_unix<T>(mut make_data: impl FnMut(SocketAddr) -> T + Send + 'static) -> MakeData<T> {
    Box::new(move |peer| match peer {
        PeerAddr::Unix(peer) => make_data(peer.clone()),
        PeerAddr::Ip(_) => unreachable!("a Unix-domain listener accepts from such addresses"),
    })
}
