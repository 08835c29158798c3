//! The bytes that are sent: each depends on its position in its stream, so that a byte that is
//! lost, doubled or out of place is noticed.
//!
//! They repeat after a number of bytes that is no multiple of any message's or buffer's size. They
//! are laid out once, so that sending is a slice and verifying a comparison of memory.

use std::io;

/// The longest slice that can be asked for.
pub(crate) const SLICE_MAX: usize = 256 * 1024;

/// A prime; the laid-out period fits the fastest cache.
const PERIOD: usize = 4_093;
/// A prime.
const LINES: usize = 61;

pub(crate) struct Pattern {
    bytes: Vec<u8>,
    period: usize,
    /// Streams start at multiples of this.
    step: usize,
}

impl Pattern {
    pub(crate) fn new() -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        Self::laid_out(PERIOD, 1, |_| noise(&mut state) as u8)
    }

    /// Returns lines of printable characters, each of `size` bytes with its end.
    pub(crate) fn lines(size: usize) -> Self {
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        Self::laid_out(LINES * size, size, |at| match at % size {
            last if last == size - 1 => b'\n',
            _ => b'a' + (noise(&mut state) % 26) as u8,
        })
    }

    fn laid_out(period: usize, step: usize, byte: impl FnMut(usize) -> u8) -> Self {
        let once: Vec<u8> = (0..period).map(byte).collect();
        let bytes = once.iter().copied().cycle().take(period + SLICE_MAX).collect();
        Self { bytes, period, step }
    }

    /// Returns where the stream of a number starts: neighbours differ.
    pub(crate) fn start(&self, number: usize) -> u64 {
        (number * 37 * self.step % self.period) as u64
    }

    /// Returns what a stream has at a position.
    pub(crate) fn slice(&self, position: u64, count: usize) -> &[u8] {
        let at = (position % self.period as u64) as usize;
        &self.bytes[at..at + count]
    }

    /// Checks that the echo is what a stream has at a position.
    pub(crate) fn verify(&self, position: u64, bytes: &[u8]) -> io::Result<()> {
        for (nth, part) in bytes.chunks(SLICE_MAX).enumerate() {
            let position = position + (nth * SLICE_MAX) as u64;
            if part != self.slice(position, part.len()) {
                let message = format!("a wrong byte among {} at {position}", part.len());
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
        }
        Ok(())
    }
}

/// Xorshift's next number.
fn noise(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state >> 24
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifted_by_a_message_is_wrong() -> io::Result<()> {
        for (pattern, size) in [(Pattern::new(), 64), (Pattern::lines(64), 64)] {
            let sent = pattern.slice(64_000, 640).to_vec();
            pattern.verify(64_000, &sent)?;
            assert!(pattern.verify(64_000 + size, &sent).is_err());
            assert!(pattern.verify(64_000 - size, &sent).is_err());
        }
        Ok(())
    }

    #[test]
    fn one_byte_changed_is_wrong() {
        let pattern = Pattern::new();
        let mut sent = pattern.slice(7, 1000).to_vec();
        sent[999] ^= 1;
        assert!(pattern.verify(7, &sent).is_err());
    }

    #[test]
    fn neighbours_differ() {
        let pattern = Pattern::lines(64);
        let [one, other] = [0, 1].map(|number| pattern.slice(pattern.start(number), 64));
        assert_ne!(one, other);
        assert!(one.ends_with(b"\n") && other.ends_with(b"\n"));
    }
}
