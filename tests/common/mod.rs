//! What the tests share: a loop with a listener, driving it, peers of plain `std`, and a pattern in
//! which every byte shows its place.
//!
//! Nothing here sleeps to wait for something that it could observe. [`PATIENCE`] only bounds how
//! long a test that fails takes.

#![allow(dead_code, reason = "each test file uses a part of what they share")]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]
#![allow(unreachable_pub, reason = "each test file is a crate of its own")]

pub mod child;
pub mod crowd;
pub mod measure;
pub mod server;
pub mod skipping;
pub mod steps;
pub mod talker;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::OnceLock;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use readiness::{
    CloseReason, ConnectionId, ConnectionLimits, Event, EventLoop, Limits, ListenerId, Step,
};
use socket2::{Domain, SockRef, Socket, Type};

/// A test gives up after this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Returns a loop that listens on a free port of IPv4 loopback.
pub fn listening<T: Default + 'static>() -> (EventLoop<T>, ListenerId, SocketAddr) {
    let mut event_loop = EventLoop::new().unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    (event_loop, listener, address)
}

/// Returns a blocking peer that fails rather than hangs.
pub fn peer(address: SocketAddr) -> TcpStream {
    let peer = TcpStream::connect(address).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    peer.set_write_timeout(Some(PATIENCE)).unwrap();
    peer.set_nodelay(true).unwrap();
    peer
}

/// Returns what the kernel says of the TCP sockets at a port, for the message of a failure: their
/// states, their queues and their timers.
pub fn sockets_at(port: u16) -> impl Iterator<Item = String> {
    let port = format!(":{port:04X}");
    let is_there = move |fields: &Vec<String>| fields[1..3].iter().any(|end| end.ends_with(&port));
    measure::tcp_table().into_iter().filter(is_there).map(|fields| fields.join(" "))
}

/// Sets a socket to be closed by a reset, as a peer that fails does.
pub fn reset(peer: TcpStream) {
    socket2::SockRef::from(&peer).set_linger(Some(Duration::ZERO)).unwrap();
    drop(peer);
}

/// Waits until `count` finished handshakes wait to be accepted at an IPv4 address. A peer's connect
/// can return a moment before its last acknowledgement has reached the listener.
pub fn await_backlog(address: SocketAddr, count: usize) {
    let end = Instant::now() + PATIENCE;
    while cfg!(target_os = "linux") && backlog(address) != Some(count) {
        assert!(Instant::now() < end, "{count} peers do not wait: {:?}", backlog(address));
        std::thread::yield_now();
    }
}

/// Returns how many peers wait at a listener, as the kernel lists it: state 0A, and the number as
/// the second of its two queues.
fn backlog(address: SocketAddr) -> Option<usize> {
    let port = format!(":{:04X}", address.port());
    measure::tcp_table().iter().find_map(|fields| {
        let is_listener = fields[1].ends_with(&port) && fields[3] == "0A";
        let (_, waiting) = fields[4].split_once(':').filter(|_| is_listener)?;
        usize::from_str_radix(waiting, 16).ok()
    })
}

/// Returns the next event; panics if none arrives.
pub fn next<T>(event_loop: &mut EventLoop<T>) -> Event {
    let event = event_loop.poll_event(Some(PATIENCE)).unwrap();
    event.expect("an event in time")
}

/// Hands each event to `handle` until it answers with something.
pub fn until<T, R>(
    event_loop: &mut EventLoop<T>,
    handle: impl FnMut(&mut EventLoop<T>, Event) -> Option<R>,
) -> R {
    until_within(PATIENCE, event_loop, handle)
}

/// Does so for this long: for a test that has much to do, on a machine that has too.
pub fn until_within<T, R>(
    patience: Duration,
    event_loop: &mut EventLoop<T>,
    mut handle: impl FnMut(&mut EventLoop<T>, Event) -> Option<R>,
) -> R {
    let end = Instant::now() + patience;
    loop {
        assert!(Instant::now() < end, "what the test waits for did not happen");
        let event = next(event_loop);
        if let Some(outcome) = handle(event_loop, event) {
            return outcome;
        }
    }
}

/// Runs turns, handing each event to `handle`, until `done` says so.
pub fn drive<T>(
    event_loop: &mut EventLoop<T>,
    mut handle: impl FnMut(&mut EventLoop<T>, Event),
    mut done: impl FnMut() -> bool,
) {
    let end = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < end, "what the test waits for did not happen");
        if let Some(event) = event_loop.poll_event(Some(Duration::from_millis(1))).unwrap() {
            handle(event_loop, event);
        }
    }
}

/// Returns the events of at most `count` turns that do not wait. Ends early only by `count`.
pub fn turns<T>(event_loop: &mut EventLoop<T>, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    for _ in 0..count {
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            events.push(event);
        }
    }
    events
}

