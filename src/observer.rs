//! The steps of a loop, for logs, counters, pictures and tests.
//!
//! Every step goes through [`Observers`], which costs a comparison or two while nothing observes. The
//! `log` lines, with the target `readiness`, are made from the same steps that an [`Observer`] is
//! shown. A line begins with the id it is about and shows sizes, never bytes.
//!
//! | level | steps |
//! |---|---|
//! | warn | an operator should act: accepting failed, once per shortage |
//! | debug | the life of a connection or listener |
//! | trace | everything else |
//!
//! A panic in an observer, or in the program's logger, is held until the loop has done its work in
//! that call, and resumed then. So the rest of the loop need not care when a step is shown.

use std::any::Any;
use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use log::{Level, LevelFilter};

use crate::event::{CloseReason, Deadline, Failure};
use crate::interest::Interest;
use crate::readiness::Readiness;
use crate::slots::{ConnectionId, ListenerId, SourceId, TimerId};

/// The target of all log lines.
const TARGET: &str = "readiness";

/// One step that the loop took.
#[expect(missing_docs, reason = "a variant's doc says what its fields are")]
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The loop waited, for at most this long, and the kernel reported this many events.
    Waited { at_most: Option<Duration>, events: usize },
    /// The kernel reported that the socket is ready, which is remembered.
    Ready { id: ConnectionId, readiness: Readiness },
    /// Bytes were read into the read buffer.
    Filled { id: ConnectionId, count: usize },
    /// Bytes were read and discarded, because the program has closed.
    Discarded { id: ConnectionId, count: usize },
    /// The socket has no more to read for now (`EAGAIN`).
    ReadBlocked { id: ConnectionId },
    /// The peer's end of file was read (EOF).
    PeerEnded { id: ConnectionId },
    /// The program has sent this many bytes since the connection was last settled.
    Queued { id: ConnectionId, count: usize },
    /// The kernel took unsent bytes, and this many are left.
    Flushed { id: ConnectionId, count: usize, unsent: usize },
    /// The kernel takes no more for now (`EAGAIN`).
    WriteBlocked { id: ConnectionId },
    /// The kernel was given another interest (`epoll_ctl`).
    InterestChanged { id: ConnectionId, from: Interest, to: Interest },
    /// A listener listens at the address; `None` for a Unix-domain socket.
    Listening { id: ListenerId, address: Option<SocketAddr> },
    /// A listener was closed.
    ListenerClosed { id: ListenerId },
    /// A listener accepted a connection from the address; `None` for a Unix-domain socket.
    Accepted { listener: ListenerId, id: ConnectionId, peer: Option<SocketAddr> },
    /// A peer's connection had failed before it was accepted.
    AcceptSkipped { id: ListenerId },
    /// Accepting failed, for the first time since the backlog was empty.
    AcceptFailed { id: ListenerId, failure: Failure },
    /// Accepting failed and pauses for this long, or until a connection closes.
    AcceptPaused { id: ListenerId, failure: Failure, pause: Duration },
    /// The name of a connect is being resolved.
    Resolving { id: ConnectionId },
    /// The name was resolved to this many addresses.
    Resolved { id: ConnectionId, addresses: usize },
    /// A connect to the address began; `None` for a Unix-domain socket. One connection may have
    /// several under way.
    Connecting { id: ConnectionId, address: Option<SocketAddr> },
    /// One of several connects failed; another is under way or begins.
    AttemptFailed { id: ConnectionId, address: SocketAddr, failure: Failure },
    /// The listener's backlog is full: the connect is retried after this pause.
    ConnectPaused { id: ConnectionId, pause: Duration },
    /// A stream that was made elsewhere was adopted.
    Adopted { id: ConnectionId },
    /// A connect succeeded.
    Connected { id: ConnectionId },
    /// Our end of file was sent (FIN).
    Finished { id: ConnectionId },
    /// A deadline passed.
    DeadlinePassed { id: ConnectionId, deadline: Deadline },
    /// A timer fired.
    TimerFired { id: TimerId },
    /// Another thread woke the loop.
    Woken,
    /// The kernel reported that a foreign source is ready; the event is delivered now.
    SourceReady { id: SourceId, readiness: Readiness },
    /// A shutdown began with this many connections and this deadline.
    ShuttingDown { connections: usize, deadline: Duration },
    /// The shutdown has reached its deadline: this many connections are aborted.
    ShutdownTimedOut { connections: usize },
    /// The shutdown has ended.
    ShutDown,
    /// The connection was closed, with this many bytes unsent and this many lost.
    Closed { id: ConnectionId, reason: CloseReason, unsent: usize, lost: u64 },
}

