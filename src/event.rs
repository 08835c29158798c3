//! What is delivered to the program: the events, and the reasons for which a connection is closed.

use std::fmt;
use std::io;
use std::num::NonZero;

use crate::interest::Readiness;
use crate::slots::{ConnectionId, ListenerId, SourceId, TimerId};

/// What happened, as [`EventLoop::next_event`](crate::EventLoop::next_event) tells it.
///
/// For each connection the order is: [`Accepted`](Event::Accepted) or
/// [`Connected`](Event::Connected); then any number of [`Received`](Event::Received),
/// [`Drained`](Event::Drained) and [`Deadline`](Event::Deadline);
/// [`PeerFinished`](Event::PeerFinished) at most once; [`Closed`](Event::Closed) exactly once, and
/// nothing after it. A connect that fails gives `Closed` alone. While a connection that allows
/// half-open writes on, `Drained` and `Deadline` may also come after `PeerFinished`.
///
/// More kinds may be added, so a `match` needs an arm for the rest.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The listener has a new connection.
    Accepted(ListenerId, ConnectionId),
    /// A connect has succeeded.
    Connected(ConnectionId),
    /// Bytes came in. What the program does not consume is not announced again until more arrives
    /// or the connection is resumed.
    Received(ConnectionId),
    /// The read buffer is full, and the program has taken nothing from it although it could: the
    /// message at its front is longer than
    /// [`read_buffer_max`](crate::ConnectionLimits::read_buffer_max). Delivered once until there is
    /// room. If the program neither consumes anything nor pauses within
    /// [`stalled_read_deadline`](crate::ConnectionLimits::stalled_read_deadline), the connection
    /// ends.
    Full(ConnectionId),
    /// A clogged connection is no longer: its unsent bytes have come down to the low-water mark.
    /// What was received and not consumed is announced again behind it.
    Drained(ConnectionId),
    /// The peer sends no more; it may still read. Unless half-open is allowed or the connection is
    /// paused, it closes by itself as soon as this event is handled and everything unsent has
    /// left. A program whose answer comes later allows half-open, here at the latest.
    PeerFinished(ConnectionId),
    /// The deadline that the program set has passed.
    Deadline(ConnectionId),
    /// The connection has ended. What it has received, its counts and its data can be read until
    /// the next call into the loop, which drops them; what is sent to it now is lost.
    Closed(ConnectionId, CloseReason),
    /// Accepting failed for a reason that does not concern one peer, most often because the process
    /// is out of file descriptors; [`Failure::raw_os_error`] tells which. The loop retries by
    /// itself, after a pause or when a connection closes. Delivered once per shortage: not again
    /// until nobody waits to be accepted any more.
    AcceptFailed(ListenerId, Failure),
    /// The time of a timer has come: see [`EventLoop::set_timer`](crate::EventLoop::set_timer).
    Timer(TimerId),
    /// A [`Waker`](crate::Waker) of the loop was used, once or more often.
    Woken,
    /// A foreign source is ready: see [`EventLoop::register`](crate::EventLoop::register).
    Ready(SourceId, Readiness),
    /// The shutdown is over: no connection is left, nor a listener of those that there were when
    /// it began. After its deadline, what the program has made since then does not count. See
    /// [`EventLoop::shutdown`](crate::EventLoop::shutdown).
    ShutDown,
}

impl Event {
    /// The connection that the event is about, if it is about one: to hand events on to the part
    /// of a program that a connection belongs to.
    #[must_use]
    pub fn connection(self) -> Option<ConnectionId> {
        match self {
            Self::Accepted(_, id)
            | Self::Connected(id)
            | Self::Received(id)
            | Self::Full(id)
            | Self::Drained(id)
            | Self::PeerFinished(id)
            | Self::Deadline(id)
            | Self::Closed(id, _) => Some(id),
            Self::AcceptFailed(..)
            | Self::Timer(_)
            | Self::Woken
            | Self::Ready(..)
            | Self::ShutDown => None,
        }
    }
}

