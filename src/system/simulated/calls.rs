//! The system calls of a loop on its sockets.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;

use super::network::Network;
#[cfg(unix)]
use super::socket::UNIX_DOMAIN;
use super::socket::{Connect, Entry, Listener, Stream, is_unix};
#[cfg(unix)]
use crate::address::UnixAddress;
use crate::readiness::Readiness;
use crate::system::ConnectOutcome;

/// `ENFILE` and `EMFILE`: the system or the process has no descriptor left. There is no `ErrorKind`
/// for them.
const NO_DESCRIPTOR_IN_SYSTEM: i32 = 23;
const NO_DESCRIPTOR: i32 = 24;

/// `ENOBUFS`, for which there is no `ErrorKind` either.
pub(crate) const NO_BUFFERS: i32 = if cfg!(target_os = "linux") { 105 } else { 55 };

/// What is closed while it is registered would be reported forever, if its descriptor had a
/// duplicate. Where a run has failed already, its loop is dropped as it is.
fn assert_deregistered(is_deregistered: bool) {
    let is_sound = is_deregistered || std::thread::panicking();
    assert!(is_sound, "7: a socket is closed while it is registered");
}

fn numbered(code: i32) -> io::Error {
    io::Error::from_raw_os_error(code)
}

impl Network {
    // Listening sockets.

    pub(crate) fn listen(&mut self, poller: usize, address: SocketAddr) -> io::Result<usize> {
        self.steps += 1;
        self.take_descriptor(poller)?;
        let mut address = address;
        if address.port() == 0 {
            address.set_port(self.take_port());
        }
        if self.listener_at(address).is_some() {
            return Err(ErrorKind::AddrInUse.into());
        }
        let listener = Listener { poller, address, waiting: VecDeque::new(), watch: None };
        Ok(self.insert(Entry::Listener(listener)))
    }

    pub(crate) fn local_addr(&self, index: usize) -> SocketAddr {
        match &self.entries[index] {
            Entry::Listener(listener) => listener.address,
            Entry::Stream(stream) => stream.local,
            Entry::Free => panic!("socket {index} is closed"),
        }
    }

    pub(crate) fn accept(&mut self, index: usize) -> io::Result<(usize, SocketAddr)> {
        self.begin_call().or_else(|error| self.unless_blocked(index, error))?;
        self.may_interrupt()?;
        let Entry::Listener(listener) = &self.entries[index] else {
            panic!("socket {index} does not listen");
        };
        let (poller, has_waiting) = (listener.poller, !listener.waiting.is_empty());
        let may_abort = has_waiting && !is_unix(listener.address);
        self.take_descriptor(poller)?;
        if self.happens(|faults| faults.accept_rate) {
            return Err(self.lack());
        }
        if may_abort && self.happens(|faults| faults.aborted_rate) {
            if let Some(gone) = self.pop_waiting(index) {
                self.close_uncounted(gone, true);
            }
            return Err(ErrorKind::ConnectionAborted.into());
        }
        if has_waiting && self.happens(|faults| faults.not_ready_rate) {
            self.blocked(index);
            self.list(index, Readiness::READABLE);
            return Err(ErrorKind::WouldBlock.into());
        }
        let Some(accepted) = self.pop_waiting(index) else {
            self.blocked(index);
            return Err(ErrorKind::WouldBlock.into());
        };
        let stream = self.stream(accepted);
        stream.poller = Some(poller);
        Ok((accepted, stream.remote))
    }

    /// Returns one of the errors with which accepting fails for a lack of something. The peers go
    /// on waiting.
    fn lack(&mut self) -> io::Error {
        match self.random.below(4) {
            0 => ErrorKind::OutOfMemory.into(),
            1 => numbered(NO_BUFFERS),
            2 => numbered(NO_DESCRIPTOR),
            _ => numbered(NO_DESCRIPTOR_IN_SYSTEM),
        }
    }

