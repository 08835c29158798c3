//! The names of simulated hosts: how they are resolved, and how long that takes.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::network::Network;
use crate::slots::ConnectionId;
use crate::system::{Answer, Question};

/// What is known of a name.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    /// How long resolving takes; forever, if the clock cannot represent it.
    pub(crate) after: Duration,
    pub(crate) found: Result<Vec<IpAddr>, ErrorKind>,
}

/// A name that is being resolved.
#[derive(Debug)]
pub(super) struct LookUp {
    poller: usize,
    id: ConnectionId,
    /// When it is answered, by the time that has elapsed.
    at: Duration,
    found: Result<Vec<SocketAddr>, ErrorKind>,
}

impl Network {
    /// Sets how a name is resolved.
    pub(crate) fn set_host(&mut self, host: Host) {
        self.hosts.retain(|known| known.name != host.name);
        self.hosts.push(host);
    }

    /// From now on no connect to this host is ever answered.
    pub(crate) fn set_unreachable(&mut self, host: IpAddr) {
        self.unreachable.push(host);
    }

    pub(crate) fn ask_name(&mut self, poller: usize, question: &Question) {
        let &Question { id, host: ref name, port, .. } = question;
        self.steps += 1;
        let host = self.hosts.iter().find(|host| host.name == *name);
        let (after, found) = match host {
            None => (Duration::ZERO, Err(ErrorKind::NotFound)),
            Some(host) => (host.after, host.found.clone()),
        };
        let found = found
            .map(|found| found.into_iter().map(|address| SocketAddr::new(address, port)).collect());
        let at = self.elapsed.saturating_add(after);
        self.look_ups.push(LookUp { poller, id, at, found });
        self.answer_names();
    }

    /// Takes an answer that has come for a loop.
    pub(crate) fn take_answer(&mut self, poller: usize) -> Option<Answer> {
        let is_due = |it: &LookUp| it.poller == poller && it.at <= self.elapsed;
        let place = self.look_ups.iter().position(is_due)?;
        let LookUp { id, found, .. } = self.look_ups.remove(place);
        Some((id, found.map_err(io::Error::from)))
    }

    /// Notifies the loops for which an answer has come.
    pub(super) fn answer_names(&mut self) {
        for look_up in &self.look_ups {
            if look_up.at <= self.elapsed {
                self.notified[look_up.poller] = true;
            }
        }
    }

    /// In how long the next answer comes for a loop, unless that lies beyond the clock.
    pub(crate) fn next_answer(&self, poller: usize) -> Option<Duration> {
        let its = self.look_ups.iter().filter(|it| it.poller == poller && it.at < Duration::MAX);
        its.map(|it| it.at.saturating_sub(self.elapsed)).min()
    }
}
