//! One suite, two worlds: the same scenarios on real sockets and on the simulated network, over TCP
//! and in the Unix domain, and the events of each connection compared, chunking aside. What the
//! simulation shows is worth as much as it does what a kernel does.
//!
//! A scenario is written once against [`World`]. In every world its loop waits a little for each
//! event by the loop's own clock, and its peers never block.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]

mod common;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use readiness::simulation::{self, PeerState, Simulation};
use readiness::{ConnectionId, Event, EventLoop, Limits, ListenerId};
use socket2::SockRef;

/// After this long, by the loop's clock, a scenario gives up.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a turn waits at most.
const MOMENT: Duration = Duration::from_millis(1);
/// This many kind networks, which differ in chunks and order, represent the simulated world.
const SEEDS: u64 = 20;

/// What carries the bytes, and what is at the other end.
trait World {
    type Peer: Peer;
    type Listener;
    type Address: Clone + 'static;
    /// What a peer reads after the bytes that arrived before we aborted: the Unix domain has no
    /// reset.
    const ABORTED: &'static str = "Reset";
    /// More bytes than its kernel holds between a loop and a peer that does not read.
    const MUCH: usize;
    fn event_loop(&self, limits: Limits) -> EventLoop<Data>;
    /// Makes a loop listen.
    fn serve(&self, event_loop: &mut EventLoop<Data>) -> (ListenerId, Self::Address);
    /// Makes a loop connect.
    fn dial(event_loop: &mut EventLoop<Data>, to: &Self::Address, data: Data) -> ConnectionId;
    fn connect(&self, address: &Self::Address) -> Self::Peer;
    fn listen(&self) -> (Self::Listener, Self::Address);
    fn accept(&self, listener: &Self::Listener) -> Option<Self::Peer>;
}

/// The other end of a connection. Dropping it closes it.
trait Peer {
    fn write(&mut self, bytes: &[u8]) -> usize;
    fn read_at_most(&mut self, count: usize) -> Vec<u8>;
    fn state(&self) -> PeerState;
    fn finish(&mut self);
    fn reset(self);
}

/// What a program keeps for a connection: the other half of a proxied one.
type Data = Option<ConnectionId>;

struct Tcp;

/// A peer by `std`, over TCP or in the Unix domain.
struct StdPeer<S> {
    stream: S,
    state: PeerState,
}

impl<S> StdPeer<S> {
    fn new(stream: S) -> Self {
        Self { stream, state: PeerState::Open }
    }
}

fn tcp_peer(stream: TcpStream) -> StdPeer<TcpStream> {
    stream.set_nonblocking(true).unwrap();
    stream.set_nodelay(true).unwrap();
    StdPeer::new(stream)
}

/// What the streams of `std` share without a trait.
trait StdStream: Read + Write {
    fn finish(&self);
    fn reset(self);
}

impl StdStream for TcpStream {
    fn finish(&self) {
        self.shutdown(Shutdown::Write).unwrap();
    }

    fn reset(self) {
        SockRef::from(&self).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

impl World for Tcp {
    type Peer = StdPeer<TcpStream>;
    type Listener = TcpListener;
    type Address = SocketAddr;
    const MUCH: usize = 12_000_000;

    fn event_loop(&self, limits: Limits) -> EventLoop<Data> {
        EventLoop::with_limits(limits).unwrap()
    }

    fn serve(&self, event_loop: &mut EventLoop<Data>) -> (ListenerId, SocketAddr) {
        let listener = event_loop.listen("127.0.0.1:0").unwrap();
        (listener, event_loop.listener_addr(listener).unwrap())
    }

    fn dial(event_loop: &mut EventLoop<Data>, to: &SocketAddr, data: Data) -> ConnectionId {
        event_loop.connect(*to, data)
    }

    fn connect(&self, address: &SocketAddr) -> StdPeer<TcpStream> {
        tcp_peer(TcpStream::connect(address).unwrap())
    }

    fn listen(&self) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    fn accept(&self, listener: &TcpListener) -> Option<StdPeer<TcpStream>> {
        listener.accept().ok().map(|(stream, _)| tcp_peer(stream))
    }
}

impl<S: StdStream> Peer for StdPeer<S> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.stream.write(bytes).unwrap_or(0)
    }