    pub(super) fn pop_waiting(&mut self, index: usize) -> Option<usize> {
        match &mut self.entries[index] {
            Entry::Listener(listener) => listener.waiting.pop_front(),
            Entry::Free | Entry::Stream(_) => None,
        }
    }

    /// Fails if the loop has as many sockets open as it can.
    fn take_descriptor(&self, poller: usize) -> io::Result<()> {
        let most = self.faults.descriptors_max;
        if most < usize::MAX && self.open_and_watched(poller).0 >= most {
            return Err(numbered(NO_DESCRIPTOR));
        }
        Ok(())
    }

    // Connecting.

    /// Begins a connect, whose outcome is known at once or when the network moves on.
    pub(crate) fn connect(&mut self, poller: usize, to: SocketAddr) -> io::Result<usize> {
        self.begin_call_to_the_end()?;
        self.take_descriptor(poller)?;
        let local = SocketAddr::new(to.ip(), self.take_port());
        let mut stream = Stream::new(local, to, Some(poller));
        if self.unreachable.contains(&to.ip()) {
            stream.connect = Connect::Hanging;
        }
        let mut is_done_at_once = false;
        if self.happens(|faults| faults.connect_rate) {
            match self.random.below(9) {
                0 => return Err(ErrorKind::HostUnreachable.into()),
                1 => return Err(ErrorKind::AddrNotAvailable.into()),
                2 => return Err(numbered(NO_DESCRIPTOR)),
                3 => return Err(ErrorKind::ConnectionRefused.into()),
                4 => stream.connect = Connect::Hanging,
                5 => stream.connect = Connect::Failing(ErrorKind::ConnectionRefused),
                6 => stream.connect = Connect::Failing(ErrorKind::TimedOut),
                7 => stream.connect = Connect::Failing(ErrorKind::NetworkUnreachable),
                _ => is_done_at_once = true,
            }
        }
        let is_unreachable = self.unreachable.contains(&to.ip());
        let index = self.insert(Entry::Stream(stream));
        if is_done_at_once && !is_unreachable {
            self.establish(index);
        }
        Ok(index)
    }

    /// Creates a Unix-domain socket that is not connected yet.
    #[cfg(unix)]
    pub(crate) fn unix_socket(&mut self, poller: usize) -> io::Result<usize> {
        self.begin_call_to_the_end()?;
        self.take_descriptor(poller)?;
        let local = SocketAddr::new(UNIX_DOMAIN, self.take_port());
        let nowhere = SocketAddr::new(UNIX_DOMAIN, 0);
        let mut stream = Stream::new(local, nowhere, Some(poller));
        stream.connect = Connect::NotBegun;
        Ok(self.insert(Entry::Stream(stream)))
    }

    /// Connects in the Unix domain: at once, or not at all.
    #[cfg(unix)]
    pub(crate) fn connect_unix(&mut self, index: usize, address: &UnixAddress) -> io::Result<()> {
        self.begin_call()?;
        address.check()?;
        if self.happens(|faults| faults.connect_rate) {
            let errors =
                [ErrorKind::NotFound, ErrorKind::PermissionDenied, ErrorKind::ConnectionRefused];
            return Err(self.random.one_of(&errors).into());
        }
        let place = self.place_of(address);
        let listener = self.listener_at(place).map(|listener| &self.entries[listener]);
        let Some(Entry::Listener(listener)) = listener else {
            let is_gone = address.as_path().is_some() && !self.left_behind.contains(&place);
            let error = if is_gone { ErrorKind::NotFound } else { ErrorKind::ConnectionRefused };
            return Err(error.into());
        };
        let is_full = listener.waiting.len() > self.faults.backlog_max;
        if is_full || self.happens(|faults| faults.backlog_full_rate) {
            return Err(ErrorKind::WouldBlock.into());
        }
        let stream = self.stream(index);
        stream.remote = place;
        stream.connect = Connect::UnderWay;
        self.establish(index);
        Ok(())
    }

