//! Both directions of a connection, lent at once, so that received bytes can be sent, parsed and
//! answered without copying them; and whole messages taken from the read buffer.

use std::io::{self, ErrorKind};

use super::Stream;
use crate::attempt::would_block;
use crate::buffer::Buffer;
use crate::event::{CloseReason, Failure};
use crate::exchange::WriteSide;

/// The receiving direction of a [`Stream`], lent by [`Stream::halves`].
///
/// It takes whole messages without copying them: a line ([`take_line`](Self::take_line)),
/// everything up to a delimiter ([`take_until`](Self::take_until)), or a fixed number of bytes
/// ([`take_exact`](Self::take_exact)). Each method returns `None` while the message is incomplete,
/// and an error when it can never be whole. None of them allocates, whatever length a peer claims.
/// No byte is searched twice for the same delimiter.
#[derive(Debug)]
pub struct ReadHalf<'s> {
    pub(super) buffer: &'s mut Buffer,
    /// The limit `read_buffer_max`.
    max: usize,
    end: Option<Result<(), CloseReason>>,
    is_overfull: bool,
}

/// The sending direction of a [`Stream`], lent by [`Stream::halves`].
#[derive(Debug)]
pub struct WriteHalf<'s> {
    pub(super) write_side: &'s mut WriteSide,
}

impl Stream {
    /// Lends both directions at once.
    ///
    /// ```
    /// /// Answers each line with its length.
    /// fn answer(connection: &mut readiness::Connection<()>) -> std::io::Result<()> {
    ///     let (mut read, mut write) = connection.halves();
    ///     while let Some(line) = read.take_line(1_000)? {
    ///         write.send(line); // borrowed from the read buffer
    ///         write.send(format!(": {} bytes\n", line.len()).as_bytes());
    ///     }
    ///     Ok(())
    /// }
    /// ```
    #[doc(alias = "split")]
    pub fn halves(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        let (end, is_overfull) = (self.exchange.end_of_input(), self.exchange.is_overfull());
        let max = self.exchange.limits().read_buffer_max;
        let (buffer, write_side) = self.exchange.halves();
        (ReadHalf { buffer, max, end, is_overfull }, WriteHalf { write_side })
    }
}

