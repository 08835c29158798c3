//! The test's side of a simulated network (feature `simulation`).
//!
//! A [`Simulation`] creates any number of loops, which run unchanged on one simulated network with
//! a virtual clock, and [`Peer`]s, which a test moves by hand. There is no thread, no socket and no
//! sleep: everything follows from the seed, so you can replay a failed run.
//!
//! A program is the same as for real sockets: a loop, and a function that handles its events.
//!
//! ```
//! use readiness::simulation::{Program, Simulation};
//! use readiness::{Event, EventLoop};
//!
//! fn handle(server: &mut EventLoop, event: Event) -> std::io::Result<()> {
//!     if let Event::Received(id) = event {
//!         server[id].send_received();
//!     }
//!     Ok(())
//! }
//!
//! # fn main() -> std::io::Result<()> {
//! let simulation = Simulation::new(7);
//! let mut server = Program::new(simulation.event_loop(), handle);
//! let listener = server.event_loop.listen("127.0.0.1:65432")?;
//! let mut peer = simulation.connect(server.event_loop.listener_addr(listener)?);
//! peer.write(b"Hello, world");
//! let mut received = Vec::new();
//! while received.len() < 12 {
//!     simulation.advance(&mut [&mut server])?;
//!     received.extend(peer.read());
//! }
//! assert_eq!(received, b"Hello, world");
//! # Ok(())
//! # }
//! ```
//!
//! To run several programs against each other, pass them to [`advance`](Simulation::advance)
//! together. [`try_seeds`] runs a test on any number of faulty networks and reports the first seed
//! on which it fails.
//!
//! Timers, wakers, [`next_timeout`](crate::EventLoop::next_timeout) and
//! [`shutdown`](crate::EventLoop::shutdown) work as on a real system; timers follow the virtual
//! clock. A test that wakes a loop between two calls does what a thread would do.
//!
//! A simulated loop panics where it would need the operating system: when you adopt a socket,
//! register a foreign source, or ask for a descriptor.

mod peer;
mod program;
mod script;
mod seeds;
#[cfg(test)]
mod tests;

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use peer::{Peer, PeerListener, PeerState};
pub use program::{Driven, Program};
pub use seeds::{FailedSeed, try_seeds};

#[cfg(unix)]
use crate::address::UnixAddress;
use crate::event_loop::EventLoop;
use crate::limits::Limits;
pub use crate::system::simulated::Faults;
use crate::system::simulated::{Host, Network, Random, SharedNetwork, lock};
use script::{Happened, Script};

/// A simulated network with its clock. A clone refers to the same network.
#[derive(Clone, Debug)]
pub struct Simulation {
    network: SharedNetwork,
    course: Arc<Mutex<Course>>,
    seed: u64,
}

/// The state of a run besides the network.
#[derive(Debug)]
struct Course {
    script: Script,
    /// For the choices of the test, so that they are independent of the network's.
    random: Random,
}

