//! What the loop did, step by step: for logs, counters, pictures and tests.
//!
//! Every step goes through [`Observers`]. It costs one comparison while nobody looks; the
//! `log` lines, with the target `readiness`, are made from the same steps that an [`Observer`]
//! gets. A line begins with the id it is about, and tells sizes, never bytes.
//!
//! | level | steps |
//! |---|---|
//! | warn | an operator should act: accepting failed, once per shortage |
//! | debug | the life of a connection or listener |
//! | trace | everything else |

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use log::{Level, LevelFilter};

use crate::event::{CloseReason, ConnectionId, Deadline, Failure, ListenerId, SourceId, TimerId};
use crate::interest::{Interest, Readiness};

/// One thing that the loop did.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The loop waited, at most so long, and the kernel reported so many events.
    Waited(Option<Duration>, usize),
    /// The kernel said that the socket is ready; it is remembered.
    Ready(ConnectionId, Readiness),
    /// So many bytes were read into the read buffer.
    Filled(ConnectionId, usize),
    /// So many bytes were read and thrown away, because the program has closed.
    Discarded(ConnectionId, usize),
    /// The socket has no more to read for now.
    ReadBlocked(ConnectionId),
    /// The end of what the peer sends was read.
    PeerEnded(ConnectionId),
    /// Since the connection was settled last, the program has sent so many bytes.
    Queued(ConnectionId, usize),
    /// The kernel took so many unsent bytes, and so many are left.
    Flushed(ConnectionId, usize, usize),
    /// The kernel takes no more for now.
    WriteBlocked(ConnectionId),
    /// The interest was told to the kernel: from the first to the second.
    InterestChanged(ConnectionId, Interest, Interest),
    /// A listener listens at the address; `None` for one of the Unix domain.
    Listening(ListenerId, Option<SocketAddr>),
    /// A listener was closed.
    ListenerClosed(ListenerId),
    /// A listener accepted a connection from the address; `None` for one of the Unix domain.
    Accepted(ListenerId, ConnectionId, Option<SocketAddr>),
    /// A peer had gone before it was accepted.
    AcceptSkipped(ListenerId),
    /// Accepting failed, for the first time since nobody has waited.
    AcceptFailed(ListenerId, Failure),
    /// Accepting failed and pauses for this long, unless a connection closes before.
    AcceptPaused(ListenerId, Failure, Duration),
    /// A connect to the address began; `None` for one of the Unix domain.
    Connecting(ConnectionId, Option<SocketAddr>),
    /// The listener's backlog is full: the connect is tried again after so long.
    ConnectPaused(ConnectionId, Duration),
    /// A stream that was made elsewhere was taken over.
    Adopted(ConnectionId),
    /// A connect succeeded.
    Connected(ConnectionId),
    /// The end of our direction was sent.
    Finished(ConnectionId),
    /// A deadline passed.
    DeadlinePassed(ConnectionId, Deadline),
    /// The time of a timer has come.
    TimerRang(TimerId),
    /// Another thread woke the loop.
    Woken,
    /// The kernel said that a foreign source is ready, and the program is told.
    SourceReady(SourceId, Readiness),
    /// A shutdown began with so many connections, and has so long.
    ShuttingDown(usize, Duration),
    /// The shutdown is over.
    ShutDown,
    /// The connection ended, with so many bytes unsent and so many lost.
    Closed(ConnectionId, CloseReason, usize, u64),
}

impl Step {
    fn level(&self) -> Level {
        match self {
            Self::AcceptFailed(..) => Level::Warn,
            Self::Listening(..)
            | Self::ListenerClosed(..)
            | Self::Accepted(..)
            | Self::AcceptSkipped(..)
            | Self::AcceptPaused(..)
            | Self::Connecting(..)
            | Self::ConnectPaused(..)
            | Self::Adopted(..)
            | Self::Connected(..)
            | Self::Finished(..)
            | Self::DeadlinePassed(..)
            | Self::ShuttingDown(..)
            | Self::ShutDown
            | Self::Closed(..) => Level::Debug,
            _ => Level::Trace,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Waited(None, events) => write!(f, "loop waited, {events} ready"),
            Self::Waited(Some(most), events) => {
                write!(f, "loop waited {most:?} at most, {events} ready")
            }
            Self::Ready(id, readiness) => write!(f, "{id} is {readiness}"),
            Self::Filled(id, count) => write!(f, "{id} filled {count}"),
            Self::Discarded(id, count) => write!(f, "{id} discarded {count}"),
            Self::ReadBlocked(id) => write!(f, "{id} has no more to read"),
            Self::PeerEnded(id) => write!(f, "{id} read the peer's end"),
            Self::Queued(id, count) => write!(f, "{id} queued {count}"),
            Self::Flushed(id, count, 0) => write!(f, "{id} flushed {count}, all is sent"),
            Self::Flushed(id, count, left) => write!(f, "{id} flushed {count}, {left} unsent"),
            Self::WriteBlocked(id) => write!(f, "{id} has no more room to write"),
            Self::InterestChanged(id, from, to) => write!(f, "{id} interest {from} -> {to}"),
            Self::Listening(id, address) => write!(f, "{id} listens at {}", shown(address)),
            Self::ListenerClosed(id) => write!(f, "{id} closed"),
            Self::Accepted(listener, id, peer) => {
                write!(f, "{id} accepted by {listener} from {}", shown(peer))
            }
            Self::AcceptSkipped(id) => write!(f, "{id} skipped a peer that had gone"),
            Self::AcceptFailed(id, failure) => write!(f, "{id} cannot accept: {failure}"),
            Self::AcceptPaused(id, failure, pause) => {
                write!(f, "{id} pauses accepting for {pause:?}: {failure}")
            }
            Self::Connecting(id, address) => write!(f, "{id} connects to {}", shown(address)),
            Self::ConnectPaused(id, pause) => {
                write!(f, "{id} finds the backlog full and tries again after {pause:?}")
            }
            Self::Adopted(id) => write!(f, "{id} adopted"),
            Self::Connected(id) => write!(f, "{id} connected"),
            Self::Finished(id) => write!(f, "{id} finished our direction"),
            Self::DeadlinePassed(id, deadline) => {
                write!(f, "{id} passed its deadline: {deadline:?}")
            }
            Self::TimerRang(id) => write!(f, "{id} rang"),
            Self::Woken => f.write_str("loop woken"),
            Self::SourceReady(id, readiness) => write!(f, "{id} is {readiness}"),
            Self::ShuttingDown(connections, after) => {
                write!(f, "loop shuts down {connections} connections within {after:?}")
            }
            Self::ShutDown => f.write_str("loop has shut down"),
            Self::Closed(id, reason, unsent, lost) => {
                write!(f, "{id} closed: {reason} ({unsent} unsent, {lost} lost)")
            }
        }
    }
}

