//! Everything of an exchange but the read buffer: the write buffer, the state of both directions,
//! the pending events, and the remembered readiness.
//!
//! Sending, finishing, closing and pausing need this side alone. So it can be lent to a program
//! together with the read buffer, and the program can send what it has received without copying it.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::{Behind, Coupling, Phase};
use crate::attempt::would_block;
use crate::buffer::Buffer;
use crate::event::{CloseReason, Failure};
use crate::limits::ConnectionLimits;
use crate::pending_events::{Pending, PendingEvents};
use crate::readiness::Readiness;
use crate::state::{Input, Intake, State};

/// How the connection ended, and how many bytes were lost.
#[derive(Debug, Default)]
pub(super) struct Ending {
    /// How the connection ended. Invariant: known exactly in the states Broken and Closed.
    pub(super) reason: Option<CloseReason>,
    /// The error for which the program has closed, if it gave one before the connection ended.
    pub(super) rejected: Option<Failure>,
    pub(super) lost: u64,
}

// `repr(C)` keeps the fields that `WriteSide::stands_at` compares side by side.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct WriteSide {
    pub(super) write_buffer: Buffer,
    pub(super) limits: Arc<ConnectionLimits>,
    /// Allocated only when something has ended or was lost.
    pub(super) ending: Option<Box<Ending>>,
    pub(super) state: State,
    pub(super) pending: PendingEvents,
    pub(super) readiness: Readiness,
    pub(super) paused: bool,
    pub(super) coupling: Coupling,
    pub(super) clogged: bool,
    pub(super) half_open: bool,
    pub(super) behind: Behind,
}

impl WriteSide {
    pub(super) fn new(state: State, coupling: Coupling, limits: Arc<ConnectionLimits>) -> Self {
        Self {
            write_buffer: Buffer::default(),
            limits,
            ending: None,
            state,
            pending: PendingEvents::default(),
            readiness: Readiness::default(),
            paused: false,
            coupling,
            clogged: false,
            half_open: false,
            behind: Behind::Unknown,
        }
    }

    // What can be asked.

    pub(crate) fn limits(&self) -> &Arc<ConnectionLimits> {
        &self.limits
    }

    #[inline]
    pub(crate) fn unsent(&self) -> usize {
        self.write_buffer.len()
    }

    #[inline]
    pub(crate) fn unsent_bytes(&self) -> &[u8] {
        self.write_buffer.bytes()
    }

    pub(crate) fn lost(&self) -> u64 {
        self.ending.as_ref().map_or(0, |ending| ending.lost)
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    pub(crate) fn is_connecting(&self) -> bool {
        self.state.intake() == Intake::NotYet
    }

    /// Whether the program has closed, or there is nothing left to close.
    pub(crate) fn is_ending(&self) -> bool {
        use State::*;
        matches!(self.state, ConnectingToClose | Closing | BothClosing | Lingering | Closed)
    }

    /// Returns whether what the program sends can still leave.
    pub(crate) fn takes_bytes(&self) -> bool {
        matches!(self.state, State::Connecting | State::Open | State::PeerFinished)
    }

    pub(crate) fn is_clogged(&self) -> bool {
        self.clogged || !self.takes_bytes()
    }

    pub(crate) fn coupling(&self) -> Coupling {
        self.coupling
    }

    /// Returns why the connection was closed, once it is. The program's own reason takes
    /// precedence.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        let ending = self.ending.as_ref().filter(|_| self.state == State::Closed)?;
        ending.rejected.map(CloseReason::Rejected).or(ending.reason)
    }

    /// Returns how the connection ended or broke, whatever reason the program gave.
    pub(crate) fn reason(&self) -> Option<CloseReason> {
        self.ending.as_ref().and_then(|ending| ending.reason)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    /// Returns whether to close the socket with a reset: if the program wants it, or if bytes are
    /// given up that the peer should have got, because an end of file would tell it that it has
    /// everything. A passed deadline alone is no reason if the kernel has taken every byte: a slow
    /// peer may still be reading them, and a reset would destroy them.
    pub(crate) fn ends_by_reset(&self) -> bool {
        match self.reason().filter(|_| self.is_closed()) {
            None | Some(CloseReason::Finished | CloseReason::Closed) => false,
            Some(CloseReason::Aborted | CloseReason::Overflow) => true,
            Some(
                CloseReason::TimedOut(_)
                | CloseReason::Reset
                | CloseReason::Refused
                | CloseReason::Rejected(_)
                | CloseReason::Failed(_),
            ) => self.unsent() > 0 || self.lost() > 0,
        }
    }

    pub(crate) fn has_timed_out(&self) -> bool {
        self.is_closed() && matches!(self.reason(), Some(CloseReason::TimedOut(_)))
    }

    /// Returns whether it is open and free to read, has no pending event, and is ready for exactly
    /// this.
    #[inline]
    pub(super) fn stands_at(&self, readiness: Readiness) -> bool {
        let Self { state, pending, readiness: remembered, paused, .. } = self;
        // As bytes, so that the compiler compares the four fields at once.
        let standing = [*state as u8, pending.bits(), remembered.bits(), u8::from(*paused)];
        standing == [State::Open as u8, 0, readiness.bits(), 0]
            && self.coupling != Coupling::Writer { has_unsent: true }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            _ if self.is_connecting() => Phase::Connecting,
            State::Broken => Phase::Broken,
            State::Lingering => Phase::Lingering,
            State::Closing | State::BothClosing => Phase::Closing,
            _ if self.has_sendable() && !self.readiness.is_writable() => Phase::Stalled,
            _ => Phase::Unbounded,
        }
    }

