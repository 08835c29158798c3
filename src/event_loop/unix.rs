//! The public face, what concerns Unix-domain sockets.
//!
//! Connections over them are the same [`Connection`](crate::Connection)s. What differs stands at
//! the methods that it concerns: there is no address of IP, no reset, and no option of TCP.

use std::io;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use super::EventLoop;
use crate::address::UnixAddress;
use crate::event::{ConnectionId, ListenerId};
use crate::observer::Step;
use crate::origin::{Again, Origin};
use crate::transfer::Attempt;
use crate::turn::Turns;

impl<T> EventLoop<T> {
    /// Listens at a path of the file system or at an [abstract name](UnixAddress); each
    /// connection's `data` begins as its default.
    ///
    /// The path becomes a file, which is removed when the listener is closed or the loop dropped,
    /// if it is still that file then. One that a crash has left behind is in the way of the next
    /// start, unless replacing it is [asked for](UnixAddress::replacing). Who may connect is said
    /// by the file's permissions, and those of the directory that it stands in.
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
    /// `AddrInUse` if something stands at the path or somebody listens at the name, `AlreadyExists`
    /// if it was to be replaced and is not a socket, `InvalidInput` if it is too long, empty or has
    /// a zero byte, or what the operating system says. Each message names the address.
    pub fn listen_unix(&mut self, address: impl Into<UnixAddress>) -> io::Result<ListenerId>
    where
        T: Default + 'static,
    {
        self.listen_unix_with(address, T::default)
    }

    /// The same; each connection's `data` begins as what the closure makes. See
    /// [`listen_with`](Self::listen_with).
    ///
    /// # Errors
    ///
    /// As [`listen_unix`](Self::listen_unix).
    pub fn listen_unix_with(
        &mut self,
        address: impl Into<UnixAddress>,
        make_data: impl FnMut() -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let Turns { tools, limits, .. } = &mut self.turns;
        let socket = tools.system.listen_unix(&address.into(), limits)?;
        self.add_listener(socket, Box::new(make_data))
    }

    /// Takes over a Unix-domain socket that listens already. It is made non-blocking. The file of
    /// its path is not ours, and is not removed.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn adopt_unix_listener(
        &mut self,
        listener: UnixListener,
        make_data: impl FnMut() -> T + Send + 'static,
    ) -> io::Result<ListenerId> {
        let socket = self.turns.tools.system.adopt_unix_listener(listener)?;
        self.add_listener(socket, Box::new(make_data))
    }

    /// The address that a listener of the Unix domain listens at, as the operating system tells it.
    /// It can be connected to.
    ///
    /// # Errors
    ///
    /// `NotFound` if the listener was closed, `Unsupported` if it listens over TCP, or what the
    /// operating system says.
    pub fn unix_listener_addr(&self, id: ListenerId) -> io::Result<SocketAddr> {
        self.turns.listeners.get(id)?.socket.unix_local_addr()
    }

    /// Begins a connect in the Unix domain, and returns at once. Never fails here: every failure is
    /// that connection's [`Closed`](crate::Event::Closed). Nothing stands at the path: `Failed`
    /// with `NotFound`; nobody listens there: `Refused`; an address that cannot be one: `Failed`
    /// with `InvalidInput`.
    ///
    /// If too many already wait to be accepted, the kernel begins nothing and tells nothing later.
    /// The connect is then tried again, after 5 ms at first and after a pause that doubles, to 1 s
    /// at most, until the
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
        let system = &mut self.turns.tools.system;
        let mut again = None;
        let socket =
            system.unix_socket().and_then(|socket| match system.connect_unix(&socket, &address) {
                Attempt::Done(()) => Ok(socket),
                Attempt::NotReady => {
                    again = Some(Box::new(Again::new(address)));
                    Ok(socket)
                }
                Attempt::Failed(error) => {
                    system.close(socket);
                    Err(error)
                }
            });
        let id = self.turns.add_outgoing(data, Origin::ConnectedUnix(again), socket);
        let Turns { tools, connections, .. } = &mut self.turns;
        // First, so that an observer that panics leaves no connect that nobody tries again.
        let connection = connections.get_mut(id);
        let pause = connection.and_then(|connection| connection.stream.connect_later(tools));
        tools.observers.see(Step::Connecting(id, None));
        if let Some(pause) = pause {
            tools.observers.see(Step::ConnectPaused(id, pause));
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
    /// What the operating system says; the stream is closed then.
    pub fn adopt_unix_stream(&mut self, stream: UnixStream, data: T) -> io::Result<ConnectionId> {
        let socket = self.turns.tools.system.adopt_unix_stream(stream)?;
        Ok(self.add_adopted(socket, data))
    }
}
