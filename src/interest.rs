//! The interest rule: from what a connection wants to what the kernel is asked to report.
//!
//! | wants to read | wants to write | interest |
//! |---|---|---|
//! | yes | no | readable |
//! | yes | yes | readable and writable |
//! | no | yes | writable |
//! | no | no | none: the socket is not watched |
//!
//! What makes a connection want something is in `exchange/wants.rs`. The kernel's answer is the
//! `Readiness` of `readiness.rs`.

use std::fmt;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rule_has_four_rows() {
        for (wants_read, wants_write, interest, words) in [
            (true, false, Interest::Readable, "readable"),
            (true, true, Interest::ReadableWritable, "readable+writable"),
            (false, true, Interest::Writable, "writable"),
            (false, false, Interest::None, "none"),
        ] {
            assert_eq!(Interest::of(wants_read, wants_write), interest);
            assert_eq!(interest.is_readable(), wants_read);
            assert_eq!(interest.is_writable(), wants_write);
            assert_eq!(interest.to_string(), words);
        }
    }
}
