//! The seam to the kernel: waiting, registering, the clock, and the calls on sockets.
//!
//! All that the loop knows of an operating system stands behind [`System`], [`Socket`] and
//! [`ListeningSocket`]; no file outside this folder names a type of mio. There are two systems: the
//! operating system's kernel, and a simulated one for tests. A socket is used through its own
//! system, as a pair that lives as long as one transfer ([`System::io`]), so that a simulated
//! socket can be an index into its network.
//!
//! | file | |
//! |---|---|
//! | `opening.rs` | listening, connecting, and taking over sockets that were made elsewhere |
//! | `kernel.rs` | the operating system's kernel, by mio |
//! | `simulated.rs` | the other kernel, for tests |

mod kernel;
mod opening;
#[cfg(any(test, feature = "simulation"))]
pub(crate) mod simulated;

use std::io::{self, Read, Write};
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::time::{Duration, Instant};

pub use kernel::Source;
use kernel::{Kernel, KernelBell, KernelListener, KernelSocket};
#[cfg(any(test, feature = "simulation"))]
use simulated::{Simulated, SimulatedBell, SimulatedSocket};

use crate::interest::{Interest, Readiness};
use crate::limits::ConnectionLimits;
use crate::transfer::{Attempt, Peek};

/// Whom an event of the kernel is for. A token is the slot alone: events are folded onto their
/// connections before any slot is freed, so none can be left for a slot's next owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Connection(u32),
    Listener(u32),
    Source(u32),
    /// Some thread has called for the loop.
    Bell,
}

/// What became of a connect.
#[derive(Debug)]
pub(crate) enum ConnectOutcome {
    Connected,
    UnderWay,
    Failed(io::Error),
}

/// A kernel to wait on.
pub(crate) enum System {
    Kernel(Kernel),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(Simulated),
}

/// What another thread rings to end a wait.
pub(crate) enum Bell {
    Kernel(KernelBell),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(SimulatedBell),
}

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