/// Waits for the next accepted connection, ignoring everything else.
pub fn accepted<T>(event_loop: &mut EventLoop<T>) -> ConnectionId {
    until(event_loop, |_, event| match event {
        Event::Accepted(_, id) => Some(id),
        _ => None,
    })
}

/// Returns `count` bytes of a stream, from `offset` on, in which each byte shows its place.
pub fn pattern(offset: usize, count: usize) -> Vec<u8> {
    (offset..offset + count).map(pattern_at).collect()
}

/// Returns the byte at one place of the pattern: no short period, so that bytes that were moved
/// show.
pub fn pattern_at(place: usize) -> u8 {
    let mixed = (place as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> 56) as u8
}

/// Returns a loop with these limits that listens on a free port of IPv4 loopback.
pub fn listening_with<T: Default + 'static>(limits: Limits) -> (EventLoop<T>, SocketAddr) {
    let mut event_loop = EventLoop::with_limits(limits).unwrap();
    let listener = event_loop.listen("127.0.0.1:0").unwrap();
    let address = event_loop.listener_addr(listener).unwrap();
    (event_loop, address)
}

/// Returns the default limits with some of a connection's limits changed.
pub fn connection_limits(change: impl FnOnce(&mut ConnectionLimits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits.connection);
    limits
}

/// Returns a loop with one accepted connection, and its blocking peer.
pub fn pair<T: Default + 'static>() -> (EventLoop<T>, ConnectionId, TcpStream) {
    pair_with(Limits::default())
}

/// Returns a pair on a loop with these limits.
pub fn pair_with<T: Default + 'static>(limits: Limits) -> (EventLoop<T>, ConnectionId, TcpStream) {
    let (mut event_loop, address) = listening_with(limits);
    let peer = peer(address);
    let id = accepted(&mut event_loop);
    (event_loop, id, peer)
}

/// A kernel holds several megabytes for a peer that reads nothing. This bounds both ends of a
/// connection to about half a megabyte, so that little is needed to fill it.
pub fn hold_little<T>(event_loop: &EventLoop<T>, id: ConnectionId, peer: &TcpStream) {
    const SIZE: usize = 128 * 1024;
    #[cfg(unix)]
    SockRef::from(&*event_loop[id]).set_send_buffer_size(SIZE).unwrap();
    #[cfg(not(unix))]
    let _ = (event_loop, id); // its socket cannot be reached there
    SockRef::from(peer).set_recv_buffer_size(SIZE).unwrap();
}

/// Waits until the kernel has something to read for this connection, be it the peer's end: a peer's
/// call can return a moment before what it sent has arrived here. Reads nothing.
#[cfg(unix)]
pub fn await_arrival<T>(event_loop: &EventLoop<T>, id: ConnectionId) {
    let end = Instant::now() + PATIENCE;
    let socket = SockRef::from(&*event_loop[id]);
    while let Err(error) = socket.peek(&mut [std::mem::MaybeUninit::uninit()]) {
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(Instant::now() < end, "nothing arrives");
        thread::yield_now();
    }
}

/// Waits until `count` bytes from a peer that was not accepted yet have arrived.
#[cfg(target_os = "linux")]
pub fn await_unaccepted(address: SocketAddr, peer: &TcpStream, count: usize) {
    let ours = format!(":{:04X}", address.port());
    let theirs = format!(":{:04X}", peer.local_addr().unwrap().port());
    let received = format!(":{count:08X}");
    let has_arrived = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&ours) && fields[2].ends_with(&theirs) && fields[4].ends_with(&received)
    };
    let end = Instant::now() + PATIENCE;
    while !std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(has_arrived) {
        assert!(Instant::now() < end, "the bytes do not arrive");
        thread::yield_now();
    }
}

/// Waits until the end that this peer has sent is acknowledged, so that our kernel has it: its
/// socket then is in none of the states 04, 09 and 0B.
#[cfg(target_os = "linux")]
pub fn await_end_acknowledged(peer: &TcpStream) {
    let port = format!(":{:04X}", peer.local_addr().unwrap().port());
    let is_under_way = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        fields[1].ends_with(&port) && ["04", "09", "0B"].contains(&fields[3])
    };
    let end = Instant::now() + PATIENCE;
    while std::fs::read_to_string("/proc/net/tcp").unwrap().lines().any(is_under_way) {
        assert!(Instant::now() < end, "the peer's end does not arrive");
        thread::yield_now();
    }
}

