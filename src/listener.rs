//! Listening sockets: accepting with a budget, and running out of descriptors.
//!
//! A listener's readiness is remembered like a connection's, because the kernel reports waiting
//! peers once. When accepting fails for a reason that does not concern one peer (usually `EMFILE`),
//! the listener pauses for a time that doubles; the peers wait in the backlog.
//!
//! A connection that closes makes room for one more, so it resumes one listener that is out of
//! room: the one whose last success is longest ago. A listener that finds no peer waiting passes
//! the room on. A listener that was resumed and gained nothing is then resumed by its alarm alone,
//! so a flood of closes does not cause a flood of retries.
//!
//! It deliberately creates no connections: it only yields sockets.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use crate::alarms::Alarm;
use crate::attempt::Attempt;
use crate::backoff::Backoff;
use crate::cost;
use crate::event::Failure;
use crate::observer::{Step, shown};
use crate::resources::{AlarmTarget, Resources};
use crate::slots::{ListenerId, Slots};
use crate::system::{ListeningSocket, PeerAddr, Socket, System};

/// Creates the program's state for a connection that was accepted from this address.
pub(crate) type MakeData<T> = Box<dyn FnMut(&PeerAddr) -> T + Send>;

/// Whether a listener accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Open,
    /// The program has paused it; it is not registered.
    Paused,
    /// It waits for the alarm if there is one, and for a connection to close if that may help.
    OutOfRoom(Option<Alarm>),
}

pub(crate) struct Listener<T> {
    pub(crate) socket: ListeningSocket,
    make_data: MakeData<T>,
    accepting: Accepting,
    /// The pauses of the shortage that is under way; `None` once the backlog has been empty.
    backoff: Option<Backoff>,
    /// `AcceptFailed` was delivered for the shortage that is under way.
    is_failure_reported: bool,
    /// It has accepted since a close last resumed it, or no close has.
    has_gained: bool,
    /// How many peers in a row could not be accepted for reasons that concern only them.
    skipped: usize,
    /// The kernel has reported that peers wait, and no accept has disproved it.
    ready: bool,
    queued: bool,
    /// It accepts the peers that wait, and is closed then.
    is_draining: bool,
    /// The number of its last successful accept.
    accepted_last: u64,
}

impl<T> Listener<T> {
    fn new(socket: ListeningSocket, make_data: MakeData<T>) -> Self {
        Self {
            socket,
            make_data,
            accepting: Accepting::Open,
            backoff: None,
            is_failure_reported: false,
            has_gained: true,
            skipped: 0,
            ready: false,
            queued: false,
            is_draining: false,
            accepted_last: 0,
        }
    }

    fn waits_for(&self) -> ListenerWaitsFor {
        match self.accepting {
            Accepting::Open => ListenerWaitsFor::Peer,
            Accepting::Paused => ListenerWaitsFor::ProgramToResume,
            Accepting::OutOfRoom(None) => ListenerWaitsFor::Room,
            Accepting::OutOfRoom(Some(_)) => ListenerWaitsFor::Descriptors,
        }
    }

    fn deregister(&mut self, id: ListenerId, system: &System) {
        if self.accepting == Accepting::Open {
            // An error has no consequence: the socket is closed next.
            let _ = system.watch_listener(&mut self.socket, id.slot, false);
        }
    }
}

/// What must happen next so that a listener accepts.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenerWaitsFor {
    /// A peer to connect.
    Peer,
    /// The program to resume accepting.
    ProgramToResume,
    /// A connection to close: `connections_max` is reached.
    Room,
    /// A connection to close or a pause to end: accepting failed, usually for a lack of file
    /// descriptors.
    Descriptors,
}

impl fmt::Display for ListenerWaitsFor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Peer => "a peer to connect",
            Self::ProgramToResume => "the program to resume accepting",
            Self::Room => "a connection to close: there are as many as the limits allow",
            Self::Descriptors => "a connection to close, or a pause to be over: accepting failed",
        })
    }
}

/// What one listener waits for.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ListenerWaits {
    /// Its id.
    pub id: ListenerId,
    /// Its address, unless that is a Unix-domain address.
    pub address: Option<SocketAddr>,
    /// What must happen next so that it accepts.
    pub waits_for: ListenerWaitsFor,
}

impl fmt::Display for ListenerWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: waits for {}", self.id, shown(self.address), self.waits_for)
    }
}

