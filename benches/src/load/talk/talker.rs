//! One connection of a talk, and its two ways to move bytes: conversing and streaming.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

use mio::net::TcpStream;

use super::Shared;
use crate::load::{Group, Manner};

/// What a stream sends at once.
const CHUNK: usize = 64 * 1024;
/// What one that is slow reads at once.
const SLOW: usize = 16 * 1024;

pub(super) struct Talker {
    pub(super) socket: TcpStream,
    pub(super) manner: Manner,
    size: usize,
    /// Of the first group.
    measured: bool,
    /// Positions in its stream, which begins at `start` of the pattern.
    start: u64,
    sent: u64,
    received: u64,
    /// Bytes of begun messages that the kernel has not taken yet.
    owed: usize,
    /// When each message under way was begun, the oldest first.
    begun: VecDeque<Instant>,
    /// Streams only: what the kernel reported last, and whether it is in the queue.
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) queued: bool,
}

impl Talker {
    pub(super) fn new(socket: TcpStream, group: &Group, measured: bool, start: u64) -> Self {
        Self {
            socket,
            manner: group.manner,
            size: group.size,
            measured,
            start,
            sent: 0,
            received: 0,
            owed: 0,
            begun: VecDeque::new(),
            readable: false,
            writable: false,
            queued: false,
        }
    }

    /// Sends the first messages. A stream begins with its first event.
    pub(super) fn begin(&mut self, shared: &mut Shared) -> io::Result<()> {
        match self.manner {
            Manner::InFlight(count) => self.begin_messages(shared, count, Instant::now()),
            _ => Ok(()),
        }
    }

    /// Takes what has arrived, and begins a message for each that is complete.
    pub(super) fn converse(
        &mut self,
        shared: &mut Shared,
        readable: bool,
        writable: bool,
    ) -> io::Result<()> {
        if writable && self.owed > 0 {
            self.send_unsent(shared)?;
        }
        if readable { self.take_all(shared) } else { Ok(()) }
    }

    fn take_all(&mut self, shared: &mut Shared) -> io::Result<()> {
        let room = shared.buffer.len();
        while let Some(count) = self.receive(shared, room)? {
            let now = Instant::now();
            let complete = self.complete_messages(shared, now);
            if shared.meter.goes_on() && complete > 0 {
                self.begin_messages(shared, complete, now)?;
            }
            if count < room {
                break; // there is no more, or there will be another edge
            }
        }
        Ok(())
    }

    fn complete_messages(&mut self, shared: &mut Shared, now: Instant) -> usize {
        let begun = self.sent + self.owed as u64;
        let open = (begun - self.received).div_ceil(self.size as u64) as usize;
        let complete = self.begun.len() - open;
        for began in self.begun.drain(..complete) {
            if self.measured {
                shared.meter.complete(Some(now - began));
            }
        }
        complete
    }

    fn begin_messages(
        &mut self,
        shared: &mut Shared,
        count: usize,
        now: Instant,
    ) -> io::Result<()> {
        self.begun.extend(std::iter::repeat_n(now, count));
        shared.under_way += (count * self.size) as u64;
        self.owed += count * self.size;
        self.send_unsent(shared)
    }

    fn send_unsent(&mut self, shared: &Shared) -> io::Result<()> {
        let count = self.send(shared, self.owed)?;
        self.owed -= count;
        Ok(())
    }

    /// One step of a stream: one read, one write.
    pub(super) fn stream(&mut self, shared: &mut Shared) -> io::Result<()> {
        if self.readable {
            let most = if self.manner == Manner::Slow { SLOW } else { shared.buffer.len() };
            let before = self.received / self.size as u64;
            match self.receive(shared, most)? {
                None => self.readable = false,
                Some(count) if !self.measured => shared.meter.note_background(count),
                Some(_) => {
                    for _ in before..self.received / self.size as u64 {
                        shared.meter.complete(None);
                    }
                }
            }
        }
        if self.writable && shared.meter.goes_on() {
            let count = self.send(shared, CHUNK)?;
            self.writable = count == CHUNK;
            shared.under_way += count as u64;
        }
        Ok(())
    }

    /// Returns whether there is another step without a new event.
    pub(super) fn can_go_on(&self, shared: &Shared) -> bool {
        self.manner == Manner::Stream && (self.readable || self.writable && shared.meter.goes_on())
    }

    /// Reads once, `most` bytes at most, and verifies; `None` if nothing is there.
    fn receive(&mut self, shared: &mut Shared, most: usize) -> io::Result<Option<usize>> {
        let count = match self.socket.read(&mut shared.buffer[..most]) {
            Ok(0) => return Err(ended_early()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.received + count as u64 > self.sent {
            let message = "more came back than was sent";
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        shared.pattern.verify(self.start + self.received, &shared.buffer[..count])?;
        self.received += count as u64;
        shared.under_way -= count as u64;
        Ok(Some(count))
    }

    /// Sends once; returns how much the kernel took.
    fn send(&mut self, shared: &Shared, count: usize) -> io::Result<usize> {
        let bytes = shared.pattern.slice(self.start + self.sent, count);
        match self.socket.write(bytes) {
            Ok(count) => {
                self.sent += count as u64;
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
            Err(error) => Err(error),
        }
    }
}

fn ended_early() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the server has ended a connection early")
}
