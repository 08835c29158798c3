//! What all servers in Rust have in common: where they listen, and how they say so.
//!
//! Every server of the comparison, in whatever language, keeps this contract:
//!
//! - its first argument is the address to listen at; without one it is a free port of 127.0.0.1;
//! - its first line on standard output is `Listening on ADDRESS`;
//! - no-delay is on, and enough handshakes may wait that none of the load's is refused: 4,096, or
//!   what the library has set where it has no means for that;
//! - what arrives is sent back; when a client has finished, what is owed is sent before the end;
//! - a client that does not read is not read from, so that it cannot make the server grow. Where a
//!   framework has no means for that, its file says so.

use std::io::{self, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use socket2::{Domain, Socket, Type};

/// How many bytes a server reads at once, where it can say so: as many as `readiness` does. Those
/// that cannot read what their library has set.
pub const BUFFER: usize = 64 * 1024;

const BACKLOG: i32 = 4096;

/// Returns the address of the command line.
pub fn address() -> io::Result<SocketAddr> {
    match std::env::args().nth(1) {
        Some(text) => text.parse().map_err(io::Error::other),
        None => Ok((Ipv4Addr::LOCALHOST, 0).into()),
    }
}

/// Returns a non-blocking listener at the address of the command line, and prints the line that
/// names it.
pub fn listener() -> io::Result<TcpListener> {
    let address = address()?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.set_tcp_nodelay(true)?; // inherited by what is accepted
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from(socket);
    announce(listener.local_addr()?)?;
    Ok(listener)
}

/// Prints the line that the measurement waits for.
pub fn announce(address: SocketAddr) -> io::Result<()> {
    let mut out = io::stdout();
    writeln!(out, "Listening on {address}")?;
    out.flush()
}
