//! What a simulated kernel and network do to a program.
//!
//! Each fault is something that a real kernel does. So a call that stops short although there was
//! more is always followed by another edge, as if the rest had arrived a moment later: on an
//! edge-triggered kernel that stayed silent, no loop could work.

use super::random::Random;

/// The faults of the simulated kernel and network. Each `_rate` says how many times in a thousand
/// the fault happens when it could.
///
/// [`Faults::none`] is a network without faults; [`Faults::drawn`] draws them from a seed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// A call or a wait is interrupted by a signal.
    pub interrupted_rate: u16,
    /// A read or an accept finds nothing although there is something; an edge follows.
    pub not_ready_rate: u16,
    /// A write finds no room although there is some; an edge follows.
    pub no_room_rate: u16,
    /// A read or a write moves less than it could; an edge follows.
    pub short_rate: u16,
    /// A wait reports readiness that does not exist (a spurious event).
    pub spurious_rate: u16,
    /// Readable and writable are reported as two events, not one.
    pub split_rate: u16,
    /// An event is left for a later wait.
    pub delayed_rate: u16,
    /// An event overtakes others.
    pub reordered_rate: u16,
    /// Accepting fails: no descriptor in the process or the system, no memory, or no buffers.
    pub accept_rate: u16,
    /// Accepting fails because the next peer's connection has failed.
    pub aborted_rate: u16,
    /// Registering a socket fails.
    pub register_rate: u16,
    /// A connect is refused, fails as unreachable or is never answered, at once or later.
    pub connect_rate: u16,
    /// A Unix-domain connect finds the listener's backlog full and is not begun.
    pub backlog_full_rate: u16,
    /// A reset discards bytes that were received before it.
    pub discard_rate: u16,
    /// Between two system calls an established connection breaks: it is reset from within the
    /// network, times out or becomes unreachable.
    pub broken_rate: u16,
    /// Between two system calls the network moves on by one step.
    pub busy_rate: u16,
    /// A few milliseconds pass where no time needs to.
    pub clock_rate: u16,
    /// Many seconds pass at once, as on a computer that was suspended.
    pub suspended_rate: u16,
    /// Maximum number of bytes that the network delivers in one piece.
    pub piece_max: usize,
    /// The size of a kernel's send buffer, in bytes.
    pub send_buffer: usize,
    /// The size of a kernel's receive buffer, in bytes.
    pub receive_buffer: usize,
    /// The backlog of a Unix-domain listener: a connect finds it full when more peers than this
    /// wait to be accepted.
    pub backlog_max: usize,
    /// Maximum number of events per wait.
    pub event_capacity: usize,
    /// Maximum number of sockets that a loop can have open.
    pub descriptors_max: usize,
    /// An interest is disarmed when it is reported, until a call would block or it is registered
    /// again, as in mio on Windows.
    pub disarms_on_report: bool,
    /// Readable and writable have separate edges, as with kqueue; with epoll, every edge reports
    /// everything that is true.
    pub separate_edges: bool,
    /// Registering an interest again does not report what was readable before; mio promises no such
    /// report, though epoll and kqueue give one. As on all other systems, a short read then does
    /// not prove that the socket is empty.
    pub silent_rearm: bool,
}

impl Faults {
    /// Returns a network without faults and with large buffers.
    #[must_use]
    pub fn none() -> Self {
        Self {
            interrupted_rate: 0,
            not_ready_rate: 0,
            no_room_rate: 0,
            short_rate: 0,
            spurious_rate: 0,
            split_rate: 0,
            delayed_rate: 0,
            reordered_rate: 0,
            accept_rate: 0,
            aborted_rate: 0,
            register_rate: 0,
            connect_rate: 0,
            backlog_full_rate: 0,
            discard_rate: 0,
            broken_rate: 0,
            busy_rate: 0,
            clock_rate: 0,
            suspended_rate: 0,
            piece_max: usize::MAX,
            send_buffer: 64 * 1024,
            receive_buffer: 64 * 1024,
            backlog_max: 1024,
            event_capacity: 1024,
            descriptors_max: usize::MAX,
            disarms_on_report: false,
            separate_edges: false,
            silent_rearm: false,
        }
    }

    /// Draws faults from a seed: each kind is absent, rare or frequent.
    #[must_use]
    pub fn drawn(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let mut rate = || random.one_of(&[0, 0, 10, 100, 400]);
        let mut faults = Self {
            interrupted_rate: rate(),
            not_ready_rate: rate(),
            no_room_rate: rate(),
            short_rate: rate(),
            spurious_rate: rate(),
            split_rate: rate(),
            delayed_rate: rate(),
            reordered_rate: rate(),
            accept_rate: rate(),
            aborted_rate: rate(),
            register_rate: rate() / 10,
            connect_rate: rate(),
            discard_rate: rate(),
            broken_rate: rate() / 100,
            busy_rate: rate(),
            clock_rate: rate(),
            suspended_rate: rate() / 25,
            ..Self::none()
        };
        let sizes = [1, 2, 3, 7, 64, 1000, 4096, 64 * 1024];
        faults.piece_max = random.one_of(&sizes);
        faults.send_buffer = random.one_of(&sizes);
        faults.receive_buffer = random.one_of(&sizes);
        faults.event_capacity = random.one_of(&[1, 2, 3, 1024]);
        faults.descriptors_max = random.one_of(&[3, 5, usize::MAX, usize::MAX, usize::MAX]);
        faults.disarms_on_report = random.below(4) == 0;
        faults.separate_edges = random.below(4) == 0;
        faults.silent_rearm = random.below(4) == 0;
        faults.backlog_full_rate = random.one_of(&[0, 0, 10, 100, 400]);
        faults.backlog_max = random.one_of(&[0, 1, 1024, 1024]);
        faults
    }

    /// Removes the faults that end a connection by themselves: a registration or a connect that
    /// fails, a peer whose connection failed before it was accepted, a connection that breaks, time
    /// that leaps past deadlines, and a permanent lack of descriptors. The faults that are left
    /// only disturb; no program's behaviour may show them.
    ///
    /// ```
    /// use readiness::simulation::Faults;
    ///
    /// let faults = Faults::drawn(5).survivable();
    /// assert_eq!((faults.register_rate, faults.connect_rate), (0, 0));
    /// ```
    #[must_use]
    pub fn survivable(self) -> Self {
        Self {
            aborted_rate: 0,
            register_rate: 0,
            connect_rate: 0,
            broken_rate: 0,
            suspended_rate: 0,
            descriptors_max: usize::MAX,
            ..self
        }
    }

    /// Removes all faults and keeps the sizes and the rules of edges.
    #[must_use]
    pub fn calmed(&self) -> Self {
        Self {
            piece_max: self.piece_max,
            send_buffer: self.send_buffer,
            receive_buffer: self.receive_buffer,
            backlog_max: self.backlog_max,
            event_capacity: self.event_capacity,
            disarms_on_report: self.disarms_on_report,
            separate_edges: self.separate_edges,
            silent_rearm: self.silent_rearm,
            ..Self::none()
        }
    }
}
