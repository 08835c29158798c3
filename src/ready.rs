//! The two queues of connections that are ready, from which a turn takes whom it serves.
//!
//! - `fresh`: what the last wait brought, and what a resume or an owed event made ready. A turn
//!   serves all that were there when it began.
//! - `left_over`: those that stopped early, at a budget or a full buffer. One is served in each
//!   turn, so that a small talker waits for one bulk stream at most, not for all of them. It is the
//!   same one for [`TURNS_IN_A_ROW`] if it can go on, since what its socket holds lies in the
//!   caches; then the next.
//!
//! A connection stands in one of them at most, and news from its peer does not move it forward; an
//! event that it owes does. Ids stand in the queues, so that one that has gone is skipped, and its
//! slot's next owner is not taken for it.

use std::collections::{BTreeMap, HashMap};

use crate::connection::{Connection, Queued};
use crate::event::ConnectionId;
use crate::interest::Readiness;
use crate::work;

/// In so many turns in a row, at most, the same left-over is served while others wait: 512 KiB of a
/// stream, with the default budget. Measured with four streams: with one turn each they move a
/// quarter fewer bytes, with four turns a tenth fewer, and with sixteen a tenth more. But who has a
/// message of more than a budget waits for the rows of all others, and so twice as long then.
pub(crate) const TURNS_IN_A_ROW: u32 = 8;

#[derive(Debug, Default)]
pub(crate) struct Ready {
    fresh: Vec<ConnectionId>,
    /// Those that were fresh when the turn came to them, and how many of them it has taken.
    batch: Vec<ConnectionId>,
    taken: usize,
    left_over: LeftOver,
    /// The left-over that this turn serves, and in how many turns in a row it was served. Nobody, if
    /// that one has moved forward.
    at_hand: Option<(ConnectionId, u32)>,
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
                self.left_over.remove(stream.id());
                self.at_hand.take_if(|(id, _)| *id == stream.id());
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
                Queued::Fresh => self.fresh.push(stream.id()),
                Queued::LeftOver => match self.at_hand {
                    Some((id, turns)) if id == stream.id() && turns < TURNS_IN_A_ROW => {
                        self.left_over.push_front(id);
                    }
                    _ => self.left_over.push_back(stream.id()),
                },
                Queued::No => {}
            }
        }
    }

    /// Has a turn take those that are fresh now. Who is fresh from here on is for the next turn.
    pub(crate) fn begin_batch(&mut self) {
        debug_assert!(self.taken == self.batch.len(), "a turn takes its whole batch");
        self.batch.clear();
        self.taken = 0;
        std::mem::swap(&mut self.batch, &mut self.fresh);
    }

    /// The next of the turn's batch.
    #[inline]
    pub(crate) fn take_fresh(&mut self) -> Option<ConnectionId> {
        let id = self.batch.get(self.taken).copied()?;
        self.taken += 1;
        Some(id)
    }

    /// Chooses the left-over that a turn will serve, when the turn begins: a budget is for a turn, so
    /// one that stops early in it waits for another. Who has gone meanwhile is passed over.
    #[inline]
    pub(crate) fn choose_left_over(&mut self, is_there: impl Fn(ConnectionId) -> bool) {
        if self.left_over.is_empty() {
            self.at_hand = None;
        } else {
            self.choose_among_left_overs(is_there);
        }
    }

    fn choose_among_left_overs(&mut self, is_there: impl Fn(ConnectionId) -> bool) {
        while self.left_over.front().is_some_and(|first| !is_there(first)) {
            self.left_over.pop_front();
        }
        let before = self.at_hand;
        self.at_hand = self.left_over.front().map(|first| match before {
            Some((id, turns)) if id == first && turns < TURNS_IN_A_ROW => (id, turns),
            _ => (first, 0),
        });
    }

    /// Takes the one that was chosen, once in a turn.
    pub(crate) fn take_left_over(&mut self) -> Option<ConnectionId> {
        let (id, turns) = self.at_hand.as_mut()?;
        let first = self.left_over.pop_front();
        debug_assert!(first == Some(*id), "nobody comes before the one that was chosen");
        *turns += 1;
        first
    }

    /// Who stands in the queues, from their fronts: in the batch, fresh, and left over.
    #[cfg(test)]
    pub(crate) fn queues(&self) -> [Vec<ConnectionId>; 3] {
        let left_over = self.left_over.places.values().copied().collect();
        [self.batch[self.taken..].to_vec(), self.fresh.clone(), left_over]
    }

    /// The left-over of this turn, and in how many turns in a row it was served.
    #[cfg(test)]
    pub(crate) fn at_hand(&self) -> Option<(ConnectionId, u32)> {
        self.at_hand
    }

    /// How many times a connection stands in the queues.
    #[cfg(test)]
    pub(crate) fn times(&self, id: ConnectionId) -> usize {
        self.queues().iter().flatten().filter(|queued| **queued == id).count()
    }

    /// Whether nobody waits to be served.
    pub(crate) fn is_empty(&self) -> bool {
        let is_batch_taken = self.taken == self.batch.len();
        is_batch_taken && self.fresh.is_empty() && self.left_over.is_empty()
    }
}