    fn read_at_most(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count.min(1 << 20)];
        match self.stream.read(&mut bytes) {
            Ok(0) => self.state = PeerState::Ended,
            Ok(count) => {
                bytes.truncate(count);
                return bytes;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                self.state = PeerState::Reset;
            }
            Err(error) => panic!("a peer reads: {error}"),
        }
        Vec::new()
    }

    fn state(&self) -> PeerState {
        self.state
    }

    fn finish(&mut self) {
        self.stream.finish();
    }

    fn reset(self) {
        self.stream.reset();
    }
}

impl World for Simulation {
    type Peer = simulation::Peer;
    type Listener = simulation::PeerListener;
    type Address = SocketAddr;
    const MUCH: usize = 300_000;

    fn event_loop(&self, limits: Limits) -> EventLoop<Data> {
        self.event_loop_with_limits(limits).unwrap()
    }

    fn serve(&self, event_loop: &mut EventLoop<Data>) -> (ListenerId, SocketAddr) {
        Tcp.serve(event_loop)
    }

    fn dial(event_loop: &mut EventLoop<Data>, to: &SocketAddr, data: Data) -> ConnectionId {
        Tcp::dial(event_loop, to, data)
    }

    fn connect(&self, address: &SocketAddr) -> simulation::Peer {
        Simulation::connect(self, *address)
    }

    fn listen(&self) -> (simulation::PeerListener, SocketAddr) {
        let listener = Simulation::listen(self, "127.0.0.1:0".parse().unwrap());
        let address = listener.address();
        (listener, address)
    }

    fn accept(&self, listener: &simulation::PeerListener) -> Option<simulation::Peer> {
        listener.accept()
    }
}

impl Peer for simulation::Peer {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.write(bytes)
    }

    fn read_at_most(&mut self, count: usize) -> Vec<u8> {
        self.read_at_most(count)
    }

    fn state(&self) -> PeerState {
        self.state()
    }

    fn finish(&mut self) {
        self.finish();
    }

    fn reset(self) {
        self.reset();
    }
}

#[cfg(unix)]
mod unix {
    use std::cell::Cell;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::path::PathBuf;

    use super::common::Folder;
    use super::*;

    /// Paths in a folder.
    pub(super) struct Unix {
        folder: Folder,
        paths: Cell<u32>,
    }

    /// The same names on the simulated network.
    pub(super) struct SimulatedUnix(pub(super) Simulation);

    impl Unix {
        pub(super) fn new() -> Self {
            Self { folder: Folder::new(), paths: Cell::new(0) }
        }

        fn path(&self) -> PathBuf {
            self.paths.set(self.paths.get() + 1);
            self.folder.path(&self.paths.get().to_string())
        }
    }

    impl StdStream for UnixStream {
        fn finish(&self) {
            self.shutdown(Shutdown::Write).unwrap();
        }

        fn reset(self) {}
    }

    fn unix_peer(stream: UnixStream) -> StdPeer<UnixStream> {
        stream.set_nonblocking(true).unwrap();
        StdPeer::new(stream)
    }

    impl World for Unix {
        type Peer = StdPeer<UnixStream>;
        type Listener = UnixListener;
        type Address = PathBuf;
        const ABORTED: &'static str = "Ended";
        const MUCH: usize = 2_000_000;

        fn event_loop(&self, limits: Limits) -> EventLoop<Data> {
            Tcp.event_loop(limits)
        }

        fn serve(&self, event_loop: &mut EventLoop<Data>) -> (ListenerId, PathBuf) {
            let path = self.path();
            (event_loop.listen_unix(path.clone()).unwrap(), path)
        }

        fn dial(event_loop: &mut EventLoop<Data>, to: &PathBuf, data: Data) -> ConnectionId {
            event_loop.connect_unix(to, data)
        }

        fn connect(&self, address: &PathBuf) -> StdPeer<UnixStream> {
            unix_peer(UnixStream::connect(address).unwrap())
        }

        fn listen(&self) -> (UnixListener, PathBuf) {
            let path = self.path();
            let listener = UnixListener::bind(&path).unwrap();
            listener.set_nonblocking(true).unwrap();
            (listener, path)
        }

        fn accept(&self, listener: &UnixListener) -> Option<StdPeer<UnixStream>> {
            listener.accept().ok().map(|(stream, _)| unix_peer(stream))
        }
    }

    impl World for SimulatedUnix {
        type Peer = simulation::Peer;
        type Listener = simulation::PeerListener;
        type Address = PathBuf;
        const ABORTED: &'static str = "Ended";
        const MUCH: usize = <Simulation as World>::MUCH;

