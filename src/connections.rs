//! All connections of a loop: the slab, and the list of dirty ones.
//!
//! A connection is dirty while the program may have changed it: it was lent mutably, or its event
//! was delivered. The loop settles exactly the dirty ones. The couplings are kept here too, beside
//! the connections, because few connections are coupled to others.
//!
//! Invariant: the connection in a slot has the id of that slot. A program could break this by
//! swapping two connections that it borrowed; that is caught when they are settled.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;

use slab::Slab;

use crate::connection::{Connection, Readers, Stream};
use crate::cost;
use crate::exchange::Coupling;
use crate::slots::{ConnectionId, Generations};

/// The memory reserved for slots at once, in bytes: room for some 4,000 connections without data,
/// so that for usual numbers growing leaves no unused heap behind.
const RESERVED: usize = 512 * 1024;

/// Maximum number of slots that are checked at once.
const CHECKED_AT_ONCE: usize = 64;

/// A connection to settle, and how many bytes were unsent when it was lent to the program.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dirty {
    pub(crate) slot: u32,
    pub(crate) unsent: usize,
}

/// The newest connection at some moment, by its generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Newest(u32);

impl Newest {
    /// Returns whether a connection was made no later.
    pub(crate) fn is_as_new_as(self, id: ConnectionId) -> bool {
        // Generations wrap around, but not while a recent one is in use.
        self.0.wrapping_sub(id.generation.get()) < 1 << 31
    }
}

pub(crate) struct Connections<T> {
    slots: Slab<Connection<T>>,
    generations: Generations,
    dirty: Vec<Dirty>,
    /// The connection whose `Closed` is being handled: it still exists, but is not counted.
    closed: Option<u32>,
    writer_of: BTreeMap<ConnectionId, ConnectionId>,
    readers_of: BTreeSet<(ConnectionId, ConnectionId)>,
    /// The slot at which the next check begins.
    checked: usize,
}

