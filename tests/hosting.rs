//! A loop inside a host: how long the host may sleep, and when the loop's descriptor wakes it.
//!
//! Hosts with their own loop are programs; here is what they build on.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{Read, Write};
use std::net::UdpSocket as StdSocket;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use common::steps::{Steps, assert_rests};
use common::talker::Talker;
use common::{
    PATIENCE, accepted, await_arrival, await_backlog, connection_limits, hold_little, left_overs,
    listening, listening_with, next, pair, pair_with, pattern, peer, turns, until,
};
use mio::net::UdpSocket;
use mio::unix::SourceFd;
use mio::{Events, Poll, Token};
use readiness::{Event, EventLoop, Interest, Limits, SourceId, TimerId};

const AT_ONCE: Option<Duration> = Some(Duration::ZERO);

fn new() -> EventLoop {
    EventLoop::new().unwrap()
}

/// Runs turns as a host does, without looking at events, until the loop lets it sleep forever.
fn settle<T>(event_loop: &mut EventLoop<T>) {
    let end = Instant::now() + PATIENCE;
    while event_loop.next_timeout().is_some() {
        assert!(Instant::now() < end, "there is always something to do");
        turns(event_loop, 1);
    }
}

/// Returns whether the loop's descriptor becomes readable in this time.
fn is_readable_within<T>(event_loop: &EventLoop<T>, timeout: Duration) -> bool {
    let mut host = Poll::new().unwrap();
    let descriptor = event_loop.as_raw_fd();
    let mut source = SourceFd(&descriptor);
    host.registry().register(&mut source, Token(0), mio::Interest::READABLE).unwrap();
    let mut events = Events::with_capacity(8);
    host.poll(&mut events, Some(timeout)).unwrap();
    events.iter().next().is_some()
}

fn is_readable<T>(event_loop: &EventLoop<T>) -> bool {
    is_readable_within(event_loop, Duration::ZERO)
}

/// Fails unless a host that sleeps on the descriptor is woken.
fn assert_wakes_host<T>(event_loop: &EventLoop<T>) {
    assert!(is_readable_within(event_loop, PATIENCE), "the host sleeps on");
}

// How long the host may sleep.

