//! The two queues of connections that are ready, from which a turn takes those that it serves.
//!
//! - `fresh`: connections that the last wait reported, and those that a resume or a pending event
//!   made ready. A turn serves all that are in it when that stage begins.
//! - `deferred`: connections that yielded at a budget or a full buffer, so that they do not starve
//!   others (*starvation*, *fairness*). One is served per turn, so a small request waits for one
//!   deferred stream at most, not for all of them. The same one is served for up to
//!   [`TURNS_IN_A_ROW`], because its socket's data is in the caches; then the next.
//!
//! A connection is in at most one of them. A report of the kernel does not move it to the fresh
//! queue; a pending event does. The queues hold ids, so a closed connection is skipped and the next
//! occupant of its slot is not mistaken for it.

use std::collections::{BTreeMap, HashMap};

use crate::connection::{Connection, Queued, Standing};
use crate::cost;
use crate::readiness::Readiness;
use crate::slots::ConnectionId;

/// Maximum number of turns in a row in which the same deferred connection is served while others
/// wait: 512 KiB of a stream, with the default budget. Measured with four streams: with one turn
/// each they move a quarter fewer bytes, with four turns a tenth fewer, and with sixteen a tenth
/// more. The price of sixteen: a message larger than one budget waits for the runs of all other
/// streams, twice as long.
pub(crate) const TURNS_IN_A_ROW: u32 = 8;

#[derive(Debug, Default)]
pub(crate) struct ReadyQueues {
    fresh: Vec<ConnectionId>,
    /// The connections that were fresh when the stage began, and how many of them were taken.
    batch: Vec<ConnectionId>,
    taken: usize,
    deferred: DeferredQueue,
    /// The deferred connection that this turn serves, and in how many turns in a row it was served;
    /// `None` if it has moved to the fresh queue.
    at_hand: Option<(ConnectionId, u32)>,
}

impl ReadyQueues {
    /// Records what the kernel has reported about a connection (edge-triggered: once for each
    /// change), and queues it.
    pub(crate) fn record<T>(&mut self, connection: &mut Connection<T>, reported: Readiness) {
        connection.stream.exchange.reported(reported);
        self.push(connection, Queued::Fresh);
    }

    /// Queues the connection if something is left to do for it without a new report of the kernel.
    pub(crate) fn requeue<T>(&mut self, connection: &mut Connection<T>) {
        let Standing { yielded, queued, .. } = connection.stream.standing;
        let exchange = &connection.stream.exchange;
        // A connection that has spent its budget of repeats waits in the deferred queue like any
        // other that has yielded.
        let may_wait = yielded && exchange.is_repeat_next();
        if exchange.next_pending().is_some() && !may_wait {
            if queued == Queued::Deferred {
                // Rare: the program acted on a connection that waits in the deferred queue.
                let id = connection.id();
                self.deferred.remove(id);
                self.at_hand.take_if(|(at_hand, _)| *at_hand == id);
                connection.stream.standing.queued = Queued::No;
            }
            self.push(connection, Queued::Fresh);
        } else if may_wait || exchange.can_fill() || exchange.can_flush() {
            self.push(connection, if yielded { Queued::Deferred } else { Queued::Fresh });
        }
    }

    fn push<T>(&mut self, connection: &mut Connection<T>, queue: Queued) {
        let stream = &mut connection.stream;
        if stream.standing.queued == Queued::No {
            stream.standing.queued = queue;
            match queue {
                Queued::Fresh => self.fresh.push(stream.id()),
                Queued::Deferred => match self.at_hand {
                    Some((id, turns)) if id == stream.id() && turns < TURNS_IN_A_ROW => {
                        self.deferred.push_front(id);
                    }
                    _ => self.deferred.push_back(stream.id()),
                },
                Queued::No => {}
            }
        }
    }

    /// Starts this turn's batch with all connections that are fresh now. Connections that become
    /// fresh later belong to the next turn.
    pub(crate) fn begin_batch(&mut self) {
        debug_assert!(self.taken == self.batch.len(), "a turn takes its whole batch");
        self.batch.clear();
        self.taken = 0;
        std::mem::swap(&mut self.batch, &mut self.fresh);
    }

    /// Takes the next connection of the turn's batch.
    #[inline]
    pub(crate) fn take_fresh(&mut self) -> Option<ConnectionId> {
        let id = self.batch.get(self.taken).copied()?;
        self.taken += 1;
        Some(id)
    }

