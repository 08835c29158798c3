//! One connection in its tiny world: what can happen to it, and what happens then.

use std::sync::LazyLock;

use super::super::*;
use super::kernel::{BUFFER, Connect, Kernel, Reset, Socket};
use crate::attempt::is_would_block;
use crate::buffer::Marks;
use crate::event::Deadline;
use crate::exchange::write_side::Ending;
use crate::system::simulated::Choices;
use crate::transfer::{self, StopReason};

/// An exchange without what cannot matter: its bytes are in order, or a check has failed before,
/// so that their number is enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Kept {
    pub(super) received: u8,
    pub(super) unsent: u8,
    pub(super) reason: Option<CloseReason>,
    pub(super) state: State,
    pub(super) pending: PendingEvents,
    pub(super) readiness: Readiness,
    pub(super) coupling: Coupling,
    pub(super) paused: bool,
    pub(super) half_open: bool,
    pub(super) clogged: bool,
    pub(super) behind: Behind,
    /// Of the read buffer.
    pub(super) marks: Marks,
}

impl Kept {
    fn of(exchange: &Exchange) -> Self {
        let Exchange { read_buffer, write_side } = exchange;
        let WriteSide { write_buffer, limits: _, ending, state, pending, .. } = write_side;
        let WriteSide { readiness, coupling, paused, half_open, clogged, behind, .. } = write_side;
        let reason = ending.as_ref().and_then(|ending| ending.reason);
        let reason = match (state, reason) {
            // How it was ended matters only for the socket that is closed.
            (State::Closed, _) if exchange.ends_by_reset() => Some(CloseReason::Aborted),
            (State::Closed, Some(_)) => Some(CloseReason::Closed),
            (_, reason) => reason,
        };
        Self {
            received: small_count(read_buffer.len()),
            unsent: small_count(write_buffer.len()),
            reason,
            state: *state,
            pending: *pending,
            readiness: *readiness,
            coupling: *coupling,
            paused: *paused,
            half_open: *half_open,
            clogged: *clogged,
            behind: *behind,
            marks: read_buffer.marks(),
        }
    }

    /// Returns the exchange again, with numbered bytes.
    fn exchange(&self, limits: Arc<ConnectionLimits>) -> Exchange {
        let ending = self.reason.map(|reason| Ending { reason: Some(reason), ..Ending::default() });
        let write_side = WriteSide {
            write_buffer: Buffer::default(),
            limits,
            ending: ending.map(Box::new),
            state: self.state,
            pending: self.pending,
            readiness: self.readiness,
            coupling: self.coupling,
            paused: self.paused,
            half_open: self.half_open,
            clogged: self.clogged,
            behind: self.behind,
        };
        let mut exchange = Exchange { read_buffer: Buffer::default(), write_side };
        exchange.read_buffer.append(&FIRST_READ[..usize::from(self.received)]);
        exchange.read_buffer.set_marks(self.marks);
        exchange.write_buffer.append(&FIRST_SENT[..usize::from(self.unsent)]);
        exchange
    }
}

/// The bytes that arrive are numbered from 0, those that the program sends from 100.
const FIRST_READ: [u8; 4] = [0, 1, 2, 3];
const FIRST_SENT: [u8; 4] = [100, 101, 102, 103];
const SENT_NOW: u8 = 200;

fn small_count(count: usize) -> u8 {
    u8::try_from(count).expect("a few bytes")
}

/// What differs from one part of the search to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Setting {
    pub(super) budget: u8,
    /// Whether asking for an interest anew raises an edge for what can be read already.
    pub(super) rearms: bool,
    pub(super) short_proves_blocked: bool,
}