#[test]
fn idle_loop_lets_its_host_sleep_for_ever() {
    let event_loop = new();
    assert_eq!(event_loop.next_timeout(), None);
    let (mut event_loop, _, _peer) = pair::<()>();
    settle(&mut event_loop);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn host_may_sleep_until_the_next_alarm_of_any_kind() {
    const FAR: Duration = Duration::from_secs(1_000);
    let (mut event_loop, id, _peer) = pair::<()>();
    settle(&mut event_loop);
    let is_for = |event_loop: &EventLoop, after: Duration| {
        let timeout = event_loop.next_timeout().unwrap();
        timeout <= after && timeout > after.saturating_sub(PATIENCE)
    };
    let timer = event_loop.set_timer(4 * FAR);
    assert!(is_for(&event_loop, 4 * FAR));
    event_loop[id].set_idle_timeout(Some(3 * FAR)).unwrap();
    assert_eq!(turns(&mut event_loop, 1), []);
    assert!(is_for(&event_loop, 3 * FAR));
    event_loop[id].set_deadline(Some(2 * FAR));
    assert_eq!(turns(&mut event_loop, 1), []);
    assert!(is_for(&event_loop, 2 * FAR));
    event_loop.shutdown(FAR);
    // A paused one is not quiet, so that the shutdown waits.
    event_loop[id].pause();
    assert_eq!(turns(&mut event_loop, 3), []);
    assert!(is_for(&event_loop, FAR));
    event_loop.cancel_timer(timer);
}

#[test]
fn alarm_that_is_due_is_something_to_do_now() {
    let mut event_loop = new();
    let timer = event_loop.set_timer(Duration::ZERO);
    assert_eq!(event_loop.next_timeout(), AT_ONCE);
    assert_eq!(next(&mut event_loop), Event::Timer(timer));
    settle(&mut event_loop);
}

#[test]
fn while_events_are_pending_there_is_something_to_do() {
    let (mut event_loop, _, address) = listening::<()>();
    let mut peers = [peer(address), peer(address)];
    let ids = [accepted(&mut event_loop), accepted(&mut event_loop)];
    settle(&mut event_loop);
    for (peer, id) in peers.iter_mut().zip(ids) {
        peer.write_all(b"message").unwrap();
        await_arrival(&event_loop, id);
    }
    for _ in 0..2 {
        assert!(matches!(event_loop.poll_event(AT_ONCE).unwrap(), Some(Event::Received(_))));
        assert_eq!(event_loop.next_timeout(), AT_ONCE);
    }
    assert_eq!(event_loop.poll_event(AT_ONCE).unwrap(), None);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn while_the_readiness_of_a_source_is_undelivered_there_is_something_to_do() {
    let mut event_loop = new();
    let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let source = event_loop.register(&mut socket, Interest::Readable).unwrap();
    let sender = StdSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"news", socket.local_addr().unwrap()).unwrap();
    event_loop.waker().wake().unwrap();
    // These change no connection, and the kernel would not report them again.
    assert_eq!(event_loop.poll_event(AT_ONCE).unwrap(), Some(Event::Woken));
    assert_eq!(event_loop.next_timeout(), AT_ONCE);
    let event = event_loop.poll_event(AT_ONCE).unwrap();
    assert!(matches!(event, Some(Event::Ready(of, _)) if of == source), "{event:?}");
    assert_eq!(event_loop.next_timeout(), AT_ONCE, "the turn is not over");
    assert_eq!(event_loop.poll_event(AT_ONCE).unwrap(), None);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn while_readiness_is_left_there_is_something_to_do() {
    let (mut event_loop, _, _peers) = left_overs(3);
    let mut turns_with_more = 0;
    let end = Instant::now() + PATIENCE;
    while event_loop.next_timeout().is_some() {
        assert!(Instant::now() < end, "it never gets to the end");
        assert_eq!(event_loop.next_timeout(), AT_ONCE);
        turns_with_more += 1;
        while let Some(event) = event_loop.poll_event(AT_ONCE).unwrap() {
            let Event::Received(id) = event else { panic!("{event:?} was not expected") };
            let count = event_loop[id].received().len();
            event_loop[id].consume(count);
        }
    }
    // Each has 500 budgets, of which few were read before, and one is served in a turn.
    assert!(turns_with_more > 1_000, "{turns_with_more}");
}

#[test]
fn dirty_connection_is_something_to_do_until_it_is_settled() {
    type Touch = fn(&mut EventLoop, readiness::ConnectionId);
    let touches: [Touch; 5] = [
        |event_loop, id| event_loop[id].send(b"answer"),
        |event_loop, id| event_loop.get_mut(id).unwrap().pause(),
        |event_loop, id| event_loop.get_mut(id).unwrap().resume(),
        |event_loop, _| assert_eq!(event_loop.connections_mut().count(), 1),
        |event_loop, id| event_loop.uncouple(id),
    ];
    let (mut event_loop, id, _peer) = pair::<()>();
    for touch in touches {
        settle(&mut event_loop);
        assert!(event_loop.get(id).is_some(), "to look is not to touch");
        assert_eq!(event_loop.next_timeout(), None);
        touch(&mut event_loop, id);
        assert_eq!(event_loop.next_timeout(), AT_ONCE);
    }
    settle(&mut event_loop);
    event_loop.connect(common::refusing_address(), ());
    assert_eq!(event_loop.next_timeout(), AT_ONCE);
}

#[test]
fn while_closed_is_handled_there_is_something_to_do() {
    let (mut event_loop, id, peer) = pair::<()>();
    settle(&mut event_loop);
    drop(peer);
    until(&mut event_loop, |_, event| matches!(event, Event::Closed(..)).then_some(()));
    assert_eq!(event_loop.next_timeout(), AT_ONCE);
    assert!(event_loop.get(id).is_some());
    assert_eq!(turns(&mut event_loop, 1), []);
    assert_eq!(event_loop.next_timeout(), None);
    assert!(event_loop.get(id).is_none());
}

#[test]
fn after_a_wait_that_was_full_there_may_be_more_to_do() {
    const CAPACITY: usize = 2;
    let mut limits = Limits::default();
    limits.event_capacity = CAPACITY;
    let (mut event_loop, address) = listening_with::<()>(limits);
    let mut peers: Vec<_> = (0..3).map(|_| peer(address)).collect();
    let ids: Vec<_> = (0..3).map(|_| accepted(&mut event_loop)).collect();
    settle(&mut event_loop);
    for (peer, id) in peers.iter_mut().zip(ids) {
        peer.write_all(b"message").unwrap();
        await_arrival(&event_loop, id);
    }
    assert_eq!(turns(&mut event_loop, 1).len(), CAPACITY);
    assert_eq!(event_loop.next_timeout(), AT_ONCE, "the third was not reported");
    assert_eq!(turns(&mut event_loop, 1).len(), 1);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn while_peers_wait_beyond_the_accept_budget_there_is_something_to_do() {
    let mut limits = Limits::default();
    limits.accept_budget = 1;
    let (mut event_loop, address) = listening_with::<()>(limits);
    settle(&mut event_loop);
    let _peers: Vec<_> = (0..3).map(|_| peer(address)).collect();
    await_backlog(address, 3);
    for _ in 0..3 {
        let event = event_loop.poll_event(AT_ONCE).unwrap();
        let Some(Event::Accepted(_, id)) = event else { panic!("{event:?} was delivered") };
        event_loop[id].pause(); // so that it is not looked at again itself
        assert_eq!(event_loop.poll_event(AT_ONCE).unwrap(), None);
        assert_eq!(event_loop.next_timeout(), AT_ONCE);
    }
    settle(&mut event_loop);
    assert_eq!(event_loop.connection_count(), 3);
}

#[test]
fn shut_down_that_is_due_is_something_to_do() {
    let mut event_loop = new();
    event_loop.shutdown(PATIENCE);
    assert_eq!(event_loop.next_timeout(), AT_ONCE);
    assert_eq!(event_loop.poll_event(AT_ONCE).unwrap(), Some(Event::ShutDown));
    assert_eq!(event_loop.next_timeout(), None);
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn shut_down_that_is_due_after_the_last_closed_is_something_to_do() {
    let (mut event_loop, _, _peer) = pair::<()>();
    settle(&mut event_loop);
    event_loop.shutdown(Duration::ZERO);
    let end = Instant::now() + PATIENCE;
    loop {
        assert!(Instant::now() < end, "it does not shut down");
        assert_eq!(event_loop.next_timeout(), AT_ONCE, "the host would sleep on nothing");
        if event_loop.poll_event(AT_ONCE).unwrap() == Some(Event::ShutDown) {
            break;
        }
    }
    settle(&mut event_loop);
}

#[test]
fn zero_poll_gives_the_host_its_time_at_the_end_of_every_turn() {
    let (mut event_loop, _, _peers) = left_overs(2);
    let steps = Steps::of(&mut event_loop);
    for _ in 0..50 {
        steps.take();
        while let Some(event) = event_loop.poll_event(AT_ONCE).unwrap() {
            let Event::Received(id) = event else { panic!("{event:?} was not expected") };
            let count = event_loop[id].received().len();
            event_loop[id].consume(count);
        }
        assert_eq!(steps.waits(), 1);
        assert_eq!(event_loop.next_timeout(), AT_ONCE, "more is ready nevertheless");
    }
}

// What wakes the host.

#[test]
fn descriptor_of_an_idle_loop_is_quiet_and_each_kind_of_event_wakes_the_host() {
    let (mut event_loop, _, address) = listening::<()>();
    settle(&mut event_loop);
    assert!(!is_readable(&event_loop));

    let mut talker = peer(address);
    assert_wakes_host(&event_loop);
    let id = accepted(&mut event_loop);
    settle(&mut event_loop);
    assert!(!is_readable(&event_loop), "the accepted was delivered");

    talker.write_all(b"message").unwrap();
    assert_wakes_host(&event_loop);
    assert_eq!(next(&mut event_loop), Event::Received(id));
    let count = event_loop[id].received().len();
    event_loop[id].consume(count);
    settle(&mut event_loop);
    assert!(!is_readable(&event_loop), "the message was delivered");

    let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let source = event_loop.register(&mut socket, Interest::Readable).unwrap();
    settle(&mut event_loop);
    assert!(!is_readable(&event_loop));
    let sender = StdSocket::bind("127.0.0.1:0").unwrap();
    sender.send_to(b"news", socket.local_addr().unwrap()).unwrap();
    assert_wakes_host(&event_loop);
    assert!(matches!(next(&mut event_loop), Event::Ready(of, _) if of == source));
    settle(&mut event_loop);
    assert!(!is_readable(&event_loop), "the source was delivered");

    let waker = event_loop.waker();
    std::thread::spawn(move || waker.wake().unwrap());
    assert_wakes_host(&event_loop);
    assert_eq!(next(&mut event_loop), Event::Woken);
    settle(&mut event_loop);
    assert!(!is_readable(&event_loop), "the wake was delivered");

    drop(talker);
    assert_wakes_host(&event_loop);
    until(&mut event_loop, |_, event| matches!(event, Event::Closed(..)).then_some(()));
    settle(&mut event_loop);
    assert!(!is_readable(&event_loop), "the end was delivered");
}

#[test]
fn connect_that_succeeds_or_fails_wakes_the_host() {
    let mut event_loop = new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (address, is_refused) in
        [(listener.local_addr().unwrap(), false), (common::refusing_address(), true)]
    {
        let id = event_loop.connect(address, ());
        // The host calls again after it has used a connection.
        let event = event_loop.poll_event(AT_ONCE).unwrap();
        let event = event.unwrap_or_else(|| {
            assert!(event_loop.next_timeout().is_none_or(|timeout| !timeout.is_zero()));
            assert_wakes_host(&event_loop);
            next(&mut event_loop)
        });
        let closed = matches!(event, Event::Closed(of, _) if of == id);
        let connected = event == Event::Connected(id);
        assert_eq!((closed, connected), (is_refused, !is_refused), "{event:?}");
        turns(&mut event_loop, 3);
    }
}

#[test]
fn room_to_write_again_wakes_the_host() {
    let (mut event_loop, id, peer) = pair::<()>();
    hold_little(&event_loop, id, &peer);
    const SIZE: usize = 4 << 20;
    event_loop[id].send(&pattern(0, SIZE));
    while event_loop[id].interest() != Interest::Writable {
        assert_eq!(turns(&mut event_loop, 1), []);
    }
    let is_stalled = |timeout: Option<Duration>| timeout.is_some_and(|time| !time.is_zero());
    assert!(is_stalled(event_loop.next_timeout()), "only for the stalled write");
    assert!(!is_readable(&event_loop), "the peer has read nothing");
    peer.set_nonblocking(true).unwrap();
    let mut talker = Talker { stream: peer, written: 0, read: 0, at_end: false };
    let end = Instant::now() + PATIENCE;
    while talker.read < SIZE {
        assert!(Instant::now() < end, "{} of {SIZE} arrive", talker.read);
        talker.read_on();
        // As a host does: calls while there is something to do, and else sleeps on the descriptor,
        // here for a moment only, since it plays the peer too.
        if event_loop.next_timeout() == AT_ONCE
            || is_readable_within(&event_loop, Duration::from_millis(1))
        {
            turns(&mut event_loop, 1);
        }
    }
    settle(&mut event_loop);
}

#[test]
fn paused_connection_whose_peer_sends_on_does_not_wake_the_host() {
    let (mut event_loop, id, mut peer) = pair::<()>();
    event_loop[id].pause();
    settle(&mut event_loop);
    peer.write_all(b"message").unwrap();
    await_arrival(&event_loop, id);
    assert!(!is_readable(&event_loop));
    event_loop[id].resume();
    assert_eq!(event_loop.next_timeout(), AT_ONCE);
    assert_eq!(next(&mut event_loop), Event::Received(id));
}

// One loop inside another.

/// A loop that echoes, inside a host that is a loop itself.
struct Nested {
    host: EventLoop,
    inner: EventLoop,
    source: SourceId,
    /// What wakes the host for the inner loop, in addition to its descriptor.
    timer: Option<TimerId>,
    slices: usize,
    timers_came: usize,
}

impl Nested {
    fn new(mut host: EventLoop, inner: EventLoop) -> Self {
        settle(&mut host);
        let descriptor = inner.as_raw_fd();
        let source = host.register(&mut SourceFd(&descriptor), Interest::Readable).unwrap();
        Self { host, inner, source, timer: None, slices: 0, timers_came: 0 }
    }

    /// Gives the inner loop a slice if the event is for it: the events of one turn. Then updates
    /// how long the host may sleep.
    fn run_if_for_inner(&mut self, event: Event) -> bool {
        let is_for_inner = match event {
            Event::Ready(of, _) => of == self.source,
            Event::Timer(timer) => self.timer == Some(timer),
            _ => false,
        };
        if is_for_inner {
            self.run();
        }
        is_for_inner
    }

    fn run(&mut self) {
        self.slices += 1;
        // Edges: armed again before the call, so that what arrives during it is not missed.
        let descriptor = self.inner.as_raw_fd();
        let mut inner = SourceFd(&descriptor);
        self.host.reregister(self.source, &mut inner, Interest::Readable).unwrap();
        while let Some(event) = self.inner.poll_event(AT_ONCE).unwrap() {
            match event {
                Event::Received(id) => self.inner[id].send_received(),
                Event::Timer(_) => self.timers_came += 1,
                _ => {}
            }
        }
        if let Some(timer) = self.timer.take() {
            self.host.cancel_timer(timer);
        }
        self.timer = self.inner.next_timeout().map(|after| self.host.set_timer(after));
    }

    /// Runs the host, which waits for the inner loop alone, until `done`.
    fn run_until(&mut self, mut done: impl FnMut(&Self) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < end, "what the test waits for did not happen");
            if let Some(event) = self.host.poll_event(Some(Duration::from_millis(20))).unwrap() {
                assert!(self.run_if_for_inner(event), "{event:?} was not expected");
            }
        }
    }
}

#[test]
fn busy_loop_inside_another_works_in_slices_and_holds_up_nobody() {
    const SIZE: usize = 4 << 20;
    const ROUNDS: usize = 200;
    let limits = connection_limits(|limits| {
        limits.read_budget = 8 * 1024;
        limits.write_budget = 8 * 1024;
    });
    let (inner, address) = listening_with::<()>(limits);
    let (host, id, mut own) = pair::<()>();
    let mut nested = Nested::new(host, inner);

    // The inner one is busy with a stream as long as the host has messages of its own.
    let mut bulk = Talker::connect(address);
    for round in 0..ROUNDS {
        bulk.write_to(SIZE);
        own.write_all(b"message").unwrap();
        await_arrival(&nested.host, id);
        let before = nested.slices;
        let mut has_received = false;
        while let Some(event) = nested.host.poll_event(AT_ONCE).unwrap() {
            if !nested.run_if_for_inner(event) {
                assert_eq!(event, Event::Received(id));
                has_received = true;
                nested.host[id].send_received();
            }
        }
        assert!(has_received, "the inner loop held up round {round}");
        let slices = nested.slices - before;
        assert!(slices <= 2, "a turn of the host has two at most: by the descriptor, by the timer");
        own.read_exact(&mut [0; 7]).unwrap();
        bulk.read_on();
    }
    nested.run_until(|_| {
        bulk.write_to(SIZE);
        bulk.read_on();
        bulk.read == SIZE
    });
    assert!(nested.slices > SIZE / (8 * 1024), "{} slices", nested.slices);
}

#[test]
fn idle_loop_inside_another_rests_with_it_and_misses_nothing() {
    const MESSAGE: usize = 100;
    let (inner, address) = listening_with::<()>(Limits::default());
    let mut nested = Nested::new(new(), inner);
    let steps = Steps::of(&mut nested.host);
    let mut talker = Talker::connect(address);
    nested.run_until(|nested| nested.inner.connection_count() == 1);
    for round in 1..=5 {
        talker.write_to(round * MESSAGE);
        nested.run_until(|_| {
            talker.read_on();
            talker.read == round * MESSAGE
        });
        // A timer, and the call that the contract asks for after the program has done something.
        nested.inner.set_timer(Duration::from_millis(5));
        nested.run();
        nested.run_until(|nested| nested.timers_came == round);
        nested.run_until(|nested| nested.timer.is_none() && !is_readable(&nested.inner));

        // Neither is called again: a host that goes on calling never gets there.
        let mut slices = usize::MAX;
        nested.run_until(|nested| std::mem::replace(&mut slices, nested.slices) == nested.slices);
        assert_rests(&mut nested.host, &steps);
        assert_eq!(nested.inner.next_timeout(), None);
    }
}

#[test]
fn waits_of_a_loop_with_limits_of_its_own_do_not_hold_up_the_host() {
    // A full wait again and again, each of one event: the contract lets nothing be missed.
    let mut limits = Limits::default();
    limits.event_capacity = 1;
    let (mut event_loop, first, mut talker) = pair_with::<()>(limits);
    settle(&mut event_loop);
    for _ in 0..20 {
        talker.write_all(b"message").unwrap();
        event_loop.waker().wake().unwrap();
        await_arrival(&event_loop, first);
        let mut events = Vec::new();
        while event_loop.next_timeout() == AT_ONCE || is_readable(&event_loop) {
            while let Some(event) = event_loop.poll_event(AT_ONCE).unwrap() {
                events.push(event);
            }
        }
        let count = event_loop[first].received().len();
        event_loop[first].consume(count);
        assert_eq!(event_loop.poll_event(AT_ONCE).unwrap(), None);
        assert_eq!(events.len(), 2, "{events:?}");
        assert!(events.contains(&Event::Woken) && events.contains(&Event::Received(first)));
    }
}
