//! The contract between a loop and its host, as the guide's page on hosts numbers it: for each rule
//! a check that tries to break it. A host is any loop of another kind that this crate's loop runs
//! inside; it has other work too.
//!
//! Nothing is measured in time: a host that misses an event stands still until [`PATIENCE`] is
//! over, and one that spins or is held up shows by the number of turns.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use readiness::mio::net::UdpSocket;
use readiness::{ConnectionId, Event, EventLoop, Interest, Limits, SourceId, TimerId, Waker};

use crate::common::steps::Steps;
use crate::common::{
    PATIENCE, await_arrival, connection_limits, hold_little, listening_with, pattern, peer,
};

/// A host, and how it treats the loop inside it.
#[derive(Clone, Copy)]
pub struct Host {
    /// Runs the loop inside the host until the program is done.
    pub run: fn(EventLoop, &mut dyn Program, OwnWork),
    /// How many turns the loop has in one round of the host's own work, while nothing happens: one
    /// if the host asks the loop each time, and none if the descriptor wakes the host.
    pub turns_at_rest: usize,
}

/// The host's work apart from the loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnWork {
    /// Nothing: it only waits for the loop.
    None,
    /// Something every millisecond.
    Ticks,
    /// Always something, so that it never sleeps.
    Always,
}

/// What runs in the host.
pub trait Program {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event);

    /// A piece of the host's own work, outside of any event.
    fn own_work(&mut self, _: &mut EventLoop) {}

    fn is_done(&self) -> bool;
}

/// All checks. Each is a separate test in the file that has the host.
#[macro_export]
macro_rules! contract_checks {
    ($host:expr; $($check:ident)*) => {
        $(
            #[test]
            fn $check() {
                contract::$check($host);
            }
        )*
    };
    ($host:expr) => {
        $crate::contract_checks! { $host;
            bytes_that_arrive_while_an_event_is_handled_are_delivered
            events_of_one_turn_are_delivered_to_a_host_that_stops_between_them
            what_is_done_outside_of_events_leaves_without_another_event
            stream_beyond_the_budget_goes_on_without_another_edge
            more_ready_than_one_wait_takes_all_are_delivered
            timers_ring_while_nothing_else_happens
            wakes_of_a_thread_are_delivered_one_after_the_other
            idle_loop_has_no_turns_beside_those_that_its_host_asks_for
            four_streams_leave_the_host_its_own_work
            shutdown_begun_outside_of_events_comes_to_its_end
        }
    };
}

/// Runs a program inside a host, in a thread that is given up when it makes no progress.
fn run<P: Program + Send + 'static>(
    host: Host,
    work: OwnWork,
    make: impl FnOnce() -> (EventLoop, P) + Send + 'static,
) -> P {
    let (done, outcome) = mpsc::channel();
    thread::spawn(move || {
        let (event_loop, mut program) = make();
        (host.run)(event_loop, &mut program, work);
        let _ = done.send(program);
    });
    outcome.recv_timeout(PATIENCE).expect("the host reaches the program's end")
}

/// Reads what is there, without waiting.
fn read_some(peer: &mut TcpStream) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    peer.set_nonblocking(true).unwrap();
    let count = match peer.read(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        outcome => outcome.unwrap(),
    };
    peer.set_nonblocking(false).unwrap();
    bytes.truncate(count);
    bytes
}

fn consume_all(event_loop: &mut EventLoop, id: ConnectionId) -> Vec<u8> {
    let received = event_loop[id].received().to_vec();
    event_loop[id].consume(received.len());
    received
}

// An edge that arrives while an event is handled.

struct Arriving {
    peer: TcpStream,
    received: usize,
}

const ARRIVALS: usize = 100;

impl Program for Arriving {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event) {
        if let Event::Received(id) = event {
            self.received += consume_all(event_loop, id).len();
            if !self.is_done() {
                self.peer.write_all(&[0]).unwrap();
                await_arrival(event_loop, id);
            }
        }
    }

    fn is_done(&self) -> bool {
        self.received == ARRIVALS
    }
}

pub fn bytes_that_arrive_while_an_event_is_handled_are_delivered(host: Host) {
    run(host, OwnWork::None, || {
        let (event_loop, address) = listening_with(Limits::default());
        let mut peer = peer(address);
        peer.write_all(&[0]).unwrap();
        (event_loop, Arriving { peer, received: 0 })
    });
}

