//! A state of a loop as a number, for a search through all states. Ids count by their slots, and
//! times by how far off they are.

use std::hash::{Hash, Hasher};

use crate::resources::AlarmTarget;
use crate::slots::ConnectionId;
use crate::turn::{Service, Stage, Turns};

impl<T> Turns<T> {
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        let now = self.resources.system.now();
        match self.stage {
            Stage::Over => 0.hash(hasher),
            Stage::Alarms(_) => 1.hash(hasher),
            Stage::Wake => 2.hash(hasher),
            Stage::Sources(left) => (3, left).hash(hasher),
            Stage::Fresh => 4.hash(hasher),
            Stage::Accepting { listeners, at_hand } => {
                let at_hand = at_hand.map(|(id, budget)| (id.slot, budget));
                (5, listeners, at_hand).hash(hasher);
            }
            Stage::Deferred => 6.hash(hasher),
            Stage::Last => 7.hash(hasher),
        }
        let is_there = |id: &ConnectionId| (id.slot, self.connections.get(*id).is_some());
        for queue in self.ready.queues() {
            queue.iter().map(is_there).collect::<Vec<_>>().hash(hasher);
        }
        self.ready.at_hand().map(|(id, turns)| (is_there(&id), turns)).hash(hasher);
        let service = self.service.map(|Service { slot, delivered, repeats }| {
            (slot, delivered.map(|delivered| delivered.last), repeats)
        });
        (
            service,
            self.kept.is_some(),
            self.announced.is_some(),
            self.is_woken,
            self.shutdown.is_under_way(),
        )
            .hash(hasher);
        (self.connections.order(), self.listeners.states()).hash(hasher);
        for (at, called) in self.resources.alarms.all() {
            let called = match called {
                AlarmTarget::Connection(id) => (0, is_there(id)),
                AlarmTarget::Listener(id) => (1, (id.slot, true)),
                AlarmTarget::Timer(id) => (2, (id.slot, true)),
                AlarmTarget::Shutdown => (3, (0, true)),
            };
            (at.saturating_duration_since(now), called).hash(hasher);
        }
        for connection in self.connections.all() {
            let stream = &connection.stream;
            let standing = &stream.standing;
            let is_of_turn = standing.flushed_in == self.resources.turn;
            let flushed = if is_of_turn { standing.flushed } else { 0 };
            let writer = self.connections.writer_of(stream.id()).map(|id| id.slot);
            (stream.id().slot, standing.interest, standing.queued as u8, standing.dirty)
                .hash(hasher);
            (standing.yielded, flushed, standing.readers as u8, writer).hash(hasher);
            stream.exchange.fingerprint(hasher);
            let next = stream.deadlines.as_ref();
            let next = next.and_then(|deadlines| deadlines.next(stream.exchange.limits()));
            next.map(|(at, _)| at.saturating_duration_since(now)).hash(hasher);
        }
    }
}
