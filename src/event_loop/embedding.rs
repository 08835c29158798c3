//! The public face, what a loop needs inside another program: time, other threads, foreign
//! sources, a host with a loop of its own, and leaving.

use std::io;
use std::time::Duration;

use super::EventLoop;
use crate::interest::Interest;
use crate::slots::{SourceId, TimerId};
use crate::system::Source;
use crate::waker::Waker;

impl<T> EventLoop<T> {
    // Time.

    /// Has [`Event::Timer`](crate::Event::Timer) come once, after this time, counted from this
    /// call: never early, and in a later turn than the one that is under way, so that a program
    /// which sets a timer of no time again and again still has its sockets served. Timers come in
    /// the order of their times, and those for the same time in the order they were set. One
    /// whose time lies beyond the clock never comes.
    ///
    /// Setting, coming and cancelling cost a search among the timers that are set. For a deadline
    /// of one connection, which activity moves all the time,
    /// [`set_deadline`](crate::Stream::set_deadline) and
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

    /// Has [`Event::Timer`](crate::Event::Timer) come again and again, first after this period,
    /// until it is [cancelled](Self::cancel_timer). The times do not drift; those that pass while
    /// the program is busy are left out, so that a timer which was held up comes once. A period of
    /// zero comes once in every turn, and so the loop never sleeps.
    pub fn set_repeating_timer(&mut self, period: Duration) -> TimerId {
        self.turns.timers.set(period, Some(period), &mut self.turns.resources)
    }

    /// Takes a timer back: from now on it does not come, even if it was due in this turn. Returns
    /// whether it was still set; one that has come, or was cancelled before, is no mistake.
    pub fn cancel_timer(&mut self, id: TimerId) -> bool {
        self.turns.timers.cancel(id, &mut self.turns.resources)
    }

    // Threads.

    /// A handle by which other threads wake this loop. What they have for it goes through a
    /// channel, or behind a lock.
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

    /// Watches something that the program reads and writes itself: a UDP socket, a pipe, signals,
    /// another loop. It tells [`Event::Ready`](crate::Event::Ready) when the source becomes ready
    /// for what the interest asks.
    ///
    /// The kernel reports a change once, and here it is not remembered: at `Ready`, read or write
    /// until `WouldBlock`, or nothing may be heard of the rest. With [`Interest::None`] the source
    /// is known but not watched until it is [reregistered](Self::reregister). A source must be
    /// deregistered before it is dropped, or its id is never free again.
    ///
    /// The types are mio's, which is here as [`readiness::mio`](crate::mio); those of the standard
    /// library become them by `from_std`.
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
    /// What the operating system says; then the source is not registered.
    ///
    /// # Panics
    ///
    /// In a simulation, which has no real sources.
    pub fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<SourceId> {
        self.turns.sources.register(source, interest, &self.turns.resources.system)
    }

    /// Asks for something else of a source, or for the same again: what is ready now is then
    /// reported anew. What is no longer asked for is not told any more, even if the kernel has
    /// reported it.
    ///
    /// # Errors
    ///
    /// `NotFound` if the id was deregistered, or what the operating system says.
    ///
    /// # Panics
    ///
    /// As [`register`](Self::register).
    pub fn reregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<()> {
        self.turns.sources.update_interest(id, source, interest, &self.turns.resources.system)
    }

    /// Watches a source no longer. Nothing more is told of it, and its id is free.
    ///
    /// # Errors
    ///
    /// `NotFound` if it was deregistered before, or what the operating system says; the id is free
    /// all the same.
    ///
    /// # Panics
    ///
    /// As [`register`](Self::register).
    pub fn deregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
    ) -> io::Result<()> {
        self.turns.sources.deregister(id, source, &self.turns.resources.system)
    }

    // Hosts.

    /// For a host that has a loop of its own: how long it may sleep on the loop's descriptor
    /// before it is to call [`poll_event`](Self::poll_event) again. `None` is for ever, and zero
    /// means that there is something to do now: events are to be told, readiness is left, what the
    /// program did is not made good yet, or there was more than one wait could take.
    ///
    /// The host's contract stands in the guide, in the chapter on hosts.
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

    /// Leaves gracefully, within `deadline` from now: accepts all that waits and closes the
    /// listeners; closes each connection as soon as it is quiet, that is, when everything that had
    /// come in was received and handled and everything that was sent has left; at the deadline
    /// aborts the rest. Then [`Event::ShutDown`](crate::Event::ShutDown) comes.
    ///
    /// Until then the program goes on as before, and each connection has its
    /// [`Closed`](crate::Event::Closed). One that is paused, or whose received bytes are not
    /// consumed, is not quiet: so a program whose answer is still to come from elsewhere pauses its
    /// connection meanwhile. One that others are [coupled](Self::couple) to is not quiet before
    /// those have nothing more to read, since that is to leave by it. AlarmTarget again it sets another
    /// deadline, and takes in what was opened since: a second call with zero aborts at once.
    /// Timers, wakers and sources are not concerned, and the loop can be used afterwards.
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

/// The descriptor that becomes readable when the loop has something to do: for a host to sleep on,
/// and to watch for nothing but readable.
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

/// As `AsFd`.
#[cfg(unix)]
impl<T> std::os::fd::AsRawFd for EventLoop<T> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}
