//! The seam to the kernel: waiting, registering, the clock, and the calls on sockets.
//!
//! All that the loop knows of an operating system stands behind [`System`], [`Socket`] and
//! [`ListeningSocket`]; no other file names a type of mio. A socket is used through its system, as
//! a pair that lives as long as one transfer ([`System::io`]), so that a socket can as well be an
//! index into a network that the system simulates.

mod kernel;

pub(crate) use kernel::{ListeningSocket, Socket, System};

/// Whom an event of the kernel is for. A token is the slot alone: events are folded onto their
/// connections before any slot is freed, so none can be left for a slot's next owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    Connection(u32),
    Listener(u32),
}

/// What became of a connect.
#[derive(Debug)]
pub(crate) enum ConnectOutcome {
    Connected,
    UnderWay,
    Failed(std::io::Error),
}