        fn event_loop(&self, limits: Limits) -> EventLoop<Data> {
            World::event_loop(&self.0, limits)
        }

        fn serve(&self, event_loop: &mut EventLoop<Data>) -> (ListenerId, PathBuf) {
            let path = PathBuf::from("/server");
            (event_loop.listen_unix(&path).unwrap(), path)
        }

        fn dial(event_loop: &mut EventLoop<Data>, to: &PathBuf, data: Data) -> ConnectionId {
            Unix::dial(event_loop, to, data)
        }

        fn connect(&self, address: &PathBuf) -> simulation::Peer {
            self.0.connect_unix(address)
        }

        fn listen(&self) -> (simulation::PeerListener, PathBuf) {
            let path = PathBuf::from("/peers");
            (self.0.listen_unix(&path), path)
        }

        fn accept(&self, listener: &simulation::PeerListener) -> Option<simulation::Peer> {
            listener.accept()
        }
    }
}

type Handle = Box<dyn FnMut(&mut EventLoop<Data>, Event)>;

/// A loop that listens, the program that handles its events, and what was delivered.
struct Stage<W: World> {
    world: W,
    event_loop: EventLoop<Data>,
    listener: ListenerId,
    address: W::Address,
    handle: Handle,
    /// The events of each connection, in the order in which connections of a kind first appeared.
    heard: BTreeMap<String, Vec<String>>,
    names: BTreeMap<ConnectionId, String>,
}

impl<W: World> Stage<W> {
    fn new(world: W) -> Self {
        Self::with_limits(world, Limits::default())
    }

    fn with_limits(world: W, limits: Limits) -> Self {
        let mut event_loop = world.event_loop(limits);
        let (listener, address) = world.serve(&mut event_loop);
        let (heard, names) = (BTreeMap::new(), BTreeMap::new());
        Self { world, event_loop, listener, address, handle: Box::new(|_, _| {}), heard, names }
    }

    fn program(&mut self, handle: impl FnMut(&mut EventLoop<Data>, Event) + 'static) {
        self.handle = Box::new(handle);
    }

    fn connect(&self) -> W::Peer {
        self.world.connect(&self.address)
    }

    /// Takes one event, if one arrives in a moment, and lets the program handle it.
    fn turn(&mut self) -> Option<Event> {
        let event = self.event_loop.poll_event(Some(MOMENT)).unwrap()?;
        self.note(event);
        (self.handle)(&mut self.event_loop, event);
        Some(event)
    }

    fn note(&mut self, event: Event) {
        let (id, kind) = match event {
            Event::Accepted(_, id) => (id, "accepted".to_owned()),
            Event::Connected(id) => (id, "connected".to_owned()),
            Event::Received(id) => (id, "received".to_owned()),
            Event::Full(id) => (id, "full".to_owned()),
            Event::Drained(id) => (id, "drained".to_owned()),
            Event::PeerFinished(id) => (id, "peer finished".to_owned()),
            Event::Deadline(id) => (id, "deadline".to_owned()),
            Event::Closed(id, reason) => (id, self.closed(id, &reason.to_string())),
            other => panic!("{other:?} is no part of a scenario"),
        };
        let kinds = match self.event_loop[id].listener() {
            Some(_) => "accepted",
            None => "connecting",
        };
        let count = self.heard.keys().filter(|name| name.starts_with(kinds)).count();
        let name = self.names.entry(id).or_insert_with(|| format!("{kinds} {count}"));
        let heard = self.heard.entry(name.clone()).or_default();
        if kind != "received" || heard.last().is_none_or(|last| last != "received") {
            heard.push(kind);
        }
    }

    /// Returns the reason, and what was left when it ended.
    fn closed(&self, id: ConnectionId, reason: &str) -> String {
        let connection = &self.event_loop[id];
        let mut text = format!("closed: {reason}");
        if !connection.received().is_empty() {
            text += &format!(", {} received", connection.received().len());
        }
        if connection.unsent() > 0 || connection.lost() > 0 {
            text += ", some lost";
        }
        text
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = self.event_loop.now() + PATIENCE;
        while !done(self) {
            assert!(self.event_loop.now() < end, "did not happen; delivered: {:?}", self.heard);
            self.turn();
        }
    }

    fn until_event(&mut self, is_it: fn(&Event) -> bool) {
        let end = self.event_loop.now() + PATIENCE;
        while !self.turn().is_some_and(|event| is_it(&event)) {
            assert!(self.event_loop.now() < end, "did not happen; delivered: {:?}", self.heard);
        }
    }