/// Connections of which each has stopped at its read budget and waits, behind all the others, to
/// read on; and their peers. What they have read so far is consumed.
pub fn left_overs(count: usize) -> (EventLoop, Vec<ConnectionId>, Vec<TcpStream>) {
    const BUDGET: usize = 100;
    let limits = connection_limits(|limits| limits.read_budget = BUDGET);
    let (mut event_loop, address) = listening_with::<()>(limits);
    let mut peers: Vec<TcpStream> = (0..count).map(|_| peer(address)).collect();
    let ids: Vec<ConnectionId> = (0..count).map(|_| accepted(&mut event_loop)).collect();
    for peer in &mut peers {
        peer.write_all(&pattern(0, 500 * BUDGET)).unwrap();
    }
    let mut stopped = std::collections::HashSet::new();
    until(&mut event_loop, |event_loop, event| {
        let Event::Received(id) = event else { panic!("{event:?} was not expected") };
        let received = event_loop[id].received().len();
        event_loop[id].consume(received);
        stopped.extend((received == BUDGET).then_some(id));
        (stopped.len() == count).then_some(())
    });
    for event in turns(&mut event_loop, 1) {
        let Event::Received(id) = event else { panic!("{event:?} was not expected") };
        let received = event_loop[id].received().len();
        event_loop[id].consume(received);
    }
    (event_loop, ids, peers)
}

/// Returns all events up to and with the `Closed` of this connection.
pub fn until_closed<T>(
    event_loop: &mut EventLoop<T>,
    id: ConnectionId,
) -> (Vec<Event>, CloseReason) {
    let mut events = Vec::new();
    let reason = until(event_loop, |_, event| {
        events.push(event);
        match event {
            Event::Closed(closed, reason) if closed == id => Some(reason),
            _ => None,
        }
    });
    (events, reason)
}

/// Returns the steps that the loop takes from here on.
pub fn steps<T>(event_loop: &mut EventLoop<T>) -> Receiver<Step> {
    let (seen, steps) = mpsc::channel();
    event_loop.set_observer(move |step: Step| {
        // The test may have finished looking.
        let _ = seen.send(step);
    });
    steps
}

/// Runs turns without handling their events until the steps have one that `is_it`; all up to it.
pub fn until_step<T>(
    event_loop: &mut EventLoop<T>,
    steps: &Receiver<Step>,
    is_it: impl Fn(&Step) -> bool,
) -> Vec<Step> {
    let mut seen = Vec::new();
    let mut found = false;
    let end = Instant::now() + PATIENCE;
    while !found {
        assert!(Instant::now() < end, "the step was not taken; seen: {seen:?}");
        event_loop.poll_event(Some(Duration::from_millis(1))).unwrap();
        for step in steps.try_iter() {
            found |= is_it(&step);
            seen.push(step);
        }
    }
    seen
}

/// Returns how many bytes of a connection the kernel took, going by the steps.
pub fn flushed(steps: &[Step], id: ConnectionId) -> u64 {
    let count = |step: &Step| match step {
        Step::Flushed { id: of, count, .. } if *of == id => *count as u64,
        _ => 0,
    };
    steps.iter().map(count).sum()
}

/// Reads to the end in a separate thread. A reset ends it too, and is the error.
pub fn read_in_thread(mut peer: TcpStream) -> JoinHandle<(Vec<u8>, io::Result<()>)> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let outcome = peer.read_to_end(&mut bytes).map(|_| ());
        (bytes, outcome)
    })
}

/// Runs turns, handing each event to `handle`, until the thread has ended; what it returned.
pub fn drive_until_joined<T, R>(
    event_loop: &mut EventLoop<T>,
    thread: JoinHandle<R>,
    handle: impl FnMut(&mut EventLoop<T>, Event),
) -> R {
    drive(event_loop, handle, || thread.is_finished());
    thread.join().expect("the peer's thread did not panic")
}

/// Returns an address that always refuses: a socket that does not listen has its port.
pub fn refusing_address() -> SocketAddr {
    static BOUND: OnceLock<Socket> = OnceLock::new();
    let socket = BOUND.get_or_init(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        socket
    });
    socket.local_addr().unwrap().as_socket().unwrap()
}

/// Returns whether this machine has a loopback of IPv6.
pub fn has_ipv6() -> bool {
    TcpListener::bind("[::1]:0").is_ok()
}

/// What is missing where it has none.
pub const NO_IPV6: &str = "there is no IPv6 loopback here";

/// A folder of one test's own for the files of its sockets, removed at the end with what is in it.
#[cfg(unix)]
pub struct Folder(std::path::PathBuf);

#[cfg(unix)]
impl Folder {
    /// Makes a folder whose path is short, wherever this machine has its temporary files: the path
    /// of a socket has 103 bytes at most.
    pub fn new() -> Self {
        const PARENT_LENGTH_MAX: usize = 40;
        let mut parents = vec![std::env::temp_dir(), "/tmp".into()];
        parents.retain(|parent| parent.as_os_str().len() <= PARENT_LENGTH_MAX);
        let made = parents.iter().find_map(|parent| Self::within(parent).ok());
        made.unwrap_or_else(|| panic!("no folder with a short path can be made in {parents:?}"))
    }

    fn within(parent: &std::path::Path) -> io::Result<Self> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static COUNT: AtomicU32 = AtomicU32::new(0);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = parent.join(format!("readiness-{}-{number}", std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                // Left behind by a process that had this number before and was killed.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.join(name)
    }
}

#[cfg(unix)]
impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