impl Setting {
    fn limits(self) -> Arc<ConnectionLimits> {
        static LIMITS: LazyLock<[Arc<ConnectionLimits>; 3]> = LazyLock::new(|| {
            [1, 1, 2].map(|budget| {
                let mut limits = ConnectionLimits::default();
                (limits.high_water, limits.low_water, limits.unsent_max) = (1, 0, 3);
                limits.read_buffer_max = 2;
                (limits.read_budget, limits.write_budget) = (budget, budget);
                Arc::new(limits)
            })
        });
        LIMITS[usize::from(self.budget)].clone()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Queue {
    None,
    Fresh,
    Deferred,
}

/// What the program has done, and which events it has received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Program {
    /// `Accepted` or `Connected` was delivered.
    pub(super) opened: bool,
    pub(super) heard_finished: bool,
    pub(super) heard_closed: bool,
    pub(super) paused: bool,
    /// It has called `close` or `abort`.
    pub(super) has_closed: bool,
    pub(super) has_deadline: bool,
    /// Since the last `Drained` the unsent bytes exceeded the mark, or a write reported no room.
    pub(super) was_clogged: bool,
    /// Something has arrived since `Received` was delivered last, or was consumed while the rest
    /// stayed, or the rest was asked for.
    pub(super) is_received_due: bool,
    /// `Full` was delivered since there was room last.
    pub(super) heard_full: bool,
}

/// The connection is being served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Service {
    /// The last pending event that was delivered.
    pub(super) last: Option<Pending>,
    /// The write budget is spent: nothing is repeated any more.
    pub(super) is_spent: bool,
    /// Bytes were unsent when the connection was last settled.
    pub(super) left_unsent: bool,
}

/// One state of the search.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) setting: Setting,
    pub(super) kept: Kept,
    pub(super) kernel: Kernel,
    pub(super) program: Program,
    // What the loop keeps in addition to the exchange.
    pub(super) interest: Interest,
    pub(super) queued: Queue,
    pub(super) dirty: bool,
    pub(super) yielded: bool,
    pub(super) service: Option<Service>,
    /// What a deadline was set for.
    pub(super) awaits: Phase,
    /// Whether one was set for a program that takes nothing from a full read buffer.
    pub(super) awaits_room: bool,
    /// `Closed` was handled, and the slot is free.
    pub(super) freed: bool,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Input {
    // The loop.
    Call,
    Serve,
    Wait,
    Spurious(Readiness),
    DeadlinePasses,
    StalledReadPasses,
    IdleTimeout,
    ProgramDeadline,
    // The network and the peer.
    Connects,
    ConnectFails,
    PeerWrites,
    PeerReads(u8),
    PeerFinishes,
    PeerResets { discards: bool },
    WriterUnsent(bool),
    // The program.
    Consume(u8),
    Send(u8),
    Write(u8),
    SendReceived,
    Pause,
    Resume,
    Couple(Coupling),
    HalfOpen(bool),
    Finish,
    Close,
    Abort,
    SetDeadline,
}

impl Input {
    pub(super) fn all() -> Vec<Self> {
        vec![
            Self::Call,
            Self::Serve,
            Self::Wait,
            Self::Spurious(Readiness::READABLE),
            Self::Spurious(Readiness::WRITABLE),
            Self::Spurious(Readiness::READABLE | Readiness::HUP),
            Self::DeadlinePasses,
            Self::StalledReadPasses,
            Self::IdleTimeout,
            Self::ProgramDeadline,
            Self::Connects,
            Self::ConnectFails,
            Self::PeerWrites,
            Self::PeerReads(1),
            Self::PeerReads(2),
            Self::PeerFinishes,
            Self::PeerResets { discards: false },
            Self::PeerResets { discards: true },
            Self::WriterUnsent(false),
            Self::WriterUnsent(true),
            Self::Consume(1),
            Self::Consume(2),
            Self::Send(1),
            Self::Send(2),
            Self::Write(2),
            Self::SendReceived,
            Self::Pause,
            Self::Resume,
            Self::Couple(Coupling::None),
            Self::Couple(Coupling::Itself),
            Self::Couple(Coupling::Writer { has_unsent: false }),
            Self::Couple(Coupling::Writer { has_unsent: true }),
            Self::HalfOpen(true),
            Self::HalfOpen(false),
            Self::Finish,
            Self::Close,
            Self::Abort,
            Self::SetDeadline,
        ]
    }
}

impl World {
    pub(super) fn accepted(setting: Setting) -> Self {
        Self::new(setting, Exchange::accepted(setting.limits()), Connect::Done)
    }