    /// A few moments in which nothing is to happen.
    fn stay_quiet(&mut self) {
        for _ in 0..3 {
            assert_eq!(self.turn(), None);
        }
    }

    fn write_all(&mut self, peer: &mut W::Peer, bytes: &[u8]) {
        let mut sent = 0;
        self.until(|_| {
            sent += peer.write(&bytes[sent..]);
            sent == bytes.len()
        });
    }

    fn read(&mut self, peer: &mut W::Peer, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until(|_| {
            bytes.extend(peer.read_at_most(count - bytes.len()));
            bytes.len() == count
        });
        bytes
    }

    /// Reads to the end. Returns it in words together with how many bytes preceded it.
    fn read_to_end(&mut self, peer: &mut W::Peer) -> String {
        let mut count = 0;
        self.until(|_| {
            count += peer.read_at_most(usize::MAX).len();
            peer.state() != PeerState::Open
        });
        format!("{count} bytes, {:?}", peer.state())
    }

    fn accept(&mut self, listener: &W::Listener) -> W::Peer {
        let mut peer = None;
        self.until(|stage| {
            peer = stage.world.accept(listener);
            peer.is_some()
        });
        peer.unwrap()
    }

    fn until_all_closed(&mut self) {
        self.until(|stage| stage.event_loop.connection_count() == 0);
        assert_eq!(self.turn(), None, "nothing is delivered after the last closed");
    }

    /// One line for each connection.
    fn events(self) -> Vec<String> {
        let lines = self.heard.into_iter();
        lines.map(|(name, heard)| format!("{name}: {}", heard.join(", "))).collect()
    }
}

fn echo(event_loop: &mut EventLoop<Data>, event: Event) {
    if let Event::Received(id) = event {
        event_loop[id].send_received();
    }
}

fn is_closed(event: &Event) -> bool {
    matches!(event, Event::Closed(..))
}

fn is_accepted(event: &Event) -> bool {
    matches!(event, Event::Accepted(..))
}

fn is_received(event: &Event) -> bool {
    matches!(event, Event::Received(_))
}

mod scenarios {
    use super::*;

