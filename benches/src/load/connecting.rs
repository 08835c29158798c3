//! Opening many connections, no faster than the server accepts them, and ending them.

use std::io::{self, ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::process::open_files;

/// How long a server may be silent; then it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How many connections may wait to be accepted. A kernel drops the handshakes that a full backlog
/// has no room for, and they are repeated a second later.
const WAITING_MAX: usize = 256;

/// Opens blocking connections; returns when the server has accepted them all.
pub(crate) fn open(address: SocketAddr, server: u32, count: usize) -> io::Result<Vec<TcpStream>> {
    let before = open_files(server)?;
    let mut sockets = Vec::with_capacity(count);
    while sockets.len() < count {
        for _ in sockets.len()..count.min(sockets.len() + WAITING_MAX) {
            let socket = TcpStream::connect(address)?;
            socket.set_nodelay(true)?;
            socket.set_read_timeout(Some(PATIENCE))?;
            sockets.push(socket);
        }
        await_open_files(server, "accepted", |open| open >= before + sockets.len())?;
    }
    Ok(sockets)
}

/// Waits until the server has as many open files as is wanted. That shows in the system's table
/// only, which must be asked again and again.
pub(crate) fn await_open_files(
    server: u32,
    what: &str,
    wanted: impl Fn(usize) -> bool,
) -> io::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !wanted(open_files(server)?) {
        if Instant::now() > deadline {
            let message = format!("the server has not {what} all connections");
            return Err(io::Error::new(ErrorKind::TimedOut, message));
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// Finishes all, and waits for the server's ends: nothing may arrive before them.
pub(crate) fn end(sockets: Vec<TcpStream>) -> io::Result<()> {
    for socket in &sockets {
        socket.shutdown(Shutdown::Write)?;
    }
    for mut socket in sockets {
        if socket.read(&mut [0])? > 0 {
            return Err(io::Error::new(ErrorKind::InvalidData, "more came back than was sent"));
        }
    }
    Ok(())
}