/// A socket together with its system, to read from and write to.
pub(crate) enum Io<'s> {
    Kernel(&'s KernelSocket),
    #[cfg(any(test, feature = "simulation"))]
    Simulated(simulated::SimulatedIo<'s>),
}

/// A socket stays with the system that made it.
#[cfg(any(test, feature = "simulation"))]
fn foreign() -> ! {
    unreachable!("a socket was used through another system than its own")
}

/// What a Unix-domain socket answers where an address of IP is asked for.
pub(crate) fn no_ip_address() -> io::Error {
    let message = "a Unix-domain socket has no IP address: see unix_local_addr and unix_peer_addr \
                   of Stream, and unix_listener_addr of EventLoop";
    io::Error::new(io::ErrorKind::Unsupported, message)
}

/// The other way round.
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

    /// Waits for events, at most so long, and says how many came. A signal ends the wait early.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match self {
            Self::Kernel(kernel) => kernel.wait(timeout),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.wait(timeout),
        }
    }

    /// Looks for events again and again, without blocking, until some have come or the moment is
    /// over. Returns how many came.
    pub(crate) fn spin(&mut self, moment: Duration) -> io::Result<usize> {
        match self {
            Self::Kernel(kernel) => kernel.spin(moment),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.spin(moment),
        }
    }

    /// Whether the simulated kernel has something for a next wait that it was slow to report.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn has_listed(&self) -> bool {
        match self {
            Self::Kernel(_) => false,
            Self::Simulated(simulated) => simulated.has_listed(),
        }
    }

    /// Hands over each event of the last wait.
    pub(crate) fn take_events(&mut self, take: impl FnMut(Watched, Readiness)) {
        match self {
            Self::Kernel(kernel) => kernel.take_events(take),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.take_events(take),
        }
    }

    /// Whether what is registered is this process's own, and not that of one it was forked from.
    pub(crate) fn owns_registrations(&self) -> bool {
        match self {
            Self::Kernel(kernel) => kernel.owns_registrations(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => true,
        }
    }

    /// Whether there may be more events than the last wait had room for.
    pub(crate) fn was_filled(&self) -> bool {
        match self {
            Self::Kernel(kernel) => kernel.was_filled(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.was_filled(),
        }
    }

    /// What becomes readable when a wait would bring something.
    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Kernel(kernel) => kernel.descriptor(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => panic!("a simulated loop has no descriptor"),
        }
    }

    /// A bell that ends a wait. There is to be one for each system.
    pub(crate) fn bell(&self) -> io::Result<Bell> {
        match self {
            Self::Kernel(kernel) => kernel.bell().map(Bell::Kernel),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => Ok(Bell::Simulated(simulated.bell())),
        }
    }

    /// Tells the kernel the interest in something that is not the loop's own.
    pub(crate) fn tell_source(
        &self,
        source: &mut (impl Source + ?Sized),
        slot: u32,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Kernel(kernel) => kernel.tell_source(source, Watched::Source(slot), from, to),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => panic!("a simulated loop cannot watch a real source"),
        }
    }

    /// Tells the kernel the new interest in a socket, which differs from the one told last.
    pub(crate) fn tell(
        &self,
        socket: &mut Socket,
        slot: u32,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        match (self, socket) {
            (Self::Kernel(kernel), Socket::Kernel(socket)) => kernel.tell(socket, slot, from, to),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), Socket::Simulated(socket)) => {
                simulated.tell(socket, Watched::Connection(slot), to)
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Has the kernel tell, or no longer tell, when a listener has peers that wait.
    pub(crate) fn watch_listener(
        &self,
        listener: &mut ListeningSocket,
        slot: u32,
        watch: bool,
    ) -> io::Result<()> {
        match (self, listener) {
            (Self::Kernel(kernel), ListeningSocket::Kernel(listener)) => {
                kernel.watch_listener(listener, slot, watch)
            }
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), ListeningSocket::Simulated(listener)) => {
                let interest = if watch { Interest::Readable } else { Interest::None };
                simulated.tell(listener, Watched::Listener(slot), interest)
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Accepts a connection; with its peer's address, if that is one of IP.
    pub(crate) fn accept(
        &self,
        listener: &ListeningSocket,
        limits: &ConnectionLimits,
    ) -> Attempt<(Socket, Option<SocketAddr>)> {
        match (self, listener) {
            (Self::Kernel(_), ListeningSocket::Kernel(listener)) => {
                listener.accept(limits).map(|(socket, peer)| (Socket::Kernel(socket), peer))
            }
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), ListeningSocket::Simulated(listener)) => {
                simulated.accept(listener)
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Looks at what became of a connect, once the kernel has reported something: a hint too, or
    /// not.
    pub(crate) fn connect_outcome(&self, socket: &Socket, is_hinted: bool) -> ConnectOutcome {
        match (self, socket) {
            (Self::Kernel(_), Socket::Kernel(socket)) if is_hinted => socket.hinted_outcome(),
            (Self::Kernel(_), Socket::Kernel(socket)) => socket.connect_outcome(),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), Socket::Simulated(socket)) => {
                simulated.connect_outcome(socket, is_hinted)
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Whether a transfer of less than was asked for shows that the socket is empty or full.
    pub(crate) fn short_proves_blocked(&self, socket: &Socket) -> bool {
        match (self, socket) {
            (Self::Kernel(_), Socket::Kernel(socket)) => socket.short_proves_blocked(),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), Socket::Simulated(socket)) => {
                simulated.short_proves_blocked(socket)
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// The socket as something to read from and write to.
    pub(crate) fn io<'s>(&'s mut self, socket: &'s Socket) -> Io<'s> {
        match (self, socket) {
            (Self::Kernel(_), Socket::Kernel(socket)) => Io::Kernel(socket),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), Socket::Simulated(socket)) => {
                Io::Simulated(simulated.io(socket))
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Sends the end of our direction. A peer that has gone meanwhile shows elsewhere.
    pub(crate) fn finish(&self, socket: &Socket) {
        match (self, socket) {
            (Self::Kernel(_), Socket::Kernel(socket)) => socket.finish(),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), Socket::Simulated(socket)) => simulated.finish(socket),
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Has the close that follows send a reset, where there is such a thing. What it is for has
    /// failed already, so that a failure here changes nothing.
    pub(crate) fn reset_on_close(&self, socket: &Socket) {
        match (self, socket) {
            (Self::Kernel(_), Socket::Kernel(socket)) => socket.reset_on_close(),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), Socket::Simulated(socket)) => {
                simulated.reset_on_close(socket);
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Closes a socket, which must not be registered: if its descriptor has a duplicate, in this
    /// process or in a child, the registration would live on and wake the loop for ever.
    pub(crate) fn close(&self, socket: Socket) {
        match (self, socket) {
            (Self::Kernel(_), Socket::Kernel(socket)) => drop(socket),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), Socket::Simulated(socket)) => simulated.close(&socket),
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }

    /// Closes a listening socket, which must not be registered; peers that wait are reset.
    pub(crate) fn close_listener(&self, listener: ListeningSocket) {
        match (self, listener) {
            (Self::Kernel(_), ListeningSocket::Kernel(listener)) => drop(listener),
            #[cfg(any(test, feature = "simulation"))]
            (Self::Simulated(simulated), ListeningSocket::Simulated(listener)) => {
                simulated.close(&listener);
            }
            #[cfg(any(test, feature = "simulation"))]
            _ => foreign(),
        }
    }
}

impl Bell {
    /// Ends the wait that is under way, or else the next.
    pub(crate) fn ring(&self) -> io::Result<()> {
        match self {
            Self::Kernel(waker) => waker.wake(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(bell) => {
                bell.ring();
                Ok(())
            }
        }
    }
}

impl Socket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Kernel(socket) => socket.local_addr(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.local_addr(),
        }
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
        match self {
            Self::Kernel(socket) => socket.unix_local_addr(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.unix_local_addr(),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_peer_addr(&self) -> io::Result<UnixSocketAddr> {
        match self {
            Self::Kernel(socket) => socket.unix_peer_addr(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.unix_peer_addr(),
        }
    }

    /// Whether it has no options of TCP.
    pub(crate) fn is_unix(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::Kernel(socket) => socket.is_unix(),
            #[cfg(not(unix))]
            Self::Kernel(_) => false,
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.is_unix(),
        }
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
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        match self {
            Self::Kernel(socket) => socket.descriptor(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(_) => panic!("a simulated socket has no descriptor"),
        }
    }
}

impl ListeningSocket {
    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Kernel(listener) => listener.local_addr(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(listener) => listener.local_addr(),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        match self {
            Self::Kernel(listener) => listener.unix_local_addr(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(listener) => listener.unix_local_addr(),
        }
    }
}

impl Read for Io<'_> {
    #[inline]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Kernel(socket) => socket.read(into),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.read(into),
        }
    }
}

impl Peek for Io<'_> {
    fn peek(&mut self) -> io::Result<bool> {
        match self {
            Self::Kernel(socket) => socket.peek(),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.peek(),
        }
    }
}

impl Write for Io<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Kernel(socket) => socket.write(bytes),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(socket) => socket.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