    pub(super) fn peer_sends_and_finishes_is_echoed<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(echo);
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"Hello");
        assert_eq!(stage.read(&mut peer, 5), b"Hello");
        peer.finish();
        assert_eq!(stage.read_to_end(&mut peer), "0 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn peer_sends_byte_by_byte_each_is_echoed<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(echo);
        let mut peer = stage.connect();
        for byte in b"fragmented" {
            stage.write_all(&mut peer, &[*byte]);
            assert_eq!(stage.read(&mut peer, 1), [*byte]);
        }
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn peer_sends_much_and_reads_it_back<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(echo);
        let mut peer = stage.connect();
        let bytes: Vec<u8> = (0..200_000_u32).map(|place| (place % 251) as u8).collect();
        let (mut sent, mut received) = (0, Vec::new());
        stage.until(|_| {
            sent += peer.write(&bytes[sent..]);
            received.extend(peer.read_at_most(usize::MAX));
            received.len() == bytes.len()
        });
        assert!(received == bytes, "the echo is what was sent");
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn peer_finishes_half_open_is_answered_afterwards<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| match event {
            Event::Accepted(_, id) => event_loop[id].allow_half_open(true),
            Event::PeerFinished(id) => event_loop[id].set_deadline(Some(MOMENT)),
            Event::Deadline(id) => {
                event_loop[id].send(b"late answer");
                event_loop[id].finish();
            }
            _ => {}
        });
        let mut peer = stage.connect();
        peer.finish();
        assert_eq!(stage.read_to_end(&mut peer), "11 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn both_finish_at_once_both_have_finished<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Accepted(_, id) = event {
                event_loop[id].finish();
            }
        });
        let mut peer = stage.connect();
        peer.finish();
        stage.until_event(is_closed);
        assert_eq!(stage.read_to_end(&mut peer), "0 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn paused_connection_hears_nothing_until_resumed<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| match event {
            Event::Accepted(_, id) => event_loop[id].pause(),
            Event::Received(id) => event_loop[id].send_received(),
            _ => {}
        });
        let mut peer = stage.connect();
        stage.until_event(is_accepted);
        stage.write_all(&mut peer, b"Hello");
        peer.finish();
        stage.stay_quiet();
        stage.event_loop.connections_mut().for_each(|connection| connection.resume());
        assert_eq!(stage.read_to_end(&mut peer), "5 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn received_bytes_left_are_announced_again_at_resume<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        let mut is_first = true;
        stage.program(move |event_loop, event| match event {
            Event::Received(id) if is_first => {
                is_first = false;
                event_loop[id].pause();
                event_loop[id].set_deadline(Some(MOMENT));
            }
            Event::Deadline(id) => event_loop[id].resume(),
            Event::PeerFinished(id) => event_loop[id].send_received(),
            _ => {}
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"1");
        stage.until_event(|event| matches!(event, Event::Deadline(_)));
        stage.until_event(is_received);
        peer.finish();
        assert_eq!(stage.read_to_end(&mut peer), "1 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn peer_resets_after_its_bytes_were_received<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"x");
        stage.until_event(is_received);
        peer.reset();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn peer_closes_with_unread_bytes_is_a_reset<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Accepted(_, id) = event {
                event_loop[id].send(b"Hello");
            }
        });
        let mut peer = stage.connect();
        assert_eq!(stage.read(&mut peer, 1), b"H");
        // By now the rest has arrived too: the simulation delivers all before a moment passes.
        stage.stay_quiet();
        drop(peer);
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn close_with_unsent_bytes_peer_reads_them_all<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].send(&vec![7; W::MUCH]);
                event_loop[id].close();
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), format!("{} bytes, Ended", W::MUCH));
        drop(peer);
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn closed_connection_peer_goes_on_sending_hears_only_closed<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].close();
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), "0 bytes, Ended");
        stage.write_all(&mut peer, &[0; 200_000]);
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn abort_peer_reads_a_reset<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].send(b"never sent");
                event_loop[id].abort();
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), format!("0 bytes, {}", W::ABORTED));
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn send_beyond_the_cap_overflows_and_peer_reads_a_reset<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut limits = Limits::default();
        limits.connection.high_water = 10;
        limits.connection.low_water = 5;
        limits.connection.unsent_max = 100;
        let mut stage = Stage::with_limits(world, limits);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].consume(1);
                event_loop[id].send(&[0]);
                event_loop[id].send(&[0; 100]);
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), format!("0 bytes, {}", W::ABORTED));
        stage.until_all_closed();
        stage.events()
    }

    /// What a handler leaves is announced again, before the peer's end is.
    pub(super) fn lines_taken_one_for_each_event_are_all_answered<W: World>(
        world: W,
    ) -> Vec<String> {
        const LINES: &[u8] = b"one\ntwo\n\nfour\n";
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].attend(|one| {
                    let (mut read, mut write) = one.halves();
                    if let Some(line) = read.take_line(10)? {
                        write.send(line);
                        write.send(b"!");
                    }
                    Ok(())
                });
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, LINES);
        peer.finish();
        assert_eq!(stage.read(&mut peer, 14), b"one!two!!four!");
        assert_eq!(stage.read_to_end(&mut peer), "0 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    /// Clogs a connection by the answers to what was taken, so that the rest waits for them.
    pub(super) fn requests_for_much_taken_one_for_each_event_are_answered_one_by_one<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].consume(1);
                event_loop[id].send(&vec![7; W::MUCH]);
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"??");
        assert!(stage.read(&mut peer, 2 * W::MUCH).iter().all(|byte| *byte == 7));
        peer.finish();
        assert_eq!(stage.read_to_end(&mut peer), "0 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn read_buffer_full_is_delivered_once_and_its_deadline_passes<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut limits = Limits::default();
        limits.connection.read_buffer_max = 10;
        limits.connection.stalled_read_deadline = 20 * MOMENT;
        let mut stage = Stage::with_limits(world, limits);
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"no end of line in it");
        stage.until_event(|event| matches!(event, Event::Full(_)));
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn full_read_buffer_that_is_emptied_is_delivered_again_when_full<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut limits = Limits::default();
        limits.connection.read_buffer_max = 10;
        let mut stage = Stage::with_limits(world, limits);
        stage.program(|event_loop, event| match event {
            Event::Full(id) => event_loop[id].consume(10),
            Event::PeerFinished(id) => event_loop[id].consume(5),
            _ => {}
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, &[b'x'; 25]);
        peer.finish();
        stage.until_event(is_accepted);
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn write_takes_what_fits_and_goes_on_at_drained<W: World>(world: W) -> Vec<String> {
        const ANSWER: usize = 20_000;
        let mut limits = Limits::default();
        limits.connection.low_water = 10;
        limits.connection.high_water = 100;
        limits.connection.unsent_max = 100;
        let mut stage = Stage::with_limits(world, limits);
        let mut left = ANSWER;
        let mut write_on = move |event_loop: &mut EventLoop<Data>, id| {
            event_loop[id].attend(|one| {
                while left > 0 {
                    left -= one.write(&vec![7; left.min(150)])?;
                }
                one.finish();
                Ok(())
            });
        };
        stage.program(move |event_loop, event| match event {
            Event::Received(id) => {
                event_loop[id].consume(1);
                write_on(event_loop, id);
            }
            Event::Drained(id) => write_on(event_loop, id),
            _ => {}
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), format!("{ANSWER} bytes, Ended"));
        peer.finish();
        stage.until_all_closed();
        // How often it is clogged is the network's affair.
        let mut events = stage.events();
        while events[0].contains("drained, drained") {
            events[0] = events[0].replace("drained, drained", "drained");
        }
        events
    }

    pub(super) fn formatted_answer_beyond_the_cap_is_an_error_and_overflows<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut limits = Limits::default();
        limits.connection.low_water = 5;
        limits.connection.high_water = 10;
        limits.connection.unsent_max = 10;
        let mut stage = Stage::with_limits(world, limits);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].attend(|one| {
                    one.consume(1);
                    write!(one, "1234567")?;
                    write!(one, "{} and more", 890)
                });
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), format!("0 bytes, {}", W::ABORTED));
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn handler_fails_its_connection_ends_and_the_error_answer_arrives<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].attend(|one| {
                    one.send(b"error");
                    Err(ErrorKind::InvalidData.into())
                });
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), "5 bytes, Ended");
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    /// It waits for the whole message, and its reading would block until then.
    pub(super) fn handler_that_would_block_goes_on_when_more_comes<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].attend(|one| {
                    let mut message = [0; 6];
                    one.read_exact(&mut message)?;
                    one.write_all(&message)
                });
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"mes");
        stage.until(|stage| stage.event_loop.connections().any(|one| one.received() == b"mes"));
        stage.stay_quiet();
        stage.write_all(&mut peer, b"sage");
        assert_eq!(stage.read(&mut peer, 6), b"messag");
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn aborted_for_a_reason_peer_reads_a_reset<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Received(id) = event {
                event_loop[id].consume(1);
                event_loop[id].abort_with(ErrorKind::PermissionDenied);
            }
        });
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"?");
        assert_eq!(stage.read_to_end(&mut peer), format!("0 bytes, {}", W::ABORTED));
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn clogged_peer_reads_again_drains_once<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| match event {
            Event::Accepted(_, id) => {
                event_loop[id].send(&vec![7; W::MUCH]);
                assert!(event_loop[id].is_clogged());
            }
            Event::Drained(id) => {
                assert!(!event_loop[id].is_clogged());
                event_loop[id].finish();
            }
            _ => {}
        });
        let mut peer = stage.connect();
        stage.until_event(is_accepted);
        stage.stay_quiet();
        assert_eq!(stage.read_to_end(&mut peer), format!("{} bytes, Ended", W::MUCH));
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn connect_where_nobody_listens_is_refused<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        let (listener, address) = stage.world.listen();
        drop(listener);
        W::dial(&mut stage.event_loop, &address, None);
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn connecting_with_bytes_and_finish_pending_sends_both<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        let (listener, address) = stage.world.listen();
        let id = W::dial(&mut stage.event_loop, &address, None);
        stage.event_loop[id].send(b"Hello");
        stage.event_loop[id].finish();
        let mut peer = stage.accept(&listener);
        assert_eq!(stage.read_to_end(&mut peer), "5 bytes, Ended");
        stage.write_all(&mut peer, b"answer");
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn pending_connect_closed_is_given_up_at_once<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        let (_listener, address) = stage.world.listen();
        let id = W::dial(&mut stage.event_loop, &address, None);
        stage.event_loop[id].close();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn proxy_carries_both_directions_and_both_ends<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        let (listener, target) = stage.world.listen();
        stage.program(move |event_loop, event| match event {
            Event::Accepted(_, id) => {
                let other = W::dial(event_loop, &target, Some(id));
                event_loop[id].data = Some(other);
                event_loop.couple(id, other);
                event_loop.couple(other, id);
            }
            Event::Received(id) => {
                let other = event_loop[id].data.unwrap();
                assert!(event_loop.transfer(id, other) > 0);
            }
            Event::PeerFinished(id) => {
                event_loop[id].allow_half_open(true);
                let other = event_loop[id].data.unwrap();
                event_loop[other].finish();
            }
            _ => {}
        });
        let mut client = stage.connect();
        let mut server = stage.accept(&listener);
        stage.write_all(&mut client, b"question");
        assert_eq!(stage.read(&mut server, 8), b"question");
        client.finish();
        assert_eq!(stage.read_to_end(&mut server), "0 bytes, Ended");
        stage.write_all(&mut server, b"answer");
        assert_eq!(stage.read(&mut client, 6), b"answer");
        server.finish();
        assert_eq!(stage.read_to_end(&mut client), "0 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn idle_connection_times_out_and_peer_reads_the_end<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Accepted(_, id) = event {
                event_loop[id].set_idle_timeout(Some(20 * MOMENT)).unwrap();
            }
        });
        let mut peer = stage.connect();
        assert_eq!(stage.read_to_end(&mut peer), "0 bytes, Ended");
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn program_sets_a_deadline_that_is_delivered_once<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(|event_loop, event| {
            if let Event::Accepted(_, id) = event {
                event_loop[id].set_deadline(Some(5 * MOMENT));
            }
        });
        let mut peer = stage.connect();
        stage.until_event(|event| matches!(event, Event::Deadline(_)));
        stage.stay_quiet();
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn stalled_peer_write_deadline_passes_and_some_is_lost<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut limits = Limits::default();
        limits.connection.stalled_write_deadline = 20 * MOMENT;
        let mut stage = Stage::with_limits(world, limits);
        stage.program(|event_loop, event| {
            if let Event::Accepted(_, id) = event {
                event_loop[id].send(&vec![7; W::MUCH]);
            }
        });
        let _peer = stage.connect();
        stage.until_event(is_accepted);
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn limit_of_connections_reached_next_peer_waits_for_room<W: World>(
        world: W,
    ) -> Vec<String> {
        let mut limits = Limits::default();
        limits.connections_max = Some(1);
        let mut stage = Stage::with_limits(world, limits);
        stage.program(echo);
        let mut first = stage.connect();
        stage.until_event(is_accepted);
        let mut second = stage.connect();
        stage.write_all(&mut second, b"2");
        stage.stay_quiet();
        first.finish();
        assert_eq!(stage.read(&mut second, 1), b"2");
        second.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn closed_listener_its_connections_go_on<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(echo);
        let mut peer = stage.connect();
        stage.until_event(is_accepted);
        stage.event_loop.close_listener(stage.listener).unwrap();
        stage.write_all(&mut peer, b"Hello");
        assert_eq!(stage.read(&mut peer, 5), b"Hello");
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }

    pub(super) fn paused_listener_accepts_when_resumed<W: World>(world: W) -> Vec<String> {
        let mut stage = Stage::new(world);
        stage.program(echo);
        stage.event_loop.pause_accepting(stage.listener).unwrap();
        let mut peer = stage.connect();
        stage.write_all(&mut peer, b"Hello");
        stage.stay_quiet();
        stage.event_loop.resume_accepting(stage.listener).unwrap();
        assert_eq!(stage.read(&mut peer, 5), b"Hello");
        peer.finish();
        stage.until_all_closed();
        stage.events()
    }
}

