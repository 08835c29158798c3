//! What is delivered to the program: the events, and the reasons why a connection closed.

use std::fmt;
use std::io;
use std::num::NonZero;

use crate::readiness::Readiness;
use crate::slots::{ConnectionId, ListenerId, SourceId, TimerId};

/// What happened, as [`EventLoop::next_event`](crate::EventLoop::next_event) reports it.
///
/// For each connection the order is: [`Accepted`](Event::Accepted) or
/// [`Connected`](Event::Connected); then any number of [`Received`](Event::Received),
/// [`Full`](Event::Full), [`Drained`](Event::Drained) and [`Deadline`](Event::Deadline);
/// [`PeerFinished`](Event::PeerFinished) at most once; [`Closed`](Event::Closed) exactly once, and
/// nothing after it. A connect that fails delivers `Closed` alone. On a connection that allows
/// half-open, `Drained` and `Deadline` may also follow `PeerFinished`. After the program has closed
/// or aborted a connection, only `Closed` follows.
///
/// More kinds may be added later, so a `match` needs an arm for the rest.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A listener has accepted a connection.
    Accepted(ListenerId, ConnectionId),
    /// A connect has succeeded.
    Connected(ConnectionId),
    /// Bytes have arrived, or bytes are left after progress.
    ///
    /// A program may handle one message per event, or all of them. If it consumed something and
    /// bytes are left, the event is delivered again without a new read; such repeats come before
    /// anything is flushed, so the answers to sixteen small requests still leave in one `send`. If
    /// it consumed nothing, the message is incomplete, and the event is delivered when more has
    /// arrived. [`Drained`](Event::Drained) and [`resume`](crate::Stream::resume) also announce
    /// what is left. While unsent bytes hold the connection back (it is clogged, or coupled and the
    /// kernel did not take everything), the announcement waits.
    Received(ConnectionId),
    /// The read buffer is full and the program consumed nothing from it: the message at its front
    /// is longer than [`read_buffer_max`](crate::ConnectionLimits::read_buffer_max). Delivered once
    /// until there is room. If the program neither consumes anything nor pauses within
    /// [`stalled_read_deadline`](crate::ConnectionLimits::stalled_read_deadline), the connection
    /// ends.
    Full(ConnectionId),
    /// A clogged connection has drained: its unsent bytes have fallen to the low-water mark.
    /// Received bytes that were not consumed are announced again after it; on a connection that is
    /// coupled, once no byte is unsent any more.
    #[doc(alias = "drain")]
    Drained(ConnectionId),
    /// End of file (EOF, FIN): the peer sends no more, but it may still read. The connection closes
    /// by itself once this event has been handled, no other event (such as
    /// [`Drained`](Event::Drained)) is pending and the unsent bytes have left, unless half-open is
    /// allowed or the connection is paused. A program that answers later must allow half-open or
    /// pause, at the latest while it handles this event.
    #[doc(alias = "eof")]
    #[doc(alias = "FIN")]
    PeerFinished(ConnectionId),
    /// The deadline that the program set by [`Stream::set_deadline`](crate::Stream::set_deadline)
    /// has passed.
    Deadline(ConnectionId),
    /// The connection has ended, and its socket is closed already, so the peer has been told. Its
    /// received bytes, counts and data can be read until the next call into the loop, which drops
    /// them. Bytes sent to it now are lost.
    Closed(ConnectionId, CloseReason),
    /// Accepting failed for a reason that does not concern one peer, usually because the process is
    /// out of file descriptors; [`Failure::raw_os_error`] is the system's error number. The loop
    /// retries after a pause, or when a connection closes. Delivered once per shortage: not again
    /// until the backlog has been emptied.
    AcceptFailed(ListenerId, Failure),
    /// A timer has fired: see [`EventLoop::set_timer`](crate::EventLoop::set_timer).
    Timer(TimerId),
    /// A [`Waker`](crate::Waker) of the loop was used, once or several times.
    Woken,
    /// A foreign source is ready: see [`EventLoop::register`](crate::EventLoop::register).
    Ready(SourceId, Readiness),
    /// The shutdown has ended: every connection and every listener that existed when it began is
    /// closed. Connections made during the shutdown have closed too, unless its deadline has
    /// passed. See [`EventLoop::shutdown`](crate::EventLoop::shutdown).
    ShutDown,
}

impl Event {
    /// Returns the connection that the event is about, or `None` if it is not about one.
    ///
    /// Use it to route events to the part of a program that owns the connection.
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
    /// Both sides finished, and the kernel has taken everything that was sent.
    Finished,
    /// The program closed the connection, and the kernel has taken everything that was sent.
    Closed,
    /// The program aborted the connection.
    Aborted,
    /// The peer reset the connection (`ECONNRESET`, `EPIPE`).
    Reset,
    /// Nothing listens at the address (`ECONNREFUSED`). A Unix-domain path without a socket file
    /// gives [`Failed`](Self::Failed) with `NotFound` instead.
    Refused,
    /// A deadline passed.
    TimedOut(Deadline),
    /// The program sent more than [`unsent_max`](crate::ConnectionLimits::unsent_max) bytes ahead
    /// of the peer.
    Overflow,
    /// The program closed or aborted the connection and gave this reason: see
    /// [`Connection::attend`](crate::Connection::attend).
    Rejected(Failure),
    /// The operating system reported another error.
    Failed(Failure),
}

/// The deadlines that end a connection; each is a field of
/// [`ConnectionLimits`](crate::ConnectionLimits).
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deadline {
    /// The connect did not succeed in time.
    Connect,
    /// The read buffer was full, and the program consumed nothing.
    StalledRead,
    /// The kernel took none of the unsent bytes.
    StalledWrite,
    /// The peer did not finish after the program had closed.
    Close,
    /// No byte moved in either direction.
    Idle,
}

/// An error, as its kind and the operating system's number. Unlike [`io::Error`] it is `Copy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Failure {
    kind: io::ErrorKind,
    code: Option<NonZero<i32>>,
}

impl Failure {
    /// Returns the kind of the error.
    #[must_use]
    pub fn kind(self) -> io::ErrorKind {
        self.kind
    }

    /// Returns the operating system's number for the error, if there is one.
    #[must_use]
    pub fn raw_os_error(self) -> Option<i32> {
        self.code.map(NonZero::get)
    }
}

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        Self { kind: error.kind(), code: error.raw_os_error().and_then(NonZero::new) }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
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
    /// Returns the reason that a socket's error stands for.
    pub(crate) fn of(error: &io::Error) -> Self {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset};
        match error.kind() {
            ConnectionReset | ConnectionAborted | BrokenPipe => Self::Reset,
            ConnectionRefused => Self::Refused,
            _ => Self::Failed(Failure::from(error)),
        }
    }

    /// Returns the error that a read gives after the last received byte of a connection that closed
    /// for this reason.
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
