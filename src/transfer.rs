//! Fill and flush: moving bytes between a socket and an exchange.
//!
//! The socket is any `impl Read` or `impl Write` that does not block, so that every way in which a
//! kernel can answer is tested here with a script. One fill or flush goes on until its budget is
//! spent, the exchange has no room or nothing to send, or the socket has answered that it is not
//! ready; what that answer disproves is cleared from the remembered readiness.
//!
//! `WouldBlock` and `Interrupted` are named in this file only: everywhere else a system call is an
//! [`Attempt`].

use std::io::{self, ErrorKind, Read, Write};

use crate::buffer::Buffer;
use crate::event::CloseReason;
use crate::exchange::Exchange;
use crate::interest::Readiness;
use crate::pool::Pool;

/// How a system call that does not block came out.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    Done(T),
    NotReady,
    Failed(io::Error),
}

impl<T> Attempt<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(value) => Attempt::Done(change(value)),
            Self::NotReady => Attempt::NotReady,
            Self::Failed(error) => Attempt::Failed(error),
        }
    }
}

/// Makes a system call, again if a signal interrupted it.
#[inline(always)]
pub(crate) fn attempt<T>(mut call: impl FnMut() -> io::Result<T>) -> Attempt<T> {
    match call() {
        Ok(value) => Attempt::Done(value),
        Err(error) => attempt_again(error, call),
    }
}

#[cold]
#[inline(never)]
fn attempt_again<T>(mut error: io::Error, mut call: impl FnMut() -> io::Result<T>) -> Attempt<T> {
    while was_interrupted(&error) {
        match call() {
            Ok(value) => return Attempt::Done(value),
            Err(next) => error = next,
        }
    }
    if error.kind() == ErrorKind::WouldBlock { Attempt::NotReady } else { Attempt::Failed(error) }
}

/// Whether a signal interrupted a call: no error, only a reason to try again.
#[cold]
pub(crate) fn was_interrupted(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted
}

/// What a connection answers where a blocking socket would wait.
pub(crate) fn would_block() -> io::Error {
    ErrorKind::WouldBlock.into()
}

/// Why a fill or flush came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// We stopped: the budget is spent, or there is no room for more.
    Ours,
    /// Nothing is left to send.
    Done,
    /// The socket is not ready for more.
    NotReady,
    /// The peer's direction is at its end.
    Ended,
    /// The call failed; the reason is in the exchange.
    Failed,
}

/// What one fill or flush came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transferred {
    pub(crate) count: usize,
    pub(crate) stop: Stop,
}

/// Reads into the read buffer, or reads and throws away if the exchange only waits for the end.
///
/// `wanted` is [`Exchange::wanted`], and `short_proves_empty` says whether a read that returns less
/// than there was room for has emptied the socket.
#[inline(always)]
pub(crate) fn fill(
    exchange: &mut Exchange,
    socket: &mut impl Read,
    pool: &mut Pool,
    wanted: usize,
    short_proves_empty: bool,
) -> Transferred {
    if exchange.discards() {
        return fill_on(exchange, socket, pool, short_proves_empty, 0);
    }
    // Most fills come to one read, which need not carry what a loop does.
    let max = wanted.min(exchange.limits().read_budget);
    match read_once(exchange, socket, pool, max, false, short_proves_empty) {
        (count, Some(stop)) => Transferred { count, stop },
        (count, None) => fill_on(exchange, socket, pool, short_proves_empty, count),
    }
}

/// Goes on with a fill that has come to `count` bytes.
#[cold]
#[inline(never)]
fn fill_on(
    exchange: &mut Exchange,
    socket: &mut impl Read,
    pool: &mut Pool,
    short_proves_empty: bool,
    mut count: usize,
) -> Transferred {
    loop {
        let max = exchange.wanted().min(exchange.limits().read_budget - count);
        let discards = exchange.discards();
        let (more, stop) = read_once(exchange, socket, pool, max, discards, short_proves_empty);
        count += more;
        if let Some(stop) = stop {
            return Transferred { count, stop };
        }
    }
}

