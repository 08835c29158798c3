//! A listener with options of its own, which have to be set before it listens.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Listens at the address with a socket on which `set` has set options first. Some of them, such as
/// the size of a buffer, are inherited by the connections.
pub(crate) fn listen(
    address: SocketAddr,
    set: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Elsewhere it would let others take the port away.
    socket.set_reuse_address(cfg!(unix))?;
    set(&socket)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}
