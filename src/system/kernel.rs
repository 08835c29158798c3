//! The operating system's kernel, through mio: waiting and registering.
//!
//! Its TCP and Unix-domain sockets are in the folder. socket2 sets what mio cannot: the backlog, a
//! reset on close, keepalive. All reading and writing goes through mio's own sockets, which re-arm
//! their registration there on Windows.
//!
//! | file | |
//! |---|---|
//! | `socket.rs` | connected and connecting sockets |
//! | `listener.rs` | listening sockets |
//! | `bound.rs` | binding a Unix-domain socket to its path, and removing that file |

#[cfg(unix)]
mod bound;
mod listener;
mod socket;

use std::io;
use std::time::{Duration, Instant};

pub use mio::event::Source;
use mio::{Events, Poll, Token};

pub(crate) use self::listener::KernelListener;
pub(crate) use self::socket::KernelSocket;
use super::{Notifier, Watched};
use crate::attempt::was_interrupted;
use crate::interest::Interest;
use crate::readiness::Readiness;

/// The highest two bits of a token say what kind of slot it names.
const KIND: usize = 3 << (usize::BITS - 2);
const LISTENER: usize = 1 << (usize::BITS - 2);
const SOURCE: usize = 2 << (usize::BITS - 2);
const NOTIFIER: Token = Token(KIND);

impl Watched {
    fn token(self) -> Token {
        match self {
            Self::Connection(slot) => Token(slot as usize),
            Self::Listener(slot) => Token(LISTENER | slot as usize),
            Self::Source(slot) => Token(SOURCE | slot as usize),
            Self::Notifier => NOTIFIER,
        }
    }

    fn of(token: Token) -> Self {
        let slot = (token.0 & !KIND) as u32; // no more than it was made from
        match token.0 & KIND {
            0 => Self::Connection(slot),
            LISTENER => Self::Listener(slot),
            SOURCE => Self::Source(slot),
            _ => Self::Notifier,
        }
    }
}

/// One mio `Poll` (an epoll or kqueue descriptor), and room for the events of one wait.
pub(crate) struct Kernel {
    poll: Poll,
    events: Events,
    /// The last wait returned as many events as there is room for.
    was_filled: bool,
    /// The process that made the loop.
    process: u32,
}

impl Kernel {
    pub(crate) fn new(event_capacity: usize) -> io::Result<Self> {
        let events = Events::with_capacity(event_capacity);
        Ok(Self { poll: Poll::new()?, events, was_filled: false, process: std::process::id() })
    }

    /// Returns whether the registrations are this process's own. A forked child shares those of its
    /// parent: what it deregisters is not reported to the parent any more.
    pub(crate) fn owns_registrations(&self) -> bool {
        self.process == std::process::id()
    }

    /// Waits for events for at most `timeout` (`epoll_wait`, `kevent`), and returns their number. A
    /// signal ends the wait early.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if was_interrupted(&error) => self.events.clear(),
            Err(error) => return Err(error),
        }
        let count = self.events.iter().count();
        self.was_filled = count >= self.events.capacity();
        Ok(count)
    }

    pub(crate) fn spin(&mut self, moment: Duration) -> io::Result<usize> {
        let start = Instant::now();
        loop {
            let count = self.wait(Some(Duration::ZERO))?;
            if count > 0 || start.elapsed() >= moment {
                return Ok(count);
            }
        }
    }

    /// Returns whether there may be more events than the last wait had room for.
    pub(crate) fn was_filled(&self) -> bool {
        self.was_filled
    }

    #[cfg(unix)]
    pub(crate) fn descriptor(&self) -> std::os::fd::BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(self.poll.registry())
    }

    pub(crate) fn notifier(&self) -> io::Result<Notifier> {
        let waker = mio::Waker::new(self.poll.registry(), NOTIFIER)?;
        Ok(Box::new(move || waker.wake()))
    }

    /// Passes on each event of the last wait.
    pub(crate) fn take_events(&mut self, mut take: impl FnMut(Watched, Readiness)) {
        for event in &self.events {
            let readiness = readiness(event);
            take(Watched::of(event.token()), readiness);
        }
    }

    /// Gives the kernel the interest in anything that can be registered (`epoll_ctl`, `kevent`). If
    /// it is the same as before, the kernel reports again what is ready.
    pub(crate) fn update_interest(
        &self,
        source: &mut (impl Source + ?Sized),
        watched: Watched,
        from: Interest,
        to: Interest,
    ) -> io::Result<()> {
        let registry = self.poll.registry();
        let token = watched.token();
        match (from, interest(to)) {
            (Interest::None, None) => Ok(()),
            (_, None) => registry.deregister(source),
            (Interest::None, Some(to)) => registry.register(source, token, to),
            (_, Some(to)) => registry.reregister(source, token, to),
        }
    }
}

