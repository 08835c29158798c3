//! Every bound of the loop and of its connections, with its default and the reason for it.
//!
//! Limits that contradict each other are refused when they are set, with
//! [`io::ErrorKind::InvalidInput`] and a message that names the field.

use std::io;
use std::time::Duration;

use crate::pool::BLOCK_SIZE;

/// The buffer for the events of one wait takes 16 MiB then, or 32 MiB where an event is larger.
const EVENT_CAPACITY_MAX: usize = 1 << 20;

/// Kernels count keepalive times in whole seconds; Linux accepts up to 32,767 (`MAX_TCP_KEEPIDLE`).
const KEEPALIVE_MAX: Duration = Duration::from_secs(32_767);

/// The limits of a whole loop. Start from [`Limits::default`] and change fields.
///
/// ```
/// use readiness::{EventLoop, Limits};
///
/// # fn main() -> std::io::Result<()> {
/// let mut limits = Limits::default();
/// limits.connections_max = Some(1_000);
/// limits.connection.idle_timeout = Some(std::time::Duration::from_secs(60));
/// let event_loop: EventLoop = EventLoop::with_limits(limits)?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The limits that each new connection starts with.
    pub connection: ConnectionLimits,
    /// Maximum number of open connections, accepted and outgoing together, or `None` for no
    /// maximum. While it is reached, no connection is accepted; an outgoing one can still be made.
    /// Default: `None`; running out of file descriptors pauses accepting in the same way.
    pub connections_max: Option<usize>,
    /// Maximum number of connections that one listener accepts per turn. Default: 16, so that a
    /// flood of new connections does not delay the open ones.
    pub accept_budget: usize,
    /// How long accepting pauses after an error such as `EMFILE`. The pause doubles with each
    /// further failure. Default: 5 ms.
    pub accept_pause_min: Duration,
    /// The longest such pause. Default: 1 s, so that a listener soon notices descriptors that other
    /// parts of the process have freed.
    pub accept_pause_max: Duration,
    /// Maximum number of established connections that wait to be accepted (the *backlog* of
    /// `listen(2)`). Default: 1,024; the kernel may allow fewer (`net.core.somaxconn` on Linux).
    pub listen_backlog: u32,
    /// Maximum number of events that one wait takes from the kernel; the next wait takes the rest.
    /// At most 2^20, as many descriptors as a process can have by default on Linux. Default: 1,024.
    pub event_capacity: usize,
    /// How long to poll for events in a loop before a wait blocks (*busy-polling*). It keeps a core
    /// busy during that time, and pays where answers arrive from the same machine faster than a
    /// thread wakes up: try 50 µs. After four spins in a row that found nothing, the next waits do
    /// not spin; their number doubles until a spin finds something. Default: `None`, which never
    /// spins.
    pub spin: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connection: ConnectionLimits::default(),
            connections_max: None,
            accept_budget: 16,
            accept_pause_min: Duration::from_millis(5),
            accept_pause_max: Duration::from_secs(1),
            listen_backlog: 1024,
            event_capacity: 1024,
            spin: None,
        }
    }
}

impl Limits {
    pub(crate) fn check(&self) -> io::Result<()> {
        self.connection.check()?;
        refuse(self.connections_max == Some(0), "connections_max is zero")?;
        refuse(self.accept_budget == 0, "accept_budget is zero")?;
        refuse(self.accept_pause_min.is_zero(), "accept_pause_min is zero")?;
        refuse(
            self.accept_pause_min > self.accept_pause_max,
            "accept_pause_min is above accept_pause_max",
        )?;
        refuse(self.listen_backlog == 0, "listen_backlog is zero")?;
        refuse(i32::try_from(self.listen_backlog).is_err(), "listen_backlog is above 2^31 - 1")?;
        refuse(self.event_capacity == 0, "event_capacity is zero")?;
        refuse(self.event_capacity > EVENT_CAPACITY_MAX, "event_capacity is above 2^20")
    }
}