/// Sees every step of a loop; set by [`EventLoop::set_observer`](crate::EventLoop::set_observer).
///
/// Any closure that takes a [`Step`] is one.
///
/// ```
/// use readiness::{EventLoop, Step};
/// use std::time::Duration;
///
/// # fn main() -> std::io::Result<()> {
/// let (seen, steps) = std::sync::mpsc::channel();
/// let mut event_loop: EventLoop = EventLoop::new()?;
/// event_loop.set_observer(move |step: Step| { let _ = seen.send(step); });
/// event_loop.poll_event(Some(Duration::ZERO))?;
/// assert_eq!(steps.recv(), Ok(Step::Waited(Some(Duration::ZERO), 0)));
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send {
    /// Called for each step, in order, within the loop's call. It must not block, and not panic:
    /// the loop is in the middle of its work. If it panics all the same, the next call goes on from
    /// there, and the step may be shown again; so one that panics each time keeps the loop where it
    /// is.
    fn observe(&mut self, step: Step);
}

impl<F: FnMut(Step) + Send> Observer for F {
    fn observe(&mut self, step: Step) {
        self(step);
    }
}

/// Where the steps go.
pub(crate) struct Observers {
    /// The most detailed level that anybody looks at.
    level: LevelFilter,
    observer: Option<Box<dyn Observer>>,
}

impl Observers {
    pub(crate) fn new() -> Self {
        Self { level: log::max_level(), observer: None }
    }

    pub(crate) fn set(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
        self.refresh();
    }

    /// Looks again at how much the program's logger wants; once a turn.
    pub(crate) fn refresh(&mut self) {
        let everything = self.observer.is_some();
        self.level = if everything { LevelFilter::Trace } else { log::max_level() };
    }

    /// Whether anybody looks at every step.
    pub(crate) fn see_everything(&self) -> bool {
        self.level == LevelFilter::Trace
    }

    pub(crate) fn see(&mut self, step: Step) {
        if step.level() <= self.level {
            self.show(step);
        }
    }

    /// The same for what happens with every byte: the step is made only if anybody looks.
    #[inline]
    pub(crate) fn trace(&mut self, make: impl FnOnce() -> Step) {
        if self.see_everything() {
            let step = make();
            debug_assert_eq!(step.level(), Level::Trace, "{step:?} is seen at another level");
            self.show(step);
        }
    }

    #[cold]
    fn show(&mut self, step: Step) {
        log::log!(target: "readiness", step.level(), "{step}");
        if let Some(observer) = &mut self.observer {
            observer.observe(step);
        }
    }
}

/// An address in a line. That of the Unix domain may be long, and is asked of its socket.
pub(crate) fn shown(address: Option<SocketAddr>) -> String {
    address.map_or("a Unix-domain socket".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZero;
    use std::sync::mpsc;

    const ID: ConnectionId = ConnectionId { slot: 0, generation: NonZero::<u32>::MIN };

    #[test]
    fn nobody_looking_makes_no_step_visible_and_an_observer_sees_all() {
        let mut observers = Observers::new();
        let (seen, steps) = mpsc::channel();
        observers.see(Step::Connected(ID));
        observers.set(Box::new(move |step: Step| seen.send(step).unwrap()));
        observers.trace(|| Step::Filled(ID, 5));
        observers.see(Step::Connected(ID));
        assert_eq!(
            steps.try_iter().collect::<Vec<_>>(),
            [Step::Filled(ID, 5), Step::Connected(ID)]
        );
    }

    #[test]
    fn lines_begin_with_the_id_and_tell_sizes() {
        let line = |step: Step| step.to_string();
        assert_eq!(line(Step::Flushed(ID, 7, 3)), "c0.1 flushed 7, 3 unsent");
        assert_eq!(
            line(Step::InterestChanged(ID, Interest::Readable, Interest::Writable)),
            "c0.1 interest readable -> writable"
        );
        assert_eq!(
            line(Step::Closed(ID, CloseReason::Reset, 2, 1)),
            "c0.1 closed: reset by the peer (2 unsent, 1 lost)"
        );
        assert_eq!(line(Step::Connecting(ID, None)), "c0.1 connects to a Unix-domain socket");
    }
}