impl Step {
    fn level(&self) -> Level {
        match self {
            Self::AcceptFailed { .. } => Level::Warn,
            Self::Listening { .. }
            | Self::ListenerClosed { .. }
            | Self::Accepted { .. }
            | Self::AcceptSkipped { .. }
            | Self::AcceptPaused { .. }
            | Self::Resolving { .. }
            | Self::Resolved { .. }
            | Self::Connecting { .. }
            | Self::AttemptFailed { .. }
            | Self::ConnectPaused { .. }
            | Self::Adopted { .. }
            | Self::Connected { .. }
            | Self::Finished { .. }
            | Self::DeadlinePassed { .. }
            | Self::ShuttingDown { .. }
            | Self::ShutdownTimedOut { .. }
            | Self::ShutDown
            | Self::Closed { .. } => Level::Debug,
            _ => Level::Trace,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Waited { at_most, events } => match at_most {
                None => write!(f, "loop waited, {events} ready"),
                Some(most) => write!(f, "loop waited {most:?} at most, {events} ready"),
            },
            Self::Ready { id, readiness } => write!(f, "{id} is {readiness}"),
            Self::Filled { id, count } => write!(f, "{id} filled {count}"),
            Self::Discarded { id, count } => write!(f, "{id} discarded {count}"),
            Self::ReadBlocked { id } => write!(f, "{id} has no more to read (EAGAIN)"),
            Self::PeerEnded { id } => write!(f, "{id} read the peer's end (EOF)"),
            Self::Queued { id, count } => write!(f, "{id} queued {count}"),
            Self::Flushed { id, count, unsent } => match unsent {
                0 => write!(f, "{id} flushed {count}, all is sent"),
                _ => write!(f, "{id} flushed {count}, {unsent} unsent"),
            },
            Self::WriteBlocked { id } => write!(f, "{id} has no more room to write (EAGAIN)"),
            Self::InterestChanged { id, from, to } => write!(f, "{id} interest {from} -> {to}"),
            Self::Listening { id, address } => write!(f, "{id} listens at {}", shown(address)),
            Self::ListenerClosed { id } => write!(f, "{id} closed"),
            Self::Accepted { listener, id, peer } => {
                write!(f, "{id} accepted by {listener} from {}", shown(peer))
            }
            Self::AcceptSkipped { id } => write!(f, "{id} skipped a peer whose connection failed"),
            Self::AcceptFailed { id, failure } => write!(f, "{id} cannot accept: {failure}"),
            Self::AcceptPaused { id, failure, pause } => {
                write!(f, "{id} pauses accepting for {pause:?}: {failure}")
            }
            Self::Resolving { id } => write!(f, "{id} resolves its name"),
            Self::Resolved { id, addresses } => write!(f, "{id} resolved to {addresses} addresses"),
            Self::Connecting { id, address } => write!(f, "{id} connects to {}", shown(address)),
            Self::AttemptFailed { id, address, failure } => {
                write!(f, "{id} could not connect to {address}: {failure}")
            }
            Self::ConnectPaused { id, pause } => {
                write!(f, "{id} retries in {pause:?}: full backlog")
            }
            Self::Adopted { id } => write!(f, "{id} adopted"),
            Self::Connected { id } => write!(f, "{id} connected"),
            Self::Finished { id } => write!(f, "{id} finished our direction (FIN)"),
            Self::DeadlinePassed { id, deadline } => {
                write!(f, "{id} passed its deadline: {deadline:?}")
            }
            Self::TimerFired { id } => write!(f, "{id} fired"),
            Self::Woken => f.write_str("loop woken"),
            Self::SourceReady { id, readiness } => write!(f, "{id} is {readiness}"),
            Self::ShuttingDown { connections, deadline } => {
                write!(f, "loop shuts down {connections} connections within {deadline:?}")
            }
            Self::ShutdownTimedOut { connections } => {
                write!(
                    f,
                    "loop aborts {connections} connections: the shutdown reached its deadline"
                )
            }
            Self::ShutDown => f.write_str("loop has shut down"),
            Self::Closed { id, reason, unsent, lost } => {
                write!(f, "{id} closed: {reason} ({unsent} unsent, {lost} lost)")
            }
        }
    }
}

