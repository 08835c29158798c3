//! An echo server over TCP and UDP, both in one loop.
//!
//! It shows a foreign source: a socket that the program reads and writes itself, and that the loop
//! only watches. Two things are important. The kernel reports a change once, so at `Ready` the
//! program goes on until `WouldBlock`. And what the kernel does not take at once is the program's
//! to keep: here up to [`Datagrams::PENDING_MAX`] answers, while the socket is watched for room to
//! write instead of for more to read. What arrives until then waits in the kernel, and what does
//! not fit there is lost, as datagrams are. A program that stops before `WouldBlock`, so that
//! others have their turn, calls `reregister`: the kernel then reports again.
//!
//! ```text
//! cargo run --example udp_echo
//! ```
//!
//! Then, in another terminal, `nc 127.0.0.1 65432` and `nc -u 127.0.0.1 65432`.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::process::ExitCode;

use readiness::mio::net::UdpSocket;
use readiness::{Event, EventLoop, Interest, SourceId};

mod common;
#[path = "common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Sends back what comes over TCP and over UDP.

Usage: udp_echo [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one for each of the two
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let mut server = EventLoop::new()?;
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    // Of a name's addresses the one that the listener has. Port 0 is chosen once more.
    let mut beside = server.listener_addr(listener)?;
    beside.set_port(address.port());
    let socket = UdpSocket::bind(beside).map_err(common::cannot_listen(&address))?;
    let mut datagrams = Datagrams::new(&mut server, socket)?;
    let mut ctrl_c = CtrlC::new(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    common::status(format_args!("Datagrams at {}", datagrams.socket.local_addr()?));
    loop {
        let event = server.next_event()?;
        if event == Event::ShutDown {
            return Ok(server.deregister(datagrams.id, &mut datagrams.socket)?);
        }
        ctrl_c.handle(&mut server, event);
        handle(&mut server, event, &mut datagrams)?;
    }
}

fn handle(server: &mut EventLoop, event: Event, datagrams: &mut Datagrams) -> io::Result<()> {
    match event {
        Event::Received(id) => server[id].send_received(),
        Event::Ready(id, _) if id == datagrams.id => datagrams.echo(server)?,
        _ => {}
    }
    Ok(())
}

/// The UDP side: a socket, and the answers that it has not taken yet.
struct Datagrams {
    socket: UdpSocket,
    id: SourceId,
    /// The interest that was registered last.
    interest: Interest,
    pending: VecDeque<(SocketAddr, Vec<u8>)>,
}

impl Datagrams {
    /// Once this many answers are pending, no more is read until they have left.
    const PENDING_MAX: usize = 64;
    /// This many are read at once, so that a flood of datagrams holds up no other client.
    const BUDGET: usize = 32;

    fn new(server: &mut EventLoop, mut socket: UdpSocket) -> io::Result<Self> {
        let interest = Interest::Readable;
        let id = server.register(&mut socket, interest)?;
        Ok(Self { socket, id, interest, pending: VecDeque::new() })
    }

    fn echo(&mut self, server: &mut EventLoop) -> io::Result<()> {
        self.send_pending();
        let is_read_out = self.receive();
        let interest =
            if self.pending.is_empty() { Interest::Readable } else { Interest::Writable };
        if interest != self.interest || !is_read_out {
            // After a new registration the kernel reports what is ready: also what was left or
            // arrived before.
            server.reregister(self.id, &mut self.socket, interest)?;
            self.interest = interest;
        }
        Ok(())
    }

    /// Answers datagrams until there is no more, and then returns true, or until it is enough.
    fn receive(&mut self) -> bool {
        let mut datagram = vec![0; 65_536]; // none is longer
        for _ in 0..Self::BUDGET {
            if self.pending.len() == Self::PENDING_MAX {
                return false;
            }
            match self.socket.recv_from(&mut datagram) {
                Ok((count, peer)) => {
                    self.pending.push_back((peer, datagram[..count].to_vec()));
                    self.send_pending();
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                // The fate of an earlier answer, such as that the port is closed.
                Err(error) => log::debug!("a datagram was refused: {error}"),
            }
        }
        false
    }

    fn send_pending(&mut self) {
        while let Some((peer, datagram)) = self.pending.front() {
            match self.socket.send_to(datagram, *peer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => log::debug!("an answer to {peer} is lost: {error}"),
                Ok(_) => {}
            }
            self.pending.pop_front();
        }
    }
}
