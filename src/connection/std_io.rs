//! The standard traits, none of which blocks: `Read` and `BufRead` on a [`ReadHalf`], `Write` on a
//! [`WriteHalf`], and all of them on a [`Stream`].
//!
//! The standard library's own `read_line`, `read_exact` and their kin consume part of a message
//! before they return `WouldBlock`, and lose it. Here each of them first checks that the whole has
//! arrived.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};

use super::{ReadHalf, Stream, WriteHalf};
use crate::attempt::would_block;

impl Read for ReadHalf<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let bytes = self.take_exact(into.len())?.ok_or_else(would_block)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.whole_to_end()?;
        into.extend_from_slice(self.buffer.take(count));
        Ok(count)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        let count = self.whole_to_end()?;
        self.take_text(count, into)
    }
}

impl BufRead for ReadHalf<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.buffer.is_empty() && !self.has_ended()? {
            return Err(would_block());
        }
        Ok(self.received())
    }

    fn consume(&mut self, count: usize) {
        ReadHalf::consume(self, count);
    }

    fn read_until(&mut self, delimiter: u8, into: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.whole_until(delimiter)?;
        into.extend_from_slice(self.buffer.take(count));
        Ok(count)
    }

    fn skip_until(&mut self, delimiter: u8) -> io::Result<usize> {
        let count = self.whole_until(delimiter)?;
        self.consume(count);
        Ok(count)
    }

    fn read_line(&mut self, into: &mut String) -> io::Result<usize> {
        let count = self.whole_until(b'\n')?;
        self.take_text(count, into)
    }
}

impl ReadHalf<'_> {
    /// Takes `count` received bytes as text, or none of them.
    fn take_text(&mut self, count: usize, into: &mut String) -> io::Result<usize> {
        let text = std::str::from_utf8(&self.received()[..count]);
        into.push_str(text.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?);
        self.consume(count);
        Ok(count)
    }
}

impl Write for WriteHalf<'_> {
    /// Appends as many of `bytes` as fit below [`unsent_max`](crate::ConnectionLimits::unsent_max),
    /// and returns their number. If some did not fit, the connection is clogged.
    ///
    /// # Errors
    ///
    /// Returns `WouldBlock` if nothing fits, and `BrokenPipe` if bytes can no longer leave.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_side.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut count = 0;
        for slice in slices {
            let taken = match self.write(slice) {
                Err(error) if count == 0 => return Err(error),
                outcome => outcome.unwrap_or(0),
            };
            count += taken;
            if taken < slice.len() {
                break;
            }
        }
        Ok(count)
    }

    /// Appends all of `bytes`, as [`Stream::send`] does.
    ///
    /// [`std::io::copy`] writes with this method, so it ends the connection when more than
    /// [`unsent_max`](crate::ConnectionLimits::unsent_max) bytes accumulate. To copy more, loop
    /// over `write`, stop at `WouldBlock`, and go on at [`Drained`](crate::Event::Drained).
    ///
    /// # Errors
    ///
    /// Returns `BrokenPipe` if the bytes are lost: they can no longer leave, or there are too many,
    /// which ends the connection.
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_side.write_whole(bytes)
    }

    /// Appends all of the formatted text or nothing: see [`write_all`](Self::write_all).
    fn write_fmt(&mut self, what: fmt::Arguments<'_>) -> io::Result<()> {
        self.write_side.write_formatted(what)
    }

    /// Does nothing: the bytes leave at a later call into the loop.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.halves().0.read(into)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.halves().0.read_exact(into)
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        self.halves().0.read_to_end(into)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        self.halves().0.read_to_string(into)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.halves().0.fill_buf()?;
        Ok(self.received())
    }

    fn consume(&mut self, count: usize) {
        Stream::consume(self, count);
    }

    fn read_until(&mut self, delimiter: u8, into: &mut Vec<u8>) -> io::Result<usize> {
        self.halves().0.read_until(delimiter, into)
    }

    fn skip_until(&mut self, delimiter: u8) -> io::Result<usize> {
        self.halves().0.skip_until(delimiter)
    }

    fn read_line(&mut self, into: &mut String) -> io::Result<usize> {
        self.halves().0.read_line(into)
    }
}

/// Writes as a [`WriteHalf`] does.
impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.halves().1.write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.halves().1.write_vectored(slices)
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.halves().1.write_all(bytes)
    }

    fn write_fmt(&mut self, what: fmt::Arguments<'_>) -> io::Result<()> {
        self.halves().1.write_fmt(what)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