/// The limits of one connection. Start from [`ConnectionLimits::default`] and change fields.
///
/// ```
/// use readiness::ConnectionLimits;
///
/// let mut limits = ConnectionLimits::default();
/// limits.high_water = 256 * 1024;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionLimits {
    /// Maximum number of received bytes that wait to be consumed. When the buffer is full, reading
    /// stops until the program consumes some of them ([`Event::Full`](crate::Event::Full)). A line
    /// or message that the program must see whole cannot be longer. Default: 64 KiB.
    pub read_buffer_max: usize,
    /// The high-water mark: with more unsent bytes than this, a connection is clogged; with exactly
    /// this many it is not. Default: 64 KiB, about as much as keeps a kernel's send buffer filled.
    pub high_water: usize,
    /// The low-water mark: when the unsent bytes of a clogged connection fall to this level,
    /// [`Drained`](crate::Event::Drained) is delivered. Default: 16 KiB, low enough that a producer
    /// works in batches and high enough that the kernel does not run dry.
    pub low_water: usize,
    /// Maximum number of unsent bytes that may accumulate. A send (or transfer) into an empty write
    /// buffer is accepted whatever its size, so memory is bounded by this limit plus one send. A
    /// send that would raise accumulated bytes above the limit takes nothing and ends the
    /// connection ([`CloseReason::Overflow`](crate::CloseReason::Overflow)). A growing buffer uses
    /// up to twice the memory of the bytes in it. Default: 16 MiB.
    pub unsent_max: usize,
    /// Maximum number of bytes read from a connection per turn. Default: 64 KiB, one block.
    pub read_budget: usize,
    /// Maximum number of bytes written to a connection per turn. Bytes left over from an earlier
    /// turn have a second budget of the same size. Default: 64 KiB, as for reading.
    pub write_budget: usize,
    /// How long a connect may take in all: resolving the name, and all attempts. A Unix-domain
    /// connect that finds the listener's backlog full is retried for this long. Default: 10 s.
    pub connect_deadline: Duration,
    /// Whether an accepted connection goes on reading while it has unsent bytes. If not, the server
    /// stops reading from a peer that never reads, which bounds memory. But a peer that writes
    /// everything before it reads anything can then wait forever. An outgoing connection always
    /// goes on reading. [`couple`](crate::EventLoop::couple) and
    /// [`uncouple`](crate::EventLoop::uncouple) change it for one connection. Default: `false`.
    pub reads_while_unsent: bool,
    /// How long the read buffer may stay full while the program could consume bytes or pause and
    /// does neither: see [`Event::Full`](crate::Event::Full). Then the connection ends. Default: 60
    /// s.
    pub stalled_read_deadline: Duration,
    /// How long unsent bytes may wait while the kernel takes none of them. Before the deadline
    /// takes effect, the loop tries to write once more: the kernel takes bytes as soon as the peer
    /// has read some. Then the connection ends with a reset, because bytes are given up. Default:
    /// 60 s.
    pub stalled_write_deadline: Duration,
    /// How long the peer may stay silent after a close, once the kernel has taken everything and
    /// our end of file (FIN). Then the socket is closed without a reset, and the kernel goes on
    /// delivering what a slow peer has not read yet; the loop cannot see how much that is. If the
    /// peer sends anything after that, the kernel answers with a reset, which can destroy what the
    /// peer has not read. Default: 5 s.
    pub close_quiet_deadline: Duration,
    /// How long a close may take in all from that moment, even if the peer goes on sending. It ends
    /// in the same way as with `close_quiet_deadline`. Default: 30 s.
    pub close_deadline: Duration,
    /// How long a connection may stay open while no byte moves in either direction; `None` for no
    /// limit. Before the timeout takes effect, the loop tries to read and to write once more. If
    /// the kernel has taken everything that was sent, the connection ends without a reset and the
    /// kernel goes on delivering; otherwise it ends with a reset. A connection that is connecting
    /// or closing has other deadlines. Must not be zero. Default: `None`.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may stay silent before the kernel sends TCP keepalive probes: from 1 s
    /// to 32,767 s, fractions are dropped. `None` sends none. Ignored for Unix-domain sockets.
    /// Default: `None`.
    pub keepalive: Option<Duration>,
    /// Sends small writes at once instead of gathering them (`TCP_NODELAY`, which turns Nagle's
    /// algorithm off). The loop gathers writes itself, so the kernel's delay would only add
    /// latency. Ignored for Unix-domain sockets. Default: `true`.
    pub nodelay: bool,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            read_buffer_max: BLOCK_SIZE,
            high_water: 64 * 1024,
            low_water: 16 * 1024,
            unsent_max: 16 * 1024 * 1024,
            read_budget: BLOCK_SIZE,
            write_budget: BLOCK_SIZE,
            connect_deadline: Duration::from_secs(10),
            reads_while_unsent: false,
            stalled_read_deadline: Duration::from_secs(60),
            stalled_write_deadline: Duration::from_secs(60),
            close_quiet_deadline: Duration::from_secs(5),
            close_deadline: Duration::from_secs(30),
            idle_timeout: None,
            keepalive: None,
            nodelay: true,
        }
    }
}

impl ConnectionLimits {
    pub(crate) fn check(&self) -> io::Result<()> {
        refuse(self.read_buffer_max == 0, "read_buffer_max is zero")?;
        refuse(self.low_water > self.high_water, "low_water is above high_water")?;
        refuse(self.high_water > self.unsent_max, "high_water is above unsent_max")?;
        refuse(self.unsent_max == 0, "unsent_max is zero")?;
        refuse(self.read_budget == 0, "read_budget is zero")?;
        refuse(self.write_budget == 0, "write_budget is zero")?;
        refuse(
            self.close_quiet_deadline > self.close_deadline,
            "close_quiet_deadline is above close_deadline",
        )?;
        check_idle_timeout(self.idle_timeout)?;
        check_keepalive(self.keepalive)
    }
}

