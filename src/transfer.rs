//! Fill and flush: moving bytes between a socket and an exchange.
//!
//! The socket is any `impl Read` or `impl Write` that does not block, so a test can script every
//! answer that a kernel can give. One fill or flush goes on until its budget is spent, the exchange
//! has no room or nothing to send, or the socket is not ready (`EAGAIN`); that answer clears the
//! remembered readiness. The one read and the one write of a common message do not come here: they
//! are the fast path, in `connection/serving.rs` and `connection/settling.rs`.

use std::io::{self, ErrorKind, Read, Write};

use crate::attempt::{Attempt, Peek, attempt};
use crate::buffer::Buffer;
use crate::event::CloseReason;
use crate::exchange::Exchange;
use crate::pool::Pool;
use crate::readiness::Readiness;

/// A socket whose first call was made already, with this outcome.
pub(crate) struct Begun<S> {
    pub(crate) outcome: Option<io::Result<usize>>,
    pub(crate) socket: S,
}

impl<S: Read> Read for Begun<S> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.outcome.take().unwrap_or_else(|| self.socket.read(room))
    }
}

impl<S: Peek> Peek for Begun<S> {
    fn peek(&mut self) -> io::Result<bool> {
        self.socket.peek()
    }
}

impl<S: Write> Write for Begun<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outcome.take().unwrap_or_else(|| self.socket.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush()
    }
}

/// Why a fill or flush stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopReason {
    /// The budget is spent, there is no room for more, or nothing more to send.
    Ours,
    /// The socket is not ready for more.
    NotReady,
    /// The peer's end of file (EOF) was read.
    Ended,
    /// The call failed; the reason is in the exchange.
    Failed,
}

/// The outcome of one fill or flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Transferred {
    pub(crate) count: usize,
    pub(crate) stop: StopReason,
}

/// Reads into the read buffer, or discards what it reads if only the end is awaited. If the read
/// buffer is full, looks for the end of file after it.
///
/// `short_proves_empty` says whether a read that returns less than there was room for proves that
/// the socket is empty.
pub(crate) fn fill(
    exchange: &mut Exchange,
    socket: &mut (impl Read + Peek),
    pool: &mut Pool,
    short_proves_empty: bool,
) -> Transferred {
    let budget = exchange.limits().read_budget;
    let mut scratch = Buffer::default();
    let mut count = 0;
    let stop = loop {
        let wanted = exchange.wanted();
        let max = wanted.min(budget - count);
        if max == 0 {
            let looks = count < budget && exchange.looks_for_end();
            break if looks { look_for_end(exchange, socket) } else { StopReason::Ours };
        }
        let discards = exchange.discards();
        let buffer = if discards { &mut scratch } else { exchange.read_buffer() };
        // For all that is wanted, so that a block which is too small doubles, whatever the budget.
        let room = pool.room(buffer, wanted);
        let asked = room.len().min(max);
        match attempt(|| socket.read(&mut room[..asked])) {
            Attempt::Done(0) => {
                exchange.peer_ended();
                break StopReason::Ended;
            }
            Attempt::Done(read) => {
                count += read;
                if !discards {
                    exchange.filled(read);
                }
                let is_short = read < asked && short_proves_empty;
                if is_short && !exchange.readiness().is_hup() {
                    exchange.disproved(Readiness::READABLE);
                    break StopReason::NotReady;
                }
            }
            Attempt::NotReady => {
                exchange.disproved(Readiness::READABLE | Readiness::HUP);
                break StopReason::NotReady;
            }
            Attempt::Failed(error) => break read_failed(exchange, error),
        }
    };
    pool.reclaim_empty(&mut scratch);
    pool.reclaim_empty(exchange.read_buffer());
    Transferred { count, stop }
}

/// Checks whether an end of file follows a full read buffer.
#[cold]
fn look_for_end(exchange: &mut Exchange, socket: &mut impl Peek) -> StopReason {
    match attempt(|| socket.peek()) {
        Attempt::Done(true) => {
            exchange.found_more();
            StopReason::Ours
        }
        Attempt::Done(false) => {
            exchange.peer_ended();
            StopReason::Ended
        }
        Attempt::NotReady => {
            exchange.disproved(Readiness::READABLE | Readiness::HUP);
            StopReason::NotReady
        }
        Attempt::Failed(error) => read_failed(exchange, error),
    }
}

/// Writes at most `budget` of the unsent bytes.
pub(crate) fn flush(
    exchange: &mut Exchange,
    socket: &mut impl Write,
    budget: usize,
    short_proves_full: bool,
) -> Transferred {
    let mut count = 0;
    let stop = loop {
        let unsent = exchange.unsent_bytes();
        let asked = unsent.len().min(budget - count);
        if asked == 0 {
            break StopReason::Ours;
        }
        match attempt(|| socket.write(&unsent[..asked])) {
            Attempt::Done(0) => break write_failed(exchange, ErrorKind::WriteZero.into()),
            Attempt::Done(written) => {
                exchange.flushed(written);
                count += written;
                if written == asked {
                    break StopReason::Ours;
                }
                if short_proves_full {
                    exchange.disproved(Readiness::WRITABLE);
                    break StopReason::NotReady;
                }
            }
            Attempt::NotReady => {
                exchange.disproved(Readiness::WRITABLE);
                break StopReason::NotReady;
            }
            Attempt::Failed(error) => break write_failed(exchange, error),
        }
    };
    Transferred { count, stop }
}

/// Reads at most `budget` bytes of what has arrived and discards them. Returns their number.
pub(crate) fn discard(socket: &mut impl Read, pool: &mut Pool, budget: usize) -> usize {
    let mut block = pool.take();
    let mut count = 0;
    while count < budget
        && let Attempt::Done(read @ 1..) = attempt(|| socket.read(block.room(budget - count)))
    {
        count += read;
    }
    pool.give(Some(block));
    count
}

#[cold]
fn read_failed(exchange: &mut Exchange, error: io::Error) -> StopReason {
    exchange.end(CloseReason::of(&error));
    StopReason::Failed
}

#[cold]
fn write_failed(exchange: &mut Exchange, error: io::Error) -> StopReason {
    exchange.write_failed(CloseReason::of(&error));
    StopReason::Failed
}

#[cfg(test)]
mod tests;
