//! A simulated kernel: sockets, readiness edges, a clock, and faults, all drawn from one seed.
//!
//! One [`Network`] is shared by all loops and peers of a simulation. A socket is an index into it;
//! the lowest free one is used first, as a kernel does with descriptors.
//!
//! | file | |
//! |---|---|
//! | `random.rs` | the one source of chance |
//! | `faults.rs` | what can go wrong, and how often |
//! | `hosts.rs` | host names and how they are resolved |
//! | `socket.rs` | the state of a socket, and what is true of it |
//! | `network.rs` | all sockets, the clock, and what the network does by itself |
//! | `calls.rs` | the system calls of a loop on its sockets |
//! | `waiting.rs` | registration and waiting: the edges |
//! | `unix.rs` | the names of Unix-domain sockets |
//! | `peers.rs` | what the peers of a test do |
//! | `script.rs` | failures and cuts at calls that a test chooses |
//! | `choices.rs`, `fingerprint.rs` | for a search through all states |
//!
//! It deliberately makes no system call, reads no clock and starts no thread.

mod calls;
#[cfg(test)]
mod choices;
mod faults;
#[cfg(test)]
mod fingerprint;
mod hosts;
mod network;
mod peers;
mod random;
mod script;
mod socket;
#[cfg(unix)]
mod unix;
mod waiting;

use std::fmt;
use std::io;
use std::net::SocketAddr;
#[cfg(unix)]
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[cfg(unix)]
use super::no_unix_address;
use super::{Answer, ConnectOutcome, Notifier, PeerAddr, Question, Socket, Watched, no_ip_address};
#[cfg(unix)]
use crate::address::UnixAddress;
use crate::attempt::{Attempt, attempt, was_interrupted};
use crate::interest::Interest;
use crate::readiness::Readiness;

pub use faults::Faults;
pub(crate) use hosts::Host;
pub(crate) use network::Network;
pub(crate) use random::Random;
#[cfg(test)]
pub(crate) use {
    calls::NO_BUFFERS,
    choices::Choices,
    script::{Failing, Script, Wake},
};

/// What the loops and the peers of one simulation share.
pub(crate) type SharedNetwork = Arc<Mutex<Network>>;

/// A panic in a program under test must not hide behind a poisoned lock.
pub(crate) fn lock(network: &SharedNetwork) -> MutexGuard<'_, Network> {
    network.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One loop's view of the network.
pub(crate) struct Simulated {
    network: SharedNetwork,
    poller: usize,
    events: Vec<(Watched, Readiness)>,
    /// The last wait returned as many events as one may.
    was_filled: bool,
}

/// A socket of the network, by its index.
pub(crate) struct SimulatedSocket(Box<Inner>);

struct Inner {
    network: SharedNetwork,
    index: usize,
    local: SocketAddr,
}

impl fmt::Debug for SimulatedSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { index, local, .. } = &*self.0;
        f.debug_tuple("SimulatedSocket").field(index).field(local).finish()
    }
}

impl SimulatedSocket {
    /// Takes the network twice: to be used now, and to be kept for later.
    fn new(network: &Network, shared: &SharedNetwork, index: usize) -> Self {
        let local = network.local_addr(index);
        Self(Box::new(Inner { network: shared.clone(), index, local }))
    }

    pub(crate) fn index(&self) -> usize {
        self.0.index
    }

    pub(crate) fn is_unix(&self) -> bool {
        socket::is_unix(self.0.local)
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        if self.is_unix() { Err(no_ip_address()) } else { Ok(self.0.local) }
    }

    #[cfg(unix)]
    pub(crate) fn unix_local_addr(&self) -> io::Result<UnixSocketAddr> {
        match self.is_unix() {
            true => lock(&self.0.network).unix_local_addr(self.index()),
            false => Err(no_unix_address()),
        }
    }

    #[cfg(unix)]
    pub(crate) fn unix_peer_addr(&self) -> io::Result<UnixSocketAddr> {
        match self.is_unix() {
            true => lock(&self.0.network).unix_peer_addr(self.index()),
            false => Err(no_unix_address()),
        }
    }

    pub(crate) fn update_interest(&self, watched: Watched, interest: Interest) -> io::Result<()> {
        lock(&self.0.network).update_interest(self.index(), watched, interest)
    }

    pub(crate) fn accept(&self) -> Attempt<(Socket, PeerAddr)> {
        let mut network = lock(&self.0.network);
        attempt(|| network.accept(self.index())).map(|(index, peer)| {
            let socket = Self::new(&network, &self.0.network, index);
            #[cfg(unix)]
            if network.is_unix(index)
                && let Ok(peer) = network.unix_peer_addr(index)
            {
                return (Socket::Simulated(socket), PeerAddr::Unix(peer));
            }
            (Socket::Simulated(socket), PeerAddr::Ip(peer))
        })
    }

