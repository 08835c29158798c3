//! A server in its own process, so that its costs are only its own, and the answers it gives about
//! itself over a second listener.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process;
use std::str::FromStr;
use std::sync::mpsc::Receiver;
use std::thread;
use std::time::Instant;

use readiness::{ConnectionId, Event, EventLoop, Limits, ListenerId, Metrics};
use socket2::{Domain, Socket, Type};

use super::child::{self, Child};
use super::{PATIENCE, measure, peer};

/// What the server does with what it receives.
#[derive(Clone, Copy, Debug)]
pub enum Protocol {
    /// Sends it back.
    Echo,
    /// Echoes, by a loop that spins for longer than any test lasts before a wait blocks.
    SpinningEcho,
    /// Sends whole lines back and leaves half of one where it is.
    Lines,
    /// Sends it back through send buffers as small as the kernel makes them.
    NarrowEcho,
    /// Answers each event with [`REPLY`] bytes, through send buffers as small.
    NarrowReply,
}

/// The bytes of one answer by [`Protocol::NarrowReply`].
pub const REPLY: usize = 4096;

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::SpinningEcho => "spinning-echo",
            Self::Lines => "lines",
            Self::NarrowEcho => "narrow-echo",
            Self::NarrowReply => "narrow-reply",
        }
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        use Protocol::{Echo, Lines, NarrowEcho, NarrowReply, SpinningEcho};
        [Echo, SpinningEcho, Lines, NarrowEcho, NarrowReply]
            .into_iter()
            .find(|protocol| protocol.name() == name)
            .ok_or_else(|| format!("no protocol {name}"))
    }
}

/// What a server reports about itself. The fills and flushes of the questions are not counted, but
/// each question costs it one more wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    pub waits: u64,
    pub fills: u64,
    pub flushes: u64,
    /// Connections that are there, without the one that asks.
    pub connections: u64,
}

/// The parent's end of a server.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    control: BufReader<TcpStream>,
    asked: u64,
}

impl Server {
    /// Starts the server of one test, after the shell has done what `before` says.
    pub fn start(test: &str, before: &str, protocol: Protocol) -> Self {
        let mut child = Child::start(test, before);
        child.say(&format!("serve {}", protocol.name()));
        let address = child.report("serves").parse().unwrap();
        let control: SocketAddr = child.report("tells").parse().unwrap();
        Self { child, address, control: BufReader::new(peer(control)), asked: 0 }
    }

    /// Asks the server about itself.
    pub fn report(&mut self) -> Report {
        let line = self.ask(b"counts");
        let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap());
        let mut next = || numbers.next().unwrap();
        Report {
            waits: next(),
            fills: next() - self.asked,
            // The answer itself has not left when it is made.
            flushes: next() - (self.asked - 1),
            connections: next(),
        }
    }

    /// Returns how many connections have unsent bytes, and how many bytes those are.
    pub fn stalled(&mut self) -> (usize, usize) {
        let line = self.ask(b"stalled");
        let (connections, bytes) = line.trim().split_once(' ').unwrap();
        (connections.parse().unwrap(), bytes.parse().unwrap())
    }

    fn ask(&mut self, what: &[u8]) -> String {
        self.control.get_mut().write_all(what).unwrap();
        self.asked += 1;
        let mut line = String::new();
        self.control.read_line(&mut line).unwrap();
        line
    }

    /// Asks until the server's report fits.
    pub fn until(&mut self, mut fits: impl FnMut(Report) -> bool) -> Report {
        let end = Instant::now() + PATIENCE;
        loop {
            let report = self.report();
            if fits(report) {
                return report;
            }
            if Instant::now() > end {
                let who = self.ask(b"who");
                let sockets: Vec<String> = super::sockets_at(self.address.port()).take(8).collect();
                panic!("the server gets no further than {report:?}: {who}\n{sockets:#?}");
            }
        }
    }

    /// Returns the bytes of memory that the server itself uses.
    pub fn memory(&self) -> i64 {
        measure::user_memory(self.child.id())
    }

    pub fn descriptors(&self) -> usize {
        measure::descriptors(self.child.id())
    }

    pub fn descriptors_max(&self) -> usize {
        measure::descriptors_max(self.child.id())
    }

    /// Ends the server, and waits until it has ended.
    pub fn end(mut self) {
        self.child.say("end");
        self.child.await_end();
    }
}

/// In the child: serves until the parent asks for the end or has ended itself.
pub fn serve(protocol: Protocol, commands: Receiver<String>) {
    let mut limits = Limits::default();
    limits.spin = matches!(protocol, Protocol::SpinningEcho).then_some(10 * PATIENCE);
    let mut server: EventLoop = EventLoop::with_limits(limits).unwrap();
    let listener = match protocol {
        Protocol::NarrowEcho | Protocol::NarrowReply => {
            server.adopt_listener(with_small_buffers(), |_| ()).unwrap()
        }
        Protocol::Echo | Protocol::SpinningEcho | Protocol::Lines => {
            server.listen("127.0.0.1:0").unwrap()
        }
    };
    let control = server.listen("127.0.0.1:0").unwrap();
    child::report("serves", server.listener_addr(listener).unwrap());
    child::report("tells", server.listener_addr(control).unwrap());
    thread::spawn(move || {
        let _ = commands.recv();
        process::exit(0);
    });
    loop {
        match server.next_event().unwrap() {
            Event::Received(id) if server[id].listener() == Some(control) => {
                let asked = server[id].received().to_vec();
                server[id].consume(asked.len());
                let line = match &asked[..] {
                    b"counts" => tell(&server),
                    b"stalled" => describe_stalled(&server),
                    _ => describe_peers(&server, listener),
                };
                server[id].send(line.as_bytes());
                server[id].send(b"\n");
            }
            Event::Received(id) => answer(&mut server, id, protocol),
            _ => {}
        }
    }
}

fn answer(server: &mut EventLoop, id: ConnectionId, protocol: Protocol) {
    let connection = &mut server[id];
    match protocol {
        Protocol::Echo | Protocol::SpinningEcho | Protocol::NarrowEcho => {
            connection.send_received();
        }
        Protocol::Lines => {
            let mut line = Vec::new();
            while connection.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                connection.send(&line);
                line.clear();
            }
        }
        Protocol::NarrowReply => {
            let count = connection.received().len();
            connection.consume(count);
            connection.send(&[7; REPLY]);
        }
    }
}

fn tell(server: &EventLoop) -> String {
    let Metrics { waits, fills, flushes, .. } = server.metrics();
    let connections = server.connection_count() - 1;
    format!("{waits} {fills} {flushes} {connections}")
}

fn describe_stalled(server: &EventLoop) -> String {
    let unsent = server.connections().map(|one| one.unsent());
    let (connections, bytes) = unsent
        .filter(|count| *count > 0)
        .fold((0, 0), |(connections, bytes), count| (connections + 1, bytes + count));
    format!("{connections} {bytes}")
}

/// Returns the first few connections, whole.
fn describe_peers(server: &EventLoop, listener: ListenerId) -> String {
    let served = server.connections().filter(|one| one.listener() == Some(listener));
    let shown: Vec<String> = served.take(3).map(|one| format!("{one:?}")).collect();
    shown.join("; ")
}

/// Returns a listener whose connections inherit the smallest send buffer that there is.
fn with_small_buffers() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_send_buffer_size(1).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(1024).unwrap();
    socket.into()
}
