//! The standard traits on a [`Stream`]: `Read`, `BufRead` and `Write`, none of which blocks.
//!
//! The standard library's own `read_line`, `read_exact` and their kin consume half of what they
//! look for before they give `WouldBlock`, and so lose it. Here each of them first looks whether
//! the whole is there.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};

use crate::connection::Stream;
use crate::transfer::would_block;

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        let available = self.fill_buf()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }

    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        let count = into.len();
        if self.received().len() < count {
            return Err(match self.exchange.end_of_input() {
                Some(Ok(())) => ErrorKind::UnexpectedEof.into(),
                Some(Err(reason)) => reason.to_error(),
                None if count > self.exchange.limits().read_buffer_max => never_whole(),
                None => would_block(),
            });
        }
        into.copy_from_slice(&self.received()[..count]);
        self.consume(count);
        Ok(())
    }

    fn read_to_end(&mut self, into: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.whole_to_end()?;
        into.extend_from_slice(self.received());
        self.consume(count);
        Ok(count)
    }

    fn read_to_string(&mut self, into: &mut String) -> io::Result<usize> {
        let count = self.whole_to_end()?;
        self.take_text(count, into)
    }
}

impl BufRead for Stream {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        match self.exchange.end_of_input() {
            _ if !self.received().is_empty() => Ok(self.received()),
            Some(Ok(())) => Ok(&[]),
            Some(Err(reason)) => Err(reason.to_error()),
            None => Err(would_block()),
        }
    }

    fn consume(&mut self, count: usize) {
        self.exchange.consume(count);
    }

    fn read_until(&mut self, delimiter: u8, into: &mut Vec<u8>) -> io::Result<usize> {
        let count = self.whole_until(delimiter)?;
        into.extend_from_slice(&self.received()[..count]);
        self.consume(count);
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

impl Write for Stream {
    /// Appends all of `bytes`, as [`Stream::send`] does.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.send(bytes);
        Ok(bytes.len())
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        for slice in slices {
            self.send(slice);
        }
        Ok(slices.iter().map(|slice| slice.len()).sum())
    }

    /// Does nothing: what was appended leaves at a later call into the loop.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    /// How many bytes are up to and with the delimiter, or up to the end.
    fn whole_until(&mut self, delimiter: u8) -> io::Result<usize> {
        match self.exchange.find(delimiter) {
            Some(count) => Ok(count),
            None if self.exchange.room() == 0 && !self.exchange.is_at_end() => Err(never_whole()),
            None => self.whole_to_end(),
        }
    }

    /// How many bytes are left, once the end is among them. A connection that ended with an error
    /// has no end: what it has received is not whole.
    fn whole_to_end(&self) -> io::Result<usize> {
        match self.exchange.end_of_input() {
            Some(Ok(())) => Ok(self.received().len()),
            Some(Err(reason)) => Err(reason.to_error()),
            None if self.exchange.is_overfull() => Err(never_whole()),
            None => Err(would_block()),
        }
    }

    /// Takes `count` received bytes as text, or none of them.
    fn take_text(&mut self, count: usize, into: &mut String) -> io::Result<usize> {
        let text = std::str::from_utf8(&self.received()[..count]);
        into.push_str(text.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?);
        self.consume(count);
        Ok(count)
    }
}

fn never_whole() -> io::Error {
    let message = "longer than the read buffer: read in pieces, or raise read_buffer_max";
    io::Error::new(ErrorKind::InvalidData, message)
}
