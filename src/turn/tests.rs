//! What tests need to know of a turn. The turns themselves are tested by whole loops: see
//! `src/simulation/tests/` and `tests/`.

mod fingerprint;

use super::Turns;
use crate::connection::Connection;
use crate::slots::ConnectionId;

impl<T> Turns<T> {
    pub(crate) fn times_queued(&self, id: ConnectionId) -> usize {
        self.ready.times(id)
    }

    /// Returns the connections that were settled: not those at which the program or the turn is.
    pub(crate) fn settled(&self) -> impl Iterator<Item = &Connection<T>> {
        let served = self.service.map(|service| service.slot);
        self.connections.iter().filter(move |connection| {
            !connection.stream.standing.dirty && served != Some(connection.id().slot)
        })
    }
}
