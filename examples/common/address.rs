//! The address of the command line: numbers or a name, with a port.
//!
//! A server looks a name up here, before its loop starts: that can block. A client has its loop look
//! it up, so here only the spelling is checked.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::vec;

use readiness::CloseReason;

/// Where the servers listen, and the clients connect, unless they are told otherwise.
const HOST: &str = "127.0.0.1";
const HOST_V6: &str = "::1";
const PORT: u16 = 65432;

/// An address as it was given, and all that it stands for: of a name there can be several.
pub(crate) struct Address {
    text: String,
    all: Vec<SocketAddr>,
}

impl Address {
    /// Reads an argument; without one it is 127.0.0.1:65432.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with it, and how it would be right.
    pub(crate) fn new(argument: Option<String>) -> Result<Self, String> {
        let Name { text } = Name::new(argument)?;
        let all = match text.parse() {
            Ok(address) => Ok(vec![address]),
            Err(_) => look_up(&text),
        };
        let all = all.map_err(|why| bad(&text, &why))?;
        Ok(Self { text, all })
    }

    /// The port, which is the same in all.
    pub(crate) fn port(&self) -> u16 {
        self.all[0].port()
    }

    /// All addresses that it stands for.
    pub(crate) fn all(&self) -> &[SocketAddr] {
        &self.all
    }

    /// Opens something at the first of them where that works.
    pub(crate) fn open<T>(
        &self,
        mut open: impl FnMut(SocketAddr) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for address in &self.all {
            outcome = open(*address);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }
}

/// A host and a port, for [`connect_name`](readiness::EventLoop::connect_name) to look up.
#[derive(Debug)]
pub(crate) struct Name {
    text: String,
}

impl Name {
    /// Reads an argument; without one it is 127.0.0.1:65432.
    ///
    /// # Errors
    ///
    /// Returns what is wrong with its spelling, and how it would be right.
    pub(crate) fn new(argument: Option<String>) -> Result<Self, String> {
        let text = argument.unwrap_or_else(|| format!("{HOST}:{PORT}"));
        if text.parse::<SocketAddr>().is_err() {
            host_and_port(&text).map_err(|why| bad(&text, &why))?;
        }
        Ok(Self { text })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Says what is wrong with the name, if that is why a connection has closed.
    pub(crate) fn check(&self, reason: CloseReason) -> Result<(), String> {
        match reason {
            CloseReason::Failed(failure) if failure.kind() == ErrorKind::NotFound => {
                Err(bad(&self.text, "cannot look up the host"))
            }
            _ => Ok(()),
        }
    }
}

/// As it was given.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn bad(text: &str, why: &str) -> String {
    format!("bad address {text:?}: {why}")
}

/// As it was given.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// All that it stands for: a listener takes the first where it can listen.
impl ToSocketAddrs for Address {
    type Iter = vec::IntoIter<SocketAddr>;

    fn to_socket_addrs(&self) -> io::Result<Self::Iter> {
        Ok(self.all.clone().into_iter())
    }
}

fn look_up(text: &str) -> Result<Vec<SocketAddr>, String> {
    let (host, port) = host_and_port(text)?;
    let found = (host, port).to_socket_addrs();
    let found: Vec<_> =
        found.map_err(|error| format!("cannot look up {host:?}: {error}"))?.collect();
    if found.is_empty() { Err(format!("there is no address for {host:?}")) } else { Ok(found) }
}

fn host_and_port(text: &str) -> Result<(&str, u16), String> {
    if text.starts_with('[') { in_brackets(text) } else { plain(text) }
}

/// Host and port of an IPv6 address as it is to be written.
fn in_brackets(text: &str) -> Result<(&str, u16), String> {
    let inner = text.trim_start_matches('[');
    let Some((host, rest)) = inner.split_once(']') else {
        return Err(format!("the bracket is not closed; write [{HOST_V6}]:{PORT}"));
    };
    // What is behind a `%` can be the name of an interface, which is looked up.
    if host.parse::<Ipv6Addr>().is_err() && !host.contains('%') {
        return Err(format!("{host:?} is not an IPv6 address"));
    }
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, port_number(port)?)),
        None => Err(format!("it has no port; write [{host}]:{PORT}")),
    }
}

/// Host and port of anything else.
fn plain(text: &str) -> Result<(&str, u16), String> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_v6 = |text: &str| text.parse::<Ipv6Addr>().is_ok();
    let Some((host, port)) = text.rsplit_once(':') else {
        return Err(match text {
            "" => format!("it is empty; write {HOST}:{PORT}"),
            port if is_number(port) => format!("it has no host; write {HOST}:{port}"),
            host => format!("it has no port; write {host}:{PORT}"),
        });
    };
    if is_v6(text) && !is_v6(host) {
        return Err(format!(
            "an IPv6 address goes in brackets before its port; write [{text}]:{PORT}"
        ));
    }
    let port = port_number(port)?;
    if is_v6(host) {
        return Err(format!("an IPv6 address goes in brackets; write [{host}]:{port}"));
    }
    let is_v4_like = host.split('.').all(is_number);
    match host {
        "" => Err(format!("it has no host; write {HOST}:{port}")),
        _ if host.contains(':') => {
            Err(format!("it has several colons; an IPv6 address is written [{HOST_V6}]:{port}"))
        }
        _ if is_v4_like && host.parse::<Ipv4Addr>().is_err() => {
            Err(format!("{host:?} is not an IPv4 address"))
        }
        _ => Ok((host, port)),
    }
}

fn port_number(port: &str) -> Result<u16, String> {
    match port.parse() {
        _ if port.is_empty() => Err("the port after the colon is missing".into()),
        _ if !port.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(format!("the port {port:?} is not a number"))
        }
        Ok(port) => Ok(port),
        Err(_) => Err(format!("the port {port} is above 65535")),
    }
}