    // What the program does.

    /// Appends `bytes`, or loses them if they can no longer leave.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if self.write_whole(bytes).is_err() {
            self.lose(bytes.len());
        }
    }

    /// Appends as many of `bytes` as fit below the limit.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if !self.takes_bytes() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let room = self.limits.unsent_max.saturating_sub(self.unsent());
        let count = bytes.len().min(room);
        self.write_buffer.append(&bytes[..count]);
        self.notice_high_water();
        if count < bytes.len() {
            // `Drained` follows when there is room.
            self.clogged = true;
        }
        if count == 0 { Err(would_block()) } else { Ok(count) }
    }

    /// Appends all of `bytes`, or fails and appends none.
    pub(crate) fn write_whole(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !bytes.is_empty() && !self.has_room_for(bytes.len()) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.write_buffer.append(bytes);
        self.notice_high_water();
        Ok(())
    }

    /// Appends all of the formatted text, or fails and appends nothing.
    pub(crate) fn write_formatted(&mut self, what: fmt::Arguments<'_>) -> io::Result<()> {
        let before = self.unsent();
        let mut text = Appending { buffer: &mut self.write_buffer, before };
        let outcome = fmt::write(&mut text, what);
        let count = text.buffer.len() - before;
        drop(text);
        if outcome.is_err() {
            return Err(io::Error::other("a formatting trait returned an error"));
        }
        if count > 0 && !self.has_room_for(count) {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.write_buffer.extend(count);
        self.notice_high_water();
        Ok(())
    }

    /// Returns whether there are bytes and they may be appended to the unsent ones: any number if
    /// nothing is unsent. Too many end the connection.
    pub(super) fn has_room_for(&mut self, count: usize) -> bool {
        if count == 0 || !self.takes_bytes() {
            return false;
        }
        let room = self.limits.unsent_max.saturating_sub(self.unsent());
        let fits = self.unsent() == 0 || count <= room;
        if !fits {
            self.end(CloseReason::Overflow);
        }
        fits
    }

    /// Counts bytes that were accepted from the program and will never be sent.
    #[cold]
    pub(super) fn lose(&mut self, count: usize) {
        if count > 0 {
            self.ending.get_or_insert_default().lost += count as u64;
        }
    }

    pub(super) fn notice_high_water(&mut self) {
        if self.unsent() > self.limits.high_water {
            self.clogged = true;
            // A `Drained` that is still pending would come too early now.
            self.pending.remove(Pending::Drained);
        }
    }

    pub(super) fn notice_low_water(&mut self) {
        if self.clogged && self.unsent() <= self.limits.low_water {
            self.clogged = false;
            if !self.is_ending() {
                self.pending.add(Pending::Drained);
            }
        }
    }

    pub(crate) fn finish(&mut self) {
        self.state = self.state.on(Input::Finish);
    }

    pub(crate) fn close(&mut self) {
        match self.state {
            State::Connecting | State::ConnectingToFinish if self.unsent() == 0 => {
                self.end(CloseReason::Closed);
            }
            State::Broken => self.end(CloseReason::Closed),
            _ => self.state = self.state.on(Input::Close),
        }
        self.hear_only_the_end();
    }

    pub(crate) fn abort(&mut self) {
        if self.state == State::Broken
            && let Some(ending) = &mut self.ending
        {
            // The program ends the connection before `Closed` says that it is broken.
            ending.reason = Some(CloseReason::Aborted);
        }
        self.end(CloseReason::Aborted);
        self.hear_only_the_end();
    }

    /// Keeps the program's reason for closing, if nothing has ended the connection before.
    pub(crate) fn reject(&mut self, failure: Failure) {
        if !self.is_ending() && self.reason().is_none() {
            self.ending.get_or_insert_default().rejected = Some(failure);
        }
    }

    /// Records that the program has closed: only `Closed` is still delivered, no pause or
    /// coupling holds back the reading any more, and nothing more is received.
    fn hear_only_the_end(&mut self) {
        self.pending.keep_only_closed();
        self.coupling = Coupling::None;
        self.paused = false;
        self.behind = Behind::Nothing;
    }

    /// Pauses reading, unless the program has closed and nothing would be delivered anyway.
    pub(crate) fn pause(&mut self) {
        let is_over = self.is_closed() && !self.pending.contains(Pending::Closed);
        self.paused = self.behind != Behind::Nothing && !is_over;
    }

    pub(crate) fn allow_half_open(&mut self, allowed: bool) {
        self.half_open = allowed;
    }

    /// Changes the limits. The unsent bytes are compared with the new marks at once.
    pub(crate) fn set_limits(&mut self, limits: Arc<ConnectionLimits>) {
        self.limits = limits;
        self.forget_more();
        self.notice_high_water();
        self.notice_low_water();
    }

    pub(crate) fn set_reads_while_unsent(&mut self, reads: bool) {
        match (self.coupling, reads) {
            (Coupling::Itself, true) => self.set_coupling(Coupling::None),
            (Coupling::None, false) => self.set_coupling(Coupling::Itself),
            _ => {}
        }
    }

    pub(crate) fn set_coupling(&mut self, coupling: Coupling) {
        if !self.is_ending() {
            self.coupling = coupling;
        }
    }

    // What the socket brings.

    /// Records that the connect has succeeded: from here on bytes may leave.
    pub(crate) fn connected(&mut self) {
        debug_assert!(self.is_connecting(), "connected while {:?}", self.state);
        self.state = self.state.on(Input::Connected);
        self.try_write();
        if self.state != State::Closing {
            self.pending.add(Pending::Connected);
        }
    }

    /// Records that the peer's end of file was read (EOF, FIN).
    #[cold]
    pub(crate) fn peer_ended(&mut self) {
        match self.state {
            State::Lingering => return self.end(CloseReason::Closed),
            State::Broken => return self.end(CloseReason::Reset),
            _ => {}
        }
        let after = self.state.on(Input::PeerEnded);
        debug_assert!(after != self.state, "an end was read while {:?}", self.state);
        self.state = after;
        if self.state != State::BothClosing {
            self.behind = Behind::End;
            self.pending.add(Pending::PeerFinished);
        }
    }

    /// Records that the kernel took the first `count` unsent bytes.
    pub(crate) fn flushed(&mut self, count: usize) {
        self.write_buffer.consume(count);
        if self.clogged {
            self.notice_low_water();
        }
    }

    /// Records that a write failed, which ends our direction; the unsent bytes are lost.
    #[cold]
    pub(crate) fn write_failed(&mut self, reason: CloseReason) {
        if self.state.on(Input::WriteFailed) != State::Broken {
            return self.end(reason);
        }
        let unsent = self.unsent();
        self.lose(unsent);
        // The block stays until the pool takes it back, as with any other empty buffer.
        self.write_buffer.consume(unsent);
        self.state = State::Broken;
        self.ending.get_or_insert_default().reason = Some(reason);
        // The kernel may still hold bytes of the peer, which are read to their end first.
        self.try_read_to_the_end();
    }

    /// Ends the connection, for this reason unless there is one already. Received bytes stay and
    /// can be read while `Closed` is handled.
    #[cold]
    pub(crate) fn end(&mut self, reason: CloseReason) {
        if self.is_closed() {
            return;
        }
        if self.is_connecting() {
            self.pending.clear();
        }
        self.state = self.state.on(Input::End);
        self.ending.get_or_insert_default().reason.get_or_insert(reason);
        self.coupling = Coupling::None;
        self.pending.add(Pending::Closed);
    }

    /// Drops a pending `Deadline`: the program has set another deadline, or none.
    pub(crate) fn forget_deadline(&mut self) {
        self.pending.remove(Pending::Deadline);
    }

    /// Records that the program's own deadline has passed.
    pub(crate) fn program_deadline_passed(&mut self) {
        if !self.is_ending() {
            self.pending.add(Pending::Deadline);
        }
    }

    /// Records that the read buffer is full and the socket holds more.
    pub(crate) fn found_more(&mut self) {
        self.behind = Behind::More;
    }

    pub(super) fn forget_more(&mut self) {
        if self.behind == Behind::More {
            self.behind = Behind::Unknown;
        }
    }

    /// Returns the buffer to write from.
    #[inline]
    pub(crate) fn write_buffer(&mut self) -> &mut Buffer {
        &mut self.write_buffer
    }
}

/// Appends formatted text to a buffer, and hides it when dropped: the text may not stay, and a
/// formatting trait may panic halfway.
struct Appending<'b> {
    buffer: &'b mut Buffer,
    /// How many bytes the buffer held before.
    before: usize,
}

impl fmt::Write for Appending<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.buffer.append(text.as_bytes());
        Ok(())
    }
}

impl Drop for Appending<'_> {
    fn drop(&mut self) {
        self.buffer.truncate(self.before);
    }
}