/// Reads once, and says how much it was and, unless there may be more, why to stop.
#[inline(always)]
fn read_once(
    exchange: &mut Exchange,
    socket: &mut impl Read,
    pool: &mut Pool,
    max: usize,
    discards: bool,
    short_proves_empty: bool,
) -> (usize, Option<Stop>) {
    if max == 0 {
        return (0, Some(Stop::Ours));
    }
    let mut scratch = Buffer::default();
    let buffer = if discards { &mut scratch } else { exchange.read_buffer() };
    let room = pool.room(buffer, max);
    let asked = room.len();
    let (count, stop) = match attempt(|| socket.read(room)) {
        Attempt::Done(0) => {
            exchange.peer_ended();
            (0, Some(Stop::Ended))
        }
        Attempt::Done(count) => {
            if !discards {
                exchange.filled(count);
            }
            let is_short = count < asked && short_proves_empty;
            if is_short && !exchange.readiness.is_hinted() {
                exchange.readiness.clear(Readiness::READABLE);
                (count, Some(Stop::NotReady))
            } else {
                (count, None)
            }
        }
        Attempt::NotReady => {
            exchange.readiness.clear(Readiness::READABLE | Readiness::HINTED);
            (0, Some(Stop::NotReady))
        }
        Attempt::Failed(error) => (0, Some(read_failed(exchange, error))),
    };
    if discards {
        pool.reclaim_empty(&mut scratch);
    } else if count == 0 {
        pool.reclaim_empty(exchange.read_buffer());
    }
    (count, stop)
}

/// Writes the unsent bytes, at most `budget` of them.
#[inline(always)]
pub(crate) fn flush(
    exchange: &mut Exchange,
    socket: &mut impl Write,
    pool: &mut Pool,
    budget: usize,
    short_proves_full: bool,
) -> Transferred {
    match write_once(exchange, socket, pool, budget, short_proves_full) {
        (count, Some(stop)) => Transferred { count, stop },
        (count, None) => flush_on(exchange, socket, pool, budget, short_proves_full, count),
    }
}

/// Goes on with a flush that has come to `count` bytes.
#[cold]
#[inline(never)]
fn flush_on(
    exchange: &mut Exchange,
    socket: &mut impl Write,
    pool: &mut Pool,
    budget: usize,
    short_proves_full: bool,
    mut count: usize,
) -> Transferred {
    loop {
        let left = budget - count;
        let (more, stop) = write_once(exchange, socket, pool, left, short_proves_full);
        count += more;
        if let Some(stop) = stop {
            return Transferred { count, stop };
        }
    }
}

/// Writes once, and says how much it was and, unless there may be room for more, why to stop.
#[inline(always)]
fn write_once(
    exchange: &mut Exchange,
    socket: &mut impl Write,
    pool: &mut Pool,
    budget: usize,
    short_proves_full: bool,
) -> (usize, Option<Stop>) {
    let unsent = exchange.unsent_bytes();
    let all = unsent.len();
    let asked = all.min(budget);
    if asked == 0 {
        return (0, Some(if all == 0 { Stop::Done } else { Stop::Ours }));
    }
    match attempt(|| socket.write(&unsent[..asked])) {
        Attempt::Done(0) => (0, Some(write_failed(exchange, ErrorKind::WriteZero.into()))),
        Attempt::Done(count) if count == all => {
            pool.give(exchange.flushed_all());
            (count, Some(Stop::Done))
        }
        Attempt::Done(count) => {
            exchange.flushed(count);
            if count == asked {
                (count, Some(Stop::Ours))
            } else if short_proves_full {
                exchange.readiness.clear(Readiness::WRITABLE);
                (count, Some(Stop::NotReady))
            } else {
                (count, None)
            }
        }
        Attempt::NotReady => {
            exchange.readiness.clear(Readiness::WRITABLE);
            (0, Some(Stop::NotReady))
        }
        Attempt::Failed(error) => (0, Some(write_failed(exchange, error))),
    }
}

#[cold]
fn read_failed(exchange: &mut Exchange, error: io::Error) -> Stop {
    exchange.read_failed(CloseReason::of(&error));
    Stop::Failed
}

#[cold]
fn write_failed(exchange: &mut Exchange, error: io::Error) -> Stop {
    exchange.write_failed(CloseReason::of(&error));
    Stop::Failed
}

#[cfg(test)]
mod tests;