    /// Chooses the deferred connection that a turn will serve, when the turn begins. Budgets are
    /// per turn, so a connection that yields in this turn waits for another. A closed one is
    /// skipped.
    #[inline]
    pub(crate) fn choose_deferred(&mut self, is_there: impl Fn(ConnectionId) -> bool) {
        if self.deferred.is_empty() {
            self.at_hand = None;
        } else {
            self.choose_among_deferred(is_there);
        }
    }

    fn choose_among_deferred(&mut self, is_there: impl Fn(ConnectionId) -> bool) {
        while self.deferred.front().is_some_and(|first| !is_there(first)) {
            self.deferred.pop_front();
        }
        let before = self.at_hand;
        self.at_hand = self.deferred.front().map(|first| match before {
            Some((id, turns)) if id == first && turns < TURNS_IN_A_ROW => (id, turns),
            _ => (first, 0),
        });
    }

    /// Takes the connection that was chosen, once per turn.
    pub(crate) fn take_deferred(&mut self) -> Option<ConnectionId> {
        let (id, turns) = self.at_hand.as_mut()?;
        let first = self.deferred.pop_front();
        debug_assert!(first == Some(*id), "nobody comes before the one that was chosen");
        *turns += 1;
        first
    }

    /// Returns whether no connection waits to be served.
    pub(crate) fn is_empty(&self) -> bool {
        let is_batch_taken = self.taken == self.batch.len();
        is_batch_taken && self.fresh.is_empty() && self.deferred.is_empty()
    }
}

/// A queue from whose middle an id can be removed in logarithmic time.
#[derive(Debug, Default)]
struct DeferredQueue {
    /// In the order of their places.
    places: BTreeMap<i64, ConnectionId>,
    place_of: HashMap<ConnectionId, i64>,
}

impl DeferredQueue {
    fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    fn front(&self) -> Option<ConnectionId> {
        self.places.first_key_value().map(|(_, id)| *id)
    }

    fn push_front(&mut self, id: ConnectionId) {
        let place = self.places.first_key_value().map_or(0, |(first, _)| first - 1);
        self.put(place, id);
    }

    fn push_back(&mut self, id: ConnectionId) {
        let place = self.places.last_key_value().map_or(0, |(last, _)| last + 1);
        self.put(place, id);
    }

    fn put(&mut self, place: i64, id: ConnectionId) {
        self.places.insert(place, id);
        let earlier = self.place_of.insert(id, place);
        debug_assert!(earlier.is_none(), "{id} is in the queue already");
    }

    fn pop_front(&mut self) -> Option<ConnectionId> {
        let (_, id) = self.places.pop_first()?;
        self.place_of.remove(&id);
        Some(id)
    }

    fn remove(&mut self, id: ConnectionId) {
        cost::step();
        if let Some(place) = self.place_of.remove(&id) {
            self.places.remove(&place);
        }
    }
}

#[cfg(test)]
impl ReadyQueues {
    /// The ids in the queues, from their fronts: the batch, fresh, and deferred.
    pub(crate) fn queues(&self) -> [Vec<ConnectionId>; 3] {
        let deferred = self.deferred.places.values().copied().collect();
        [self.batch[self.taken..].to_vec(), self.fresh.clone(), deferred]
    }

    /// The deferred connection of this turn, and in how many turns in a row it was served.
    pub(crate) fn at_hand(&self) -> Option<(ConnectionId, u32)> {
        self.at_hand
    }