impl ReadHalf<'_> {
    /// Returns the bytes received and not yet consumed.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// Consumes the first `count` received bytes: see [`Stream::consume`].
    ///
    /// # Panics
    ///
    /// Panics if fewer bytes were received.
    pub fn consume(&mut self, count: usize) {
        self.buffer.consume(count);
    }

    /// Takes a line and returns it without its line ending (`\n` or `\r\n`). At end of file, bytes
    /// after the last line ending are a line too.
    ///
    /// `max` bounds the line with its ending, in bytes.
    ///
    /// ```
    /// use readiness::{Event, EventLoop};
    /// use std::io::Write;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let mut server: EventLoop = EventLoop::new()?;
    /// # let listener = server.listen("127.0.0.1:0")?;
    /// # let mut peer = std::net::TcpStream::connect(server.listener_addr(listener)?)?;
    /// peer.write_all(b"one\r\ntwo\nthr")?;
    /// loop {
    ///     if let Event::Received(id) = server.next_event()? {
    ///         let (mut read, _) = server[id].halves();
    ///         assert_eq!(read.take_line(100)?, Some(&b"one"[..]));
    ///         assert_eq!(read.take_line(100)?, Some(&b"two"[..]));
    ///         assert_eq!(read.take_line(100)?, None);
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns `InvalidData` if the line is longer than `max`, `InvalidInput` if `max` is above
    /// [`read_buffer_max`](crate::ConnectionLimits::read_buffer_max), or the error with which the
    /// connection ended if it did so within a line. Nothing is consumed then.
    pub fn take_line(&mut self, max: usize) -> io::Result<Option<&[u8]>> {
        let line = self.take_until(b'\n', max)?;
        Ok(line.map(|line| {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            line.strip_suffix(b"\r").unwrap_or(line)
        }))
    }

    /// Takes everything up to a delimiter and returns it with the delimiter. At end of file, bytes
    /// after the last delimiter are taken too.
    ///
    /// `max` bounds what is taken with the delimiter, in bytes.
    ///
    /// # Errors
    ///
    /// Returns `InvalidData` if there are more than `max` bytes, `InvalidInput` if `max` is above
    /// [`read_buffer_max`](crate::ConnectionLimits::read_buffer_max), or the error with which the
    /// connection ended if it did so before a delimiter. Nothing is consumed then.
    pub fn take_until(&mut self, delimiter: u8, max: usize) -> io::Result<Option<&[u8]>> {
        if max > self.max {
            let message = "max is above read_buffer_max";
            return Err(io::Error::new(ErrorKind::InvalidInput, message));
        }
        let count = match self.buffer.find(delimiter) {
            Some(count) => count,
            None if self.has_ended()? => self.buffer.len(),
            // With the delimiter it would be longer still.
            None if self.buffer.len() >= max => return Err(too_long(max)),
            None => 0,
        };
        if count > max {
            return Err(too_long(max));
        }
        Ok(self.take(count))
    }

    /// Takes exactly `count` bytes.
    ///
    /// # Errors
    ///
    /// Returns `InvalidData` if `count` is above
    /// [`read_buffer_max`](crate::ConnectionLimits::read_buffer_max), `UnexpectedEof` if the peer
    /// finished before that many bytes, or the error with which the connection ended. Nothing is
    /// consumed then.
    pub fn take_exact(&mut self, count: usize) -> io::Result<Option<&[u8]>> {
        if count <= self.buffer.len() {
            // Not `take`: here zero bytes are a whole message.
            return Ok(Some(self.buffer.take(count)));
        }
        if self.has_ended()? {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        if count > self.max {
            return Err(never_whole());
        }
        Ok(self.take(0))
    }

    /// Takes `count` bytes. Zero means that the message is incomplete; the program knows it now, so
    /// `Received` is not repeated for the same bytes.
    fn take(&mut self, count: usize) -> Option<&[u8]> {
        if count == 0 {
            self.buffer.forget_progress();
            return None;
        }
        Some(self.buffer.take(count))
    }

    // For the standard traits.

    /// Returns whether nothing follows the received bytes. Fails if the connection ended with an
    /// error.
    pub(super) fn has_ended(&self) -> io::Result<bool> {
        let end = self.end.transpose().map_err(CloseReason::to_error)?;
        Ok(end.is_some())
    }

    /// Returns how many bytes there are up to and including the delimiter, or up to the end of
    /// file.
    pub(super) fn whole_until(&mut self, delimiter: u8) -> io::Result<usize> {
        match self.buffer.find(delimiter) {
            Some(count) => Ok(count),
            None if self.buffer.len() >= self.max && self.end.is_none() => Err(never_whole()),
            None => self.whole_to_end(),
        }
    }

    /// Returns how many bytes are left, once the end of file has been received. A connection that
    /// ended with an error has none: its input is not whole.
    pub(super) fn whole_to_end(&mut self) -> io::Result<usize> {
        if self.has_ended()? {
            return Ok(self.buffer.len());
        }
        if self.is_overfull && self.buffer.len() >= self.max {
            return Err(never_whole());
        }
        // The program knows now that more must come.
        self.buffer.forget_progress();
        Err(would_block())
    }
}

impl WriteHalf<'_> {
    /// Appends `bytes` to the unsent bytes: see [`Stream::send`].
    pub fn send(&mut self, bytes: &[u8]) {
        self.write_side.send(bytes);
    }

    /// Returns how many bytes the program has sent and the kernel has not taken yet.
    #[must_use]
    pub fn unsent(&self) -> usize {
        self.write_side.unsent()
    }

    /// Returns how many bytes will never be sent: see [`Stream::lost`].
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.write_side.lost()
    }

    /// Returns whether the program should stop sending: see [`Stream::is_clogged`].
    #[must_use]
    pub fn is_clogged(&self) -> bool {
        self.write_side.is_clogged()
    }

    /// Ends our direction once everything unsent has left: see [`Stream::finish`].
    pub fn finish(&mut self) {
        self.write_side.finish();
    }

    /// Closes the connection gracefully: see [`Stream::close`].
    pub fn close(&mut self) {
        self.write_side.close();
    }

    /// Closes the connection gracefully and gives a reason: see [`Stream::close_with`].
    pub fn close_with(&mut self, reason: impl Into<Failure>) {
        self.write_side.reject(reason.into());
        self.write_side.close();
    }

    /// Closes the connection at once with a reset: see [`Stream::abort`].
    pub fn abort(&mut self) {
        self.write_side.abort();
    }

    /// Closes the connection at once and gives a reason: see [`Stream::abort_with`].
    pub fn abort_with(&mut self, reason: impl Into<Failure>) {
        self.write_side.reject(reason.into());
        self.write_side.abort();
    }

    /// Stops reading: see [`Stream::pause`].
    pub fn pause(&mut self) {
        self.write_side.pause();
    }
}

fn too_long(max: usize) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("a message is longer than {max} bytes"))
}

fn never_whole() -> io::Error {
    let message = "longer than the read buffer: read in pieces, or raise read_buffer_max";
    io::Error::new(ErrorKind::InvalidData, message)
}
