//! Adds accepted and outgoing connections to a loop.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use super::Turns;
use crate::connection::{Connecting, Origin, Race, Stream};
use crate::event::CloseReason;
use crate::exchange::Exchange;
use crate::observer::{Step, log_cause};
use crate::slots::ConnectionId;
use crate::system::{Question, Socket};

impl<T> Turns<T> {
    pub(super) fn add_accepted(&mut self, data: T, origin: Origin, socket: Socket) -> ConnectionId {
        let mut exchange = Exchange::accepted(self.connection_limits.clone());
        if self.shutdown.is_under_way() {
            // So that it is read to `EAGAIN` before it is closed.
            exchange.try_read_to_the_end();
        }
        self.add(data, origin, Some(socket), exchange)
    }

    /// Adds a connection that is connecting, or may be. A connect that failed at once is handled
    /// like one that fails later.
    pub(crate) fn add_outgoing(
        &mut self,
        data: T,
        origin: Origin,
        socket: Option<io::Result<Socket>>,
    ) -> ConnectionId {
        let mut exchange = Exchange::connecting(self.connection_limits.clone());
        if let Some(Err(error)) = &socket {
            exchange.end(CloseReason::of(error));
        }
        let id = self.add(data, origin, socket.and_then(Result::ok), exchange);
        self.connections.lend(id.slot);
        id
    }

    fn add(
        &mut self,
        data: T,
        origin: Origin,
        socket: Option<Socket>,
        exchange: Exchange,
    ) -> ConnectionId {
        let moment = self.resources.moment;
        self.connections.insert(data, |id| {
            let mut stream = Stream::new(id, origin, socket, exchange);
            // A new connection counts as having just moved.
            stream.standing.moved_at = moment;
            stream
        })
    }

    /// Begins a connect to several addresses under one id.
    pub(crate) fn add_race(&mut self, data: T, race: Race) -> ConnectionId {
        let id = self.add_outgoing(data, Origin::Adopted, None);
        if let Some(connection) = self.connections.at_id(id) {
            connection.stream.begin_race(race, &mut self.resources);
        }
        id
    }

    /// Begins a connect to a host whose name is resolved first.
    pub(crate) fn add_named(&mut self, data: T, host: &str, port: u16) -> ConnectionId {
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let origin = Origin::Connecting(Box::new(Connecting::Resolving { _wanted: wanted }));
        let id = self.add_outgoing(data, origin, None);
        self.resources.observers.see(Step::Resolving { id });
        let question = Question { id, host: host.to_owned(), port, is_wanted };
        let asked = self.names.ask(question, &self.waker, &self.resources.system);
        if let Err(error) = asked {
            self.resolved(id, Err(error));
        }
        id
    }

    /// Hands the answer for a name to its connection, unless that has ended.
    pub(super) fn resolved(&mut self, id: ConnectionId, found: io::Result<Vec<SocketAddr>>) {
        let connection = self.connections.get_mut(id);
        let Some(connection) = connection.filter(|connection| connection.stream.is_resolving())
        else {
            return;
        };
        match found {
            Ok(addresses) => {
                let count = addresses.len();
                self.resources.observers.see(Step::Resolved { id, addresses: count });
                connection.stream.begin_race(Race::new(addresses), &mut self.resources);
            }
            Err(error) => {
                log_cause(id, "has no address", &error);
                connection.stream.exchange.end(CloseReason::of(&error));
            }
        }
    }
}