/// A test for each scenario: what is delivered on real sockets, and on every simulated network, is
/// what is written here; in the Unix domain too, unless it is listed here separately.
macro_rules! heard_in_both_worlds {
    ($($name:ident: $expected:expr $(, in the Unix domain: $unix:expr)?;)*) => {$(
        #[test]
        fn $name() {
            use scenarios::$name as play;

            assert_eq!(play(Tcp), $expected, "on TCP");
            for seed in 0..SEEDS {
                assert_eq!(play(Simulation::new(seed)), $expected, "simulated {seed}");
            }
            #[cfg(unix)]
            {
                let _expected = $expected;
                $(let _expected = $unix;)?
                assert_eq!(play(unix::Unix::new()), _expected, "in the Unix domain");
                for seed in 0..SEEDS {
                    let world = unix::SimulatedUnix(Simulation::new(seed));
                    assert_eq!(play(world), _expected, "simulated {seed}, in the Unix domain");
                }
            }
        }
    )*};
}

heard_in_both_worlds! {
    peer_sends_and_finishes_is_echoed:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides"];
    peer_sends_byte_by_byte_each_is_echoed:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides"];
    peer_sends_much_and_reads_it_back:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides"];
    peer_finishes_half_open_is_answered_afterwards:
        ["accepted 0: accepted, peer finished, deadline, closed: finished by both sides"];
    both_finish_at_once_both_have_finished:
        ["accepted 0: accepted, peer finished, closed: finished by both sides"];
    paused_connection_hears_nothing_until_resumed:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides"];
    received_bytes_left_are_announced_again_at_resume:
        ["accepted 0: accepted, received, deadline, received, peer finished, \
          closed: finished by both sides"];
    peer_resets_after_its_bytes_were_received:
        ["accepted 0: accepted, received, closed: reset by the peer, 1 received"],
        in the Unix domain:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides, \
          1 received"];
    peer_closes_with_unread_bytes_is_a_reset:
        ["accepted 0: accepted, closed: reset by the peer"];
    close_with_unsent_bytes_peer_reads_them_all:
        ["accepted 0: accepted, received, closed: closed by us, 1 received"];
    closed_connection_peer_goes_on_sending_hears_only_closed:
        ["accepted 0: accepted, received, closed: closed by us, 1 received"];
    abort_peer_reads_a_reset:
        ["accepted 0: accepted, received, closed: aborted by us, 1 received, some lost"];
    send_beyond_the_cap_overflows_and_peer_reads_a_reset:
        ["accepted 0: accepted, received, closed: overflow of unsent bytes, some lost"];
    lines_taken_one_for_each_event_are_all_answered:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides"];
    requests_for_much_taken_one_for_each_event_are_answered_one_by_one:
        ["accepted 0: accepted, received, drained, received, drained, peer finished, \
          closed: finished by both sides"];
    read_buffer_full_is_delivered_once_and_its_deadline_passes:
        ["accepted 0: accepted, received, full, closed: timed out on a full read buffer, \
          10 received"];
    full_read_buffer_that_is_emptied_is_delivered_again_when_full:
        ["accepted 0: accepted, received, full, received, full, received, peer finished, \
          closed: finished by both sides"];
    write_takes_what_fits_and_goes_on_at_drained:
        ["accepted 0: accepted, received, drained, peer finished, closed: finished by both sides"];
    formatted_answer_beyond_the_cap_is_an_error_and_overflows:
        ["accepted 0: accepted, received, closed: overflow of unsent bytes, some lost"];
    handler_fails_its_connection_ends_and_the_error_answer_arrives:
        ["accepted 0: accepted, received, closed: rejected by us: invalid data, 1 received"];
    handler_that_would_block_goes_on_when_more_comes:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides, \
          1 received"];
    aborted_for_a_reason_peer_reads_a_reset:
        ["accepted 0: accepted, received, closed: rejected by us: permission denied"];
    clogged_peer_reads_again_drains_once:
        ["accepted 0: accepted, drained, peer finished, closed: finished by both sides"];
    connect_where_nobody_listens_is_refused:
        ["connecting 0: closed: refused"];
    connecting_with_bytes_and_finish_pending_sends_both:
        ["connecting 0: connected, received, peer finished, closed: finished by both sides, \
          6 received"];
    pending_connect_closed_is_given_up_at_once:
        ["connecting 0: closed: closed by us"];
    proxy_carries_both_directions_and_both_ends: [
        "accepted 0: accepted, received, peer finished, closed: finished by both sides",
        "connecting 0: connected, received, peer finished, closed: finished by both sides",
    ];
    idle_connection_times_out_and_peer_reads_the_end:
        ["accepted 0: accepted, closed: timed out idle"];
    program_sets_a_deadline_that_is_delivered_once:
        ["accepted 0: accepted, deadline, peer finished, closed: finished by both sides"];
    stalled_peer_write_deadline_passes_and_some_is_lost:
        ["accepted 0: accepted, closed: timed out on a stalled write, some lost"];
    limit_of_connections_reached_next_peer_waits_for_room: [
        "accepted 0: accepted, peer finished, closed: finished by both sides",
        "accepted 1: accepted, received, peer finished, closed: finished by both sides",
    ];
    closed_listener_its_connections_go_on:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides"];
    paused_listener_accepts_when_resumed:
        ["accepted 0: accepted, received, peer finished, closed: finished by both sides"];
}
