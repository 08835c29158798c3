//! The public interface: what concerns two connections at once, which is bytes that go from one to
//! the other.

use super::EventLoop;
use crate::slots::ConnectionId;

impl<T> EventLoop<T> {
    /// Moves everything that `from` has received to the unsent bytes of `to`, and returns the
    /// number of bytes.
    ///
    /// If `to` has nothing unsent, no byte is copied. The high-water mark does not prevent a
    /// transfer, and one is also possible while [`Closed`](crate::Event::Closed) of `from` is
    /// handled.
    ///
    /// If either connection has closed or `to` can send no more, it moves nothing and returns 0:
    /// the bytes stay with `from`. It also moves nothing if that would raise accumulated unsent
    /// bytes above [`unsent_max`](crate::ConnectionLimits::unsent_max), which ends `to` as a send
    /// would.
    ///
    /// A proxy is made of such transfers:
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

    /// Pauses reading on `reader` whenever `writer` has unsent bytes (*back-pressure*).
    ///
    /// Replaces any earlier coupling of `reader`. A proxy that couples each half to the other, as
    /// in the example of [`transfer`](Self::transfer), holds no more than one read of each half.
    /// Does nothing if either connection has closed or the reader is closing. The coupling ends
    /// when the writer closes; the reader then is not coupled to any connection.
    ///
    /// An accepted connection begins coupled to itself: its server stops reading from a client that
    /// sends and never reads. An outgoing connection begins without a coupling, because two ends
    /// that both stop reading while they have unsent bytes wait for each other forever (a
    /// *deadlock*).
    pub fn couple(&mut self, reader: ConnectionId, writer: ConnectionId) {
        self.turns.connections.couple(reader, writer);
    }

    /// Removes the coupling of `reader`, which then reads however much is unsent.
    ///
    /// Use it for an accepted connection whose peer writes everything before it reads anything:
    /// otherwise the server stops reading until its answers have left, and both wait forever. The
    /// limit [`reads_while_unsent`](crate::ConnectionLimits::reads_while_unsent) does the same for
    /// all accepted connections.
    pub fn uncouple(&mut self, reader: ConnectionId) {
        self.turns.connections.uncouple(reader);
    }
}