pub(crate) fn check_idle_timeout(timeout: Option<Duration>) -> io::Result<()> {
    refuse(timeout == Some(Duration::ZERO), "idle_timeout is zero")
}

pub(crate) fn check_keepalive(after: Option<Duration>) -> io::Result<()> {
    let Some(after) = after else { return Ok(()) };
    refuse(after < Duration::from_secs(1), "keepalive is below one second")?;
    refuse(after.as_secs() > KEEPALIVE_MAX.as_secs(), "keepalive is above 32,767 seconds")
}

fn refuse(contradicts: bool, message: &'static str) -> io::Result<()> {
    if contradicts { Err(io::Error::new(io::ErrorKind::InvalidInput, message)) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_defaults_agree_with_each_other_and_with_their_docs() {
        let limits = Limits::default();
        limits.check().unwrap();
        let connection = limits.connection;
        let bytes = [connection.read_buffer_max, connection.high_water, connection.low_water];
        assert_eq!(bytes, [65_536, 65_536, 16_384]);
        assert_eq!(connection.unsent_max, 16_777_216);
        assert_eq!((connection.read_budget, connection.write_budget), (65_536, 65_536));
    }

    #[test]
    fn bounds_that_meet_are_allowed() {
        let mut limits = Limits::default();
        (limits.accept_pause_min, limits.accept_pause_max) = (SECOND, SECOND);
        (limits.connections_max, limits.accept_budget) = (Some(1), 1);
        (limits.listen_backlog, limits.event_capacity) = (i32::MAX.unsigned_abs(), 1);
        let connection = &mut limits.connection;
        (connection.low_water, connection.high_water, connection.unsent_max) = (1, 1, 1);
        (connection.read_buffer_max, connection.read_budget, connection.write_budget) = (1, 1, 1);
        (connection.close_quiet_deadline, connection.close_deadline) = (SECOND, SECOND);
        (connection.idle_timeout, connection.keepalive) = (Some(SECOND), Some(SECOND));
        limits.check().unwrap();
    }

    type Change = fn(&mut Limits);

    fn assert_refused(cases: &[(Change, &str)]) {
        for (change, message) in cases {
            let mut limits = Limits::default();
            change(&mut limits);
            let error = limits.check().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
            assert_eq!(error.to_string(), *message);
        }
    }

    #[test]
    fn contradictions_between_the_limits_of_a_loop_are_refused_by_the_name_of_the_field() {
        assert_refused(&[
            (|limits| limits.accept_budget = 0, "accept_budget is zero"),
            (|limits| limits.connections_max = Some(0), "connections_max is zero"),
            (|limits| limits.listen_backlog = 0, "listen_backlog is zero"),
            (|limits| limits.listen_backlog = 1 << 31, "listen_backlog is above 2^31 - 1"),
            (|limits| limits.event_capacity = 0, "event_capacity is zero"),
            (|limits| limits.event_capacity = (1 << 20) + 1, "event_capacity is above 2^20"),
            (|limits| limits.event_capacity = 1 << 31, "event_capacity is above 2^20"),
            (|limits| limits.accept_pause_min = Duration::ZERO, "accept_pause_min is zero"),
            (
                |limits| limits.accept_pause_min = 9 * SECOND,
                "accept_pause_min is above accept_pause_max",
            ),
        ]);
    }

    #[test]
    fn contradictions_between_the_limits_of_a_connection_are_refused_by_the_name_of_the_field() {
        assert_refused(&[
            (|limits| limits.connection.low_water = 1 << 20, "low_water is above high_water"),
            (|limits| limits.connection.high_water = 1 << 30, "high_water is above unsent_max"),
            (
                |limits| {
                    let connection = &mut limits.connection;
                    (connection.low_water, connection.high_water, connection.unsent_max) =
                        (0, 0, 0);
                },
                "unsent_max is zero",
            ),
            (|limits| limits.connection.read_buffer_max = 0, "read_buffer_max is zero"),
            (|limits| limits.connection.read_budget = 0, "read_budget is zero"),
            (|limits| limits.connection.write_budget = 0, "write_budget is zero"),
            (
                |limits| limits.connection.close_quiet_deadline = 31 * SECOND,
                "close_quiet_deadline is above close_deadline",
            ),
            (
                |limits| limits.connection.idle_timeout = Some(Duration::ZERO),
                "idle_timeout is zero",
            ),
            (
                |limits| limits.connection.keepalive = Some(Duration::from_millis(999)),
                "keepalive is below one second",
            ),
            (
                |limits| limits.connection.keepalive = Some(32_768 * SECOND),
                "keepalive is above 32,767 seconds",
            ),
            (
                |limits| limits.connection.keepalive = Some(Duration::MAX),
                "keepalive is above 32,767 seconds",
            ),
        ]);
    }
}