    pub(super) fn connecting(setting: Setting) -> Self {
        Self::new(setting, Exchange::connecting(setting.limits()), Connect::UnderWay)
    }

    fn new(setting: Setting, exchange: Exchange, connect: Connect) -> Self {
        let is_accepted = connect == Connect::Done;
        Self {
            setting,
            kept: Kept::of(&exchange),
            kernel: Kernel::new(connect),
            program: Program::default(),
            interest: Interest::None,
            queued: Queue::None,
            // A connecting one is dirty; an accept begins a service.
            dirty: !is_accepted,
            yielded: false,
            service: is_accepted.then(Service::default),
            awaits: Phase::Unbounded,
            awaits_room: false,
            freed: false,
        }
    }

    pub(super) fn exchange(&self) -> Exchange {
        self.kept.exchange(self.setting.limits())
    }

    /// Returns whether neither side is about to do anything with it.
    pub(super) fn is_at_rest(&self) -> bool {
        !self.dirty && self.service.is_none()
    }

    pub(super) fn takes(&self, input: Input) -> bool {
        let (kept, kernel, program) = (&self.kept, &self.kernel, &self.program);
        let is_peer_there = kernel.connect == Connect::Done && kernel.reset == Reset::None;
        // The program has no id for an accepted connection until `Accepted` is delivered.
        let has_id = program.opened || self.service.is_none();
        let can_act = has_id && !self.freed;
        if self.freed {
            return false;
        }
        match input {
            Input::Call => !self.is_at_rest(),
            Input::Serve => self.is_at_rest() && self.queued != Queue::None,
            Input::Wait => self.is_at_rest() && kernel.listed,
            Input::Spurious(reported) => {
                let asked_to_read = !reported.is_readable() || self.interest.is_readable();
                let asked_to_write = !reported.is_writable() || self.interest.is_writable();
                self.is_at_rest()
                    && asked_to_read
                    && asked_to_write
                    && (kept.readiness | reported) != kept.readiness
            }
            Input::DeadlinePasses => self.is_at_rest() && self.awaits != Phase::Unbounded,
            Input::StalledReadPasses => self.is_at_rest() && self.awaits_room,
            Input::IdleTimeout => self.is_at_rest() && kept.state != State::Closed,
            Input::ProgramDeadline => self.is_at_rest() && program.has_deadline,
            Input::Connects | Input::ConnectFails => kernel.connect == Connect::UnderWay,
            Input::PeerWrites => is_peer_there && !kernel.peer_finished && kernel.receive < BUFFER,
            Input::PeerReads(count) => is_peer_there && kernel.send >= count,
            Input::PeerFinishes => is_peer_there && !kernel.peer_finished,
            Input::PeerResets { discards } => is_peer_there && (!discards || kernel.receive > 0),
            Input::WriterUnsent(now) => kept.coupling == Coupling::Writer { has_unsent: !now },
            Input::Consume(count) => can_act && kept.received >= count,
            Input::Send(_) | Input::Write(_) | Input::Finish | Input::Close | Input::Abort => {
                can_act
            }
            Input::SendReceived => can_act && kept.received > 0,
            Input::Pause => can_act && !program.paused,
            Input::Resume => can_act && program.paused,
            Input::Couple(coupling) => can_act && kept.coupling != coupling,
            Input::HalfOpen(allowed) => can_act && kept.half_open != allowed,
            Input::SetDeadline => can_act && !program.has_deadline,
        }
    }

    /// Returns the state that follows an input, with these choices of the kernel.
    pub(super) fn after(&self, input: Input, choices: &mut Choices, pool: &mut Pool) -> Self {
        let mut life = Life::begin(self, choices, pool);
        life.give(input);
        life.end()
    }
}

/// A state, made to run for one input.
struct Life<'l> {
    world: World,
    before: World,
    exchange: Exchange,
    choices: &'l mut Choices,
    pool: &'l mut Pool,
    /// Invariant: the bytes that were read and not thrown away are those below it.
    next_read: u8,
    received_end: u8,
    consumed: u8,
    /// What the program has sent, that is neither with the kernel nor lost.
    unsent: Vec<u8>,
    accepted: u64,
}

