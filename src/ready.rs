//! The two queues of connections that are ready, from which a turn takes whom it serves.
//!
//! - `fresh`: what the last wait brought, and what a resume or an owed event made ready. A turn
//!   serves all that were there when it began.
//! - `left_over`: those that stopped early, at a budget or a full buffer. One is served in each
//!   turn, so that a small talker waits for one bulk stream at most, not for all of them.
//!
//! A connection stands in one of them at most, and news from its peer does not move it forward; an
//! event that it owes does. Ids stand in the queues, so that one that has gone is skipped, and its
//! slot's next owner is not taken for it.

use std::collections::VecDeque;

use crate::connection::{Connection, Queued};
use crate::event::ConnectionId;
use crate::interest::Readiness;

#[derive(Debug, Default)]
pub(crate) struct Ready {
    fresh: VecDeque<ConnectionId>,
    left_over: VecDeque<ConnectionId>,
}

impl Ready {
    /// Remembers the kernel's answer on its connection, and has it served.
    pub(crate) fn fold<T>(&mut self, connection: &mut Connection<T>, news: Readiness) {
        connection.stream.exchange.readiness.fold(news);
        self.push(connection, Queued::Fresh);
    }

    /// Has the connection served if anything is left to do for it that needs no new event.
    pub(crate) fn requeue<T>(&mut self, connection: &mut Connection<T>) {
        let stream = &connection.stream;
        let exchange = &stream.exchange;
        if exchange.next_owed().is_some() {
            if stream.queued == Queued::LeftOver {
                // Seldom: the program did something to one that waits its turn.
                self.left_over.retain(|id| *id != stream.id());
                connection.stream.queued = Queued::No;
            }
            self.push(connection, Queued::Fresh);
        } else if exchange.can_fill() || exchange.can_flush() {
            let queue = if stream.stopped_early { Queued::LeftOver } else { Queued::Fresh };
            self.push(connection, queue);
        }
    }

    fn push<T>(&mut self, connection: &mut Connection<T>, queue: Queued) {
        let stream = &mut connection.stream;
        if stream.queued == Queued::No {
            stream.queued = queue;
            match queue {
                Queued::Fresh => self.fresh.push_back(stream.id()),
                Queued::LeftOver => self.left_over.push_back(stream.id()),
                Queued::No => {}
            }
        }
    }

    pub(crate) fn take_fresh(&mut self) -> Option<ConnectionId> {
        self.fresh.pop_front()
    }

    /// The left-over whose turn it is.
    pub(crate) fn next_left_over(&self) -> Option<ConnectionId> {
        self.left_over.front().copied()
    }

    /// Takes it out, if it is still this one: an event that it owes may have moved it forward.
    pub(crate) fn take_left_over(&mut self, id: Option<ConnectionId>) -> Option<ConnectionId> {
        if self.next_left_over() == id { self.left_over.pop_front() } else { None }
    }

    pub(crate) fn fresh_count(&self) -> usize {
        self.fresh.len()
    }

    /// Both queues, from the front.
    #[cfg(test)]
    pub(crate) fn queues(&self) -> [&VecDeque<ConnectionId>; 2] {
        [&self.fresh, &self.left_over]
    }

    /// How many times a connection stands in the queues.
    #[cfg(test)]
    pub(crate) fn times(&self, id: ConnectionId) -> usize {
        self.fresh.iter().chain(&self.left_over).filter(|queued| **queued == id).count()
    }

    /// Whether nobody waits to be served.
    pub(crate) fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.left_over.is_empty()
    }
}
