//! What one connection waits for, and who must move next.
//!
//! It follows from state that the loop keeps anyway. Debug builds also check it: a loop that would
//! sleep forever while a connection waits for nobody has lost a wake-up.

use std::fmt;

use super::{Queued, Stream};
use crate::exchange::Coupling;
use crate::state::State;

/// Who or what must move next so that a connection can go on, as [`Stream::waits_for`] returns it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WaitsFor {
    /// The loop itself: an event is to be delivered, or bytes can be moved, in the next turn.
    Loop,
    /// A name to be resolved, or a connect to be answered.
    Connect,
    /// The peer to read: bytes are unsent, and the kernel takes no more of them.
    PeerToRead,
    /// The peer to read, or to send or finish.
    PeerToReadOrSend,
    /// The peer to send or to finish.
    PeerToSend,
    /// The peer to finish, or a deadline: the program has closed.
    PeerToFinish,
    /// The program to consume: the read buffer is full.
    ProgramToConsume,
    /// The program to resume the connection, which it has paused.
    ProgramToResume,
    /// The program to send, finish or close: the peer has finished, and half-open is allowed.
    ProgramToFinish,
    /// The connection that it is coupled to, which has unsent bytes.
    Writer,
    /// Nobody. This occurs only if the loop has a bug.
    Nobody,
}

impl fmt::Display for WaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loop => "the loop",
            Self::Connect => "the connect to be answered",
            Self::PeerToRead => "the peer to read",
            Self::PeerToReadOrSend => "the peer to read or to send",
            Self::PeerToSend => "the peer to send or to finish",
            Self::PeerToFinish => "the peer to finish",
            Self::ProgramToConsume => "the program to consume: the read buffer is full",
            Self::ProgramToResume => "the program to resume it",
            Self::ProgramToFinish => "the program to finish",
            Self::Writer => "the connection that it is coupled to, which has unsent bytes",
            Self::Nobody => "nobody",
        })
    }
}

impl Stream {
    /// Returns who or what must move next so that this connection can go on.
    ///
    /// [`EventLoop::explain`](crate::EventLoop::explain) shows it for all connections.
    ///
    /// ```
    /// use readiness::{Event, EventLoop, WaitsFor};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server: EventLoop = EventLoop::new()?;
    /// let listener = server.listen("127.0.0.1:0")?;
    /// let _peer = std::net::TcpStream::connect(server.listener_addr(listener)?)?;
    /// let Event::Accepted(_, id) = server.next_event()? else { panic!("it comes first") };
    /// server.poll_event(Some(std::time::Duration::from_millis(10)))?;
    /// let waits_for = server.get(id).expect("it is open").waits_for();
    /// assert_eq!(waits_for, WaitsFor::PeerToSend);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn waits_for(&self) -> WaitsFor {
        let exchange = &self.exchange;
        if self.standing.queued != Queued::No || self.standing.dirty {
            return WaitsFor::Loop;
        }
        // It could go on now, and is in no queue.
        if exchange.next_pending().is_some() || exchange.can_fill() || exchange.can_flush() {
            return WaitsFor::Nobody;
        }
        match exchange.state() {
            _ if exchange.is_connecting() => WaitsFor::Connect,
            State::Closed => WaitsFor::Nobody,
            _ if self.interest() != exchange.interest() => WaitsFor::Nobody,
            State::Lingering => WaitsFor::PeerToFinish,
            _ if exchange.unsent() > 0 && exchange.wants_read() => WaitsFor::PeerToReadOrSend,
            _ if exchange.unsent() > 0 => WaitsFor::PeerToRead,
            _ if exchange.wants_read() => WaitsFor::PeerToSend,
            _ if exchange.is_paused() => WaitsFor::ProgramToResume,
            State::PeerFinished => WaitsFor::ProgramToFinish,
            _ if exchange.coupling() == Coupling::Writer { has_unsent: true } => WaitsFor::Writer,
            _ if exchange.room() == 0 => WaitsFor::ProgramToConsume,
            _ => WaitsFor::Nobody,
        }
    }
}

/// Panics if a connection has something unsent or unread and nobody is to move. Call it when the
/// loop is about to sleep forever.
pub(crate) fn assert_somebody_moves(stream: &Stream) {
    let has_something = stream.unsent() > 0
        || !stream.received().is_empty()
        || stream.exchange.readiness().is_readable();
    assert!(
        !has_something || !matches!(stream.waits_for(), WaitsFor::Nobody | WaitsFor::Loop),
        "a wake-up is lost: {} waits for {}: {stream:?}",
        stream.id(),
        stream.waits_for()
    );
}