/// The outcome of one accept.
pub(crate) enum Accept<T> {
    /// A peer, with its address and the program's state for it.
    Peer { socket: Socket, peer: Option<SocketAddr>, data: T },
    /// A peer whose connection had failed; another may wait.
    Skipped,
    /// No more for now.
    Done,
    /// No more for now; `AcceptFailed` is due.
    Failed(ListenerId, Failure),
}

/// All listeners of a loop, and the queue of those with waiting peers.
pub(crate) struct Listeners<T> {
    slots: Slots<ListenerId, Listener<T>>,
    ready: VecDeque<ListenerId>,
    /// The listeners in [`Accepting::OutOfRoom`] that a close resumes, by the number of their last
    /// successful accept. Invariant: while there is room, another listener is open or has an alarm.
    out_of_room: BTreeSet<(u64, ListenerId)>,
    /// How many peers were accepted in all; each listener remembers the number of its last accept.
    accepted: u64,
    /// How many listeners are draining.
    draining: usize,
}

impl<T> Listeners<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slots::default(),
            ready: VecDeque::new(),
            out_of_room: BTreeSet::new(),
            accepted: 0,
            draining: 0,
        }
    }

    /// Adds a listener and registers it for waiting peers.
    pub(crate) fn insert(
        &mut self,
        socket: ListeningSocket,
        make_data: MakeData<T>,
        resources: &mut Resources,
    ) -> io::Result<ListenerId> {
        let address = socket.local_addr().ok();
        let id = self.slots.insert(Listener::new(socket, make_data));
        if let Some(listener) = self.slots.get_mut(id)
            && let Err(error) = resources.system.watch_listener(&mut listener.socket, id.slot, true)
        {
            if let Some(listener) = self.slots.remove(id) {
                listener.socket.close();
            }
            return Err(error);
        }
        resources.observers.see(Step::Listening { id, address });
        Ok(id)
    }

    /// Returns the listener, or `NotFound` for a stale id.
    pub(crate) fn get(&self, id: ListenerId) -> io::Result<&Listener<T>> {
        self.slots.get(id).ok_or_else(|| stale(id))
    }

    /// Closes a listener; waiting peers are reset.
    pub(crate) fn close(&mut self, id: ListenerId, resources: &mut Resources) -> io::Result<()> {
        self.remove(id, resources)?;
        self.make_room(resources);
        resources.observers.see(Step::ListenerClosed { id });
        Ok(())
    }

    fn remove(&mut self, id: ListenerId, resources: &mut Resources) -> io::Result<()> {
        let mut listener = self.slots.remove(id).ok_or_else(|| stale(id))?;
        if let Accepting::OutOfRoom(alarm) = listener.accepting {
            self.out_of_room.remove(&(listener.accepted_last, id));
            resources.cancel(alarm);
        }
        self.draining -= usize::from(listener.is_draining);
        listener.deregister(id, &resources.system);
        listener.socket.close();
        Ok(())
    }

    /// Deregisters all listeners, which are about to be dropped with their loop.
    pub(crate) fn deregister(&mut self, system: &System) {
        for (id, listener) in self.slots.iter_mut() {
            listener.deregister(id, system);
        }
    }

    /// Makes every listener accept the peers that wait and then close.
    pub(crate) fn drain(&mut self, resources: &mut Resources) {
        for id in self.ids() {
            if let Some(listener) = self.slots.get_mut(id) {
                self.draining += usize::from(!listener.is_draining);
                listener.is_draining = true;
                listener.ready = true;
            }
            // A paused listener that cannot be registered now tries again; otherwise it would wait
            // forever.
            if let Err(error) = self.pause(id, false, resources) {
                self.back_off(id, &error, resources);
            }
            self.queue(id);
        }
    }

    /// Closes the draining listeners, even if peers wait.
    pub(crate) fn close_draining(&mut self, resources: &mut Resources) {
        let mut closed = self.ids();
        closed.retain(|id| self.slots.get(*id).is_some_and(|listener| listener.is_draining));
        for id in &closed {
            let _ = self.remove(*id, resources);
        }
        // Last, so that an observer that panics leaves none of them.
        for id in closed {
            resources.observers.see(Step::ListenerClosed { id });
        }
    }

    pub(crate) fn is_any_draining(&self) -> bool {
        self.draining > 0
    }

    fn ids(&self) -> Vec<ListenerId> {
        self.slots.iter().map(|(id, _)| id).inspect(|_| cost::step()).collect()
    }

    /// Pauses or resumes a listener. One that is out of room does not accept in either case.
    pub(crate) fn pause(
        &mut self,
        id: ListenerId,
        pauses: bool,
        resources: &mut Resources,
    ) -> io::Result<()> {
        let is_paused = self.get(id)?.accepting == Accepting::Paused;
        if is_paused == pauses {
            return Ok(());
        }
        let accepting = if pauses { Accepting::Paused } else { Accepting::Open };
        self.set_accepting(id, accepting, resources)?;
        if pauses {
            // The room may have been meant for this listener.
            self.make_room(resources);
        }
        Ok(())
    }

    /// Remembers that peers wait, and queues the listener if it accepts now.
    pub(crate) fn ready(&mut self, slot: u32) {
        if let Some((id, listener)) = self.slots.at(slot) {
            listener.ready = true;
            self.queue(id);
        }
    }

    /// Takes the next listener with waiting peers.
    pub(crate) fn take_ready(&mut self) -> Option<ListenerId> {
        let id = self.ready.pop_front()?;
        if let Some(listener) = self.slots.get_mut(id) {
            listener.queued = false;
        }
        Some(id)
    }

    /// Queues the listener if there is something to accept.
    pub(crate) fn queue(&mut self, id: ListenerId) {
        let Some(listener) = self.slots.get_mut(id) else { return };
        if listener.ready && listener.accepting == Accepting::Open && !listener.queued {
            listener.queued = true;
            self.ready.push_back(id);
        }
    }

    /// Returns what each listener waits for.
    pub(crate) fn explain(&self) -> Vec<ListenerWaits> {
        let explained = self.slots.iter().map(|(id, listener)| ListenerWaits {
            id,
            address: listener.socket.local_addr().ok(),
            waits_for: listener.waits_for(),
        });
        explained.collect()
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Accepts one connection if the listener accepts now and there is room.
    pub(crate) fn accept(
        &mut self,
        id: ListenerId,
        has_room: bool,
        resources: &mut Resources,
    ) -> Accept<T> {
        let listener = self.slots.get_mut(id);
        let listener = listener.filter(|listener| listener.accepting == Accepting::Open);
        let Some(listener) = listener else { return Accept::Done };
        if !has_room {
            let _ = self.set_accepting(id, Accepting::OutOfRoom(None), resources);
            return Accept::Done;
        }
        match listener.socket.accept(&resources.limits.connection) {
            Attempt::Done((socket, peer)) => {
                self.accepted += 1;
                listener.accepted_last = self.accepted;
                (listener.has_gained, listener.skipped) = (true, 0);
                let data = (listener.make_data)(&peer);
                Accept::Peer { socket, peer: peer.ip(), data }
            }
            Attempt::NotReady => {
                self.found_nobody(id, resources);
                Accept::Done
            }
            // A whole budget of them in a row is no longer a matter of single peers.
            Attempt::Failed(error)
                if concerns_one_peer(&error)
                    && listener.skipped < resources.limits.accept_budget =>
            {
                listener.skipped += 1;
                resources.observers.see(Step::AcceptSkipped { id });
                Accept::Skipped
            }
            Attempt::Failed(error) => self.accept_failed(id, &error, resources),
        }
    }

    /// Nobody waits any more: whatever was short is no longer, and what room there is may serve
    /// another listener.
    fn found_nobody(&mut self, id: ListenerId, resources: &mut Resources) {
        let Some(listener) = self.slots.get_mut(id) else { return };
        listener.ready = false;
        listener.backoff = None;
        listener.is_failure_reported = false;
        (listener.has_gained, listener.skipped) = (true, 0);
        if listener.is_draining {
            let _ = self.close(id, resources);
        } else {
            self.make_room(resources);
        }
    }

    /// Pauses the listener, and reports the shortage to the program once.
    fn accept_failed(
        &mut self,
        id: ListenerId,
        error: &io::Error,
        resources: &mut Resources,
    ) -> Accept<T> {
        let failure = Failure::from(error);
        self.back_off(id, error, resources);
        let listener = self.slots.get_mut(id);
        let Some(listener) = listener.filter(|listener| !listener.is_failure_reported) else {
            return Accept::Done;
        };
        listener.is_failure_reported = true;
        Accept::Failed(id, failure)
    }

    /// Changes whether a listener accepts: its registration follows, and an alarm that no longer
    /// counts is taken back. One that is not open is not registered, so that peers that come in the
    /// meantime cause no wake-up.
    fn set_accepting(
        &mut self,
        id: ListenerId,
        accepting: Accepting,
        resources: &mut Resources,
    ) -> io::Result<()> {
        let Some(listener) = self.slots.get_mut(id) else { return Ok(()) };
        let was_open = listener.accepting == Accepting::Open;
        let is_open = accepting == Accepting::Open;
        if was_open != is_open {
            let watched = resources.system.watch_listener(&mut listener.socket, id.slot, is_open);
            if is_open {
                watched?;
            }
            // A listener that cannot be deregistered only wakes the loop in vain. Peers may have
            // arrived unreported.
            listener.ready = true;
        }
        let place = (listener.accepted_last, id);
        if let Accepting::OutOfRoom(alarm) = std::mem::replace(&mut listener.accepting, accepting) {
            resources.cancel(alarm);
            self.out_of_room.remove(&place);
        }
        match accepting {
            // Without an alarm, it is `connections_max` that leaves no room.
            Accepting::OutOfRoom(alarm) if alarm.is_none() || listener.has_gained => {
                self.out_of_room.insert(place);
            }
            Accepting::OutOfRoom(_) | Accepting::Open | Accepting::Paused => {}
        }
        self.queue(id);
        Ok(())
    }

    /// Resumes a listener that is out of room, or pauses it again if it cannot be registered.
    /// Returns whether it accepts now.
    pub(crate) fn try_again(&mut self, id: ListenerId, resources: &mut Resources) -> bool {
        match self.set_accepting(id, Accepting::Open, resources) {
            Ok(()) => true,
            Err(error) => {
                self.back_off(id, &error, resources);
                false
            }
        }
    }

    /// Lets one listener that is out of room try again: a connection has closed, or another
    /// listener does not need the room.
    pub(crate) fn make_room(&mut self, resources: &mut Resources) {
        while let Some((_, id)) = self.out_of_room.first().copied() {
            cost::step();
            if let Some(listener) = self.slots.get_mut(id) {
                listener.has_gained = false;
            }
            if self.try_again(id, resources) {
                break;
            }
        }
    }

    /// Pauses a listener that has failed, each time for twice as long.
    fn back_off(&mut self, id: ListenerId, error: &io::Error, resources: &mut Resources) {
        let Some(listener) = self.slots.get_mut(id) else { return };
        let backoff =
            || Backoff::new(resources.limits.accept_pause_min, resources.limits.accept_pause_max);
        let pause = listener.backoff.get_or_insert_with(backoff).take();
        let at = resources.system.now().checked_add(pause);
        let alarm = at.map(|at| resources.alarms.set(at, AlarmTarget::Listener(id)));
        let _ = self.set_accepting(id, Accepting::OutOfRoom(alarm), resources);
        resources.observers.see(Step::AcceptPaused { id, failure: Failure::from(error), pause });
    }
}