    /// How many times a connection is in the queues.
    pub(crate) fn times(&self, id: ConnectionId) -> usize {
        self.queues().iter().flatten().filter(|queued| **queued == id).count()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::sync::Arc;

    use super::*;
    use crate::connection::{Origin, Stream};
    use crate::exchange::Exchange;
    use crate::pending_events::Pending;

    /// A connection without a socket with no pending event that is ready for nothing.
    fn at_rest(slot: u32) -> Connection<()> {
        let id = ConnectionId { slot, generation: NonZero::<u32>::MIN };
        let mut exchange = Exchange::accepted(Arc::default());
        exchange.delivered(Pending::Accepted);
        exchange.set_readiness(Readiness::default());
        let peer = Origin::connected(([127, 0, 0, 1], 80).into());
        Connection { data: (), stream: Stream::new(id, peer, None, exchange) }
    }

    /// Returns the slots that are in the two queues.
    fn queues(ready: &ReadyQueues) -> (Vec<u32>, Vec<u32>) {
        let [batch, fresh, deferred] = ready.queues().map(|queue| {
            let slots = queue.iter().map(|id| id.slot);
            slots.collect::<Vec<u32>>()
        });
        assert_eq!(batch, [0; 0], "no turn is under way");
        (fresh, deferred)
    }

    #[test]
    fn report_queues_a_connection_once_and_is_remembered_each_time() {
        let (mut ready, mut one, mut other) = (ReadyQueues::default(), at_rest(1), at_rest(2));
        ready.record(&mut one, Readiness::READABLE);
        ready.record(&mut other, Readiness::READABLE);
        ready.record(&mut one, Readiness::WRITABLE);
        assert_eq!(queues(&ready), (vec![1, 2], vec![]));
        assert_eq!(one.exchange.readiness(), Readiness::READABLE | Readiness::WRITABLE);
        assert_eq!((ready.take_fresh(), ready.is_empty()), (None, false));
        ready.begin_batch();
        assert_eq!(ready.take_fresh(), Some(one.id()));
        assert!(!ready.is_empty());
        assert_eq!(ready.take_fresh(), Some(other.id()));
        assert_eq!((ready.take_fresh(), ready.is_empty()), (None, true));
    }

    #[test]
    fn connection_that_can_go_on_is_queued_by_what_stopped_it() {
        let can_fill = |connection: &mut Connection<()>| {
            connection.stream.exchange.set_readiness(Readiness::READABLE);
        };
        let can_flush = |connection: &mut Connection<()>| {
            connection.stream.exchange.set_readiness(Readiness::WRITABLE);
            connection.send(b"unsent");
        };
        type Prepare<'p> = &'p dyn Fn(&mut Connection<()>);
        let ways: [Prepare; 2] = [&can_fill, &can_flush];
        for prepare in ways {
            for (yielded, expected) in [(false, (vec![1], vec![])), (true, (vec![], vec![1]))] {
                let (mut ready, mut connection) = (ReadyQueues::default(), at_rest(1));
                ready.requeue(&mut connection);
                assert!(ready.is_empty(), "it waits for the kernel");
                prepare(&mut connection);
                connection.stream.standing.yielded = yielded;
                ready.requeue(&mut connection);
                ready.requeue(&mut connection);
                assert_eq!(queues(&ready), expected);
                assert!(!ready.is_empty());
            }
        }
    }

    #[test]
    fn deferred_one_with_a_pending_event_moves_forward_alone() {
        let mut ready = ReadyQueues::default();
        let mut connections = [at_rest(1), at_rest(2), at_rest(3)];
        for connection in &mut connections {
            connection.stream.exchange.set_readiness(Readiness::READABLE);
            connection.stream.standing.yielded = true;
            ready.requeue(connection);
        }
        let [one, two, _] = &mut connections;
        ready.choose_deferred(|_| true);
        two.exchange.program_deadline_passed();
        ready.requeue(two);
        ready.requeue(two);
        assert_eq!(queues(&ready), (vec![2], vec![1, 3]));
        assert_eq!(ready.take_deferred(), Some(one.id()));
        assert_eq!(queues(&ready), (vec![2], vec![3]));
    }

    #[test]
    fn chosen_deferred_one_that_moved_forward_is_served_there_alone() {
        let mut ready = ReadyQueues::default();
        let mut connection = deferred(1);
        ready.requeue(&mut connection);
        ready.choose_deferred(|_| true);
        connection.exchange.program_deadline_passed();
        ready.requeue(&mut connection);
        ready.begin_batch();
        assert_eq!(ready.take_fresh(), Some(connection.id()));
        connection.exchange.delivered(Pending::Deadline);
        connection.stream.standing.queued = Queued::No;
        ready.requeue(&mut connection);
        assert_eq!(queues(&ready), (vec![], vec![1]));
        assert_eq!(ready.take_deferred(), None, "it was served in this turn");
        ready.choose_deferred(|_| true);
        assert_eq!(ready.take_deferred(), Some(connection.id()));
    }

    /// Serves the deferred connection of a turn, which can go on.
    fn serve_deferred(ready: &mut ReadyQueues, connections: &mut [Connection<()>]) -> u32 {
        ready.choose_deferred(|_| true);
        ready.begin_batch();
        let id = ready.take_deferred().expect("somebody is deferred");
        let connection = connections.iter_mut().find(|connection| connection.id() == id);
        let connection = connection.expect("it is one of them");
        connection.stream.standing.queued = Queued::No;
        ready.requeue(connection);
        id.slot
    }

    fn deferred(slot: u32) -> Connection<()> {
        let mut connection = at_rest(slot);
        connection.stream.exchange.set_readiness(Readiness::READABLE);
        connection.stream.standing.yielded = true;
        connection
    }

    #[test]
    fn deferred_one_that_can_go_on_has_its_turns_in_a_row_and_then_the_next() {
        let mut ready = ReadyQueues::default();
        let mut connections = [deferred(1), deferred(2), deferred(3)];
        connections.iter_mut().for_each(|connection| ready.requeue(connection));
        let served = (0..26).map(|_| serve_deferred(&mut ready, &mut connections));
        let served: Vec<u32> = served.collect();
        let rows: Vec<(u32, usize)> =
            served.chunk_by(|one, next| one == next).map(|row| (row[0], row.len())).collect();
        assert_eq!(rows, [(1, 8), (2, 8), (3, 8), (1, 2)]);
    }

    #[test]
    fn deferred_one_alone_goes_on_and_who_comes_then_waits_for_its_row_at_most() {
        for alone in 1..20 {
            let mut ready = ReadyQueues::default();
            let mut connections = [deferred(1), deferred(2)];
            ready.requeue(&mut connections[0]);
            for _ in 0..alone {
                assert_eq!(serve_deferred(&mut ready, &mut connections), 1);
            }
            ready.requeue(&mut connections[1]);
            let waits = (0..20).take_while(|_| serve_deferred(&mut ready, &mut connections) == 1);
            assert!(waits.count() <= 8);
        }
    }

    #[test]
    fn deferred_one_that_could_not_go_on_stands_behind_the_others_when_it_comes_again() {
        let mut ready = ReadyQueues::default();
        let mut connections = [deferred(1), deferred(2)];
        connections.iter_mut().for_each(|connection| ready.requeue(connection));
        connections[0].exchange.set_readiness(Readiness::default());
        assert_eq!(serve_deferred(&mut ready, &mut connections), 1);
        // It stops early again in the next turn, before anybody is served in that.
        ready.choose_deferred(|_| true);
        connections[0].exchange.set_readiness(Readiness::READABLE);
        ready.requeue(&mut connections[0]);
        assert_eq!(queues(&ready), (vec![], vec![2, 1]));
        assert_eq!(ready.take_deferred(), Some(connections[1].id()));
    }

    #[test]
    fn who_is_fresh_while_a_batch_is_taken_waits_for_the_next() {
        let (mut ready, mut one, mut other) = (ReadyQueues::default(), at_rest(1), at_rest(2));
        ready.record(&mut one, Readiness::READABLE);
        ready.begin_batch();
        ready.record(&mut other, Readiness::READABLE);
        assert_eq!((ready.times(one.id()), ready.times(other.id())), (1, 1));
        assert_eq!((ready.take_fresh(), ready.take_fresh()), (Some(one.id()), None));
        assert!(!ready.is_empty());
        ready.begin_batch();
        assert_eq!((ready.take_fresh(), ready.take_fresh()), (Some(other.id()), None));
        assert!(ready.is_empty());
    }

    #[test]
    fn deferred_ones_that_have_gone_cost_no_turn() {
        let mut ready = ReadyQueues::default();
        let mut connections = [deferred(1), deferred(2), deferred(3), deferred(4)];
        connections.iter_mut().for_each(|connection| ready.requeue(connection));
        let [_, _, three, _] = &connections;
        ready.choose_deferred(|id| id == three.id());
        assert_eq!(ready.take_deferred(), Some(three.id()));
        ready.choose_deferred(|_| false);
        assert_eq!((ready.take_deferred(), ready.is_empty()), (None, true));
    }

    #[test]
    fn deferred_ones_that_move_forward_together_cost_one_step_each() {
        let steps_of = |count: u32| {
            let mut ready = ReadyQueues::default();
            let mut connections: Vec<_> = (0..count).map(deferred).collect();
            connections.iter_mut().for_each(|connection| ready.requeue(connection));
            let steps = cost::steps_of(|| {
                for connection in &mut connections {
                    connection.exchange.program_deadline_passed();
                    ready.requeue(connection);
                }
            });
            assert_eq!(queues(&ready), ((0..count).collect(), vec![]));
            steps
        };
        assert_eq!((steps_of(1_000), steps_of(8_000)), (1_000, 8_000));
    }

    #[test]
    fn nobody_is_deferred_takes_nobody() {
        let mut ready = ReadyQueues::default();
        ready.choose_deferred(|_| true);
        assert_eq!(ready.take_deferred(), None);
    }
}
