//! Listening sockets: accepting with a budget, and running out of descriptors.
//!
//! A listener's readiness is remembered like a connection's, because the kernel reports waiting
//! peers once. When accepting fails for a reason that is not one peer's own (most often no
//! descriptor is left) the listener pauses for a time that doubles, and is resumed at once when a
//! connection closes: the peers wait in the backlog meanwhile, and nothing spins.
//!
//! What it deliberately does not do: it makes no connection. It only yields sockets.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::time::Duration;

use slab::Slab;

use crate::alarms::Alarm;
use crate::event::{Event, Failure, ListenerId};
use crate::limits::Limits;
use crate::observer::Step;
use crate::system::{ListeningSocket, Socket};
use crate::tools::{Called, Tools};
use crate::transfer::Attempt;

/// Makes the program's state for a connection that was accepted.
pub(crate) type MakeData<T> = Box<dyn FnMut() -> T + Send>;

/// Whether a listener accepts now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Accepting {
    Open,
    /// The program paused it; it is not registered.
    Paused,
    /// It waits for a connection to close, and for the alarm if there is one.
    OutOfRoom(Option<Alarm>),
}

pub(crate) struct Listener<T> {
    pub(crate) id: ListenerId,
    pub(crate) socket: ListeningSocket,
    make_data: MakeData<T>,
    accepting: Accepting,
    /// How long the next failure pauses it; `None` since an accept has succeeded.
    next_pause: Option<Duration>,
    /// The kernel said that peers wait, and no accept has disproved it.
    ready: bool,
    queued: bool,
    /// The number of the accept that succeeded last.
    accepted_last: u64,
}

impl<T> Listener<T> {
    pub(crate) fn accepting(&self) -> Accepting {
        self.accepting
    }
}

/// What came of accepting once.
pub(crate) enum Accept<T> {
    /// A peer, with its address if that is one of IP, and the program's state for it.
    Peer { listener: ListenerId, socket: Socket, peer: Option<SocketAddr>, data: T },
    /// A peer that had gone; there may be another.
    Skipped,
    /// No more for now.
    Done,
    /// No more for now, and the program is to be told.
    Failed(Event),
}

/// All listeners of a loop, and those with peers that wait.
pub(crate) struct Listeners<T> {
    slots: Slab<Listener<T>>,
    ready: VecDeque<u32>,
    /// Those in [`Accepting::OutOfRoom`].
    out_of_room: Vec<u32>,
    /// How many were accepted in all, by which each listener knows when it accepted last.
    accepted: u64,
    last_generation: u32,
}