/// Converts what mio reports to bits.
fn readiness(event: &mio::event::Event) -> Readiness {
    let is_closed = |event: &mio::event::Event| event.is_read_closed() || event.is_write_closed();
    if event.is_error() || event.is_priority() || is_closed(event) {
        return hup(event);
    }
    let mut readiness = Readiness::default();
    if event.is_readable() {
        readiness.add(Readiness::READABLE);
    }
    if event.is_writable() {
        readiness.add(Readiness::WRITABLE);
    }
    readiness
}

/// Converts what mio reports, including HUP, errors and urgent data (`EPOLLHUP`, `EPOLLRDHUP`,
/// `EPOLLERR`, `EPOLLPRI`); reading on reveals what they stand for. A failed socket is ready for
/// everything.
#[cold]
fn hup(event: &mio::event::Event) -> Readiness {
    let mut readiness = Readiness::READABLE | Readiness::HUP;
    if event.is_writable() || event.is_write_closed() || event.is_error() {
        readiness.add(Readiness::WRITABLE);
    }
    readiness
}

/// Converts an `Interest` to mio's, which cannot express an empty one. On Linux it includes urgent
/// data, because a read stops at the urgent mark although more may follow; a listener has none.
fn interest(interest: Interest) -> Option<mio::Interest> {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let readable = mio::Interest::READABLE | mio::Interest::PRIORITY;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let readable = mio::Interest::READABLE;
    match interest {
        Interest::None => None,
        Interest::Readable => Some(readable),
        Interest::Writable => Some(mio::Interest::WRITABLE),
        Interest::ReadableWritable => Some(readable | mio::Interest::WRITABLE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only a test that fails lasts as long.
    const MOMENT: Duration = Duration::from_secs(30);

    #[test]
    fn spin_that_finds_nothing_lasts_for_its_moment() {
        let mut kernel = Kernel::new(8).unwrap();
        let start = Instant::now();
        let moment = Duration::from_millis(5);
        assert_eq!(kernel.spin(moment).unwrap(), 0);
        assert!(start.elapsed() >= moment);
        assert_eq!(kernel.spin(Duration::ZERO).unwrap(), 0);
    }

    #[test]
    fn spin_ends_at_once_by_what_is_there_and_by_what_comes() {
        let mut kernel = Kernel::new(8).unwrap();
        let notifier = kernel.notifier().unwrap();
        let start = Instant::now();
        notifier().unwrap();
        assert_eq!(kernel.spin(Duration::ZERO).unwrap(), 1, "it looks once, however short");
        notifier().unwrap();
        assert_eq!(kernel.spin(MOMENT).unwrap(), 1);
        // A wake is lost when its notifier is dropped, so the thread returns it.
        let waking = std::thread::spawn(move || notifier().map(|()| notifier));
        assert_eq!(kernel.spin(MOMENT).unwrap(), 1);
        drop(waking.join().unwrap().unwrap());
        assert!(start.elapsed() < MOMENT);
        let mut watched = Vec::new();
        kernel.take_events(|it, _| watched.push(it));
        assert_eq!(watched, [Watched::Notifier]);
    }
}