impl<T> Connections<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::with_capacity(RESERVED / size_of::<Connection<T>>()),
            generations: Generations::default(),
            dirty: Vec::new(),
            closed: None,
            writer_of: BTreeMap::new(),
            readers_of: BTreeSet::new(),
            checked: 0,
        }
    }

    /// Returns whether there is no connection, not even one whose `Closed` is being handled.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns which connection was made last.
    pub(crate) fn newest(&self) -> Newest {
        Newest(self.generations.last())
    }

    /// Returns how many slots are in use, including that of a connection whose `Closed` is being
    /// handled.
    pub(crate) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether a `Closed` is being handled; its connection is freed afterwards.
    pub(crate) fn is_any_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(crate) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Adds a connection with the stream that `make` creates for its id.
    pub(crate) fn insert(
        &mut self,
        data: T,
        make: impl FnOnce(ConnectionId) -> Stream,
    ) -> ConnectionId {
        let entry = self.slots.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("descriptors number below 2^32");
        let id = ConnectionId { slot, generation: self.generations.next() };
        entry.insert(Connection { data, stream: make(id) });
        id
    }

    /// Removes a connection and its couplings.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Connection<T>> {
        let connection = self.slots.try_remove(slot as usize)?;
        let id = connection.id();
        self.uncouple(id);
        for reader in self.readers(id).collect::<Vec<_>>() {
            self.uncouple(reader);
        }
        Some(connection)
    }

    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Connection<T>> {
        self.slots.get_mut(slot as usize)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection<T>> {
        let connection = self.slots.get(id.slot as usize)?;
        (connection.id().generation == id.generation).then_some(connection)
    }

    /// Returns the connection that an id names, unless it has closed. It is in the id's slot or
    /// nowhere, so comparing generations is enough.
    #[inline]
    pub(crate) fn at_id(&mut self, id: ConnectionId) -> Option<&mut Connection<T>> {
        let connection = self.slots.get_mut(id.slot as usize)?;
        (connection.id().generation == id.generation).then_some(connection)
    }

    /// Lends a connection to the program, to be settled afterwards.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<T>> {
        let connection = self.slots.get_mut(id.slot as usize)?;
        let is_it = connection.id().generation == id.generation;
        is_it.then(|| lent(&mut self.dirty, connection))
    }

    /// Lends two connections at once.
    pub(crate) fn get_two_mut(
        &mut self,
        one: ConnectionId,
        other: ConnectionId,
    ) -> Option<(&mut Connection<T>, &mut Connection<T>)> {
        self.get(one)?;
        self.get(other)?;
        self.lend(one.slot);
        self.lend(other.slot);
        self.slots.get2_mut(one.slot as usize, other.slot as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection<T>> {
        let closed = self.closed.map(|slot| slot as usize);
        self.slots
            .iter()
            .filter(move |(slot, _)| Some(*slot) != closed)
            .map(|(_, connection)| connection)
    }

    /// Returns all connections, to change them before they are dropped.
    pub(crate) fn all_mut(&mut self) -> impl Iterator<Item = &mut Connection<T>> {
        self.slots.iter_mut().map(|(_, connection)| connection)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection<T>> {
        let closed = self.closed.map(|slot| slot as usize);
        let dirty = &mut self.dirty;
        let open = self.slots.iter_mut().filter(move |(slot, _)| Some(*slot) != closed);
        open.map(|(_, connection)| lent(dirty, connection))
    }

    /// Checks a bounded number of connections and continues from there the next time, so that all
    /// are checked eventually.
    pub(crate) fn check_some(&mut self, check: fn(&Stream)) {
        for slot in self.checked..self.checked + CHECKED_AT_ONCE {
            if let Some(connection) = self.slots.get(slot) {
                check(&connection.stream);
            }
        }
        self.checked += CHECKED_AT_ONCE;
        if self.checked >= self.slots.capacity() {
            self.checked = 0;
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - usize::from(self.closed.is_some())
    }

    /// Lends the connection in a slot, to be settled before anything else happens.
    pub(crate) fn lend(&mut self, slot: u32) -> Option<&mut Connection<T>> {
        let connection = self.slots.get_mut(slot as usize)?;
        Some(lent(&mut self.dirty, connection))
    }

    /// Removes the next connection from the list of dirty ones. Its slot may be vacant by now.
    #[inline]
    pub(crate) fn take_dirty(&mut self) -> Option<Dirty> {
        self.dirty.pop()
    }

    /// Treats the connection as closed from now on, until [`Connections::take_closed`].
    pub(crate) fn set_closed(&mut self, slot: u32) {
        self.closed = Some(slot);
    }

    pub(crate) fn take_closed(&mut self) -> Option<u32> {
        self.closed.take()
    }

    /// Couples `reader` to `writer`, if both exist.
    pub(crate) fn couple(&mut self, reader: ConnectionId, writer: ConnectionId) {
        let Some(has_unsent) = self.get(writer).map(|connection| connection.unsent() > 0) else {
            return;
        };
        if self.get(reader).is_none_or(|connection| connection.exchange.is_ending()) {
            return;
        }
        self.uncouple(reader);
        if reader == writer {
            return self.set_coupling(reader, Coupling::Itself);
        }
        // All readers know the same, so they are updated only when it changes.
        self.inform_readers(writer, has_unsent);
        self.writer_of.insert(reader, writer);
        self.readers_of.insert((writer, reader));
        self.set_readers(writer, Readers::of(has_unsent));
        self.set_coupling(reader, Coupling::Writer { has_unsent });
    }

    pub(crate) fn uncouple(&mut self, reader: ConnectionId) {
        if let Some(writer) = self.writer_of.remove(&reader) {
            self.readers_of.remove(&(writer, reader));
            if self.readers(writer).next().is_none() {
                self.set_readers(writer, Readers::None);
            }
        }
        self.set_coupling(reader, Coupling::None);
    }

    /// Returns whether a connection is quiet, and all that are coupled to it: what they still
    /// receive may have to leave through it.
    pub(crate) fn is_quiet(&self, id: ConnectionId) -> bool {
        let is_read_out =
            |id: ConnectionId| self.get(id).is_none_or(|reader| reader.exchange.is_read_out());
        self.get(id).is_some_and(|connection| {
            let has_readers = connection.stream.standing.readers != Readers::None;
            connection.exchange.is_quiet() && (!has_readers || self.readers(id).all(is_read_out))
        })
    }

    /// Returns the other connection that `reader` is coupled to, if there is one.
    pub(crate) fn writer_of(&self, reader: ConnectionId) -> Option<ConnectionId> {
        self.writer_of.get(&reader).copied()
    }

    /// Passes on to the connections that are coupled to `writer` whether it has unsent bytes, if
    /// that has changed.
    pub(crate) fn inform_readers(&mut self, writer: ConnectionId, has_unsent: bool) {
        let Some(connection) = self.at_id(writer) else { return };
        if connection.stream.standing.readers != Readers::of(!has_unsent) {
            return;
        }
        connection.stream.standing.readers = Readers::of(has_unsent);
        for reader in self.readers(writer).collect::<Vec<_>>() {
            self.set_coupling(reader, Coupling::Writer { has_unsent });
        }
    }

    fn set_coupling(&mut self, reader: ConnectionId, coupling: Coupling) {
        if let Some(connection) = self.get_mut(reader) {
            connection.stream.exchange.set_coupling(coupling);
        }
    }

    fn set_readers(&mut self, writer: ConnectionId, readers: Readers) {
        // A connection that had waited only for its reader may close now.
        if let Some(connection) = self.get_mut(writer) {
            connection.stream.standing.readers = readers;
        }
    }

    fn readers(&self, writer: ConnectionId) -> impl Iterator<Item = ConnectionId> {
        let last = ConnectionId { slot: u32::MAX, generation: NonZero::<u32>::MAX };
        let first = ConnectionId { slot: 0, generation: NonZero::<u32>::MIN };
        let of_writer = self.readers_of.range((writer, first)..=(writer, last));
        of_writer.map(|(_, reader)| *reader).inspect(|_| cost::step())
    }
}

/// Returns a connection that is lent to the program, and marks it as dirty.
fn lent<'c, T>(dirty: &mut Vec<Dirty>, connection: &'c mut Connection<T>) -> &'c mut Connection<T> {
    let stream = &mut connection.stream;
    if !stream.standing.dirty {
        stream.standing.dirty = true;
        dirty.push(Dirty { slot: stream.id().slot, unsent: stream.unsent() });
    }
    connection
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::connection::Origin;
    use crate::exchange::Exchange;

    impl<T> Connections<T> {
        /// All slots, that of the one whose `Closed` is being handled too.
        pub(crate) fn all(&self) -> impl Iterator<Item = &Connection<T>> {
            self.slots.iter().map(|(_, connection)| connection)
        }

        /// Which slots are to be settled and which is closed, and which is used next.
        pub(crate) fn order(&self) -> (Vec<u32>, Option<u32>, usize) {
            let dirty = self.dirty.iter().map(|dirty| dirty.slot).collect();
            (dirty, self.closed, self.slots.vacant_key())
        }
    }

    /// So many connections, without sockets, in the slots from 0 on.
    fn with(count: usize) -> (Connections<usize>, Vec<ConnectionId>) {
        let mut connections = Connections::new();
        let ids = (0..count).map(|data| insert(&mut connections, data)).collect();
        (connections, ids)
    }

    fn insert(connections: &mut Connections<usize>, data: usize) -> ConnectionId {
        let peer = Origin::connected(([127, 0, 0, 1], 80).into());
        let exchange = Exchange::accepted(Arc::default());
        connections.insert(data, |id| Stream::new(id, peer, None, exchange))
    }

    fn dirty(connections: &mut Connections<usize>) -> Vec<u32> {
        let next = || {
            let slot = connections.take_dirty()?.slot;
            if let Some(connection) = connections.at(slot) {
                connection.stream.standing.dirty = false;
            }
            Some(slot)
        };
        let mut slots: Vec<u32> = std::iter::from_fn(next).collect();
        slots.sort_unstable();
        slots
    }

    fn coupling(connections: &Connections<usize>, id: ConnectionId) -> Coupling {
        connections.get(id).unwrap().exchange.coupling()
    }

    #[test]
    fn slot_with_a_new_owner_is_not_found_by_the_id_of_the_old() {
        let (mut connections, ids) = with(2);
        assert_eq!(connections.remove(0).unwrap().data, 0);
        let new = insert(&mut connections, 7);
        assert_eq!((new.slot, new == ids[0]), (0, false));
        assert!(connections.get(ids[0]).is_none() && connections.get_mut(ids[0]).is_none());
        assert!(connections.get_two_mut(ids[0], ids[1]).is_none());
        assert!(connections.get_two_mut(ids[1], ids[0]).is_none());
        assert_eq!(connections.get(new).unwrap().data, 7);
        assert_eq!(dirty(&mut connections), [0; 0]);
    }

    #[test]
    fn what_is_lent_is_settled_once_and_what_is_only_looked_at_is_not() {
        let (mut connections, ids) = with(4);
        assert!(connections.get(ids[0]).is_some());
        assert_eq!(connections.iter().count(), 4);
        assert_eq!(dirty(&mut connections), [0; 0]);
        for _ in 0..2 {
            let (one, other) = connections.get_two_mut(ids[3], ids[1]).unwrap();
            assert_eq!((one.data, other.data), (3, 1));
        }
        assert_eq!(dirty(&mut connections), [1, 3]);
        assert_eq!(connections.iter_mut().take(3).count(), 3);
        assert_eq!(dirty(&mut connections), [0, 1, 2]);
    }

    #[test]
    fn connection_whose_closed_is_handled_is_found_but_not_counted() {
        let (mut connections, ids) = with(3);
        connections.set_closed(1);
        assert_eq!(connections.len(), 2);
        assert!(connections.iter().map(|connection| connection.data).eq([0, 2]));
        assert!(connections.iter_mut().map(|connection| connection.data).eq([0, 2]));
        assert!(connections.get_mut(ids[1]).is_some());
        assert_eq!(connections.take_closed(), Some(1));
        assert_eq!((connections.len(), connections.take_closed()), (3, None));
    }

    #[test]
    fn reader_is_coupled_it_knows_at_once_whether_the_writer_has_unsent_bytes() {
        let (mut connections, ids) = with(3);
        connections.get_mut(ids[2]).unwrap().send(b"unsent");
        for (writer, has_unsent) in [(ids[1], false), (ids[2], true)] {
            connections.couple(ids[0], writer);
            assert_eq!(coupling(&connections, ids[0]), Coupling::Writer { has_unsent });
        }
        connections.couple(ids[0], ids[0]);
        assert_eq!(coupling(&connections, ids[0]), Coupling::Itself);
    }

    #[test]
    fn reader_is_coupled_to_another_the_writer_before_has_no_reader_left() {
        let (mut connections, ids) = with(4);
        let has_readers = |connections: &Connections<usize>| {
            ids.iter()
                .map(|id| connections.get(*id).unwrap().standing.readers != Readers::None)
                .collect::<Vec<_>>()
        };
        connections.couple(ids[0], ids[1]);
        connections.couple(ids[2], ids[1]);
        assert_eq!(has_readers(&connections), [false, true, false, false]);
        connections.couple(ids[0], ids[3]);
        assert_eq!(has_readers(&connections), [false, true, false, true]);
        connections.uncouple(ids[2]);
        assert_eq!(has_readers(&connections), [false, false, false, true]);
        assert_eq!(coupling(&connections, ids[2]), Coupling::None);
        assert_eq!(connections.writer_of(ids[0]), Some(ids[3]));
    }

    #[test]
    fn writer_informs_its_own_readers_alone_and_only_of_changes() {
        let (mut connections, ids) = with(5);
        for (reader, writer) in [(0, 1), (2, 1), (3, 4)] {
            connections.couple(ids[reader], ids[writer]);
        }
        dirty(&mut connections);
        connections.inform_readers(ids[1], true);
        assert_eq!(dirty(&mut connections), [0, 2]);
        for (reader, has_unsent) in [(0, true), (2, true), (3, false)] {
            assert_eq!(coupling(&connections, ids[reader]), Coupling::Writer { has_unsent });
        }
        connections.inform_readers(ids[1], true);
        assert_eq!(dirty(&mut connections), [0; 0]);
    }

    /// Returns the steps that it takes to couple `count` readers to one writer, to inform all of
    /// them twice of a change and often of none, and to remove them.
    fn steps_with(readers: usize) -> u64 {
        let (mut connections, ids) = with(readers + 1);
        let (writer, readers) = ids.split_first().unwrap();
        cost::steps_of(|| {
            for reader in readers {
                connections.couple(*reader, *writer);
            }
            for has_unsent in [true, false] {
                for _ in readers {
                    connections.inform_readers(*writer, has_unsent);
                }
            }
            for reader in readers.iter().rev() {
                connections.remove(reader.slot);
            }
            connections.remove(writer.slot);
        })
    }

    #[test]
    fn cost_of_readers_is_linear_in_their_number() {
        let (few, many) = (steps_with(1_000), steps_with(8_000));
        assert!(few >= 2_000, "{few} steps were counted");
        assert!(many <= 9 * few, "{many} steps for 8,000, {few} for 1,000");
    }

    #[test]
    fn writer_removed_before_its_many_readers_costs_a_step_for_each() {
        let (mut connections, ids) = with(1_001);
        for reader in &ids[1..] {
            connections.couple(*reader, ids[0]);
        }
        let steps = cost::steps_of(|| assert!(connections.remove(0).is_some()));
        assert!(steps <= 3_000, "{steps} steps for 1,000 readers");
        assert!(connections.readers_of.is_empty() && connections.writer_of.is_empty());
    }

    #[test]
    fn memory_reserved_at_once_does_not_grow_with_the_data_of_the_program() {
        let small = Connections::<()>::new().slots.capacity();
        assert!((2_000..8_000).contains(&small), "{small} slots");
        assert_eq!(Connections::<[u8; 1 << 20]>::new().slots.capacity(), 0);
    }

    #[test]
    fn writer_has_gone_its_readers_are_coupled_to_nobody() {
        let (mut connections, ids) = with(3);
        connections.couple(ids[0], ids[1]);
        connections.couple(ids[1], ids[2]);
        connections.remove(1);
        assert_eq!(coupling(&connections, ids[0]), Coupling::None);
        assert_eq!(connections.get(ids[2]).unwrap().standing.readers, Readers::None);
        assert!(connections.writer_of.is_empty() && connections.readers_of.is_empty());
    }
}
