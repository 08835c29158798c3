//! The interest rule: from what a connection wants to what the kernel is asked to report.
//!
//! | wants to read | wants to write | interest |
//! |---|---|---|
//! | yes | no | readable |
//! | yes | yes | readable and writable |
//! | no | yes | writable |
//! | no | no | none: the socket is not watched |
//!
//! [`Readiness`] is the kernel's answer. The kernel reports an edge once (*edge-triggered*), so the
//! loop remembers the answer for each connection until a transfer disproves it (`EAGAIN`).
//!
//! This file deliberately does not know what makes a connection want something: that is the
//! exchange's state.

use std::fmt;
use std::ops::BitOr;

/// What the kernel is asked to report about one socket (an epoll event mask, the events of Python's
/// `selectors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Interest {
    /// Nothing: the socket is not registered, and the kernel reports nothing about it.
    #[default]
    None,
    /// Report when there is something to read (`EPOLLIN`).
    Readable,
    /// Report when there is room to write (`EPOLLOUT`).
    Writable,
    /// Report both.
    ReadableWritable,
}

impl Interest {
    /// Returns the interest that follows from the wants: the four rows of the rule.
    pub(crate) fn of(wants_read: bool, wants_write: bool) -> Self {
        match (wants_read, wants_write) {
            (true, false) => Self::Readable,
            (true, true) => Self::ReadableWritable,
            (false, true) => Self::Writable,
            (false, false) => Self::None,
        }
    }

    /// Returns whether the kernel is asked to report when there is something to read.
    #[must_use]
    pub fn is_readable(self) -> bool {
        matches!(self, Self::Readable | Self::ReadableWritable)
    }

    /// Returns whether the kernel is asked to report when there is room to write.
    #[must_use]
    pub fn is_writable(self) -> bool {
        matches!(self, Self::Writable | Self::ReadableWritable)
    }
}

impl fmt::Display for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Readable => "readable",
            Self::Writable => "writable",
            Self::ReadableWritable => "readable+writable",
        })
    }
}

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
    fn the_rule_has_four_rows() {
        for (wants_read, wants_write, interest) in [
            (true, false, Interest::Readable),
            (true, true, Interest::ReadableWritable),
            (false, true, Interest::Writable),
            (false, false, Interest::None),
        ] {
            assert_eq!(Interest::of(wants_read, wants_write), interest);
            assert_eq!(interest.is_readable(), wants_read);
            assert_eq!(interest.is_writable(), wants_write);
        }
    }

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
    fn interest_and_readiness_show_in_words() {
        for (wants_read, wants_write, words) in [
            (true, false, "readable"),
            (true, true, "readable+writable"),
            (false, true, "writable"),
        ] {
            assert_eq!(Interest::of(wants_read, wants_write).to_string(), words);
            let mut readiness = Readiness::default();
            for (is_ready, bit) in
                [(wants_read, Readiness::READABLE), (wants_write, Readiness::WRITABLE)]
            {
                if is_ready {
                    readiness.add(bit);
                }
            }
            assert_eq!(readiness.to_string(), words);
            readiness.add(Readiness::HUP);
            assert_eq!(readiness.to_string(), format!("{words}, HUP, ERR or PRI"));
        }
        assert_eq!(Interest::None.to_string(), "none");
        assert_eq!(Readiness::default().to_string(), "nothing");
    }
}
