//! The public face, what concerns two connections at once: bytes that go from one to the other.

use super::EventLoop;
use crate::slots::ConnectionId;

impl<T> EventLoop<T> {
    /// Moves all that `from` has received to the unsent bytes of `to`, and returns how many bytes
    /// that was. Where `to` has nothing unsent no byte is copied. Also above the high-water mark,
    /// and also while [`Closed`](crate::Event::Closed) of `from` is handled. If either has gone or
    /// `to` takes no more, nothing is moved and 0 is returned: the bytes stay with `from`. The same
    /// if `to` would have more than [`unsent_max`](crate::ConnectionLimits::unsent_max) bytes
    /// unsent, and that ends it as a send would.
    ///
    /// A proxy is made of this:
    ///
    /// ```
    /// use readiness::{CloseReason, ConnectionId, Event, EventLoop};
    /// use std::io::{Read, Write};
    /// use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
    ///
    /// /// Each connection's data is its other half.
    /// type Proxy = EventLoop<Option<ConnectionId>>;
    ///
    /// fn handle(proxy: &mut Proxy, event: Event, target: SocketAddr) {
    ///     match event {
    ///         Event::Accepted(_, client) => {
    ///             let server = proxy.connect(target, Some(client));
    ///             proxy[client].data = Some(server);
    ///             for (one, other) in [(client, server), (server, client)] {
    ///                 // Neither half reads faster than the other can send, and each goes on
    ///                 // when its own peer has finished: the answer is still to come.
    ///                 proxy.couple(one, other);
    ///                 proxy[one].allow_half_open(true);
    ///             }
    ///         }
    ///         Event::Received(id) => {
    ///             if let Some(other) = proxy[id].data {
    ///                 proxy.transfer(id, other);
    ///             }
    ///         }
    ///         Event::PeerFinished(id) => {
    ///             if let Some(other) = proxy[id].data.and_then(|other| proxy.get_mut(other)) {
    ///                 other.finish();
    ///             }
    ///         }
    ///         Event::Closed(id, reason) => {
    ///             if let Some(other) = proxy[id].data.and_then(|other| proxy.get_mut(other)) {
    ///                 match reason {
    ///                     CloseReason::Finished => other.close(),
    ///                     _ => other.abort(),
    ///                 }
    ///             }
    ///         }
    ///         _ => {}
    ///     }
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let target = TcpListener::bind("127.0.0.1:0")?;
    /// let target_address = target.local_addr()?;
    /// let server = std::thread::spawn(move || -> std::io::Result<()> {
    ///     let (mut client, _) = target.accept()?;
    ///     let mut question = String::new();
    ///     client.read_to_string(&mut question)?;
    ///     write!(client, "you said {question}")
    /// });
    /// let mut proxy = Proxy::new()?;
    /// let listener = proxy.listen("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(proxy.listener_addr(listener)?)?;
    /// client.write_all(b"hello")?;
    /// client.shutdown(Shutdown::Write)?;
    /// let client = std::thread::spawn(move || std::io::read_to_string(client));
    /// while !client.is_finished() {
    ///     if let Some(event) = proxy.poll_event(Some(std::time::Duration::from_millis(1)))? {
    ///         handle(&mut proxy, event, target_address);
    ///     }
    /// }
    /// assert_eq!(client.join().expect("the client has its answer")?, "you said hello");
    /// server.join().expect("the server has answered")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn transfer(&mut self, from: ConnectionId, to: ConnectionId) -> usize {
        let connections = &mut self.turns.connections;
        if from == to {
            let connection = connections.get_mut(from);
            return connection.map_or(0, |connection| connection.exchange.transfer_to_itself());
        }
        let Some((from, to)) = connections.get_two_mut(from, to) else {
            return 0;
        };
        from.stream.exchange.transfer_to(&mut to.stream.exchange)
    }

    /// Has `reader` read only while `writer` has nothing unsent, in place of what it was coupled
    /// to before. So a proxy, which couples each half to the other (see the example of
    /// [`transfer`](Self::transfer)), holds no more than one read of each half. Does nothing if
    /// either has gone or the reader is closing. It ends with the writer, after which the reader
    /// is coupled to nobody.
    ///
    /// An accepted connection begins coupled to itself: a client that sends and never reads makes
    /// its server stop reading. One that was connected begins coupled to nobody, because if both
    /// ends stop reading while they have unsent bytes, neither ever moves again.
    pub fn couple(&mut self, reader: ConnectionId, writer: ConnectionId) {
        self.turns.connections.couple(reader, writer);
    }

    /// Has `reader` read however much is unsent, by itself or by another. Do so for an accepted
    /// connection whose peer sends much before it reads: a server that answers each request while
    /// the next ones still come in would stop reading until its answers have left.
    pub fn uncouple(&mut self, reader: ConnectionId) {
        self.turns.connections.uncouple(reader);
    }
}