impl<'l> Life<'l> {
    fn begin(world: &World, choices: &'l mut Choices, pool: &'l mut Pool) -> Self {
        let exchange = world.kept.exchange(world.setting.limits());
        Self {
            world: *world,
            before: *world,
            next_read: world.kept.received,
            received_end: world.kept.received,
            consumed: 0,
            unsent: exchange.unsent_bytes().to_vec(),
            accepted: 0,
            exchange,
            choices,
            pool,
        }
    }

    /// Returns the world again, once what happened to the bytes was checked.
    fn end(mut self) -> World {
        let expected: Vec<u8> = (self.consumed..self.received_end).collect();
        assert_eq!(self.exchange.received(), expected, "what was received is a prefix");
        assert_eq!(self.exchange.unsent_bytes(), self.unsent, "what is unsent is in order");
        self.world.kept = Kept::of(&self.exchange);
        // Not for the world's sake: a block that is kept need not be made again.
        for buffer in self.exchange.buffers() {
            self.pool.reclaim(buffer);
        }
        self.world
    }

    fn give(&mut self, input: Input) {
        let World { kernel, program, .. } = &mut self.world;
        match input {
            Input::Call => self.call(),
            Input::Serve => self.serve(),
            Input::Wait => {
                let reported = kernel.wait();
                if reported != Readiness::default() {
                    self.record(reported);
                }
            }
            Input::Spurious(reported) => self.record(reported),
            Input::DeadlinePasses => {
                let deadline = match self.world.awaits {
                    Phase::Unbounded => unreachable!("nothing is awaited"),
                    Phase::Connecting => Deadline::Connect,
                    Phase::Stalled | Phase::Closing => Deadline::StalledWrite,
                    Phase::Broken | Phase::Lingering => Deadline::Close,
                };
                self.pass(deadline);
                self.begin_service();
            }
            Input::StalledReadPasses => {
                self.pass(Deadline::StalledRead);
                self.begin_service();
            }
            Input::IdleTimeout => {
                self.pass(Deadline::Idle);
                self.begin_service();
            }
            Input::ProgramDeadline => {
                program.has_deadline = false;
                self.exchange.program_deadline_passed();
                self.begin_service();
            }
            Input::Connects => kernel.connected(),
            Input::ConnectFails => kernel.connect_failed(),
            Input::PeerWrites => kernel.peer_writes(),
            Input::PeerReads(count) => kernel.peer_reads(count),
            Input::PeerFinishes => kernel.peer_finishes(),
            Input::PeerResets { discards } => kernel.peer_resets(discards),
            Input::WriterUnsent(has_unsent) => {
                self.exchange.set_coupling(Coupling::Writer { has_unsent });
                self.world.dirty = true;
            }
            _ => self.act(input),
        }
    }

    // The program.

    fn act(&mut self, input: Input) {
        let (exchange, program) = (&mut self.exchange, &mut self.world.program);
        self.world.dirty = true;
        match input {
            Input::Consume(count) => {
                exchange.consume(usize::from(count));
                self.consumed += count;
                program.is_received_due = !exchange.received().is_empty();
                program.heard_full = false;
            }
            Input::Send(count) => {
                let bytes: Vec<u8> = (SENT_NOW..SENT_NOW + count).collect();
                self.send(bytes, |exchange, bytes| exchange.send(bytes));
            }
            Input::Write(count) => {
                let bytes: Vec<u8> = (SENT_NOW..SENT_NOW + count).collect();
                self.write(&bytes);
            }
            Input::SendReceived => {
                let bytes = exchange.received().to_vec();
                self.consumed += small_count(bytes.len());
                (program.is_received_due, program.heard_full) = (false, false);
                self.send(bytes, |exchange, _| exchange.send_received());
            }
            Input::Pause => {
                program.paused = true;
                exchange.pause();
            }
            Input::Resume => {
                program.paused = false;
                program.is_received_due |= !exchange.received().is_empty();
                exchange.resume();
            }
            Input::Couple(coupling) => exchange.set_coupling(coupling),
            Input::HalfOpen(allowed) => exchange.allow_half_open(allowed),
            Input::Finish => exchange.finish(),
            Input::Close => {
                program.has_closed = true;
                exchange.close();
            }
            Input::Abort => {
                program.has_closed = true;
                exchange.abort();
            }
            Input::SetDeadline => program.has_deadline = true,
            other => unreachable!("{other:?} is not the program's"),
        }
    }

