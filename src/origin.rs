//! Where a connection came from, and with it what is known of its peer's address.
//!
//! An address of TCP is kept, since the kernel forgets it when the peer has gone; an IPv4 address
//! in place, any other in a box. One of the Unix domain is asked of the system, which does not.
//!
//! What it deliberately does not do: it knows no socket.

use std::net::{SocketAddr, SocketAddrV4};
#[cfg(unix)]
use std::time::Duration;

#[cfg(unix)]
use crate::address::UnixAddress;
use crate::event::ListenerId;

#[derive(Debug)]
pub(crate) enum Origin {
    Accepted(ListenerId, SocketAddrV4),
    AcceptedBoxed(Box<(ListenerId, SocketAddr)>),
    AcceptedUnix(ListenerId),
    Connected(SocketAddrV4),
    ConnectedBoxed(Box<SocketAddr>),
    /// Boxed is what it takes to connect again.
    #[cfg(unix)]
    ConnectedUnix(Option<Box<Again>>),
    /// Made elsewhere: of its peer nothing is kept.
    Adopted,
}

impl Origin {
    /// One that was accepted, in the Unix domain if the peer has no address of IP.
    pub(crate) fn accepted(listener: ListenerId, peer: Option<SocketAddr>) -> Self {
        match peer {
            Some(SocketAddr::V4(peer)) => Self::Accepted(listener, peer),
            Some(peer @ SocketAddr::V6(_)) => Self::AcceptedBoxed(Box::new((listener, peer))),
            None => Self::AcceptedUnix(listener),
        }
    }

    pub(crate) fn connected(peer: SocketAddr) -> Self {
        match peer {
            SocketAddr::V4(peer) => Self::Connected(peer),
            SocketAddr::V6(_) => Self::ConnectedBoxed(Box::new(peer)),
        }
    }

    pub(crate) fn listener(&self) -> Option<ListenerId> {
        match self {
            Self::Accepted(listener, _) | Self::AcceptedUnix(listener) => Some(*listener),
            Self::AcceptedBoxed(origin) => Some(origin.0),
            _ => None,
        }
    }

    /// The peer's address, if it was kept.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Accepted(_, peer) | Self::Connected(peer) => Some(SocketAddr::V4(*peer)),
            Self::AcceptedBoxed(origin) => Some(origin.1),
            Self::ConnectedBoxed(peer) => Some(**peer),
            _ => None,
        }
    }
}

/// How long a connect waits at first when its listener's backlog is full, and at most. No event
/// tells when there is room, so it is tried: soon at first, since a listener that is alive makes
/// room at once, and seldom later, since one that is not may never.
#[cfg(unix)]
const PAUSE_MIN: Duration = Duration::from_millis(5);
#[cfg(unix)]
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// A connect of the Unix domain that could not begin, and is to be tried again.
#[cfg(unix)]
#[derive(Debug)]
pub(crate) struct Again {
    pub(crate) address: UnixAddress,
    pause: Duration,
}

#[cfg(unix)]
impl Again {
    pub(crate) fn new(address: UnixAddress) -> Self {
        Self { address, pause: PAUSE_MIN }
    }

    /// How long to wait now; the next time twice as long.
    pub(crate) fn take_pause(&mut self) -> Duration {
        let pause = self.pause;
        self.pause = pause.saturating_mul(2).min(PAUSE_MAX);
        pause
    }
}
