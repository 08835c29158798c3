//! The seam to the kernel: waiting, registering, the clock, and the calls on sockets.
//!
//! [`System`], [`Socket`] and [`ListeningSocket`] hide everything that depends on the operating
//! system; no file outside this folder names a type of mio. There are two systems: the operating
//! system's kernel, and a simulated one for tests, whose sockets are indices into its network.
//!
//! | file | |
//! |---|---|
//! | `opening.rs` | listening, connecting, and adopting sockets that were made elsewhere |
//! | `kernel.rs` | the operating system's kernel, through mio |
//! | `simulated.rs` | the other kernel, for tests |

/// Makes the same call on something of the operating system's kernel and on its simulated
/// counterpart.
macro_rules! either {
    ($kind:ident, $thing:expr, |$its:ident| $call:expr) => {
        match $thing {
            $kind::Kernel($its) => $call,
            #[cfg(any(test, feature = "simulation"))]
            $kind::Simulated($its) => $call,
        }
    };
}

mod kernel;
mod opening;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod simulated;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::sync::Weak;
use std::time::{Duration, Instant};

pub use kernel::Source;
use kernel::{Kernel, KernelListener, KernelSocket};
#[cfg(any(test, feature = "simulation"))]
use simulated::{Simulated, SimulatedSocket};

#[cfg(unix)]
use crate::address::UnixAddress;
use crate::attempt::{Attempt, Peek};
use crate::interest::Interest;
use crate::limits::ConnectionLimits;
use crate::readiness::Readiness;
use crate::slots::ConnectionId;

/// What an event of the kernel is for. A token is the slot alone: events are recorded on their
/// connections before any slot is freed, so none can be left for a slot's next occupant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Connection(u32),
    Listener(u32),
    Source(u32),
    /// Another thread has notified the loop.
    Notifier,
}

/// The outcome of a connect.
#[derive(Debug)]
pub(crate) enum ConnectOutcome {
    Connected,
    UnderWay,
    Failed(io::Error),
}

/// A name to resolve for a connection.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) id: ConnectionId,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Fails to upgrade once its connection was freed.
    pub(crate) is_wanted: Weak<()>,
}

/// The connection for which a name was resolved, and its addresses.
pub(crate) type Answer = (ConnectionId, io::Result<Vec<SocketAddr>>);

/// The address from which a connection was accepted.
#[derive(Debug)]
pub(crate) enum PeerAddr {
    Ip(SocketAddr),
    #[cfg(unix)]
    Unix(UnixSocketAddr),
}

impl PeerAddr {
    /// Returns the IP address, unless it is a Unix-domain address.
    pub(crate) fn ip(&self) -> Option<SocketAddr> {
        match self {
            Self::Ip(address) => Some(*address),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }
}

/// A kernel to wait on.
pub(crate) enum System {
    Kernel(Kernel),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(Simulated),
}

/// Ends the wait that is under way, or else the next one; it may be called on another thread.
pub(crate) type Notifier =
    Box<dyn Fn() -> io::Result<()> + Send + Sync + UnwindSafe + RefUnwindSafe>;

/// A connected socket, or one that is connecting.
#[derive(Debug)]
pub(crate) enum Socket {
    Kernel(KernelSocket),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(SimulatedSocket),
}

/// A socket that listens.
#[derive(Debug)]
pub(crate) enum ListeningSocket {
    Kernel(KernelListener),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(SimulatedSocket),
}

/// Returns the error of a Unix-domain socket that is asked for an IP address.
pub(crate) fn no_ip_address() -> io::Error {
    let message = "a Unix-domain socket has no IP address: see unix_local_addr and unix_peer_addr \
                   of Stream, and unix_listener_addr of EventLoop";
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// Returns the error of a TCP socket that is asked for a Unix-domain address.
#[cfg(unix)]
fn no_unix_address() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "a TCP socket has no Unix-domain address")
}