/// Is shown every step of a loop. Set it by
/// [`EventLoop::set_observer`](crate::EventLoop::set_observer).
///
/// Any closure that takes a [`Step`] is an observer.
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
/// assert!(matches!(steps.recv(), Ok(Step::Waited { events: 0, .. })));
/// # Ok(())
/// # }
/// ```
pub trait Observer: Send {
    /// Called for each step, in order, within the loop's call. It must not block. If it panics, the
    /// loop goes on with its work in that call and resumes the panic at its end; no step and no
    /// event is lost, and the loop remains usable.
    fn observe(&mut self, step: Step);

    /// Returns whether the observer is to be shown the steps that occur with every message too.
    ///
    /// These are [`Ready`](Step::Ready), [`Filled`](Step::Filled), [`Discarded`](Step::Discarded),
    /// [`ReadBlocked`](Step::ReadBlocked), [`PeerEnded`](Step::PeerEnded),
    /// [`Queued`](Step::Queued), [`Flushed`](Step::Flushed) and
    /// [`WriteBlocked`](Step::WriteBlocked), and making them costs time. The loop asks when the
    /// observer is set, and then once per turn, right before it waits. So an observer can rest until
    /// somebody looks, at the cost of a call for each wait. If the program's logger wants the level
    /// trace, the observer is shown everything too. By default it wants everything.
    ///
    /// [`EventLoop::metrics`](crate::EventLoop::metrics) counts turns, reads and writes in any case.
    fn wants_everything(&self) -> bool {
        true
    }
}

impl<F: FnMut(Step) + Send> Observer for F {
    fn observe(&mut self, step: Step) {
        self(step);
    }
}

/// The payload of a panic.
pub(crate) type Payload = Box<dyn Any + Send>;

/// Where the steps go.
pub(crate) struct Observers {
    /// The most detailed level that the logger wants, or trace where the observer wants everything.
    level: LevelFilter,
    observer: Option<Box<dyn Observer>>,
    /// The first panic of this call, to be resumed at its end.
    panic: Option<Payload>,
}

impl Observers {
    pub(crate) fn new() -> Self {
        Self { level: log::max_level(), observer: None, panic: None }
    }

    pub(crate) fn set(&mut self, observer: Box<dyn Observer>) {
        self.observer = Some(observer);
        self.refresh();
    }

    /// Asks the observer and the program's logger how much they want, once per turn.
    pub(crate) fn refresh(&mut self) {
        let wants_everything = self.observer.as_ref().map_or(Ok(false), |observer| {
            catch_unwind(AssertUnwindSafe(|| observer.wants_everything()))
        });
        match wants_everything {
            Ok(true) => self.level = LevelFilter::Trace,
            Ok(false) => self.level = log::max_level(),
            Err(payload) => _ = self.panic.get_or_insert(payload),
        }
    }

    /// Returns whether the observer or the logger wants every step.
    pub(crate) fn see_everything(&self) -> bool {
        self.level == LevelFilter::Trace
    }

    /// Shows a step to the observer, and to the logger if that wants its level.
    #[inline]
    pub(crate) fn see(&mut self, step: Step) {
        if self.observer.is_some() || step.level() <= self.level {
            self.show(step);
        }
    }

    /// Shows a step that occurs with every message: it is made only if everything is wanted.
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
        let observer = &mut self.observer;
        // The closure does not reach the loop's own state.
        let shown = catch_unwind(AssertUnwindSafe(|| {
            log::log!(target: TARGET, step.level(), "{step}");
            if let Some(observer) = observer {
                observer.observe(step);
            }
        }));
        if let Err(payload) = shown {
            self.panic.get_or_insert(payload);
        }
    }

    /// Returns whether a panic is held, so that the loop must not wait.
    pub(crate) fn hold_panic(&self) -> bool {
        self.panic.is_some()
    }

    pub(crate) fn take_panic(&mut self) -> Option<Payload> {
        self.panic.take()
    }
}

