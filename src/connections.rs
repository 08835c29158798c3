//! All connections of a loop: the slab, from ids to slots, and which of them the program touched.
//!
//! A connection is touched when the program gets it to change: when its event is delivered, and
//! when it is lent mutably. The loop settles just those. Who is coupled to whom is kept here too,
//! beside the connections rather than in them, because few are coupled to others.
//!
//! Invariant: the connection in a slot has the id of that slot. A program could break this by
//! swapping two that it borrowed; that is caught when they are settled.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;

use slab::Slab;

use crate::connection::Connection;
use crate::event::ConnectionId;
use crate::exchange::Coupling;
use crate::slots::Generations;

/// Slots made at once, so that growing leaves no dead heap behind for a usual number.
const SLOTS: usize = 4096;

/// A connection to settle, and how much it had unsent when the program got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Touched {
    pub(crate) slot: u32,
    pub(crate) unsent: usize,
}

pub(crate) struct Connections<T> {
    slots: Slab<Connection<T>>,
    generations: Generations,
    touched: Vec<Touched>,
    /// Whose `Closed` is being handled: still there, but no longer counted.
    closed: Option<u32>,
    writer_of: BTreeMap<ConnectionId, ConnectionId>,
    readers_of: BTreeSet<(ConnectionId, ConnectionId)>,
}

