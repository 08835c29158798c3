//! A proxy for TCP and Unix-domain sockets, in one thread.
//!
//! It shows two connections that are one. What either receives moves to the other without a copy
//! ([`EventLoop::transfer`]), and neither is read faster than the other takes it
//! ([`EventLoop::couple`]), so that a connection takes two blocks of memory at most, however much
//! goes through it. Ends are carried across as what they are: half of a connection as half, a reset
//! as a reset. A client whose upstream cannot be reached is reset, and the log says why.
//!
//! ```text
//! cargo run --release --example proxy 127.0.0.1:8080 example.com:80
//! cargo run --release --example proxy unix:/tmp/web.socket localhost:8080
//! ```

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
#[cfg(unix)]
use std::os::unix::net::SocketAddr as UnixSocketAddr;
use std::process::ExitCode;
use std::time::Duration;

#[cfg(unix)]
use readiness::UnixAddress;
use readiness::{
    CloseReason, ConnectionId, Event, EventLoop, Failure, Limits, ListenerId, Stream, TimerId,
};

mod common;
#[path = "common/signals.rs"]
mod signals;

use common::leaving::{self, GRACE};
use signals::CtrlC;

const USAGE: &str = "\
Connects each client to an upstream server, and carries to each what the other
sends.

Usage: proxy LISTEN UPSTREAM [--proxy-protocol]

  LISTEN            where to listen, such as 127.0.0.1:8080; with port 0 the
                    system chooses one
  UPSTREAM          where to connect for each client, such as example.com:80;
                    a name that cannot be reached any more is looked up again
  --proxy-protocol  tells the upstream each client's address first, by version 2
                    of the PROXY protocol
  -h, --help        print this

Either address may be a Unix-domain socket: unix:/path or, on Linux, unix:@name.
A side that takes nothing for 60 seconds, while bytes wait for it, is cut off.

Ctrl-C lets the connections end for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

/// How long clients wait that could not be connected for want of a descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// What a header of the PROXY protocol begins with, to be taken for nothing else.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

fn main() -> ExitCode {
    common::run_with_options(USAGE, &[("proxy-protocol", common::FLAG)], serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let announces = arguments.has("proxy-protocol");
    let [Some(listen), Some(upstream)] = arguments.values()? else {
        return Err("it takes two addresses, LISTEN and UPSTREAM (--help tells more)".into());
    };
    let (listen, upstream) = (Address::new(listen)?, Address::new(upstream)?);

    let mut limits = Limits::default();
    // Whoever is silent may do so for ever, but whoever has vanished is found out by the kernel.
    limits.connection.keepalive = Some(Duration::from_secs(60));
    let mut server = EventLoop::with_limits(limits)?;
    let listener = listen.listen(&mut server).map_err(common::cannot_listen(&listen))?;
    let mut ctrl_c = CtrlC::new(&mut server)?;
    let address = server.listener_addr(listener).map_or(listen.to_string(), |it| it.to_string());
    common::status(format_args!("Listening on {address}"));
    let mut proxy = Proxy::new(listener, upstream, announces);
    loop {
        let event = server.next_event()?;
        if event == Event::ShutDown {
            return Ok(());
        }
        (0..ctrl_c.count(event)).for_each(|_| proxy.leave(&mut server));
        proxy.handle(&mut server, event);
    }
}

/// An address of the command line.
pub(crate) enum Address {
    Ip(common::Address),
    #[cfg(unix)]
    Unix(UnixAddress),
}

impl Address {
    pub(crate) fn new(text: String) -> common::Outcome<Self> {
        let Some(name) = text.strip_prefix("unix:") else {
            return Ok(Self::Ip(common::address(Some(text))?));
        };
        match Self::unix(name) {
            Ok(address) => Ok(address),
            Err(error) => Err(format!("bad address {text:?}: {error}").into()),
        }
    }

    #[cfg(unix)]
    fn unix(name: &str) -> io::Result<Self> {
        let address = match name.strip_prefix('@') {
            _ if ["", "@"].contains(&name) => return Err(io::Error::other("it has no name")),
            #[cfg(target_os = "linux")]
            Some(name) => UnixSocketAddr::from_abstract_name(name)?,
            _ => UnixSocketAddr::from_pathname(name)?,
        };
        Ok(Self::Unix(address.into()))
    }

    #[cfg(not(unix))]
    fn unix(_: &str) -> io::Result<Self> {
        Err(io::Error::other("there are no Unix-domain sockets here"))
    }

    fn listen(&self, server: &mut EventLoop<Half>) -> io::Result<ListenerId> {
        match self {
            Self::Ip(address) => server.listen(address),
            #[cfg(unix)]
            Self::Unix(address) => server.listen_unix(address.clone()),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(address) => write!(f, "unix:{address}"),
        }
    }
}

/// One of the two connections that are one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Half {
    is_upstream: bool,
    /// None while a client waits to have one.
    other: Option<ConnectionId>,
}

pub(crate) struct Proxy {
    listener: ListenerId,
    upstream: Address,
    /// Where it was when it was reached last, or looked up. A lookup takes descriptors and a thread,
    /// so there is none for each client.
    known: Vec<SocketAddr>,
    /// Whether the upstream receives the clients' addresses.
    announces: bool,
    /// Fires when the clients for whose upstream there was no descriptor are tried again. Until
    /// then no others are accepted.
    retry: Option<TimerId>,
    /// Fires when connections have had the time to end that Ctrl-C gives them.
    grace: Option<TimerId>,
}