/// Logs why the program has closed a connection, or why a name has no address. The connection keeps
/// only the kind and the number of the error.
pub(crate) fn log_cause(id: ConnectionId, what: &str, error: &dyn fmt::Display) {
    log::debug!(target: TARGET, "{id} {what}: {error}");
}

/// Returns an address as a log line shows it. A Unix-domain address may be long and would take a
/// system call.
pub(crate) fn shown(address: Option<SocketAddr>) -> String {
    address.map_or("a Unix-domain socket".to_owned(), |address| address.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZero;
    use std::sync::mpsc;

    const ID: ConnectionId = ConnectionId { slot: 0, generation: NonZero::<u32>::MIN };

    /// Wants everything while the switch is on.
    struct Switched {
        is_on: std::sync::Arc<std::sync::atomic::AtomicBool>,
        seen: mpsc::Sender<Step>,
    }

    impl Observer for Switched {
        fn observe(&mut self, step: Step) {
            self.seen.send(step).unwrap();
        }

        fn wants_everything(&self) -> bool {
            self.is_on.load(std::sync::atomic::Ordering::Relaxed)
        }
    }

    #[test]
    fn observer_that_does_not_want_everything_is_shown_the_rest() {
        let is_on = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (seen, steps) = mpsc::channel();
        let mut observers = Observers::new();
        observers.set(Box::new(Switched { is_on: is_on.clone(), seen }));
        let (trace, debug) = (Step::ReadBlocked { id: ID }, Step::Connected { id: ID });
        let (from, to) = (Interest::Readable, Interest::Writable);
        let change = Step::InterestChanged { id: ID, from, to };
        observers.trace(|| panic!("nobody wants this step"));
        observers.see(debug);
        observers.see(change);
        is_on.store(true, std::sync::atomic::Ordering::Relaxed);
        observers.trace(|| panic!("it is asked once per turn"));
        observers.refresh();
        observers.trace(|| trace);
        assert_eq!(steps.try_iter().collect::<Vec<_>>(), [debug, change, trace]);
    }

    #[test]
    fn nobody_looking_makes_no_step_visible_and_an_observer_sees_all() {
        let mut observers = Observers::new();
        let (seen, steps) = mpsc::channel();
        observers.see(Step::Connected { id: ID });
        observers.set(Box::new(move |step: Step| seen.send(step).unwrap()));
        let filled = Step::Filled { id: ID, count: 5 };
        observers.trace(|| filled);
        observers.see(Step::Connected { id: ID });
        assert_eq!(steps.try_iter().collect::<Vec<_>>(), [filled, Step::Connected { id: ID }]);
    }

    #[test]
    fn first_panic_of_an_observer_is_held_and_later_steps_are_seen() {
        let mut observers = Observers::new();
        let (seen, steps) = mpsc::channel();
        observers.set(Box::new(move |step: Step| {
            seen.send(step).unwrap();
            std::panic::resume_unwind(Box::new(step));
        }));
        observers.see(Step::Woken);
        observers.see(Step::ShutDown);
        assert!(observers.hold_panic());
        let payload = observers.take_panic().unwrap();
        assert_eq!(payload.downcast_ref(), Some(&Step::Woken));
        assert!(!observers.hold_panic() && observers.take_panic().is_none());
        assert_eq!(steps.try_iter().collect::<Vec<_>>(), [Step::Woken, Step::ShutDown]);
    }

    #[test]
    fn lines_begin_with_the_id_and_give_sizes() {
        let line = |step: Step| step.to_string();
        assert_eq!(line(Step::Flushed { id: ID, count: 7, unsent: 3 }), "c0.1 flushed 7, 3 unsent");
        let (from, to) = (Interest::Readable, Interest::Writable);
        assert_eq!(
            line(Step::InterestChanged { id: ID, from, to }),
            "c0.1 interest readable -> writable"
        );
        assert_eq!(
            line(Step::Closed { id: ID, reason: CloseReason::Reset, unsent: 2, lost: 1 }),
            "c0.1 closed: reset by the peer (2 unsent, 1 lost)"
        );
        assert_eq!(
            line(Step::Connecting { id: ID, address: None }),
            "c0.1 connects to a Unix-domain socket"
        );
    }
}
