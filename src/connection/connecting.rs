//! Connects that take more than one attempt: to several addresses of one peer, to a name that is
//! resolved first, and to a Unix-domain listener whose backlog is full.
//!
//! Several addresses are tried as RFC 8305 (*Happy Eyeballs*) says: alternating between IPv6 and
//! IPv4, a further one 250 ms after the last began or as soon as none is under way. The first to
//! succeed becomes the connection's socket, and the others are closed. All attempts share one id,
//! one deadline, and the slot as their token, so an event of one leads to a check of all.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Origin, Stream};
#[cfg(unix)]
use crate::address::UnixAddress;
#[cfg(unix)]
use crate::attempt::Attempt;
#[cfg(unix)]
use crate::backoff::Backoff;
use crate::event::{CloseReason, Failure};
use crate::interest::Interest;
use crate::limits::ConnectionLimits;
use crate::observer::Step;
use crate::readiness::Readiness;
use crate::resources::Resources;
use crate::system::{ConnectOutcome, Socket, System};

/// How long an attempt has before the next begins beside it: the Connection Attempt Delay that
/// RFC 8305 recommends.
const STAGGER: Duration = Duration::from_millis(250);

/// The first and the longest pause of a connect whose listener's backlog is full. No event reports
/// that there is room, so the connect is retried: soon at first, because a live listener makes room
/// at once, and seldom later, because a dead one never does.
#[cfg(unix)]
const PAUSE_MIN: Duration = Duration::from_millis(5);
#[cfg(unix)]
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a connect that is under way needs besides its socket.
#[derive(Debug)]
pub(crate) enum Connecting {
    /// The name is being resolved. The helper threads skip it once this was dropped.
    Resolving {
        _wanted: Arc<()>,
    },
    Race(Race),
    /// The backlog of a Unix-domain listener was full, and nothing is under way.
    #[cfg(unix)]
    Retry {
        address: UnixAddress,
        backoff: Backoff,
    },
}

impl Connecting {
    #[cfg(unix)]
    pub(crate) fn retry(address: UnixAddress) -> Self {
        Self::Retry { address, backoff: Backoff::new(PAUSE_MIN, PAUSE_MAX) }
    }
}

/// Attempts at several addresses, of which the first to succeed wins.
#[derive(Debug)]
pub(crate) struct Race {
    waiting: VecDeque<SocketAddr>,
    /// The sockets of the attempts under way, each registered for writable.
    pub(super) running: Vec<(SocketAddr, Socket)>,
    /// Why the last attempt failed.
    failure: Option<CloseReason>,
}

impl Race {
    /// Creates a race for these addresses: in their order, alternating between the families.
    pub(crate) fn new(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let addresses: Vec<SocketAddr> = addresses.into_iter().collect();
        let prefers_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (first, second): (Vec<_>, Vec<_>) =
            addresses.into_iter().partition(|address| address.is_ipv6() == prefers_v6);
        let count = first.len().max(second.len());
        let pairs = (0..count).flat_map(|at| [first.get(at), second.get(at)]);
        let waiting = pairs.flatten().copied().collect();
        Self { waiting, running: Vec::new(), failure: None }
    }

    fn close_all(&mut self, slot: u32, system: &System) {
        for (_, socket) in self.running.drain(..) {
            close(socket, slot, system);
        }
    }
}

/// Closes the socket of an attempt.
fn close(mut socket: Socket, slot: u32, system: &System) {
    // An error has no consequence: the socket is closed next.
    let _ = system.update_interest(&mut socket, slot, Interest::Writable, Interest::None);
    socket.close();
}

impl Stream {
    /// Checks the outcome of a connect, if the kernel has reported something about it.
    #[cold]
    pub(super) fn look_at_connect(&mut self, resources: &mut Resources) {
        if self.exchange.readiness() == Readiness::default() {
            return;
        }
        let is_hup = self.exchange.take_readiness().is_hup();
        if matches!(self.origin.connecting(), Some(Connecting::Race(_))) {
            return self.look_at_race(is_hup, resources);
        }
        let Some(socket) = &self.socket else { return };
        match socket.connect_outcome(is_hup) {
            ConnectOutcome::UnderWay => {}
            ConnectOutcome::Failed(error) => self.exchange.end(CloseReason::of(&error)),
            ConnectOutcome::Connected => self.has_connected(resources),
        }
    }

    fn has_connected(&mut self, resources: &mut Resources) {
        self.exchange.connected();
        resources.observers.see(Step::Connected { id: self.id() });
    }