    #[cfg(unix)]
    pub(crate) fn connect_unix(&self, address: &UnixAddress) -> Attempt<()> {
        attempt(|| lock(&self.0.network).connect_unix(self.index(), address))
    }

    pub(crate) fn connect_outcome(&self, is_hup: bool) -> ConnectOutcome {
        lock(&self.0.network).connect_outcome(self.index(), is_hup)
    }

    pub(crate) fn short_proves_blocked(&self) -> bool {
        let faults = &lock(&self.0.network).faults;
        !self.is_unix() && !faults.disarms_on_report && !faults.silent_rearm
    }

    pub(crate) fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        lock(&self.0.network).read(self.index(), into)
    }

    pub(crate) fn peek(&self) -> io::Result<bool> {
        lock(&self.0.network).peek(self.index())
    }

    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0.network).write(self.index(), bytes)
    }

    pub(crate) fn finish(&self) {
        lock(&self.0.network).finish(self.index());
    }

    pub(crate) fn reset_on_close(&self) {
        lock(&self.0.network).reset_on_close(self.index());
    }

    pub(crate) fn close(&self) {
        lock(&self.0.network).close(self.index(), false);
    }
}

impl Simulated {
    pub(crate) fn new(network: SharedNetwork) -> Self {
        let poller = lock(&network).add_poller();
        Self { network, poller, events: Vec::new(), was_filled: false }
    }

    /// The number of the loop on its network.
    #[cfg(test)]
    pub(crate) fn poller(&self) -> usize {
        self.poller
    }

    pub(crate) fn now(&self) -> Instant {
        lock(&self.network).now()
    }

    /// Returns whether a wait with a timeout of zero may find something in a later try.
    pub(crate) fn has_listed(&self) -> bool {
        lock(&self.network).has_listed(self.poller)
    }

    pub(crate) fn was_filled(&self) -> bool {
        self.was_filled
    }

    pub(crate) fn ask_name(&self, question: &Question) {
        lock(&self.network).ask_name(self.poller, question);
    }

    pub(crate) fn take_answer(&self) -> Option<Answer> {
        lock(&self.network).take_answer(self.poller)
    }

    pub(crate) fn next_answer(&self) -> Option<Duration> {
        lock(&self.network).next_answer(self.poller)
    }

    pub(crate) fn notifier(&self) -> io::Result<Notifier> {
        let (network, poller) = (self.network.clone(), self.poller);
        Ok(Box::new(move || {
            lock(&network).notify(poller);
            Ok(())
        }))
    }

    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let mut network = lock(&self.network);
        let waited = network.wait(self.poller, timeout, &mut self.events);
        self.was_filled = self.events.len() >= network.faults.event_capacity;
        match waited {
            Ok(()) => Ok(self.events.len()),
            Err(error) if was_interrupted(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// The moment passes all at once, because nothing else makes this clock advance.
    pub(crate) fn spin(&mut self, moment: Duration) -> io::Result<usize> {
        let count = self.wait(Some(Duration::ZERO))?;
        if count == 0 {
            lock(&self.network).pass_time(moment);
        }
        Ok(count)
    }

    pub(crate) fn take_events(&mut self, mut take: impl FnMut(Watched, Readiness)) {
        for (watched, readiness) in self.events.drain(..) {
            take(watched, readiness);
        }
    }

    pub(crate) fn listen(&self, address: SocketAddr) -> io::Result<SimulatedSocket> {
        let mut network = lock(&self.network);
        let index = network.listen(self.poller, address)?;
        Ok(SimulatedSocket::new(&network, &self.network, index))
    }

    #[cfg(unix)]
    pub(crate) fn listen_unix(&self, address: &UnixAddress) -> io::Result<SimulatedSocket> {
        let mut network = lock(&self.network);
        let index = network.listen_unix(self.poller, address)?;
        Ok(SimulatedSocket::new(&network, &self.network, index))
    }

    pub(crate) fn connect(&self, address: SocketAddr) -> io::Result<SimulatedSocket> {
        let mut network = lock(&self.network);
        let index = network.connect(self.poller, address)?;
        Ok(SimulatedSocket::new(&network, &self.network, index))
    }

    #[cfg(unix)]
    pub(crate) fn unix_socket(&self) -> io::Result<SimulatedSocket> {
        let mut network = lock(&self.network);
        let index = network.unix_socket(self.poller)?;
        Ok(SimulatedSocket::new(&network, &self.network, index))
    }
}

impl Drop for Simulated {
    fn drop(&mut self) {
        lock(&self.network).remove_poller(self.poller);
    }
}