// Events of one turn, of which none leaves a connection to be settled.

struct Sources {
    sockets: [UdpSocket; 4],
    delivered: Vec<SourceId>,
}

impl Program for Sources {
    fn handle(&mut self, _: &mut EventLoop, event: Event) {
        let Event::Ready(id, _) = event else { panic!("{event:?} was not expected") };
        self.delivered.push(id);
    }

    fn is_done(&self) -> bool {
        self.delivered.len() == self.sockets.len()
    }
}

pub fn events_of_one_turn_are_delivered_to_a_host_that_stops_between_them(host: Host) {
    run(host, OwnWork::None, || {
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let sockets = [(); 4].map(|()| {
            let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
            event_loop.register(&mut socket, Interest::Readable).unwrap();
            socket.send_to(&[0], socket.local_addr().unwrap()).unwrap();
            socket
        });
        (event_loop, Sources { sockets, delivered: Vec::new() })
    });
}

// Connections that the host touches by itself.

struct Touching {
    peer: TcpStream,
    id: Option<ConnectionId>,
    sent: Vec<u8>,
    received: Vec<u8>,
    is_closed: bool,
}

impl Program for Touching {
    fn handle(&mut self, _: &mut EventLoop, event: Event) {
        match event {
            Event::Accepted(_, id) => self.id = Some(id),
            Event::Closed(..) => self.is_closed = true,
            _ => {}
        }
    }

    fn own_work(&mut self, event_loop: &mut EventLoop) {
        let Some(connection) = self.id.and_then(|id| event_loop.get_mut(id)) else { return };
        if self.received.len() < self.sent.len() {
            self.received.extend(read_some(&mut self.peer));
            assert!(self.sent.starts_with(&self.received));
        } else if self.sent.len() < 30 {
            let word = format!("word {:4} ", self.sent.len());
            connection.send(word.as_bytes());
            self.sent.extend(word.as_bytes());
        } else {
            connection.abort(); // so that nothing of the peer is waited for
        }
    }

    fn is_done(&self) -> bool {
        self.is_closed
    }
}

pub fn what_is_done_outside_of_events_leaves_without_another_event(host: Host) {
    let program = run(host, OwnWork::Ticks, || {
        let (event_loop, address) = listening_with(Limits::default());
        let (sent, received) = (Vec::new(), Vec::new());
        let peer = peer(address);
        (event_loop, Touching { peer, id: None, sent, received, is_closed: false })
    });
    assert_eq!(program.received, program.sent);
}

// Readiness that is deferred by a budget.

struct Stream {
    _peer: TcpStream,
    expected: Vec<u8>,
    received: Vec<u8>,
}

impl Program for Stream {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event) {
        if let Event::Received(id) = event {
            self.received.extend(consume_all(event_loop, id));
        }
    }

    fn is_done(&self) -> bool {
        self.received.len() >= self.expected.len()
    }
}

pub fn stream_beyond_the_budget_goes_on_without_another_edge(host: Host) {
    let program = run(host, OwnWork::None, || {
        // Four hundred budgets, which the kernel holds until they are read.
        let expected = pattern(0, 40_000);
        let (event_loop, address) =
            listening_with(connection_limits(|limits| limits.read_budget = 100));
        let mut peer = peer(address);
        peer.write_all(&expected).unwrap();
        (event_loop, Stream { _peer: peer, expected, received: Vec::new() })
    });
    assert!(program.received == program.expected);
}

// More that is ready than one wait takes.

struct Crowd {
    peers: Vec<TcpStream>,
    ids: Vec<ConnectionId>,
    has_written: bool,
    received: usize,
}

impl Program for Crowd {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event) {
        match event {
            Event::Accepted(_, id) => self.ids.push(id),
            Event::Received(id) => self.received += consume_all(event_loop, id).len(),
            _ => {}
        }
    }

    fn own_work(&mut self, event_loop: &mut EventLoop) {
        if self.ids.len() == self.peers.len() && !self.has_written {
            self.has_written = true;
            self.peers.iter_mut().for_each(|peer| peer.write_all(&[0]).unwrap());
            self.ids.iter().for_each(|id| await_arrival(event_loop, *id));
        }
    }

    fn is_done(&self) -> bool {
        self.received == self.peers.len()
    }
}