/// A queue from whose middle one can be taken without a search through the others.
#[derive(Debug, Default)]
struct LeftOver {
    /// In the order of their places.
    places: BTreeMap<i64, ConnectionId>,
    place_of: HashMap<ConnectionId, i64>,
}

impl LeftOver {
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
        self.place_of.insert(id, place);
    }

    fn pop_front(&mut self) -> Option<ConnectionId> {
        let (_, id) = self.places.pop_first()?;
        self.place_of.remove(&id);
        Some(id)
    }

    fn remove(&mut self, id: ConnectionId) {
        work::step();
        if let Some(place) = self.place_of.remove(&id) {
            self.places.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZero;
    use std::sync::Arc;

    use super::*;
    use crate::connection::Stream;
    use crate::exchange::Exchange;
    use crate::origin::Origin;
    use crate::owed::Owed;

    /// A connection without a socket that owes nothing and is ready for nothing.
    fn at_rest(slot: u32) -> Connection<()> {
        let id = ConnectionId { slot, generation: NonZero::<u32>::MIN };
        let mut exchange = Exchange::accepted(Arc::default());
        exchange.delivered(Owed::Accepted);
        exchange.readiness = Readiness::default();
        let peer = Origin::connected(([127, 0, 0, 1], 80).into());
        Connection::new((), Stream::new(id, peer, None, exchange))
    }

    /// What stands in the two queues.
    fn queues(ready: &Ready) -> (Vec<u32>, Vec<u32>) {
        let [batch, fresh, left_over] = ready.queues().map(|queue| {
            let slots = queue.iter().map(|id| id.slot);
            slots.collect::<Vec<u32>>()
        });
        assert_eq!(batch, [0; 0], "no turn is under way");
        (fresh, left_over)
    }

    #[test]
    fn news_queues_a_connection_once_and_is_remembered_each_time() {
        let (mut ready, mut one, mut other) = (Ready::default(), at_rest(1), at_rest(2));
        ready.fold(&mut one, Readiness::READABLE);
        ready.fold(&mut other, Readiness::READABLE);
        ready.fold(&mut one, Readiness::WRITABLE);
        assert_eq!(queues(&ready), (vec![1, 2], vec![]));
        assert_eq!(one.exchange.readiness, Readiness::READABLE | Readiness::WRITABLE);
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
            connection.exchange.readiness = Readiness::READABLE;
        };
        let can_flush = |connection: &mut Connection<()>| {
            connection.exchange.readiness = Readiness::WRITABLE;
            connection.send(b"unsent");
        };
        type Prepare<'p> = &'p dyn Fn(&mut Connection<()>);
        let ways: [Prepare; 2] = [&can_fill, &can_flush];
        for prepare in ways {
            for (stopped_early, expected) in [(false, (vec![1], vec![])), (true, (vec![], vec![1]))]
            {
                let (mut ready, mut connection) = (Ready::default(), at_rest(1));
                ready.requeue(&mut connection);
                assert!(ready.is_empty(), "it waits for the kernel");
                prepare(&mut connection);
                connection.stream.stopped_early = stopped_early;
                ready.requeue(&mut connection);
                ready.requeue(&mut connection);
                assert_eq!(queues(&ready), expected);
                assert!(!ready.is_empty());
            }
        }
    }

    #[test]
    fn left_over_that_owes_an_event_moves_forward_alone() {
        let mut ready = Ready::default();
        let mut connections = [at_rest(1), at_rest(2), at_rest(3)];
        for connection in &mut connections {
            connection.exchange.readiness = Readiness::READABLE;
            connection.stream.stopped_early = true;
            ready.requeue(connection);
        }
        let [one, two, _] = &mut connections;
        ready.choose_left_over(|_| true);
        two.exchange.tell_deadline();
        ready.requeue(two);
        ready.requeue(two);
        assert_eq!(queues(&ready), (vec![2], vec![1, 3]));
        assert_eq!(ready.take_left_over(), Some(one.id()));
        assert_eq!(queues(&ready), (vec![2], vec![3]));
    }

    #[test]
    fn chosen_left_over_that_moved_forward_is_served_there_alone() {
        let mut ready = Ready::default();
        let mut connection = left_over(1);
        ready.requeue(&mut connection);
        ready.choose_left_over(|_| true);
        connection.exchange.tell_deadline();
        ready.requeue(&mut connection);
        ready.begin_batch();
        assert_eq!(ready.take_fresh(), Some(connection.id()));
        connection.exchange.delivered(Owed::Deadline);
        connection.stream.queued = Queued::No;
        ready.requeue(&mut connection);
        assert_eq!(queues(&ready), (vec![], vec![1]));
        assert_eq!(ready.take_left_over(), None, "it was served in this turn");
        ready.choose_left_over(|_| true);
        assert_eq!(ready.take_left_over(), Some(connection.id()));
    }

    /// Serves the left-over of a turn, which can go on.
    fn serve_left_over(ready: &mut Ready, connections: &mut [Connection<()>]) -> u32 {
        ready.choose_left_over(|_| true);
        ready.begin_batch();
        let id = ready.take_left_over().expect("somebody is left over");
        let connection = connections.iter_mut().find(|connection| connection.id() == id);
        let connection = connection.expect("it is one of them");
        connection.stream.queued = Queued::No;
        ready.requeue(connection);
        id.slot
    }

    fn left_over(slot: u32) -> Connection<()> {
        let mut connection = at_rest(slot);
        connection.exchange.readiness = Readiness::READABLE;
        connection.stream.stopped_early = true;
        connection
    }

    #[test]
    fn left_over_that_can_go_on_has_its_turns_in_a_row_and_then_the_next() {
        let mut ready = Ready::default();
        let mut connections = [left_over(1), left_over(2), left_over(3)];
        connections.iter_mut().for_each(|connection| ready.requeue(connection));
        let served = (0..26).map(|_| serve_left_over(&mut ready, &mut connections));
        let served: Vec<u32> = served.collect();
        let rows: Vec<(u32, usize)> =
            served.chunk_by(|one, next| one == next).map(|row| (row[0], row.len())).collect();
        assert_eq!(rows, [(1, 8), (2, 8), (3, 8), (1, 2)]);
    }

    #[test]
    fn left_over_alone_goes_on_and_who_comes_then_waits_for_its_row_at_most() {
        for alone in 1..20 {
            let mut ready = Ready::default();
            let mut connections = [left_over(1), left_over(2)];
            ready.requeue(&mut connections[0]);
            for _ in 0..alone {
                assert_eq!(serve_left_over(&mut ready, &mut connections), 1);
            }
            ready.requeue(&mut connections[1]);
            let waits = (0..20).take_while(|_| serve_left_over(&mut ready, &mut connections) == 1);
            assert!(waits.count() <= 8);
        }
    }

    #[test]
    fn left_over_that_could_not_go_on_stands_behind_the_others_when_it_comes_again() {
        let mut ready = Ready::default();
        let mut connections = [left_over(1), left_over(2)];
        connections.iter_mut().for_each(|connection| ready.requeue(connection));
        connections[0].exchange.readiness = Readiness::default();
        assert_eq!(serve_left_over(&mut ready, &mut connections), 1);
        // It stops early again in the next turn, before anybody is served in that.
        ready.choose_left_over(|_| true);
        connections[0].exchange.readiness = Readiness::READABLE;
        ready.requeue(&mut connections[0]);
        assert_eq!(queues(&ready), (vec![], vec![2, 1]));
        assert_eq!(ready.take_left_over(), Some(connections[1].id()));
    }

    #[test]
    fn who_is_fresh_while_a_batch_is_taken_waits_for_the_next() {
        let (mut ready, mut one, mut other) = (Ready::default(), at_rest(1), at_rest(2));
        ready.fold(&mut one, Readiness::READABLE);
        ready.begin_batch();
        ready.fold(&mut other, Readiness::READABLE);
        assert_eq!((ready.times(one.id()), ready.times(other.id())), (1, 1));
        assert_eq!((ready.take_fresh(), ready.take_fresh()), (Some(one.id()), None));
        assert!(!ready.is_empty());
        ready.begin_batch();
        assert_eq!((ready.take_fresh(), ready.take_fresh()), (Some(other.id()), None));
        assert!(ready.is_empty());
    }

    #[test]
    fn left_overs_that_have_gone_cost_no_turn() {
        let mut ready = Ready::default();
        let mut connections = [left_over(1), left_over(2), left_over(3), left_over(4)];
        connections.iter_mut().for_each(|connection| ready.requeue(connection));
        let [_, _, three, _] = &connections;
        ready.choose_left_over(|id| id == three.id());
        assert_eq!(ready.take_left_over(), Some(three.id()));
        ready.choose_left_over(|_| false);
        assert_eq!((ready.take_left_over(), ready.is_empty()), (None, true));
    }

    #[test]
    fn left_overs_that_move_forward_together_cost_one_step_each() {
        let steps_of = |count: u32| {
            let mut ready = Ready::default();
            let mut connections: Vec<_> = (0..count).map(left_over).collect();
            connections.iter_mut().for_each(|connection| ready.requeue(connection));
            let steps = work::steps_of(|| {
                for connection in &mut connections {
                    connection.exchange.tell_deadline();
                    ready.requeue(connection);
                }
            });
            assert_eq!(queues(&ready), ((0..count).collect(), vec![]));
            steps
        };
        assert_eq!((steps_of(1_000), steps_of(8_000)), (1_000, 8_000));
    }

    #[test]
    fn nobody_was_left_over_takes_nobody() {
        let mut ready = Ready::default();
        ready.choose_left_over(|_| true);
        assert_eq!(ready.take_left_over(), None);
    }
}