/// Who ended a connection, and why.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides finished, and everything that was sent has left.
    Finished,
    /// We closed, and everything that was sent has left.
    Closed,
    /// We aborted.
    Aborted,
    /// The peer reset the connection, or reads no more.
    Reset,
    /// Nobody listens at the address. In the Unix domain a file is there, or the name is abstract;
    /// where no file is, it has [`Failed`](Self::Failed) with `NotFound`.
    Refused,
    /// A deadline passed.
    TimedOut(Deadline),
    /// The program sent more than `unsent_max` bytes ahead of the peer.
    Overflow,
    /// The program gave this as the reason when it closed or aborted the connection: see
    /// [`Connection::attend`](crate::Connection::attend).
    Rejected(Failure),
    /// The operating system failed the connection in another way.
    Failed(Failure),
}

/// The deadlines that end a connection; each is a field of
/// [`ConnectionLimits`](crate::ConnectionLimits).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// The connect did not succeed in time.
    Connect,
    /// The read buffer was full, and the program took nothing from it.
    StalledRead,
    /// The kernel took no byte of those that waited.
    StalledWrite,
    /// The peer did not end after we had closed.
    Close,
    /// Nothing moved in either direction.
    Idle,
}

/// An error of the operating system, kept as `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    kind: io::ErrorKind,
    code: Option<NonZero<i32>>,
}

impl Failure {
    /// The kind of the error.
    #[must_use]
    pub fn kind(self) -> io::ErrorKind {
        self.kind
    }

    /// The operating system's number for it, if it gave one.
    #[must_use]
    pub fn raw_os_error(self) -> Option<i32> {
        self.code.map(NonZero::get)
    }
}

impl Failure {
    pub(crate) fn of(error: &io::Error) -> Self {
        Self { kind: error.kind(), code: error.raw_os_error().and_then(NonZero::new) }
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        Self::of(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::of(&error)
    }
}

impl From<io::ErrorKind> for Failure {
    fn from(kind: io::ErrorKind) -> Self {
        Self { kind, code: None }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.raw_os_error() {
            Some(code) => io::Error::from_raw_os_error(code).fmt(f),
            None => self.kind.fmt(f),
        }
    }
}

impl CloseReason {
    /// The reason that an error of a socket amounts to.
    pub(crate) fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset};
        match error.kind() {
            ConnectionReset | ConnectionAborted | BrokenPipe => Self::Reset,
            ConnectionRefused => Self::Refused,
            _ => Self::Failed(Failure::of(error)),
        }
    }

    /// What a read returns behind the received bytes of a connection that ended so.
    pub(crate) fn to_error(self) -> io::Error {
        use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut};
        let kind = match self {
            Self::Failed(Failure { code: Some(code), .. }) => {
                return io::Error::from_raw_os_error(code.get());
            }
            Self::Failed(failure) | Self::Rejected(failure) => failure.kind,
            Self::Reset => ConnectionReset,
            Self::Refused => ConnectionRefused,
            Self::TimedOut(_) => TimedOut,
            Self::Finished | Self::Closed | Self::Aborted | Self::Overflow => ConnectionAborted,
        };
        io::Error::new(kind, self.to_string())
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished by both sides"),
            Self::Closed => f.write_str("closed by us"),
            Self::Aborted => f.write_str("aborted by us"),
            Self::Reset => f.write_str("reset by the peer"),
            Self::Refused => f.write_str("refused"),
            Self::TimedOut(Deadline::Connect) => f.write_str("timed out connecting"),
            Self::TimedOut(Deadline::StalledRead) => f.write_str("timed out on a full read buffer"),
            Self::TimedOut(Deadline::StalledWrite) => f.write_str("timed out on a stalled write"),
            Self::TimedOut(Deadline::Close) => f.write_str("timed out closing"),
            Self::TimedOut(Deadline::Idle) => f.write_str("timed out idle"),
            Self::Overflow => f.write_str("overflow of unsent bytes"),
            Self::Rejected(failure) => write!(f, "rejected by us: {failure}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_a_socket_become_reasons() {
        let reason = |kind: io::ErrorKind| CloseReason::of(&io::Error::from(kind));
        assert_eq!(reason(io::ErrorKind::ConnectionReset), CloseReason::Reset);
        assert_eq!(reason(io::ErrorKind::BrokenPipe), CloseReason::Reset);
        assert_eq!(reason(io::ErrorKind::ConnectionRefused), CloseReason::Refused);
        let CloseReason::Failed(failure) = CloseReason::of(&io::Error::from_raw_os_error(110))
        else {
            panic!("an error without a reason of its own is kept whole");
        };
        assert_eq!(failure.raw_os_error(), Some(110));
    }
}