impl Simulation {
    /// Creates a network without faults. The order and the pieces in which bytes arrive are random
    /// and follow from the seed.
    ///
    /// ```
    /// use readiness::simulation::Simulation;
    ///
    /// let simulation = Simulation::new(1);
    /// let event_loop: readiness::EventLoop = simulation.event_loop();
    /// assert_eq!(event_loop.now(), simulation.now());
    /// ```
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_faults(seed, Faults::none())
    }

    /// Creates a network with these faults.
    ///
    /// ```
    /// use readiness::simulation::{Faults, Simulation};
    ///
    /// let mut tiny = Faults::none();
    /// tiny.send_buffer = 1;
    /// let simulation = Simulation::with_faults(1, tiny);
    /// let listener = simulation.listen("127.0.0.1:80".parse().unwrap());
    /// let mut peer = simulation.connect(listener.address());
    /// assert_eq!(peer.write(b"Hello"), 1);
    /// ```
    #[must_use]
    pub fn with_faults(seed: u64, faults: Faults) -> Self {
        let course = Course { script: Script::default(), random: Random::new(!seed) };
        Self {
            network: Arc::new(Mutex::new(Network::new(seed, faults))),
            course: Arc::new(Mutex::new(course)),
            seed,
        }
    }

    /// Changes the faults of the network: to none, for example, to see that a program recovers.
    ///
    /// ```
    /// use readiness::simulation::{Faults, Simulation};
    ///
    /// let simulation = Simulation::with_faults(3, Faults::drawn(3));
    /// // ... bad times ...
    /// simulation.set_faults(Faults::none());
    /// ```
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.network).faults = faults;
    }

    /// Creates a loop on this network with the default limits.
    ///
    /// ```
    /// use readiness::EventLoop;
    /// use readiness::simulation::Simulation;
    ///
    /// let simulation = Simulation::new(1);
    /// let mut server: EventLoop<String> = simulation.event_loop();
    /// let mut client: EventLoop = simulation.event_loop();
    /// let listener = server.listen("127.0.0.1:65432").unwrap();
    /// client.connect(server.listener_addr(listener).unwrap(), ());
    /// ```
    #[must_use]
    pub fn event_loop<T>(&self) -> EventLoop<T> {
        EventLoop::simulated(Limits::default(), self.network.clone())
    }

    /// Creates a loop on this network with these limits.
    ///
    /// ```
    /// use readiness::simulation::Simulation;
    /// use readiness::{EventLoop, Limits};
    ///
    /// let mut limits = Limits::default();
    /// limits.connection.read_buffer_max = 16;
    /// let server: EventLoop = Simulation::new(1).event_loop_with_limits(limits).unwrap();
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `InvalidInput` if the limits contradict each other.
    pub fn event_loop_with_limits<T>(&self, limits: Limits) -> std::io::Result<EventLoop<T>> {
        limits.check()?;
        Ok(EventLoop::simulated(limits, self.network.clone()))
    }

    /// Creates a peer that connects to a listener of one of the loops. See [`Peer`].
    ///
    /// # Panics
    ///
    /// Panics if nothing listens at the address.
    #[must_use]
    pub fn connect(&self, address: SocketAddr) -> Peer {
        let index = lock(&self.network).connect_peer(address);
        let peer = Peer::new(self.clone(), index);
        self.note(Happened::Connected(peer.local_addr()));
        peer
    }

    /// Creates a peer that connects to a Unix-domain listener of one of the loops. Its
    /// [`local_addr`](Peer::local_addr) is not a real address, but identifies it.
    ///
    /// ```
    /// use readiness::simulation::{Program, Simulation};
    /// use readiness::{Event, EventLoop};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let simulation = Simulation::new(1);
    /// let mut server = Program::new(simulation.event_loop(), |server: &mut EventLoop, event| {
    ///     if let Event::Received(id) = event {
    ///         server[id].send_received();
    ///     }
    ///     Ok(())
    /// });
    /// server.event_loop.listen_unix("/run/echo")?; // a name of the simulation: no file is made
    /// let mut peer = simulation.connect_unix("/run/echo");
    /// peer.write(b"Hello");
    /// let mut received = Vec::new();
    /// while received.len() < 5 {
    ///     simulation.advance(&mut [&mut server])?;
    ///     received.extend(peer.read());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Panics if nothing listens at the address.
    #[cfg(unix)]
    #[must_use]
    pub fn connect_unix(&self, address: impl Into<UnixAddress>) -> Peer {
        let index = lock(&self.network).connect_unix_peer(&address.into());
        let peer = Peer::new(self.clone(), index);
        self.note(Happened::Connected(peer.local_addr()));
        peer
    }

    /// Creates a Unix-domain listener that belongs to the test, for the loops to connect to. See
    /// [`PeerListener`].
    ///
    /// # Panics
    ///
    /// Panics if something listens there already, or if it cannot be an address.
    #[cfg(unix)]
    #[must_use]
    pub fn listen_unix(&self, address: impl Into<UnixAddress>) -> PeerListener {
        let mut network = lock(&self.network);
        let poller = network.add_poller();
        let index = network.listen_unix(poller, &address.into()).expect("an address that is free");
        let address = network.local_addr(index);
        PeerListener::new(self.clone(), index, address)
    }

    /// Creates a listener that belongs to the test, for the loops to connect to. With port 0 the
    /// network picks a free port. See [`PeerListener`].
    ///
    /// # Panics
    ///
    /// Panics if something listens there already.
    #[must_use]
    pub fn listen(&self, address: SocketAddr) -> PeerListener {
        let mut network = lock(&self.network);
        let poller = network.add_poller();
        let index = network.listen(poller, address).expect("an address that is free");
        let address = network.local_addr(index);
        PeerListener::new(self.clone(), index, address)
    }

    /// Sets how a name is resolved: to which addresses or with which error, and how long that
    /// takes. A name that was never set fails at once with `NotFound`.
    ///
    /// ```
    /// use readiness::simulation::Simulation;
    /// use readiness::{Event, EventLoop};
    /// use std::time::Duration;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let simulation = Simulation::new(1);
    /// let hosts = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    /// simulation.set_host("example", Duration::from_millis(40), Ok(hosts.to_vec()));
    /// simulation.set_unreachable(hosts[0]);
    /// let listener = simulation.listen("10.0.0.2:80".parse().unwrap());
    ///
    /// let start = simulation.now();
    /// let mut client: EventLoop = simulation.event_loop();
    /// let id = client.connect_name("example:80", ());
    /// assert_eq!(client.next_event()?, Event::Connected(id));
    /// assert_eq!(client[id].peer_addr()?, listener.address());
    /// // The second attempt began 250 ms after the first, which is never answered.
    /// assert_eq!(simulation.now() - start, Duration::from_millis(290));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_host(&self, name: &str, after: Duration, found: Result<Vec<IpAddr>, ErrorKind>) {
        lock(&self.network).set_host(Host { name: name.to_owned(), after, found });
    }

    /// Makes a host unreachable: a connect to it is neither accepted nor refused from now on.
    pub fn set_unreachable(&self, host: IpAddr) {
        lock(&self.network).set_unreachable(host);
    }

    /// Lets the network do one thing by itself, such as deliver a piece. Returns whether there was
    /// anything to do. A waiting loop does the same, and so does [`advance`](Self::advance).
    ///
    /// ```
    /// use readiness::simulation::Simulation;
    ///
    /// let simulation = Simulation::new(1);
    /// let listener = simulation.listen("127.0.0.1:80".parse().unwrap());
    /// let mut peer = simulation.connect(listener.address());
    /// let mut other = listener.accept().unwrap();
    /// peer.write(b"Hello");
    /// assert_eq!(other.read(), b"");
    /// while simulation.step() {}
    /// assert_eq!(other.read(), b"Hello");
    /// ```
    #[expect(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn step(&self) -> bool {
        lock(&self.network).step()
    }

    /// Lets time pass.
    ///
    /// ```
    /// use readiness::simulation::Simulation;
    /// use std::time::Duration;
    ///
    /// let simulation = Simulation::new(1);
    /// let before = simulation.now();
    /// simulation.pass_time(Duration::from_secs(3600));
    /// assert_eq!(simulation.now() - before, Duration::from_secs(3600));
    /// ```
    pub fn pass_time(&self, time: Duration) {
        self.note(Happened::TimePassed(time));
        lock(&self.network).pass_time(time);
    }

    /// Returns the virtual time. It advances only when a wait ends by its timeout, in
    /// [`pass_time`](Self::pass_time), and at the rate [`clock_rate`](Faults::clock_rate).
    #[must_use]
    pub fn now(&self) -> Instant {
        lock(&self.network).now()
    }

    /// Returns the number of steps so far: simulated system calls and actions of peers. What the
    /// network does by itself is not counted.
    ///
    /// ```
    /// use readiness::simulation::Simulation;
    ///
    /// let simulation = Simulation::new(1);
    /// let listener = simulation.listen("127.0.0.1:80".parse().unwrap());
    /// let before = simulation.steps();
    /// let mut peer = simulation.connect(listener.address());
    /// peer.write(b"Hello");
    /// while simulation.step() {}
    /// assert_eq!(simulation.steps() - before, 2);
    /// ```
    #[must_use]
    pub fn steps(&self) -> u64 {
        lock(&self.network).steps
    }

    /// Returns the seed with which it was created.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns a number from 0 to below `end` for a choice of the test; it follows from the seed.
    ///
    /// ```
    /// use readiness::simulation::Simulation;
    ///
    /// let first: Vec<usize> = (0..9).map({ let s = Simulation::new(5); move |_| s.below(100) }).collect();
    /// let again: Vec<usize> = (0..9).map({ let s = Simulation::new(5); move |_| s.below(100) }).collect();
    /// assert_eq!(first, again);
    /// ```
    #[must_use]
    pub fn below(&self, end: usize) -> usize {
        self.course().random.below(end)
    }

    fn course(&self) -> MutexGuard<'_, Course> {
        // A panic in a program under test must not hide behind a poisoned lock.
        self.course.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, happened: Happened) {
        self.course().script.note(happened);
    }
}
