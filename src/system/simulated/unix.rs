//! The names of simulated Unix-domain sockets.
//!
//! Each name has a place in the network: an address of a host that TCP does not have, so that
//! connects find a listener by one rule in both domains. An end that has connected has a place too,
//! but no name.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as UnixSocketAddr;

use super::network::{FIRST_PORT, Network};
use super::socket::{Connect, Entry, Stream, UNIX_DOMAIN, is_unix};
use crate::address::UnixAddress;

impl Network {
    /// Returns the place of a name, which never changes.
    pub(super) fn place_of(&mut self, address: &UnixAddress) -> SocketAddr {
        let bytes = address.bytes();
        let known = self.names.iter().position(|name| name.bytes() == bytes);
        let number = known.unwrap_or_else(|| {
            self.names.push(address.clone());
            self.names.len() - 1
        });
        let port = u16::try_from(number + 1).ok().filter(|port| *port < FIRST_PORT);
        SocketAddr::new(UNIX_DOMAIN, port.expect("a simulation has fewer names than ports"))
    }

    /// Returns the name of a place as the system reports it, if it has one.
    fn name_at(&self, place: SocketAddr) -> io::Result<UnixSocketAddr> {
        let name = usize::from(place.port()).checked_sub(1).and_then(|at| self.names.get(at));
        name.map_or_else(|| UnixSocketAddr::from_pathname(""), UnixAddress::of_system)
    }

    pub(crate) fn unix_local_addr(&self, index: usize) -> io::Result<UnixSocketAddr> {
        self.name_at(self.local_addr(index))
    }

    pub(crate) fn unix_peer_addr(&mut self, index: usize) -> io::Result<UnixSocketAddr> {
        let stream = self.stream(index);
        match (stream.connect, stream.remote) {
            (Connect::Done, remote) => self.name_at(remote),
            _ => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Listens at a name. If asked to, it replaces a listener that can then no longer be reached.
    pub(crate) fn listen_unix(
        &mut self,
        poller: usize,
        address: &UnixAddress,
    ) -> io::Result<usize> {
        address.check()?;
        let place = self.place_of(address);
        let replaced = self.listener_at(place).filter(|_| address.replaces());
        let replaced = replaced.filter(|_| address.as_path().is_some());
        if let Some(replaced) = replaced {
            let nowhere = SocketAddr::new(UNIX_DOMAIN, self.take_port());
            if let Entry::Listener(listener) = &mut self.entries[replaced] {
                listener.address = nowhere;
            }
        }
        if address.replaces() {
            self.left_behind.remove(&place);
        } else if self.left_behind.contains(&place) {
            return Err(ErrorKind::AddrInUse.into());
        }
        self.listen(poller, place)
    }

    /// A listener closes without removing its file, as `std`'s does.
    pub(crate) fn leave_behind(&mut self, index: usize) {
        let place = self.local_addr(index);
        let name = usize::from(place.port()).checked_sub(1).and_then(|at| self.names.get(at));
        if is_unix(place) && name.is_some_and(|name| name.as_path().is_some()) {
            self.left_behind.insert(place);
        }
    }

    /// A peer that connects at once.
    pub(crate) fn connect_unix_peer(&mut self, address: &UnixAddress) -> usize {
        self.steps += 1;
        let place = self.place_of(address);
        assert!(self.listener_at(place).is_some(), "nothing listens at {address}");
        let local = SocketAddr::new(UNIX_DOMAIN, self.take_port());
        let index = self.insert(Entry::Stream(Stream::new(local, place, None)));
        self.establish(index);
        index
    }
}