    /// Returns what a socket's pending error and then its peer's address say about its connect.
    pub(crate) fn connect_outcome(&mut self, index: usize, is_hup: bool) -> ConnectOutcome {
        if let Err(error) = self.begin_call_to_the_end() {
            return ConnectOutcome::Failed(error);
        }
        let stream = self.stream(index);
        if is_hup && !stream.receive.is_empty() {
            return ConnectOutcome::Connected;
        }
        match (stream.error.take(), stream.connect) {
            (Some(error), _) => ConnectOutcome::Failed(error.into()),
            (None, Connect::Done) if !stream.is_reset => ConnectOutcome::Connected,
            (None, _) => ConnectOutcome::UnderWay,
        }
    }

    // Streams.

    pub(crate) fn read(&mut self, index: usize, into: &mut [u8]) -> io::Result<usize> {
        self.begin_call().or_else(|error| self.unless_blocked(index, error))?;
        self.may_interrupt()?;
        let available = self.stream(index).receive.len();
        if available == 0 {
            return self.read_nothing(index);
        }
        if self.happens(|faults| faults.not_ready_rate) {
            self.blocked(index);
            self.list(index, Readiness::READABLE);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut count = into.len().min(available);
        if self.happens(|faults| faults.short_rate) {
            count = 1 + self.random.below(count);
        }
        if let Some(cut) = self.script.reads.pop_front() {
            count = count.min(cut);
        }
        let is_cut = count < into.len().min(available);
        let stream = self.stream(index);
        // A read stops at the mark of urgent data, and no edge reports what follows it.
        match stream.urgent {
            Some(0) => stream.urgent = None,
            Some(before) => {
                count = count.min(before);
                stream.urgent = Some(before - count);
            }
            None => {}
        }
        move_bytes(&mut stream.receive, &mut into[..count]);
        // In the Unix domain a read may stop before what follows, and no edge reports that.
        if is_cut && !self.stream(index).is_unix() {
            self.list(index, Readiness::READABLE);
        }
        Ok(count)
    }

    /// Returns whether there is a byte to read; if not, there is an end of file.
    pub(crate) fn peek(&mut self, index: usize) -> io::Result<bool> {
        self.begin_call().or_else(|error| self.unless_blocked(index, error))?;
        self.may_interrupt()?;
        if self.stream(index).receive.is_empty() {
            return self.read_nothing(index).map(|_| false);
        }
        if self.happens(|faults| faults.not_ready_rate) {
            self.blocked(index);
            self.list(index, Readiness::READABLE);
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(true)
    }

    fn read_nothing(&mut self, index: usize) -> io::Result<usize> {
        let stream = self.stream(index);
        if stream.urgent == Some(0) {
            stream.urgent = None;
        }
        if stream.ended && !stream.is_unix() {
            return Ok(0);
        }
        if let Some(error) = stream.error.take() {
            return Err(error.into());
        }
        if stream.is_reset || stream.ended {
            return Ok(0);
        }
        self.blocked(index);
        Err(ErrorKind::WouldBlock.into())
    }

    pub(crate) fn write(&mut self, index: usize, bytes: &[u8]) -> io::Result<usize> {
        self.begin_call().or_else(|error| self.unless_blocked(index, error))?;
        self.may_interrupt()?;
        let has_no_room = self.happens(|faults| faults.no_room_rate);
        let is_short = self.happens(|faults| faults.short_rate);
        let send_buffer = self.faults.send_buffer;
        let stream = self.stream(index);
        // The error of a socket that was hung up is for the next read.
        if let Some(error) = stream.error.take_if(|_| !stream.hung_up) {
            return Err(error.into());
        }
        if stream.is_reset || stream.hung_up || stream.finished {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let free = send_buffer.saturating_sub(stream.send.len());
        let mut count = if has_no_room { 0 } else { bytes.len().min(free) };
        if is_short && count > 1 {
            count = 1 + self.random.below(count);
        }
        if count > 0
            && let Some(cut) = self.script.writes.pop_front()
        {
            count = count.min(cut);
        }
        let stream = self.stream(index);
        stream.send.extend(&bytes[..count]);
        // In the Unix domain, a write that is short for another reason than a lack of room proves
        // nothing.
        if count < bytes.len() && (!stream.is_unix() || count == 0 || count == free) {
            stream.was_full = true;
        }
        if count == 0 && !bytes.is_empty() {
            self.blocked(index);
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(count)
    }

    /// A scripted `WouldBlock` that is not permanent is followed by an edge, as it must be.
    fn unless_blocked(&mut self, index: usize, error: io::Error) -> io::Result<()> {
        let is_persistent = self.failing().is_some_and(|failing| failing.is_persistent);
        if error.kind() == ErrorKind::WouldBlock && !is_persistent {
            if let Entry::Stream(stream) = &mut self.entries[index] {
                stream.was_full = true;
            }
            self.blocked(index);
            self.list(index, Readiness::READABLE);
        }
        Err(error)
    }

    /// Sends our end of file. On a broken connection this changes nothing.
    pub(crate) fn finish(&mut self, index: usize) {
        self.steps += 1;
        self.stream(index).finished = true;
        self.list(index, Readiness::WRITABLE);
    }

    /// Makes the following close a reset.
    pub(crate) fn reset_on_close(&mut self, index: usize) {
        self.steps += 1;
        self.stream(index).resets_on_close = true;
    }

    /// Closes a socket: what was sent is still delivered, unless a reset is asked for or received
    /// bytes are left, which makes the kernel send one. In the Unix domain there is no reset but
    /// for one that still waits to be accepted.
    ///
    /// Closing ends no registration here: a kernel that knows of a duplicate of the descriptor goes
    /// on to report it. So whatever is closed while it is registered is a bug.
    pub(crate) fn close(&mut self, index: usize, by_reset: bool) {
        self.steps += 1;
        self.close_uncounted(index, by_reset);
    }

    /// Closes a socket without a system call: the kernel does so to peers that wait at a closed
    /// listener.
    pub(super) fn close_uncounted(&mut self, index: usize, by_reset: bool) {
        match &mut self.entries[index] {
            Entry::Free => {}
            Entry::Listener(listener) => {
                assert_deregistered(listener.watch.is_none());
                let waiting = std::mem::take(&mut listener.waiting);
                self.entries[index] = Entry::Free;
                waiting.into_iter().for_each(|stream| self.close_uncounted(stream, true));
            }
            Entry::Stream(stream) => {
                assert_deregistered(stream.watch.is_none());
                if stream.is_unix() {
                    return self.hang_up(index, by_reset);
                }
                let by_reset = by_reset || stream.resets_on_close;
                stream.is_closed = true;
                stream.finished = true;
                let (other, has_left) = (stream.other, !stream.receive.is_empty());
                let is_a_loops = stream.poller.is_some();
                let is_over = stream.finish_delivered && stream.ended;
                self.resets_asked += u64::from(by_reset && is_a_loops);
                match other {
                    Some(other) if by_reset || has_left => {
                        self.forget(index);
                        self.reset(other, ErrorKind::ConnectionReset);
                    }
                    Some(_) if !is_over => {}
                    _ => self.forget(index),
                }
            }
        }
    }
}

/// Moves bytes from the front of `queue`, which holds enough of them.
fn move_bytes(queue: &mut VecDeque<u8>, into: &mut [u8]) {
    let (front, back) = queue.as_slices();
    let from_front = into.len().min(front.len());
    let from_back = into.len() - from_front;
    into[..from_front].copy_from_slice(&front[..from_front]);
    into[from_front..].copy_from_slice(&back[..from_back]);
    queue.drain(..into.len());
}
