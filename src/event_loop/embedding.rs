//! The public interface: what a loop needs inside another program, which is time, other threads,
//! foreign sources, a host with its own loop, and leaving.

use std::io;
use std::time::Duration;

use super::EventLoop;
use crate::interest::Interest;
use crate::slots::{SourceId, TimerId};
use crate::system::Source;
use crate::waker::Waker;

impl<T> EventLoop<T> {
    // Time.

    /// Sets a timer that fires once, `after` this time counted from the call, as
    /// [`Event::Timer`](crate::Event::Timer).
    ///
    /// It never fires early, nor in the turn that is under way, so a program that keeps setting
    /// timers of zero duration still has its sockets served. Timers fire in the order of their
    /// times; those with the same time, in the order they were set. A timer whose time the clock
    /// cannot represent never fires.
    ///
    /// Setting, firing and cancelling take logarithmic time. For the deadline of one connection,
    /// which activity keeps moving, [`set_deadline`](crate::Stream::set_deadline) and
    /// [`set_idle_timeout`](crate::Stream::set_idle_timeout) are cheaper.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::time::{Duration, Instant};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let start = Instant::now();
    /// let timer = event_loop.set_timer(Duration::from_millis(5));
    /// assert_eq!(event_loop.next_event()?, Event::Timer(timer));
    /// assert!(start.elapsed() >= Duration::from_millis(5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_timer(&mut self, after: Duration) -> TimerId {
        self.turns.timers.set(after, None, &mut self.turns.resources)
    }

    /// Sets a timer that fires once per `period`, first after one period, until it is
    /// [cancelled](Self::cancel_timer).
    ///
    /// The times do not drift. Times that pass while the program is busy are skipped, so a timer
    /// that was held up fires once. A period of zero fires once in every turn, so the loop never
    /// sleeps.
    pub fn set_repeating_timer(&mut self, period: Duration) -> TimerId {
        self.turns.timers.set(period, Some(period), &mut self.turns.resources)
    }

    /// Cancels a timer: it does not fire any more, even if it was due in this turn. Returns whether
    /// it was still set; cancelling one that has fired or was cancelled before does nothing.
    pub fn cancel_timer(&mut self, id: TimerId) -> bool {
        self.turns.timers.cancel(id, &mut self.turns.resources)
    }

    // Threads.

    /// Returns a handle by which other threads wake this loop. Pass the data itself through a
    /// channel or behind a lock.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::sync::mpsc;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let waker = event_loop.waker();
    /// let (answers, answered) = mpsc::channel();
    /// let worker = std::thread::spawn(move || {
    ///     answers.send(6 * 7).expect("the loop waits for it");
    ///     waker.wake() // after the send, so that it is there when the loop looks
    /// });
    /// assert_eq!(event_loop.next_event()?, Event::Woken);
    /// assert_eq!(answered.try_iter().collect::<Vec<_>>(), [42]); // several may have come by now
    /// worker.join().expect("the worker has ended")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.turns.waker.clone()
    }

    // Foreign sources.

    /// Registers a source that the program reads and writes itself: a UDP socket, a pipe, signals,
    /// another loop. [`Event::Ready`](crate::Event::Ready) is delivered when the source becomes
    /// ready for what the interest asks.
    ///
    /// The kernel reports each change once (edge-triggered), and the loop does not remember it for
    /// a foreign source. So at `Ready`, read or write until `WouldBlock`; otherwise the rest may
    /// never be reported. With [`Interest::None`] the source has an id but is not watched until it
    /// is [reregistered](Self::reregister). Deregister a source before you drop it; otherwise its
    /// id is never free again.
    ///
    /// The types are mio's, which is re-exported as [`readiness::mio`](crate::mio). Types of the
    /// standard library convert into them by `from_std`.
    ///
    /// ```
    /// use readiness::mio::net::UdpSocket;
    /// use readiness::{Event, EventLoop, Interest};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// let mut socket = UdpSocket::bind("127.0.0.1:0".parse().expect("an address"))?;
    /// let id = event_loop.register(&mut socket, Interest::Readable)?;
    ///
    /// let peer = std::net::UdpSocket::bind("127.0.0.1:0")?;
    /// peer.send_to(b"hello", socket.local_addr()?)?;
    /// let Event::Ready(ready, readiness) = event_loop.next_event()? else { panic!("it comes") };
    /// assert!(ready == id && readiness.is_readable());
    /// let mut datagram = [0; 16];
    /// let mut count = 0;
    /// while let Ok((length, _)) = socket.recv_from(&mut datagram) {
    ///     count += length; // until it would block
    /// }
    /// assert_eq!(count, 5);
    /// event_loop.deregister(id, &mut socket)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the operating system's error; the source is then not registered.
    ///
    /// # Panics
    ///
    /// Panics in a simulation, which has no real sources.
    pub fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<SourceId> {
        self.turns.sources.register(source, interest, &self.turns.resources.system)
    }

    /// Changes the interest in a source, or renews it: what is ready now is then reported again.
    /// What is no longer asked for is not delivered any more, even if the kernel has reported it.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if the id was deregistered, or the operating system's error.
    ///
    /// # Panics
    ///
    /// See [`register`](Self::register).
    pub fn reregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<()> {
        self.turns.sources.update_interest(id, source, interest, &self.turns.resources.system)
    }

    /// Deregisters a source. Nothing more is delivered for it, and its id is free.
    ///
    /// # Errors
    ///
    /// Returns `NotFound` if it was deregistered before, or the operating system's error; the id is
    /// free in either case.
    ///
    /// # Panics
    ///
    /// See [`register`](Self::register).
    pub fn deregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
    ) -> io::Result<()> {
        self.turns.sources.deregister(id, source, &self.turns.resources.system)
    }

    // Hosts.

    /// Returns how long a host with its own loop may sleep on this loop's descriptor before it
    /// calls [`poll_event`](Self::poll_event) again.
    ///
    /// `None` means forever. Zero means that there is something to do now: events are pending,
    /// readiness is left, what the program did is not carried out yet, or the last wait could not
    /// take all events.
    ///
    /// The guide states the contract of hosts, in its chapter on embedding.
    ///
    /// ```
    /// use readiness::EventLoop;
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut event_loop: EventLoop = EventLoop::new()?;
    /// assert_eq!(event_loop.next_timeout(), None);
    /// event_loop.set_timer(Duration::from_secs(60));
    /// assert!(event_loop.next_timeout().is_some_and(|time| time > Duration::from_secs(50)));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        self.turns.next_timeout()
    }

    // Leaving.

    /// Leaves gracefully, within `deadline` from now.
    ///
    /// The loop accepts all peers that wait and closes the listeners. It closes each connection as
    /// soon as it is quiet: when everything that had arrived was received and handled, and
    /// everything that was sent has left. At the deadline it aborts the rest. Then
    /// [`Event::ShutDown`](crate::Event::ShutDown) is delivered, once.
    ///
    /// Until then the program goes on as before, and each connection has its
    /// [`Closed`](crate::Event::Closed). A connection is not quiet while it is paused or has
    /// received bytes that are not consumed, so pause it if its answer is still to come from
    /// elsewhere. A connection that others are [coupled](Self::couple) to is not quiet while they
    /// have something to read, because that may have to leave through it.
    ///
    /// A second call sets another deadline and includes what was opened since; with zero it aborts
    /// at once. Timers, wakers and foreign sources are unaffected, and the loop remains usable
    /// afterwards.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::io::{Read, Write};
    /// use std::net::{Shutdown, TcpStream};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let mut server: EventLoop = EventLoop::new()?;
    /// let listener = server.listen("127.0.0.1:0")?;
    /// let mut client = TcpStream::connect(server.listener_addr(listener)?)?;
    /// client.write_all(b"hello")?;
    ///
    /// server.shutdown(Duration::from_secs(10)); // before anything was accepted
    /// let client = std::thread::spawn(move || std::io::read_to_string(client));
    /// loop {
    ///     match server.next_event()? {
    ///         Event::Received(id) => server[id].send_received(),
    ///         Event::ShutDown => break,
    ///         _ => {}
    ///     }
    /// }
    /// assert_eq!(client.join().expect("the client has ended")?, "hello");
    /// # Ok(())
    /// # }
    /// ```
    pub fn shutdown(&mut self, deadline: Duration) {
        self.turns.shut_down(deadline);
    }
}

/// Lends the descriptor that becomes readable when the loop has something to do (an epoll or kqueue
/// descriptor). A host may sleep on it, and must watch it for nothing but readable.
///
/// # Panics
///
/// In a simulation, which has no descriptors.
#[cfg(unix)]
impl<T> std::os::fd::AsFd for EventLoop<T> {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.turns.resources.system.descriptor()
    }
}

/// Returns the same descriptor as `AsFd` does.
#[cfg(unix)]
impl<T> std::os::fd::AsRawFd for EventLoop<T> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}
