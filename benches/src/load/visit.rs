//! Visits: connect, send, read the echo, close; or finish first, and read to the end.
//!
//! The visits form a ring: the oldest is ended and a new one begun. So no poll is needed, and the
//! sockets can block. How long a visit took says nothing then, and is not measured.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use crate::load::connecting::await_open_files;
use crate::load::meter::Meter;
use crate::load::pattern::Pattern;
use crate::load::{Order, Report};
use crate::process::open_files;

/// Visitors' ports, of each of their addresses.
const PORT_MIN: u64 = 20_000;
const PORTS: u64 = 40_000;

pub(super) fn run(order: &Order, at_once: usize, bytes: usize, finish: bool) -> io::Result<Report> {
    let pattern = Pattern::new();
    let mut visits = Visits { order, bytes, finish, pattern, begun: 0, buffer: vec![0; bytes + 1] };
    let mut ring = VecDeque::with_capacity(at_once);
    let files = open_files(order.server)?;
    let mut meter = Meter::start(order.extent, order.server)?;
    while meter.goes_on() {
        if ring.len() == at_once {
            visits.end_oldest(&mut ring)?;
            meter.complete(None);
        }
        ring.push_back(visits.begin()?);
        meter.tick(Instant::now())?;
    }
    while !ring.is_empty() {
        visits.end_oldest(&mut ring)?;
        meter.complete(None);
    }
    // So that what a visit costs is counted whole.
    await_open_files(order.server, "closed", |open| open <= files)?;
    meter.report()
}

struct Visits<'a> {
    order: &'a Order,
    bytes: usize,
    finish: bool,
    pattern: Pattern,
    begun: u64,
    /// With room for a byte too many.
    buffer: Vec<u8>,
}

struct Visit {
    socket: TcpStream,
    /// Of what is sent, in the pattern.
    start: u64,
}

impl Visits<'_> {
    fn begin(&mut self) -> io::Result<Visit> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.bind(&visitor(self.begun).into())?;
        socket.connect(&self.order.address.into())?;
        let mut socket = TcpStream::from(socket);
        let start = self.pattern.start(self.begun as usize);
        socket.write_all(self.pattern.slice(start, self.bytes))?;
        if self.finish {
            socket.shutdown(Shutdown::Write)?;
        }
        self.begun += 1;
        Ok(Visit { socket, start })
    }

    fn end_oldest(&mut self, ring: &mut VecDeque<Visit>) -> io::Result<()> {
        let Some(Visit { mut socket, start }) = ring.pop_front() else {
            return Ok(());
        };
        let mut received = 0;
        while received < self.bytes || self.finish {
            match socket.read(&mut self.buffer[received..])? {
                0 if received < self.bytes => return Err(ErrorKind::UnexpectedEof.into()),
                0 => break,
                count => received += count,
            }
            if received > self.bytes {
                let message = "more came back than was sent";
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
        }
        self.pattern.verify(start, &self.buffer[..received])
    }
}

/// Returns where a visit connects from: an address and a port that no other used lately. For a
/// minute after a visit the kernel keeps its pair of addresses.
fn visitor(number: u64) -> SocketAddr {
    let process = u64::from(std::process::id());
    let host = process * 16 + number / PORTS;
    let octet = |shift: u64, of: u64| (host >> shift) % of;
    let address = [127, 64 + octet(16, 64), octet(8, 256), octet(0, 256)].map(|part| part as u8);
    let port = (PORT_MIN + number % PORTS) as u16;
    (Ipv4Addr::from(address), port).into()
}