    /// What is sent is taken as a whole or lost as a whole.
    fn send(&mut self, bytes: Vec<u8>, send: impl FnOnce(&mut Exchange, &[u8])) {
        let (lost, count) = (self.exchange.lost(), bytes.len());
        send(&mut self.exchange, &bytes);
        let now_lost = self.exchange.lost() - lost;
        assert!(now_lost == 0 || now_lost == count as u64, "lost as a whole");
        if now_lost == 0 {
            self.unsent.extend(bytes);
        }
        self.accepted += count as u64;
        self.world.program.was_clogged |= self.exchange.clogged;
    }

    /// A write says how much it has taken, and never takes what is lost.
    fn write(&mut self, bytes: &[u8]) {
        let (lost, unsent) = (self.exchange.lost(), self.exchange.unsent());
        let outcome = self.exchange.write(bytes);
        let takes_bytes = self.exchange.takes_bytes();
        match &outcome {
            Ok(count) => {
                assert!(takes_bytes && *count > 0, "a write takes something");
                self.unsent.extend(&bytes[..*count]);
                self.accepted += *count as u64;
            }
            Err(error) if is_would_block(error) => assert!(takes_bytes && unsent == 3),
            Err(_) => assert!(!takes_bytes, "a write fails where nothing can leave"),
        }
        assert_eq!(self.exchange.lost(), lost, "a write loses nothing");
        let is_short = takes_bytes && outcome.unwrap_or(0) < bytes.len();
        assert!(!is_short || self.exchange.clogged, "what was not taken clogs");
        self.world.program.was_clogged |= self.exchange.clogged;
    }

    // The loop: the order of `serving.rs`, `settling.rs`, `ready_queues.rs` and `turn.rs`, for one
    // connection.

    /// The program calls into the loop.
    fn call(&mut self) {
        if self.world.program.heard_closed {
            self.world.freed = true;
            return;
        }
        if self.repeat() {
            return;
        }
        if self.world.dirty {
            self.world.dirty = false;
            self.settle();
            if self.world.service.is_none() {
                self.requeue();
            }
        }
        self.go_on();
    }

    fn record(&mut self, reported: Readiness) {
        self.exchange.reported(reported);
        self.push(Queue::Fresh);
    }

    fn serve(&mut self) {
        self.world.queued = Queue::None;
        self.transfer();
        self.begin_service();
    }

    fn transfer(&mut self) {
        self.world.yielded = false;
        self.look_at_connect();
        self.flush();
        if !self.exchange.is_repeat_due() {
            self.fill();
        }
    }

    fn begin_service(&mut self) {
        self.world.service = Some(Service::default());
        self.go_on();
    }

    fn go_on(&mut self) {
        let Some(service) = self.world.service else { return };
        if let Some(pending) = self.exchange.next_pending() {
            let is_next = service.last.is_none_or(|last| pending > last);
            let is_repeat = !is_next && self.exchange.is_repeat_next();
            if is_next || is_repeat && !service.is_spent {
                return self.deliver(service, pending);
            }
            self.world.yielded |= is_repeat;
        }
        self.world.service = None;
        if service.last.is_none() {
            self.settle();
        }
        self.requeue();
    }

    /// Delivers `Received` again before the answers are flushed.
    fn repeat(&mut self) -> bool {
        let Some(mut service) = self.world.service else { return false };
        if service.last.is_none() || !self.exchange.has_progress() {
            return false;
        }
        service.is_spent |= self.exchange.has_spent_write_budget();
        self.world.service = Some(service);
        let repeats =
            !service.is_spent && self.exchange.may_repeat_at_once(usize::from(service.left_unsent));
        if repeats {
            self.deliver(service, Pending::Received);
        }
        repeats
    }

