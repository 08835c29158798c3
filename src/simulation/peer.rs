//! Peers: the other ends, moved by a test.

use std::io::ErrorKind;
use std::net::SocketAddr;

use super::Simulation;
use super::script::Happened;
use crate::system::simulated::lock;

/// A listener that the test accepts from by hand. Dropping it closes it; in the Unix domain the
/// file of its path stays, as with `std`.
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

    /// Where it listens. In the Unix domain this is not a real address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next peer that waits, if there is one.
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

/// The other end of one connection, moved by the test. Dropping it closes it, as a process that
/// ends closes its sockets: what it has not read is answered with a reset, and in the Unix domain
/// with an error of the same name.
///
/// Nothing that it does waits. What it writes is on its way when the network is stepped, and what
/// was sent to it can be read when the network has delivered it.
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

/// How a peer's connection stands, as far as the peer can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerState {
    /// More may come.
    Open,
    /// The other side's end has come, and everything before it was read.
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

    /// Its own address: what [`peer_addr`](crate::Stream::peer_addr) is for the program.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The program's address: what [`local_addr`](crate::Stream::local_addr) is for the program.
    #[must_use]
    pub fn remote_addr(&self) -> SocketAddr {
        self.remote
    }

    /// Sends what the send buffer has room for, and returns how many bytes that was: none after a
    /// reset or its own [`finish`](Self::finish). To send the rest, go on later.
    pub fn write(&mut self, bytes: &[u8]) -> usize {
        let count = lock(&self.simulation.network).peer_write(self.index, bytes);
        if count > 0 {
            self.simulation.note(Happened::Wrote(self.local, count));
        }
        count
    }

    /// Reads all that has arrived; nothing, if nothing has.
    pub fn read(&mut self) -> Vec<u8> {
        self.read_at_most(usize::MAX)
    }

    /// Reads at most so many bytes of what has arrived.
    pub fn read_at_most(&mut self, count: usize) -> Vec<u8> {
        let bytes = lock(&self.simulation.network).peer_read(self.index, count);
        if !bytes.is_empty() {
            self.simulation.note(Happened::Read(self.local, bytes.len()));
        }
        bytes
    }

    /// Sends one byte of urgent data's mark behind what was sent.
    pub fn mark_urgent(&mut self) {
        lock(&self.simulation.network).mark_urgent(self.index);
    }

    /// Ends its direction, behind what was sent.
    pub fn finish(&mut self) {
        self.simulation.note(Happened::Finished(self.local));
        lock(&self.simulation.network).finish(self.index);
    }

    /// Resets the connection and is no more. In the Unix domain, which knows no reset, it closes
    /// it.
    pub fn reset(mut self) {
        self.by_reset = true;
    }

    /// How the connection stands.
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