/// Returns whether an error of `accept` concerns one peer alone, whose connection failed before it
/// was accepted. Linux passes on the errors of such a connection: see accept(2).
fn concerns_one_peer(error: &io::Error) -> bool {
    /// `ENONET`, `EPROTO`, `ENOPROTOOPT`, `EOPNOTSUPP` and `EHOSTDOWN`, for which not every
    /// platform has an `ErrorKind`.
    const LINUX: [i32; 5] = [64, 71, 92, 95, 112];
    let is_numbered =
        |code| cfg!(any(target_os = "linux", target_os = "android")) && LINUX.contains(&code);
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::HostUnreachable
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::TimedOut
    ) || error.raw_os_error().is_some_and(is_numbered)
}

fn stale(id: ListenerId) -> io::Error {
    io::Error::new(ErrorKind::NotFound, format!("there is no listener {id}"))
}

#[cfg(test)]
impl<T> Listeners<T> {
    /// Those that are to be served.
    pub(crate) fn queued(&self) -> impl Iterator<Item = ListenerId> {
        let queued = self.slots.iter().filter(|(_, listener)| listener.queued);
        queued.map(|(id, _)| id)
    }

    /// How many there are, and how many of them are registered.
    pub(crate) fn open_and_watched(&self) -> (usize, usize) {
        let is_open = |listener: &Listener<T>| listener.accepting == Accepting::Open;
        let watched = self.slots.iter().filter(|(_, listener)| is_open(listener)).count();
        (self.slots.iter().count(), watched)
    }

    /// How each stands, for a search through all states.
    pub(crate) fn states(&self) -> Vec<(u32, u8, bool, bool, Option<Backoff>)> {
        let state = |id: ListenerId, listener: &Listener<T>| {
            let waits_for = listener.waits_for() as u8;
            (id.slot, waits_for, listener.ready, listener.queued, listener.backoff)
        };
        self.slots.iter().map(|(id, listener)| state(id, listener)).collect()
    }
}