pub fn more_ready_than_one_wait_takes_all_are_delivered(host: Host) {
    run(host, OwnWork::Ticks, || {
        let mut limits = Limits::default();
        limits.event_capacity = 2;
        let (event_loop, address) = listening_with(limits);
        let peers: Vec<TcpStream> = (0..16).map(|_| peer(address)).collect();
        (event_loop, Crowd { peers, ids: Vec::new(), has_written: false, received: 0 })
    });
}

// Timers.

struct Timers {
    due: Instant,
    awaited: TimerId,
    rung: usize,
}

const PERIOD: Duration = Duration::from_millis(5);

impl Program for Timers {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event) {
        assert_eq!(event, Event::Timer(self.awaited));
        assert!(Instant::now() >= self.due, "early");
        self.rung += 1;
        self.due = Instant::now() + PERIOD;
        self.awaited = event_loop.set_timer(PERIOD);
    }

    fn is_done(&self) -> bool {
        self.rung == 5
    }
}

pub fn timers_ring_while_nothing_else_happens(host: Host) {
    run(host, OwnWork::None, || {
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        let due = Instant::now() + PERIOD;
        let awaited = event_loop.set_timer(PERIOD);
        (event_loop, Timers { due, awaited, rung: 0 })
    });
}

// Wakes.

struct Woken {
    delivered: Sender<()>,
    count: usize,
}

const WAKES: usize = 100;

impl Program for Woken {
    fn handle(&mut self, _: &mut EventLoop, event: Event) {
        assert_eq!(event, Event::Woken);
        self.count += 1;
        // The thread has ended after the last.
        let _ = self.delivered.send(());
    }

    fn is_done(&self) -> bool {
        self.count == WAKES
    }
}

/// Wakes again whenever a wake was delivered, be it before or while the host goes to sleep.
fn wake_again_and_again(waker: &Waker, delivered: &Receiver<()>) {
    for _ in 0..WAKES {
        waker.wake().unwrap();
        if delivered.recv().is_err() {
            return; // the check has failed
        }
    }
}

pub fn wakes_of_a_thread_are_delivered_one_after_the_other(host: Host) {
    run(host, OwnWork::None, || {
        let event_loop: EventLoop = EventLoop::new().unwrap();
        let (delivered, heard) = mpsc::channel();
        let waker = event_loop.waker();
        thread::spawn(move || wake_again_and_again(&waker, &heard));
        (event_loop, Woken { delivered, count: 0 })
    });
}

// An idle loop.

struct Idle {
    steps: Steps,
    peers: [TcpStream; 3],
    /// In the order of the peers: a quiet connection, a paused one with bytes waiting for it, and
    /// one whose peer does not read.
    ids: Vec<ConnectionId>,
    is_set: bool,
    turns_at_rest: usize,
    rounds_at_rest: usize,
}

impl Idle {
    /// Leaves the connections in their states of rest.
    fn set(&mut self, event_loop: &mut EventLoop) {
        self.is_set = true;
        self.peers[0].write_all(b"hello").unwrap();
        event_loop.get_mut(self.ids[1]).unwrap().pause();
        self.peers[1].write_all(b"unheard").unwrap();
        hold_little(event_loop, self.ids[2], &self.peers[2]);
        event_loop.get_mut(self.ids[2]).unwrap().send(&pattern(0, 8 << 20));
        event_loop.set_timer(Duration::from_secs(3600));
    }
}

impl Program for Idle {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event) {
        match event {
            Event::Accepted(_, id) => self.ids.push(id),
            Event::Received(id) => event_loop[id].send_received(),
            _ => panic!("{event:?} was not expected"),
        }
    }

    fn own_work(&mut self, event_loop: &mut EventLoop) {
        let turns = self.steps.waits();
        self.steps.take();
        if self.ids.len() < self.peers.len() {
            return;
        }
        if !self.is_set {
            return self.set(event_loop);
        }
        let is_at_rest = turns <= self.turns_at_rest;
        self.rounds_at_rest = if is_at_rest { self.rounds_at_rest + 1 } else { 0 };
    }

    fn is_done(&self) -> bool {
        self.rounds_at_rest == 50
    }
}

