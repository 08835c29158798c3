//! What the kernel has reported about a socket, and the loop remembers.
//!
//! The kernel reports an edge once (*edge-triggered*), so the answer is remembered for each connection,
//! by `exchange/readiness.rs`, until a transfer disproves it (`EAGAIN`).

use std::fmt;
use std::ops::BitOr;

/// What the kernel has reported about a socket and no call has disproved: a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Readiness(u8);

impl Readiness {
    pub(crate) const READABLE: Self = Self(1);
    pub(crate) const WRITABLE: Self = Self(2);
    pub(crate) const HUP: Self = Self(4);

    /// Returns whether a read may return something.
    #[must_use]
    pub fn is_readable(self) -> bool {
        self.has(Self::READABLE)
    }

    /// Returns whether a write may take something.
    #[must_use]
    pub fn is_writable(self) -> bool {
        self.has(Self::WRITABLE)
    }

    /// Returns whether the kernel has reported HUP, an error or urgent data. Each of them can
    /// follow the bytes that a short read returned, without another edge, so a short read then
    /// proves nothing.
    #[must_use]
    pub fn is_hup(self) -> bool {
        self.has(Self::HUP)
    }

    #[inline]
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// Adds what the kernel reports now to what it has reported before.
    pub(crate) fn add(&mut self, reported: Self) {
        self.0 |= reported.0;
    }

    /// Removes what was disproved.
    pub(crate) fn clear(&mut self, disproved: Self) {
        self.0 &= !disproved.0;
    }

    fn has(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }
}

impl BitOr for Readiness {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.is_readable(), self.is_writable()) {
            (true, true) => "readable+writable",
            (true, false) => "readable",
            (false, true) => "writable",
            (false, false) => "nothing",
        })?;
        f.write_str(if self.is_hup() { ", HUP, ERR or PRI" } else { "" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn report_adds_to_what_is_remembered_until_it_is_disproved() {
        let mut readiness = Readiness::READABLE;
        readiness.add(Readiness::WRITABLE);
        readiness.add(Readiness::default());
        assert_eq!(readiness, Readiness::READABLE | Readiness::WRITABLE);
        readiness.clear(Readiness::READABLE | Readiness::HUP);
        assert_eq!(readiness, Readiness::WRITABLE);
    }

    #[test]
    fn what_is_said_twice_is_remembered_once() {
        let both = Readiness::READABLE | Readiness::WRITABLE;
        assert_eq!(both | Readiness::READABLE, both);
        let mut readiness = both;
        readiness.add(Readiness::WRITABLE | Readiness::HUP);
        assert_eq!(readiness, both | Readiness::HUP);
        assert!(readiness.is_readable() && readiness.is_writable() && readiness.is_hup());
        assert!(!both.is_hup());
    }

    #[test]
    fn readiness_shows_in_words() {
        for (bits, words) in [
            (Readiness::default(), "nothing"),
            (Readiness::READABLE, "readable"),
            (Readiness::WRITABLE, "writable"),
            (Readiness::READABLE | Readiness::WRITABLE, "readable+writable"),
        ] {
            assert_eq!(bits.to_string(), words);
            assert_eq!((bits | Readiness::HUP).to_string(), format!("{words}, HUP, ERR or PRI"));
        }
    }
}