impl System {
    /// The operating system's kernel.
    pub(crate) fn kernel(event_capacity: usize) -> io::Result<Self> {
        Ok(Self::Kernel(Kernel::new(event_capacity)?))
    }

    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Kernel(_) => Instant::now(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.now(),
        }
    }

    /// Waits for events for at most `timeout` (`epoll_wait`, `kevent`), and returns their number. A
    /// signal ends the wait early.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        either!(System, self, |system| system.wait(timeout))
    }

    /// Polls for events without blocking, until some are reported or `moment` has passed. Returns
    /// their number.
    pub(crate) fn spin(&mut self, moment: Duration) -> io::Result<usize> {
        either!(System, self, |system| system.spin(moment))
    }

    /// Lets a simulated network resolve a name. Otherwise returns it, for the helper threads.
    pub(crate) fn ask_name(&self, question: Question) -> Option<Question> {
        match self {
            Self::Kernel(_) => Some(question),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => {
                simulated.ask_name(&question);
                None
            }
        }
    }

    /// Takes an answer of a simulated network.
    pub(crate) fn take_answer(&self) -> Option<Answer> {
        match self {
            Self::Kernel(_) => None,
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.take_answer(),
        }
    }

    /// Returns the time until the next such answer.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn next_answer(&self) -> Option<Duration> {
        match self {
            Self::Kernel(_) => None,
            Self::Simulated(simulated) => simulated.next_answer(),
        }
    }

    /// Returns whether the simulated kernel has something to report that it has held back.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn has_listed(&self) -> bool {
        match self {
            Self::Kernel(_) => false,
            Self::Simulated(simulated) => simulated.has_listed(),
        }
    }

    /// Passes on each event of the last wait.
    pub(crate) fn take_events(&mut self, take: impl FnMut(Watched, Readiness)) {
        either!(System, self, |system| system.take_events(take));
    }

    /// Returns whether the registrations are this process's own, and not those of its parent before
    /// a fork.
    pub(crate) fn owns_registrations(&self) -> bool {
        match self {
            Self::Kernel(kernel) => kernel.owns_registrations(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => true,
        }
    }

    /// Returns whether there may be more events than the last wait had room for.
    pub(crate) fn was_filled(&self) -> bool {
        either!(System, self, |system| system.was_filled())
    }

    /// Returns the descriptor that becomes readable when a wait would report something.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Kernel(kernel) => kernel.descriptor(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => panic!("a simulated loop has no descriptor"),
        }
    }

    /// Creates the notifier that ends a wait. Create one per system.
    pub(crate) fn notifier(&self) -> io::Result<Notifier> {
        either!(System, self, |system| system.notifier())
    }

    /// Gives the kernel the new interest in a socket (`epoll_ctl`, `kevent`), which differs from
    /// the last one.
    pub(crate) fn update_interest(
        &self,
        socket: &mut Socket,
        slot: u32,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        let watched = Watched::Connection(slot);
        match socket {
            Socket::Kernel(socket) => self.update_registration(socket.source(), watched, from, to),
            #[cfg(any(test, feature = "simulation"))]
            Socket::Simulated(socket) => socket.update_interest(watched, to),
        }
    }

    /// Registers or deregisters a listener for waiting peers.
    pub(crate) fn watch_listener(
        &self,
        listener: &mut ListeningSocket,
        slot: u32,
        watch: bool,
    ) -> io::Result<()> {
        let watched = Watched::Listener(slot);
        let (from, to) = match watch {
            true => (Interest::None, Interest::Readable),
            false => (Interest::Readable, Interest::None),
        };
        match listener {
            ListeningSocket::Kernel(listener) => {
                self.update_registration(listener.source(), watched, from, to)
            }
            #[cfg(any(test, feature = "simulation"))]
            ListeningSocket::Simulated(listener) => listener.update_interest(watched, to),
        }
    }

    /// Gives the kernel the interest in anything that can be registered. If it is the same as
    /// before, the kernel reports again what is ready.
    pub(crate) fn update_registration(
        &self,
        source: &mut (impl Source + ?Sized),
        watched: Watched,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Kernel(kernel) => kernel.update_interest(source, watched, from, to),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => panic!("a simulated loop cannot watch a real source"),
        }
    }
}