pub fn idle_loop_has_no_turns_beside_those_that_its_host_asks_for(host: Host) {
    let Host { turns_at_rest, .. } = host;
    let mut program = run(host, OwnWork::Ticks, move || {
        let (mut event_loop, address) = listening_with(Limits::default());
        let (steps, peers) = (Steps::of(&mut event_loop), [(); 3].map(|()| peer(address)));
        let (ids, is_set) = (Vec::new(), false);
        (event_loop, Idle { steps, peers, ids, is_set, turns_at_rest, rounds_at_rest: 0 })
    });
    assert_eq!(read_some(&mut program.peers[0]), b"hello", "it was not idle from the start");
}

// A busy loop.

struct Busy {
    steps: Steps,
    finished: Arc<AtomicUsize>,
    own_work: usize,
    turns: usize,
    turns_between_max: usize,
}

const STREAMS: usize = 4;

impl Program for Busy {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event) {
        if let Event::Received(id) = event {
            event_loop[id].send_received();
        }
    }

    fn own_work(&mut self, _: &mut EventLoop) {
        let turns = self.steps.waits();
        self.steps.take();
        self.own_work += 1;
        self.turns += turns;
        self.turns_between_max = self.turns_between_max.max(turns);
    }

    fn is_done(&self) -> bool {
        self.finished.load(Ordering::SeqCst) == STREAMS
    }
}

/// Sends a stream and reads it back, at the same time.
fn stream_through(mut peer: TcpStream) {
    const LENGTH: usize = 1 << 20;
    let mut writer = peer.try_clone().unwrap();
    let writer = thread::spawn(move || writer.write_all(&pattern(0, LENGTH)).unwrap());
    let mut back = vec![0; LENGTH];
    peer.read_exact(&mut back).unwrap();
    assert!(back == pattern(0, LENGTH));
    writer.join().unwrap();
}

pub fn four_streams_leave_the_host_its_own_work(host: Host) {
    let program = run(host, OwnWork::Always, || {
        let (mut event_loop, address) =
            listening_with(connection_limits(|limits| limits.read_budget = 16 * 1024));
        let steps = Steps::of(&mut event_loop);
        let finished = Arc::new(AtomicUsize::new(0));
        for _ in 0..STREAMS {
            let (peer, finished) = (peer(address), Arc::clone(&finished));
            thread::spawn(move || {
                stream_through(peer);
                finished.fetch_add(1, Ordering::SeqCst);
            });
        }
        let (own_work, turns, turns_between_max) = (0, 0, 0);
        (event_loop, Busy { steps, finished, own_work, turns, turns_between_max })
    });
    let Busy { own_work, turns, turns_between_max, .. } = program;
    assert!(turns >= 64, "the streams took {turns} turns");
    assert!(
        turns_between_max <= 3,
        "the host was held for {turns_between_max} turns; {own_work} pieces of work, {turns} turns"
    );
}

// A shutdown that the host begins.

struct Leaving {
    peers: Vec<TcpStream>,
    has_begun: bool,
    is_shut_down: bool,
}

impl Program for Leaving {
    fn handle(&mut self, event_loop: &mut EventLoop, event: Event) {
        match event {
            Event::Received(id) => event_loop[id].send_received(),
            Event::ShutDown => self.is_shut_down = true,
            _ => {}
        }
    }

    fn own_work(&mut self, event_loop: &mut EventLoop) {
        if !self.has_begun && event_loop.connection_count() == self.peers.len() {
            self.has_begun = true;
            event_loop.shutdown(PATIENCE);
            self.peers.clear(); // each has left too
        }
    }

    fn is_done(&self) -> bool {
        self.is_shut_down
    }
}

pub fn shutdown_begun_outside_of_events_comes_to_its_end(host: Host) {
    run(host, OwnWork::Ticks, || {
        // Nothing is there to be left.
        let event_loop = EventLoop::new().unwrap();
        (event_loop, Leaving { peers: Vec::new(), has_begun: false, is_shut_down: false })
    });
    for count in [0, 2] {
        run(host, OwnWork::Ticks, move || {
            let (event_loop, address) = listening_with(Limits::default());
            let peers = (0..count).map(|_| peer(address)).collect();
            (event_loop, Leaving { peers, has_begun: false, is_shut_down: false })
        });
    }
}