    /// Checks each attempt: the first that has succeeded wins, and those that failed are closed.
    fn look_at_race(&mut self, is_hup: bool, resources: &mut Resources) {
        let id = self.id();
        let Some(Connecting::Race(race)) = self.origin.connecting_mut() else { return };
        let mut winner = None;
        for (address, socket) in mem::take(&mut race.running) {
            let outcome = match &winner {
                None => socket.connect_outcome(is_hup),
                Some(_) => ConnectOutcome::UnderWay,
            };
            match outcome {
                ConnectOutcome::UnderWay => race.running.push((address, socket)),
                ConnectOutcome::Connected => winner = Some((address, socket)),
                ConnectOutcome::Failed(error) => {
                    close(socket, id.slot, &resources.system);
                    race.failure = Some(CloseReason::of(&error));
                    let failure = Failure::from(&error);
                    resources.observers.see(Step::AttemptFailed { id, address, failure });
                }
            }
        }
        if let Some((address, socket)) = winner {
            race.close_all(id.slot, &resources.system);
            self.origin = Origin::connected(address);
            self.socket = Some(socket);
            self.standing.interest = Interest::Writable;
            self.deadlines_mut().again = None;
            self.has_connected(resources);
        } else if race.running.is_empty() {
            self.begin_attempt(resources);
        }
    }

    /// Begins the next attempt, and further ones as long as they fail at once. If none is left or
    /// under way, the connection ends with the reason of the last one.
    fn begin_attempt(&mut self, resources: &mut Resources) {
        let (id, limits) = (self.id(), self.exchange.limits().clone());
        let Some(Connecting::Race(race)) = self.origin.connecting_mut() else { return };
        while let Some(address) = race.waiting.pop_front() {
            resources.observers.see(Step::Connecting { id, address: Some(address) });
            match attempt_at(address, id.slot, &limits, &resources.system) {
                Ok(socket) => {
                    race.running.push((address, socket));
                    break;
                }
                Err(error) => {
                    race.failure = Some(CloseReason::of(&error));
                    let failure = Failure::from(&error);
                    resources.observers.see(Step::AttemptFailed { id, address, failure });
                }
            }
        }
        if race.running.is_empty() {
            // There may have been no address at all.
            let no_address = CloseReason::Failed(io::ErrorKind::InvalidInput.into());
            return self.exchange.end(race.failure.unwrap_or(no_address));
        }
        let next = race.waiting.front().and_then(|_| resources.system.now().checked_add(STAGGER));
        self.deadlines_mut().again = next;
    }

    /// Begins a race for these addresses.
    pub(crate) fn begin_race(&mut self, race: Race, resources: &mut Resources) {
        self.origin = Origin::Connecting(Box::new(Connecting::Race(race)));
        self.begin_attempt(resources);
    }

    /// Returns whether its name is being resolved.
    pub(crate) fn is_resolving(&self) -> bool {
        self.exchange.is_connecting()
            && matches!(self.origin.connecting(), Some(Connecting::Resolving { .. }))
    }

    /// Makes the attempt that could not begin earlier or whose turn it is now.
    pub(super) fn connect_again(&mut self, resources: &mut Resources) {
        self.deadlines_mut().again = None;
        #[cfg(unix)]
        if let (Some(Connecting::Retry { address, .. }), Some(socket)) =
            (self.origin.connecting(), &self.socket)
        {
            return match socket.connect_unix(address) {
                Attempt::NotReady => self.pause_connecting(resources),
                Attempt::Failed(error) => self.exchange.end(CloseReason::of(&error)),
                Attempt::Done(()) => {
                    self.origin = Origin::ConnectedUnix;
                    // It was registered before it was connected, so no event is promised.
                    self.exchange.try_write();
                    self.serve(resources);
                }
            };
        }
        self.begin_attempt(resources);
    }

    /// Schedules another attempt of a connect that could not begin.
    #[cfg(unix)]
    pub(crate) fn pause_connecting(&mut self, resources: &mut Resources) {
        let Some(Connecting::Retry { backoff, .. }) = self.origin.connecting_mut() else { return };
        let pause = backoff.take();
        let at = resources.system.now().checked_add(pause);
        self.deadlines_mut().again = at;
        resources.observers.see(Step::ConnectPaused { id: self.id(), pause });
    }

    /// Closes all attempts under way other than the connection's own socket.
    pub(super) fn close_attempts(&mut self, system: &System) {
        let slot = self.id().slot;
        if let Some(Connecting::Race(race)) = self.origin.connecting_mut() {
            race.close_all(slot, system);
        }
    }
}

fn attempt_at(
    address: SocketAddr,
    slot: u32,
    limits: &ConnectionLimits,
    system: &System,
) -> io::Result<Socket> {
    let mut socket = system.connect(address, limits)?;
    match system.update_interest(&mut socket, slot, Interest::None, Interest::Writable) {
        Ok(()) => Ok(socket),
        Err(error) => {
            socket.close();
            Err(error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_families_alternate_and_keep_their_order() {
        let address = |text: &str| format!("{text}:1").parse().unwrap();
        let race = Race::new(["[::1]", "[::2]", "[::3]", "1.1.1.1", "2.2.2.2"].map(address));
        let expected = ["[::1]", "1.1.1.1", "[::2]", "2.2.2.2", "[::3]"].map(address);
        assert_eq!(race.waiting, expected);
        let race = Race::new(["1.1.1.1", "2.2.2.2", "[::1]"].map(address));
        assert_eq!(race.waiting, ["1.1.1.1", "[::1]", "2.2.2.2"].map(address));
        assert_eq!(Race::new([]).waiting, []);
    }
}
