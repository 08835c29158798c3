//! Peers: the other ends of connections, moved by a test.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::Simulation;
use super::script::Happened;
use crate::system::simulated::lock;

/// A listener from which the test accepts by hand. Dropping it closes it; a Unix-domain listener
/// leaves its file behind, as in `std`.
///
/// ```
/// use readiness::simulation::{Program, Simulation};
/// use readiness::{Event, EventLoop};
///
/// # fn main() -> std::io::Result<()> {
/// let simulation = Simulation::new(1);
/// let listener = simulation.listen("127.0.0.1:0".parse().unwrap());
/// let mut client = Program::new(simulation.event_loop(), |client: &mut EventLoop, event| {
///     if let Event::Connected(id) = event {
///         client[id].send(b"Hello");
///     }
///     Ok(())
/// });
/// client.event_loop.connect(listener.address(), ());
/// let mut peer = loop {
///     simulation.advance(&mut [&mut client])?;
///     if let Some(peer) = listener.accept() {
///         break peer;
///     }
/// };
/// let mut received = Vec::new();
/// while received.len() < 5 {
///     simulation.advance(&mut [&mut client])?;
///     received.extend(peer.read());
/// }
/// assert_eq!(received, b"Hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PeerListener {
    simulation: Simulation,
    index: usize,
    address: SocketAddr,
}

impl PeerListener {
    pub(super) fn new(simulation: Simulation, index: usize, address: SocketAddr) -> Self {
        Self { simulation, index, address }
    }

    /// Returns the address at which it listens. In the Unix domain this is not a real address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts the next waiting connection, if there is one.
    #[must_use]
    pub fn accept(&self) -> Option<Peer> {
        let index = lock(&self.simulation.network).take_waiting(self.index)?;
        let peer = Peer::new(self.simulation.clone(), index);
        self.simulation.note(Happened::Accepted(peer.remote_addr()));
        Some(peer)
    }
}

impl Drop for PeerListener {
    fn drop(&mut self) {
        let mut network = lock(&self.simulation.network);
        #[cfg(unix)]
        network.leave_behind(self.index);
        network.close(self.index, false);
    }
}

/// The other end of one connection, moved by the test. Dropping it closes it, as the end of a
/// process closes its sockets: unread bytes cause a reset, or in the Unix domain an error of the
/// same name.
///
/// None of its methods waits. Written bytes travel when the network is stepped, and bytes sent to
/// the peer can be read once the network has delivered them.
///
/// ```
/// use readiness::simulation::{PeerState, Program, Simulation};
/// use readiness::{Event, EventLoop};
///
/// # fn main() -> std::io::Result<()> {
/// let simulation = Simulation::new(1);
/// let mut server = Program::new(simulation.event_loop(), |server: &mut EventLoop, event| {
///     if let Event::Received(id) = event {
///         server[id].send_received();
///     }
///     Ok(())
/// });
/// let listener = server.event_loop.listen("127.0.0.1:65432")?;
/// let mut peer = simulation.connect(server.event_loop.listener_addr(listener)?);
///
/// let count = peer.write(b"Hello");
/// assert_eq!(count, 5, "the send buffer has room for it");
/// peer.finish();
/// let mut received = Vec::new();
/// while peer.state() == PeerState::Open {
///     simulation.advance(&mut [&mut server])?;
///     received.extend(peer.read());
/// }
/// assert_eq!(peer.state(), PeerState::Ended);
/// assert_eq!(received, b"Hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Peer {
    simulation: Simulation,
    index: usize,
    local: SocketAddr,
    remote: SocketAddr,
    by_reset: bool,
}

/// The state of a peer's connection, as far as the peer can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// More may arrive.
    Open,
    /// The other side's end of file has arrived, and everything before it was read.
    Ended,
    /// It was reset.
    Reset,
}

impl Peer {
    pub(super) fn new(simulation: Simulation, index: usize) -> Self {
        let (local, remote) = lock(&simulation.network).addresses(index);
        Self { simulation, index, local, remote, by_reset: false }
    }

    /// The port that it connected from, or was connected from.
    #[cfg(test)]
    pub(super) fn local_port(&self) -> u16 {
        lock(&self.simulation.network).flow_port(self.index)
    }

    /// Its number on the network.
    #[cfg(test)]
    pub(super) fn index(&self) -> usize {
        self.index
    }

    #[cfg(test)]
    pub(super) fn is_unix(&self) -> bool {
        lock(&self.simulation.network).is_unix(self.index)
    }

    #[cfg(test)]
    pub(super) fn has_unread(&self) -> bool {
        lock(&self.simulation.network).has_unread(self.index)
    }

    /// Returns its own address, which is the program's [`peer_addr`](crate::Stream::peer_addr).
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Returns the program's address, which is its [`local_addr`](crate::Stream::local_addr).
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Sends as many bytes as the send buffer has room for, and returns their number: zero after a
    /// reset or its own [`finish`](Self::finish). Call it again later to send the rest.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = lock(&self.simulation.network).peer_write(self.index, bytes);
        if count > 0 {
            self.simulation.note(Happened::Wrote(self.local, count));
        }
        count
    }

    /// Reads everything that has arrived, which may be nothing.
    pub fn read(&mut self) -> Vec<u8> {
        self.read_at_most(usize::MAX)
    }

    /// Reads at most `max` bytes of what has arrived.
    pub fn read_at_most(&mut self, count: usize) -> Vec<u8> {
        let bytes = lock(&self.simulation.network).peer_read(self.index, count);
        if !bytes.is_empty() {
            self.simulation.note(Happened::Read(self.local, bytes.len()));
        }
        bytes
    }

    /// Marks the end of what was sent as urgent data.
    pub fn mark_urgent(&mut self) {
        lock(&self.simulation.network).mark_urgent(self.index);
    }

    /// Ends its direction, after what was sent (FIN).
    pub fn finish(&mut self) {
        self.simulation.note(Happened::Finished(self.local));
        lock(&self.simulation.network).finish(self.index);
    }

    /// Resets the connection and consumes the peer. In the Unix domain, which has no reset, it
    /// closes the connection.
    pub fn reset(mut self) {
        self.by_reset = true;
    }

    /// Returns the state of the connection.
    #[must_use]
    pub fn state(&self) -> PeerState {
        match lock(&self.simulation.network).peer_error(self.index) {
            None => PeerState::Open,
            Some(ErrorKind::UnexpectedEof) => PeerState::Ended,
            Some(_) => PeerState::Reset,
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let happened = if self.by_reset { Happened::Reset } else { Happened::Closed };
        self.simulation.note(happened(self.local));
        let mut network = lock(&self.simulation.network);
        let by_reset = self.by_reset && !network.is_unix(self.index);
        network.close(self.index, by_reset);
    }
}