impl Socket {
    /// Connects in the Unix domain. `NotReady` means that the listener's backlog is full: nothing is
    /// under way, and the kernel will not report when there is room.
    #[cfg(unix)]
    pub(crate) fn connect_unix(&self, address: &UnixAddress) -> Attempt<()> {
        either!(Socket, self, |socket| socket.connect_unix(address))
    }

    /// Checks the outcome of a connect, once the kernel has reported something; `is_hup` says whether
    /// that was HUP or an error.
    pub(crate) fn connect_outcome(&self, is_hup: bool) -> ConnectOutcome {
        either!(Socket, self, |socket| socket.connect_outcome(is_hup))
    }

    /// Returns whether a short transfer proves that the socket is empty or full.
    pub(crate) fn short_proves_blocked(&self) -> bool {
        either!(Socket, self, |socket| socket.short_proves_blocked())
    }

    /// Sends our end of file (`shutdown(SHUT_WR)`). A failure shows at the next read.
    pub(crate) fn finish(&self) {
        either!(Socket, self, |socket| socket.finish());
    }

    /// Makes the following close send a reset, where the protocol has one. A failure has no
    /// consequence: the connection has ended in any case.
    pub(crate) fn reset_on_close(&self) {
        either!(Socket, self, |socket| socket.reset_on_close());
    }

    /// Closes a socket, which must not be registered: if its descriptor has a duplicate, in this
    /// process or in a child, the registration would live on and wake the loop forever.
    pub(crate) fn close(self) {
        match self {
            Self::Kernel(socket) => drop(socket),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.close(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        either!(Socket, self, |socket| socket.local_addr())
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Kernel(socket) => socket.peer_addr(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => Err(no_ip_address()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        either!(Socket, self, |socket| socket.unix_local_addr())
    }

    #[cfg(unix)]
    pub(crate) fn unix_peer_addr(&self) -> io::Result<UnixSocketAddr> {
        either!(Socket, self, |socket| socket.unix_peer_addr())
    }

    /// Returns whether it is a Unix-domain socket, without TCP options.
    pub(crate) fn is_unix(&self) -> bool {
        either!(Socket, self, |socket| socket.is_unix())
    }

    pub(crate) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        match self {
            Self::Kernel(socket) => socket.set_nodelay(nodelay),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => Ok(()),
        }
    }

    pub(crate) fn set_keepalive(&self, after: Option<Duration>) -> io::Result<()> {
        match self {
            Self::Kernel(socket) => socket.set_keepalive(after),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => Ok(()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> io::Result<std::os::fd::BorrowedFd<'_>> {
        match self {
            Self::Kernel(socket) => Ok(socket.descriptor()),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => {
                let message = "a simulated socket has no descriptor";
                Err(io::Error::new(io::ErrorKind::Unsupported, message))
            }
        }
    }
}

impl ListeningSocket {
    /// Accepts a connection, with its peer's address.
    pub(crate) fn accept(&self, limits: &ConnectionLimits) -> Attempt<(Socket, PeerAddr)> {
        match self {
            Self::Kernel(listener) => {
                listener.accept(limits).map(|(socket, peer)| (Socket::Kernel(socket), peer))
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(listener) => listener.accept(),
        }
    }

    /// Closes a listening socket, which must not be registered; waiting peers are reset.
    pub(crate) fn close(self) {
        match self {
            Self::Kernel(listener) => drop(listener),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(listener) => listener.close(),
        }
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        either!(ListeningSocket, self, |listener| listener.local_addr())
    }

    #[cfg(unix)]
    pub(crate) fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        either!(ListeningSocket, self, |listener| listener.unix_local_addr())
    }
}

impl Read for &Socket {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        either!(Socket, self, |socket| socket.read(into))
    }
}

impl Peek for &Socket {
    fn peek(&mut self) -> io::Result<bool> {
        either!(Socket, self, |socket| socket.peek())
    }
}

impl Write for &Socket {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        either!(Socket, self, |socket| socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