    fn deliver(&mut self, service: Service, pending: Pending) {
        let last = service.last.map_or(pending, |last| last.max(pending));
        let left_unsent =
            if self.world.dirty { service.left_unsent } else { self.exchange.unsent() > 0 };
        self.world.service = Some(Service { last: Some(last), left_unsent, ..service });
        self.world.dirty = true;
        self.exchange.delivered(pending);
        if pending == Pending::Closed {
            self.update_interest();
        }
        self.hear(pending);
    }

    fn settle(&mut self) {
        self.flush();
        self.exchange.notice_full();
        let had_ended = self.exchange.close_reason().is_some();
        if self.exchange.advance() {
            assert!(self.unsent.is_empty(), "the end is sent behind the last unsent byte");
            assert!(!self.world.kernel.finished, "the end is sent once");
            self.world.kernel.finished = true;
        }
        if !had_ended && self.exchange.close_reason().is_some() {
            let program = &self.world.program;
            assert!(self.unsent.is_empty(), "it closes by itself once everything has left");
            assert!(program.has_closed || !program.paused, "a paused one closes by itself");
            assert!(program.has_closed || program.heard_finished, "closed unheard");
        }
        self.update_interest();
        for buffer in self.exchange.buffers() {
            self.pool.reclaim(buffer);
        }
        let exchange = &self.exchange;
        self.world.yielded &=
            exchange.can_fill() || exchange.can_flush() || exchange.is_repeat_due();
        self.world.awaits = exchange.phase();
        self.world.awaits_room = exchange.is_stalled_in_reading();
    }

    fn update_interest(&mut self) {
        let (from, to) = (self.world.interest, self.exchange.interest());
        if from == to {
            return;
        }
        // Nothing prevents deregistering.
        if to != Interest::None && self.choices.choose(2) == 1 {
            self.exchange.end(CloseReason::Refused);
            return self.update_interest();
        }
        self.world.kernel.update_interest(to, self.world.setting.rearms);
        self.world.interest = to;
        if from == Interest::Writable && to.is_readable() {
            self.exchange.try_read_to_the_end();
        } else if to.is_readable() && !from.is_readable() {
            self.exchange.try_read();
        }
    }

    fn requeue(&mut self) {
        let may_wait = self.world.yielded && self.exchange.is_repeat_next();
        if self.exchange.next_pending().is_some() && !may_wait {
            self.world.queued = Queue::Fresh;
        } else if may_wait || self.exchange.can_fill() || self.exchange.can_flush() {
            self.push(if self.world.yielded { Queue::Deferred } else { Queue::Fresh });
        }
    }

    fn push(&mut self, queue: Queue) {
        if self.world.queued == Queue::None {
            self.world.queued = queue;
        }
    }

    fn look_at_connect(&mut self) {
        if !self.exchange.is_connecting() || self.exchange.readiness == Readiness::default() {
            return;
        }
        self.exchange.readiness = Readiness::default();
        let kernel = &mut self.world.kernel;
        match kernel.connect {
            Connect::UnderWay => {}
            // The error that the socket holds is taken from it.
            Connect::Done if kernel.reset == Reset::Pending => {
                kernel.reset = Reset::Returned;
                self.exchange.end(CloseReason::Reset);
            }
            Connect::Failed => self.exchange.end(CloseReason::Refused),
            Connect::Done => self.exchange.connected(),
        }
    }

    fn fill(&mut self) {
        if !self.exchange.can_fill() {
            return;
        }
        let (discards, short_proves) =
            (self.exchange.discards(), self.world.setting.short_proves_blocked);
        let mut socket = Socket {
            kernel: &mut self.world.kernel,
            choices: self.choices,
            next_read: &mut self.next_read,
            unsent: &mut self.unsent,
        };
        let filled = transfer::fill(&mut self.exchange, &mut socket, self.pool, short_proves);
        assert!(filled.count <= usize::from(self.world.setting.budget), "a budget is kept to");
        if !discards {
            self.received_end += small_count(filled.count);
            let program = &mut self.world.program;
            program.is_received_due |= filled.count > 0;
            assert!(filled.count == 0 || !program.heard_full, "read without room");
        }
        self.world.yielded |= filled.stop == StopReason::Ours && filled.count > 0;
    }

