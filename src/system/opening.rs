//! Opens sockets: listens, connects, and adopts sockets that were made elsewhere.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
#[cfg(unix)]
use std::os::unix::net::{UnixListener, UnixStream};

use super::kernel::{KernelListener, KernelSocket};
use super::{ListeningSocket, Socket, System};
#[cfg(unix)]
use crate::address::UnixAddress;
use crate::limits::{ConnectionLimits, Limits};

impl System {
    /// Listens at an address, with the options that accepted sockets inherit.
    pub(crate) fn listen(
        &self,
        address: SocketAddr,
        limits: &Limits,
    ) -> io::Result<ListeningSocket> {
        match self {
            Self::Kernel(_) => KernelListener::listen(address, limits).map(ListeningSocket::Kernel),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.listen(address).map(ListeningSocket::Simulated),
        }
    }

    /// Adopts a socket that listens already.
    pub(crate) fn adopt_listener(
        &self,
        listener: TcpListener,
        limits: &Limits,
    ) -> io::Result<ListeningSocket> {
        self.refuse_if_simulated();
        KernelListener::adopt(listener, limits).map(ListeningSocket::Kernel)
    }

    /// Begins a connect.
    pub(crate) fn connect(
        &self,
        address: SocketAddr,
        limits: &ConnectionLimits,
    ) -> io::Result<Socket> {
        match self {
            Self::Kernel(_) => KernelSocket::connect(address, limits).map(Socket::Kernel),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.connect(address).map(Socket::Simulated),
        }
    }

    /// Adopts a socket that is connected or connecting.
    pub(crate) fn adopt_stream(
        &self,
        stream: TcpStream,
        limits: &ConnectionLimits,
    ) -> io::Result<Socket> {
        self.refuse_if_simulated();
        KernelSocket::adopt(stream, limits).map(Socket::Kernel)
    }

    /// Panics in a simulation: a real socket cannot be simulated.
    fn refuse_if_simulated(&self) {
        #[cfg(any(test, feature = "simulation"))]
        if let Self::Simulated(_) = self {
            panic!("a simulated loop cannot take over a real socket");
        }
    }
}

/// The same calls for the Unix domain.
#[cfg(unix)]
impl System {
    /// Listens at a path or name.
    pub(crate) fn listen_unix(
        &self,
        address: &UnixAddress,
        limits: &Limits,
    ) -> io::Result<ListeningSocket> {
        match self {
            Self::Kernel(_) => {
                KernelListener::listen_unix(address, limits).map(ListeningSocket::Kernel)
            }
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => {
                simulated.listen_unix(address).map(ListeningSocket::Simulated)
            }
        }
    }

    /// Adopts a socket that listens already. Its file is not ours to remove.
    pub(crate) fn adopt_unix_listener(
        &self,
        listener: UnixListener,
    ) -> io::Result<ListeningSocket> {
        self.refuse_if_simulated();
        KernelListener::adopt_unix(listener).map(ListeningSocket::Kernel)
    }

    /// Creates a socket that is not connected yet.
    pub(crate) fn unix_socket(&self) -> io::Result<Socket> {
        match self {
            Self::Kernel(_) => KernelSocket::new_unix().map(Socket::Kernel),
            #[cfg(any(test, feature = "simulation"))]
            Self::Simulated(simulated) => simulated.unix_socket().map(Socket::Simulated),
        }
    }

    /// Adopts a socket that is connected.
    pub(crate) fn adopt_unix_stream(&self, stream: UnixStream) -> io::Result<Socket> {
        self.refuse_if_simulated();
        KernelSocket::adopt_unix(stream).map(Socket::Kernel)
    }
}