impl<T> Connections<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::with_capacity(SLOTS),
            generations: Generations::default(),
            touched: Vec::new(),
            closed: None,
            writer_of: BTreeMap::new(),
            readers_of: BTreeSet::new(),
        }
    }

    /// Whether there is no connection, not even one whose `Closed` is being handled.
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Whether the `Closed` of one is being handled, which is freed afterwards.
    pub(crate) fn is_any_closed(&self) -> bool {
        self.closed.is_some()
    }

    pub(crate) fn has_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// Puts in the connection that `make` makes for its id.
    pub(crate) fn insert(
        &mut self,
        make: impl FnOnce(ConnectionId) -> Connection<T>,
    ) -> ConnectionId {
        let entry = self.slots.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("descriptors number below 2^32");
        let id = ConnectionId { slot, generation: self.generations.next() };
        entry.insert(make(id));
        id
    }

    /// Takes a connection out, with all that others remember of it.
    pub(crate) fn remove(&mut self, slot: u32) -> Option<Connection<T>> {
        let connection = self.slots.try_remove(slot as usize)?;
        let id = connection.id();
        self.uncouple(id);
        for reader in self.readers(id) {
            self.uncouple(reader);
        }
        Some(connection)
    }

    pub(crate) fn at(&mut self, slot: u32) -> Option<&mut Connection<T>> {
        self.slots.get_mut(slot as usize)
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<&Connection<T>> {
        self.slots.get(id.slot as usize).filter(|connection| connection.id() == id)
    }

    /// Lends a connection to the program, to be settled afterwards.
    pub(crate) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection<T>> {
        let connection = self.slots.get_mut(id.slot as usize)?;
        if connection.id() != id {
            return None;
        }
        note_touched(&mut self.touched, connection);
        Some(connection)
    }

    /// Lends two connections at once.
    pub(crate) fn get_two_mut(
        &mut self,
        one: ConnectionId,
        other: ConnectionId,
    ) -> Option<(&mut Connection<T>, &mut Connection<T>)> {
        self.get(one)?;
        self.get(other)?;
        self.touch(one.slot);
        self.touch(other.slot);
        self.slots.get2_mut(one.slot as usize, other.slot as usize)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Connection<T>> {
        let closed = self.closed.map(|slot| slot as usize);
        self.slots
            .iter()
            .filter(move |(slot, _)| Some(*slot) != closed)
            .map(|(_, connection)| connection)
    }

    /// All slots, that of the one whose `Closed` is being handled too.
    #[cfg(test)]
    pub(crate) fn all(&self) -> impl Iterator<Item = &Connection<T>> {
        self.slots.iter().map(|(_, connection)| connection)
    }

    /// Which slots are to be settled and which is closed, and which is used next.
    #[cfg(test)]
    pub(crate) fn order(&self) -> (Vec<u32>, Option<u32>, usize) {
        let touched = self.touched.iter().map(|touched| touched.slot).collect();
        (touched, self.closed, self.slots.vacant_key())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection<T>> {
        let closed = self.closed.map(|slot| slot as usize);
        let touched = &mut self.touched;
        let open = self.slots.iter_mut().filter(move |(slot, _)| Some(*slot) != closed);
        open.map(|(_, connection)| {
            note_touched(touched, connection);
            connection
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len() - usize::from(self.closed.is_some())
    }

    /// Has a connection settled before anything else happens.
    pub(crate) fn touch(&mut self, slot: u32) -> Option<&mut Connection<T>> {
        let connection = self.slots.get_mut(slot as usize)?;
        note_touched(&mut self.touched, connection);
        Some(connection)
    }

    pub(crate) fn take_touched(&mut self) -> Option<Touched> {
        self.touched.pop()
    }

    /// From now on the connection is handled as closed, until [`Connections::take_closed`].
    pub(crate) fn set_closed(&mut self, slot: u32) {
        self.closed = Some(slot);
    }

    pub(crate) fn take_closed(&mut self) -> Option<u32> {
        self.closed.take()
    }

    /// Has `reader` read only while `writer` has nothing unsent, if both are there.
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
        self.writer_of.insert(reader, writer);
        self.readers_of.insert((writer, reader));
        self.set_has_readers(writer);
        self.set_coupling(reader, Coupling::Writer { has_unsent });
    }

    pub(crate) fn uncouple(&mut self, reader: ConnectionId) {
        if let Some(writer) = self.writer_of.remove(&reader) {
            self.readers_of.remove(&(writer, reader));
            self.set_has_readers(writer);
        }
        self.set_coupling(reader, Coupling::None);
    }

    /// Whether nothing is left to be done for a connection, nor for those that read for it: what
    /// they may still bring it is to leave by it.
    pub(crate) fn is_quiet(&self, id: ConnectionId) -> bool {
        let is_read_out =
            |id: ConnectionId| self.get(id).is_none_or(|reader| reader.exchange.is_read_out());
        self.get(id).is_some_and(|connection| {
            let has_readers = connection.stream.has_readers;
            connection.exchange.is_quiet()
                && (!has_readers || self.readers(id).into_iter().all(is_read_out))
        })
    }

    /// The other connection that `reader` is coupled to, if it is to one.
    pub(crate) fn writer_of(&self, reader: ConnectionId) -> Option<ConnectionId> {
        self.writer_of.get(&reader).copied()
    }

    /// Tells those who read for `writer` whether it has unsent bytes.
    pub(crate) fn tell_readers(&mut self, writer: ConnectionId, has_unsent: bool) {
        for reader in self.readers(writer) {
            let coupling = self.get(reader).map(|connection| connection.exchange.coupling());
            if coupling == Some(Coupling::Writer { has_unsent: !has_unsent }) {
                self.set_coupling(reader, Coupling::Writer { has_unsent });
            }
        }
    }

    fn set_coupling(&mut self, reader: ConnectionId, coupling: Coupling) {
        if let Some(connection) = self.get_mut(reader) {
            connection.stream.exchange.set_coupling(coupling);
        }
    }

    fn set_has_readers(&mut self, writer: ConnectionId) {
        let has_readers = !self.readers(writer).is_empty();
        // One that had waited for its reader only may close now.
        self.touch(writer.slot);
        if let Some(connection) = self.at(writer.slot) {
            connection.stream.has_readers = has_readers;
        }
    }

    fn readers(&self, writer: ConnectionId) -> Vec<ConnectionId> {
        let last = ConnectionId { slot: u32::MAX, generation: NonZero::<u32>::MAX };
        let first = ConnectionId { slot: 0, generation: NonZero::<u32>::MIN };
        let of_writer = self.readers_of.range((writer, first)..=(writer, last));
        of_writer.map(|(_, reader)| *reader).collect()
    }
}

fn note_touched<T>(touched: &mut Vec<Touched>, connection: &mut Connection<T>) {
    let stream = &mut connection.stream;
    if !stream.touched {
        stream.touched = true;
        touched.push(Touched { slot: stream.id().slot, unsent: stream.unsent() });
    }
}