    fn flush(&mut self) {
        if !self.exchange.can_flush() {
            return;
        }
        let (short_proves, lost) = (self.world.setting.short_proves_blocked, self.exchange.lost());
        let mut socket = Socket {
            kernel: &mut self.world.kernel,
            choices: self.choices,
            next_read: &mut self.next_read,
            unsent: &mut self.unsent,
        };
        let budget = self.exchange.limits().write_budget;
        let flushed = transfer::flush(&mut self.exchange, &mut socket, budget, short_proves);
        assert!(flushed.count <= usize::from(self.world.setting.budget), "a budget is kept to");
        let now_lost = self.exchange.lost() - lost;
        if now_lost > 0 {
            assert_eq!(flushed.stop, StopReason::Failed, "only a failure loses bytes");
            assert_eq!(now_lost, self.unsent.len() as u64, "all unsent bytes are lost at once");
            self.unsent.clear();
        }
        self.world.yielded |= flushed.stop == StopReason::Ours && self.exchange.unsent() > 0;
    }

    /// A deadline counts only after one more look.
    fn pass(&mut self, deadline: Deadline) {
        let held = |exchange: &Exchange| (exchange.received().len(), exchange.unsent());
        let (before, phase) = (held(&self.exchange), self.world.awaits);
        self.exchange.try_read();
        self.exchange.try_write();
        self.transfer();
        let exchange = &self.exchange;
        let counts = match deadline {
            Deadline::Connect | Deadline::Close => exchange.phase() == phase,
            Deadline::StalledWrite => exchange.phase() == phase && held(exchange).1 == before.1,
            Deadline::StalledRead => exchange.is_stalled_in_reading(),
            Deadline::Idle => held(exchange) == before,
        };
        if counts && !exchange.is_closed() {
            self.exchange.end(CloseReason::TimedOut(deadline));
        }
    }

    // What is delivered to the program.

    fn hear(&mut self, event: Pending) {
        let (program, before) = (&mut self.world.program, &self.before);
        assert!(!program.heard_closed, "{event:?} after Closed");
        assert!(!program.has_closed || event == Pending::Closed, "{event:?} after close");
        match event {
            Pending::Accepted | Pending::Connected => {
                assert!(!program.opened, "{event:?} is delivered once");
                program.opened = true;
            }
            Pending::Received => {
                assert!(program.opened && !program.paused, "Received while open and not paused");
                assert!(program.is_received_due, "Received without progress");
                program.is_received_due = false;
            }
            Pending::Full => {
                assert!(program.opened && !program.paused, "Full while open and not paused");
                assert!(self.exchange.received().len() == 2, "Full while there is room");
                assert!(!program.was_clogged, "Full before Drained");
                assert!(!program.is_received_due, "Full before Received");
                assert!(!program.heard_full, "Full twice without room between");
                program.heard_full = true;
            }
            Pending::Drained => {
                assert!(program.was_clogged, "Drained only after it was clogged");
                assert!(!self.exchange.clogged, "Drained while it is clogged");
                program.was_clogged = false;
                // It announces what is left.
                program.is_received_due |= !self.exchange.received().is_empty();
            }
            Pending::Deadline => {}
            Pending::PeerFinished => {
                assert!(!program.heard_finished, "PeerFinished is delivered once");
                assert!(!program.paused, "PeerFinished while paused");
                assert!(!program.is_received_due, "PeerFinished before what was received");
                program.heard_finished = true;
            }
            Pending::Closed => {
                program.heard_closed = true;
                let hears_all = program.has_closed || program.paused;
                assert!(hears_all || !program.is_received_due, "Closed before what was received");
                let finished = before.kept.reason.is_none();
                assert!(finished || self.exchange.reason().is_some(), "Closed has a reason");
            }
        }
        // The program may set a deadline for a connect, and a connect may fail.
        let may_come_first = matches!(event, Pending::Deadline | Pending::Closed);
        assert!(program.opened || may_come_first, "{event:?} before it was opened");
    }
}