impl<T> Listeners<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab::new(),
            ready: VecDeque::new(),
            out_of_room: Vec::new(),
            accepted: 0,
            last_generation: 0,
        }
    }

    /// The id that the next listener will have.
    pub(crate) fn next_id(&mut self) -> ListenerId {
        self.last_generation = self.last_generation.wrapping_add(1).max(1);
        let slot = u32::try_from(self.slots.vacant_key()).expect("descriptors number below 2^32");
        let generation = NonZero::new(self.last_generation).unwrap_or(NonZero::<u32>::MIN);
        ListenerId { slot, generation }
    }

    pub(crate) fn insert(
        &mut self,
        id: ListenerId,
        socket: ListeningSocket,
        make_data: MakeData<T>,
    ) {
        let slot = self.slots.insert(Listener {
            id,
            socket,
            make_data,
            accepting: Accepting::Open,
            next_pause: None,
            ready: false,
            queued: false,
            accepted_last: 0,
        });
        debug_assert_eq!(slot, id.slot as usize, "a listener stands in the slot of its id");
    }

    /// The listener, or the error that a stale id is.
    pub(crate) fn get(&self, id: ListenerId) -> io::Result<&Listener<T>> {
        self.slots
            .get(id.slot as usize)
            .filter(|listener| listener.id == id)
            .ok_or_else(|| stale(id))
    }

    pub(crate) fn remove(&mut self, id: ListenerId) -> io::Result<Listener<T>> {
        self.get(id)?;
        let listener = self.slots.remove(id.slot as usize);
        self.out_of_room.retain(|slot| *slot != id.slot);
        Ok(listener)
    }

    /// Remembers that peers wait, and has the listener served if it accepts now.
    pub(crate) fn ready(&mut self, slot: u32) {
        let Some(listener) = self.slots.get_mut(slot as usize) else {
            return;
        };
        listener.ready = true;
        self.queue(slot);
    }

    /// Takes the next listener with peers that wait.
    pub(crate) fn take_ready(&mut self) -> Option<u32> {
        let slot = self.ready.pop_front()?;
        if let Some(listener) = self.slots.get_mut(slot as usize) {
            listener.queued = false;
        }
        Some(slot)
    }

    /// Has the listener served, if there is something to accept.
    pub(crate) fn queue(&mut self, slot: u32) {
        let Some(listener) = self.slots.get_mut(slot as usize) else {
            return;
        };
        if listener.ready && listener.accepting == Accepting::Open && !listener.queued {
            listener.queued = true;
            self.ready.push_back(slot);
        }
    }

    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// How many there are, and how many of them are registered.
    #[cfg(test)]
    pub(crate) fn open_and_watched(&self) -> (usize, usize) {
        let is_open = |listener: &Listener<T>| listener.accepting == Accepting::Open;
        let watched = self.slots.iter().filter(|(_, listener)| is_open(listener)).count();
        (self.slots.len(), watched)
    }

    /// Accepts one connection, if the listener accepts now and there is room.
    pub(crate) fn accept(
        &mut self,
        slot: u32,
        has_room: bool,
        limits: &Limits,
        tools: &mut Tools,
    ) -> Accept<T> {
        let listener = self.slots.get_mut(slot as usize);
        let listener = listener.filter(|listener| listener.accepting == Accepting::Open);
        let Some(listener) = listener else { return Accept::Done };
        if !has_room {
            let _ = self.set_accepting(slot, Accepting::OutOfRoom(None), tools);
            return Accept::Done;
        }
        let id = listener.id;
        match tools.system.accept(&listener.socket, &limits.connection) {
            Attempt::Done((socket, peer)) => {
                listener.next_pause = None;
                self.accepted += 1;
                listener.accepted_last = self.accepted;
                let data = (listener.make_data)();
                Accept::Peer { listener: id, socket, peer, data }
            }
            Attempt::NotReady => {
                listener.ready = false;
                Accept::Done
            }
            Attempt::Failed(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
                tools.observers.see(Step::AcceptSkipped(id));
                Accept::Skipped
            }
            Attempt::Failed(error) => match self.back_off(slot, &error, limits, tools) {
                Some(event) => Accept::Failed(event),
                None => Accept::Done,
            },
        }
    }

    /// Changes whether a listener accepts: its registration follows, and an alarm that no longer
    /// counts is taken back. One that is not open is not registered, so that peers that come
    /// meanwhile wake nobody.
    pub(crate) fn set_accepting(
        &mut self,
        slot: u32,
        accepting: Accepting,
        tools: &mut Tools,
    ) -> io::Result<()> {
        let Some(listener) = self.slots.get_mut(slot as usize) else { return Ok(()) };
        let was_open = listener.accepting == Accepting::Open;
        let is_open = accepting == Accepting::Open;
        if was_open != is_open {
            tools.system.watch_listener(&mut listener.socket, slot, is_open)?;
            // Peers may have come while nobody was told.
            listener.ready = true;
        }
        if let Accepting::OutOfRoom(alarm) = std::mem::replace(&mut listener.accepting, accepting) {
            tools.cancel(alarm);
            self.out_of_room.retain(|waiting| *waiting != slot);
        }
        if matches!(accepting, Accepting::OutOfRoom(_)) {
            self.out_of_room.push(slot);
        }
        self.queue(slot);
        Ok(())
    }

    /// Has the listener accept again that ran out of room, or wait on if the kernel does not let it.
    pub(crate) fn try_again(&mut self, slot: u32, limits: &Limits, tools: &mut Tools) {
        if let Err(error) = self.set_accepting(slot, Accepting::Open, tools) {
            self.back_off(slot, &error, limits, tools);
        }
    }

    /// A connection has closed: those that wait for room may try again, who has accepted last as the
    /// last, so that they take turns.
    pub(crate) fn room_was_made(&mut self, limits: &Limits, tools: &mut Tools) {
        let mut waiting = self.out_of_room.clone();
        waiting.sort_by_key(|slot| {
            self.slots.get(*slot as usize).map(|listener| listener.accepted_last)
        });
        for slot in waiting {
            self.try_again(slot, limits, tools);
        }
    }

    /// Pauses a listener that failed for a time that doubles. Returns the event to tell, if this is
    /// the first failure in a row.
    fn back_off(
        &mut self,
        slot: u32,
        error: &io::Error,
        limits: &Limits,
        tools: &mut Tools,
    ) -> Option<Event> {
        let listener = self.slots.get_mut(slot as usize)?;
        let id = listener.id;
        let is_first = listener.next_pause.is_none();
        let pause = listener.next_pause.unwrap_or(limits.accept_pause_min);
        listener.next_pause = Some(pause.saturating_mul(2).min(limits.accept_pause_max));
        tools.observers.see(Step::AcceptPaused(id, Failure::of(error), pause));
        let at = tools.system.now().checked_add(pause);
        let alarm = at.map(|at| tools.alarms.set(at, Called::Listener(id)));
        // A listener that cannot be taken from the kernel's list only wakes the loop in vain.
        let _ = self.set_accepting(slot, Accepting::OutOfRoom(alarm), tools);
        is_first.then_some(Event::AcceptFailed(id, error.kind()))
    }
}

fn stale(id: ListenerId) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no listener {id}"))
}
