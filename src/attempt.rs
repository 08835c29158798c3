//! System calls that do not block, and their outcomes.
//!
//! `WouldBlock` (`EAGAIN`) and `Interrupted` (`EINTR`) are named in this file only, apart from the
//! simulated kernel. Elsewhere a system call is an [`Attempt`]; the fast paths pass every unusual
//! result on to code that uses it.

use std::io::{self, ErrorKind};

/// The outcome of a system call that does not block.
#[derive(Debug)]
pub(crate) enum Attempt<T> {
    Done(T),
    /// `EAGAIN`: the socket is not ready for it.
    NotReady,
    Failed(io::Error),
}

impl<T> Attempt<T> {
    pub(crate) fn map<U>(self, change: impl FnOnce(T) -> U) -> Attempt<U> {
        match self {
            Self::Done(value) => Attempt::Done(change(value)),
            Self::NotReady => Attempt::NotReady,
            Self::Failed(error) => Attempt::Failed(error),
        }
    }
}

/// Makes a system call, and repeats it if a signal interrupted it.
pub(crate) fn attempt<T>(mut call: impl FnMut() -> io::Result<T>) -> Attempt<T> {
    loop {
        match call() {
            Ok(value) => return Attempt::Done(value),
            Err(error) if was_interrupted(&error) => {}
            Err(error) => return refused(error),
        }
    }
}

#[inline(never)]
fn refused<T>(error: io::Error) -> Attempt<T> {
    if is_would_block(&error) { Attempt::NotReady } else { Attempt::Failed(error) }
}

/// Returns whether a signal interrupted a call, which is only a reason to repeat it.
#[cold]
pub(crate) fn was_interrupted(error: &io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted
}

/// Returns the error with which a connection answers where a blocking socket would wait.
pub(crate) fn would_block() -> io::Error {
    ErrorKind::WouldBlock.into()
}

pub(crate) fn is_would_block(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock
}

/// Looks at what can be read without consuming it (`MSG_PEEK`).
pub(crate) trait Peek {
    /// Returns whether there is a byte to read; if not, there is an end of file.
    fn peek(&mut self) -> io::Result<bool>;
}
