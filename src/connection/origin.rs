//! Where a connection came from, and what is known of its peer's address.
//!
//! TCP peer addresses are stored, because the kernel forgets them once the peer has gone: an IPv4
//! address in place, any other in a box. Unix-domain addresses are not: the kernel can still report
//! them.

use std::net::{SocketAddr, SocketAddrV4};

use super::connecting::Connecting;
use crate::slots::ListenerId;
use crate::system::Socket;

#[derive(Debug)]
pub(crate) enum Origin {
    Accepted(ListenerId, SocketAddrV4),
    AcceptedBoxed(Box<(ListenerId, SocketAddr)>),
    AcceptedUnix(ListenerId),
    Connected(SocketAddrV4),
    ConnectedBoxed(Box<SocketAddr>),
    #[cfg(unix)]
    ConnectedUnix,
    /// A connect that takes more than one attempt is under way.
    Connecting(Box<Connecting>),
    /// The socket was made elsewhere: nothing is known of its peer.
    Adopted,
}

impl Origin {
    /// Returns the origin of an accepted connection; without an IP address it is a Unix-domain one.
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

    pub(crate) fn is_unix(&self) -> bool {
        match self {
            #[cfg(unix)]
            Self::ConnectedUnix => true,
            Self::AcceptedUnix(_) => true,
            _ => false,
        }
    }

    /// Returns what a connect that takes more than one attempt needs, while it is under way.
    pub(super) fn connecting(&self) -> Option<&Connecting> {
        match self {
            Self::Connecting(connecting) => Some(connecting),
            _ => None,
        }
    }

    pub(super) fn connecting_mut(&mut self) -> Option<&mut Connecting> {
        match self {
            Self::Connecting(connecting) => Some(connecting),
            _ => None,
        }
    }

    /// Returns the sockets of the attempts under way, if there are several.
    pub(crate) fn attempts(&self) -> impl Iterator<Item = &Socket> {
        let running = match self.connecting() {
            Some(Connecting::Race(race)) => race.running.as_slice(),
            _ => &[],
        };
        running.iter().map(|(_, socket)| socket)
    }

    /// Returns the peer's address, if it was stored.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Accepted(_, peer) | Self::Connected(peer) => Some(SocketAddr::V4(*peer)),
            Self::AcceptedBoxed(origin) => Some(origin.1),
            Self::ConnectedBoxed(peer) => Some(**peer),
            _ => None,
        }
    }
}
