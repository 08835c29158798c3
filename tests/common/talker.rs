//! A peer that never blocks, so that one thread can drive it and the loop by turns.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use super::{pattern, pattern_at, peer};

/// A peer that writes the pattern as far as the kernel takes it, and checks what is echoed against
/// the same pattern.
pub struct Talker {
    pub stream: TcpStream,
    pub written: usize,
    pub read: usize,
    pub at_end: bool,
}

impl Talker {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = peer(address);
        stream.set_nonblocking(true).unwrap();
        Self { stream, written: 0, read: 0, at_end: false }
    }

    /// Writes up to the place `most` of the pattern, and says how much the kernel took now.
    pub fn write_to(&mut self, most: usize) -> usize {
        let before = self.written;
        while self.written < most {
            let piece = pattern(self.written, (most - self.written).min(64 * 1024));
            match self.stream.write(&piece) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("the peer cannot write: {error}"),
            }
        }
        self.written - before
    }

    /// Reads what there is; panics at a byte that is not in its place.
    pub fn read_on(&mut self) {
        let mut bytes = vec![0; 64 * 1024];
        while !self.at_end {
            match self.stream.read(&mut bytes) {
                Ok(0) => self.at_end = true,
                Ok(count) => {
                    for byte in &bytes[..count] {
                        assert_eq!(*byte, pattern_at(self.read), "the byte at {}", self.read);
                        self.read += 1;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the peer cannot read: {error}"),
            }
        }
    }
}