impl Proxy {
    pub(crate) fn new(listener: ListenerId, upstream: Address, announces: bool) -> Self {
        let known = match &upstream {
            Address::Ip(address) => address.all().to_vec(),
            #[cfg(unix)]
            Address::Unix(_) => Vec::new(),
        };
        Self { listener, upstream, known, announces, retry: None, grace: None }
    }

    pub(crate) fn handle(&mut self, server: &mut EventLoop<Half>, event: Event) {
        match event {
            Event::Accepted(_, client) => {
                // It is read once there is somebody to take it.
                server[client].pause();
                self.connect(server, client);
            }
            Event::Connected(id) => {
                self.known = server[id].peer_addr().into_iter().collect();
                if let Some(client) = server[id].data.other.and_then(|id| server.get_mut(id)) {
                    client.resume();
                }
            }
            Event::Received(id) => {
                if let Some(other) = server[id].data.other {
                    server.transfer(id, other);
                }
            }
            Event::PeerFinished(id) => {
                if let Some(other) = server[id].data.other.and_then(|id| server.get_mut(id)) {
                    other.finish();
                }
            }
            Event::Closed(id, reason) => self.end(server, id, reason),
            Event::Timer(id) if self.retry == Some(id) => self.try_again(server),
            Event::Timer(id) if self.grace == Some(id) => cut_off(server),
            _ => {}
        }
    }

    /// Begins to connect a client to the upstream.
    fn connect(&self, server: &mut EventLoop<Half>, client: ConnectionId) {
        let half = Half { is_upstream: true, other: Some(client) };
        let upstream = match &self.upstream {
            Address::Ip(name) if self.known.is_empty() => {
                server.connect_name(&name.to_string(), half)
            }
            Address::Ip(_) => server.connect_any(self.known.iter().copied(), half),
            #[cfg(unix)]
            Address::Unix(address) => server.connect_unix(address.clone(), half),
        };
        server[client].data.other = Some(upstream);
        if self.announces {
            let header = header(&server[client]);
            server[upstream].send(&header);
        }
        for (one, other) in [(client, upstream), (upstream, client)] {
            server.couple(one, other);
            server[one].allow_half_open(true);
        }
    }

    /// Ends the other half in the way in which one half has ended.
    fn end(&mut self, server: &mut EventLoop<Half>, id: ConnectionId, reason: CloseReason) {
        let half = server[id].data;
        if let Some(other) = half.other.and_then(|other| server.get_mut(other)) {
            match reason {
                CloseReason::Finished | CloseReason::Closed => other.close(),
                CloseReason::Aborted => other.abort(),
                CloseReason::Failed(failure) if half.is_upstream && lacks_descriptor(failure) => {
                    other.data.other = None;
                    if self.retry.is_none() {
                        // If this fails, more clients wait.
                        let _ = server.pause_accepting(self.listener);
                        self.retry = Some(server.set_timer(RETRY));
                    }
                }
                _ if half.is_upstream => {
                    if reason != CloseReason::Reset {
                        self.known.clear();
                    }
                    let from = other.peer_addr().map_or(String::new(), |it| format!(" of {it}"));
                    log::warn!("{}{from}: upstream {}: {reason}", other.id(), self.upstream);
                    other.abort();
                }
                _ => other.abort(),
            }
        }
        if self.grace.is_some() && server.connection_count() == 0 {
            cut_off(server);
        }
    }

    /// Connects the clients that wait for a descriptor, before others are accepted.
    fn try_again(&mut self, server: &mut EventLoop<Half>) {
        self.retry = None;
        let waiting = server.connections().filter(|one| one.data.other.is_none());
        for client in waiting.map(|one| one.id()).collect::<Vec<_>>() {
            self.connect(server, client);
        }
        if server.resume_accepting(self.listener).is_err() && self.grace.is_none() {
            self.retry = Some(server.set_timer(RETRY));
        }
    }

    /// Lets the connections end by themselves for some time, or aborts them if it is called again.
    ///
    /// The loop's own shutdown closes what is quiet, and a client that waits for an answer is.
    fn leave(&mut self, server: &mut EventLoop<Half>) {
        let deadline = if self.grace.is_none() { GRACE } else { Duration::ZERO };
        let _ = server.close_listener(self.listener); // at the second call it is closed
        leaving::print_shutdown(server.connection_count(), deadline);
        if self.grace.is_some() || server.connection_count() == 0 {
            return cut_off(server);
        }
        self.grace = Some(server.set_timer(GRACE));
    }
}

/// Resets all that is left, and ends.
fn cut_off(server: &mut EventLoop<Half>) {
    server.connections_mut().for_each(|one| one.abort());
    server.shutdown(Duration::ZERO);
}

/// Returns whether too many files are open, in the process (`EMFILE`) or in the system (`ENFILE`).
fn lacks_descriptor(failure: Failure) -> bool {
    matches!(failure.raw_os_error(), Some(24 | 23))
}

/// Returns the header of the PROXY protocol's version 2: the address that has connected, and the
/// one it connected to. Of a Unix-domain client it says that neither is known.
fn header(client: &Stream) -> Vec<u8> {
    let v6 = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    };
    let (from, to) = match (client.peer_addr(), client.local_addr()) {
        (Ok(from), Ok(to)) => (from, to),
        _ => return [&SIGNATURE[..], &[0x21, 0x00, 0, 0]].concat(),
    };
    // A listener of both families has clients of IPv4 at addresses of IPv6.
    let (kind, ips) = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (0x11, [from.octets(), to.octets()].concat()),
        (from, to) => (0x21, [v6(from), v6(to)].concat()),
    };
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes()].concat();
    let length = if kind == 0x11 { 12 } else { 36 };
    [&SIGNATURE[..], &[0x21, kind, 0, length], &ips, &ports].concat()
}
