//! Load on an echo server: many connections in one thread, each with messages under way.
//!
//! Two ways to offer load. *Closed loop*: each connection always has as many messages under way as
//! it may; a server that is slow is offered less. *Open loop*, with a rate: message *k* is due at
//! *k / rate* seconds, whatever the server does, and its latency counts from then. So what waits
//! because the server was slow is counted, too, which a measurement from the actual send would leave
//! out (*coordinated omission*).
//!
//! Every byte that comes back is compared. Each message is a piece of one block of noise, which
//! place follows from its connection and its number: so one that is lost, doubled or swapped shows.
//!
//! It is driven by events alone, so that it runs on the simulated network too. Its steps: the
//! connections connect; it sends for the time that it was given; it waits for the answers that are
//! still out, up to [`GRACE`].

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use readiness::{CloseReason, ConnectionId, Event, EventLoop, Stream, TimerId};

pub mod chart;

/// How long the last answers are waited for.
pub const GRACE: Duration = Duration::from_secs(5);

/// How many connections are begun before others have succeeded: listeners take few at once.
const CONNECTING_MAX: usize = 128;

/// The places in the noise where a message can begin.
const PLACES: usize = 1 << 16;

/// The most bytes that are handed to the loop at once.
const PIECE: usize = 64 * 1024;

/// The load to be offered.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many connections.
    pub connections: usize,
    /// The bytes of a message.
    pub size: usize,
    /// The most messages that a connection has under way.
    pub depth: usize,
    /// For how long messages are sent.
    pub time: Duration,
    /// How many messages are due in a second, on all connections together; `None` for as many as
    /// come back.
    pub rate: Option<f64>,
}

/// One connection, with what it has under way.
#[derive(Debug, Default)]
pub struct Lane {
    number: usize,
    /// When the messages that were not begun were due.
    due: VecDeque<Instant>,
    /// When those that were begun, and did not come back yet, were due.
    under_way: VecDeque<Instant>,
    /// How many messages were begun, and how many bytes of the last are still to be sent.
    begun: u64,
    rest: usize,
    /// How many messages have come back, and how many bytes of the next.
    back: u64,
    received: usize,
}

/// What was measured in one interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The end of the interval, in time since the load began.
    pub at: Duration,
    /// How many messages came back, a second.
    pub rate: f64,
    /// The median of their latencies.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// A load, and what was measured of it.
pub struct Load {
    plan: Plan,
    addresses: Vec<SocketAddr>,
    noise: Vec<u8>,
    lanes: Vec<ConnectionId>,
    connected: usize,
    phase: Phase,
    start: Instant,
    /// The timers of the intervals, of the end, and in open loop of the next message.
    sampler: Option<TimerId>,
    end: Option<TimerId>,
    pace: Option<TimerId>,
    /// In open loop, the number of the message that is due next.
    next: u64,
    /// How many messages were due and have not come back.
    outstanding: u64,
    /// The latencies of this interval, in nanoseconds; and the end of the one before.
    interval: Histogram<u64>,
    sampled: Instant,
    /// The latencies of all messages, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// The intervals so far.
    pub samples: Vec<Sample>,
    /// How many messages have not come back. Their latencies count up to the end.
    pub unanswered: u64,
    /// How many connections failed, and how the first of them did.
    pub failed: usize,
    /// The first failure in words.
    pub failure: Option<String>,
}

/// What the load is at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Connecting,
    Sending,
    /// Nothing new becomes due.
    Draining,
    Over,
}

impl Lane {
    /// Sends what is due, as far as the depth allows and the connection takes it.
    fn send(&mut self, stream: &mut Stream, plan: &Plan, noise: &[u8]) {
        while !stream.is_clogged() {
            if self.rest == 0 {
                if self.under_way.len() == plan.depth {
                    return;
                }
                let Some(due) = self.due.pop_front() else { return };
                self.under_way.push_back(due);
                (self.begun, self.rest) = (self.begun + 1, plan.size);
            }
            let end = place(self.number, self.begun - 1) + plan.size;
            let begin = end - self.rest;
            let piece = &noise[begin..end.min(begin + PIECE)];
            stream.send(piece);
            self.rest -= piece.len();
        }
    }

    /// Compares what has come back, and hands on when each whole message of it was due.
    fn receive(
        &mut self,
        stream: &mut Stream,
        plan: &Plan,
        noise: &[u8],
        mut is_back: impl FnMut(Instant),
    ) -> io::Result<()> {
        while !stream.received().is_empty() {
            let back = stream.received();
            let Some(due) = self.under_way.front() else {
                return Err(differs("more came back than was sent"));
            };
            let begin = place(self.number, self.back);
            let expected = &noise[begin + self.received..begin + plan.size];
            let count = back.len().min(expected.len());
            if back[..count] != expected[..count] {
                let message = self.back + 1;
                return Err(differs(format!("message {message} came back changed")));
            }
            stream.consume(count);
            self.received += count;
            if self.received == plan.size {
                is_back(*due);
                self.under_way.pop_front();
                (self.back, self.received) = (self.back + 1, 0);
            }
        }
        Ok(())
    }
}

fn differs(what: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.into())
}

/// Where a message begins in the noise: so neighbours differ, and so do connections.
fn place(lane: usize, message: u64) -> usize {
    let mixed = (lane as u64).rotate_left(32).wrapping_add(message).wrapping_mul(MULTIPLIER);
    (mixed >> 48) as usize % PLACES
}

const MULTIPLIER: u64 = 0x9E37_79B9_7F4A_7C15;

/// Bytes without a pattern, the same in each run.
fn noise(length: usize) -> Vec<u8> {
    let mut state = MULTIPLIER;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..length.div_ceil(8)).flat_map(|_| next()).take(length).collect()
}

/// Of latencies in nanoseconds, up to a day, with three digits.
fn histogram() -> Histogram<u64> {
    const DAY: u64 = 24 * 3600 * 1_000_000_000;
    Histogram::new_with_max(DAY, 3).expect("these bounds are allowed")
}

impl Load {
    /// Begins to connect. The first of the addresses that answers is used.
    pub fn begin(plan: Plan, addresses: &[SocketAddr], event_loop: &mut EventLoop<Lane>) -> Self {
        let now = event_loop.now();
        let mut load = Self {
            addresses: addresses.to_vec(),
            noise: noise(PLACES + plan.size),
            lanes: Vec::new(),
            connected: 0,
            phase: Phase::Connecting,
            start: now,
            sampler: None,
            end: None,
            pace: None,
            next: 0,
            outstanding: 0,
            interval: histogram(),
            sampled: now,
            latencies: histogram(),
            samples: Vec::new(),
            unanswered: 0,
            failed: 0,
            failure: None,
            plan,
        };
        (0..CONNECTING_MAX).for_each(|_| load.connect(event_loop));
        load
    }

    fn connect(&mut self, event_loop: &mut EventLoop<Lane>) {
        let number = self.lanes.len();
        if number < self.plan.connections {
            let lane = Lane { number, ..Lane::default() };
            self.lanes.push(event_loop.connect_any(self.addresses.iter().copied(), lane));
        }
    }

    /// Whether everything has come back, or is not waited for any longer.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// How many connections have succeeded.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.connected
    }

    /// For how long messages were sent and waited for.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.sampled - self.start
    }

    /// Handles an event of its loop.
    pub fn handle(&mut self, event_loop: &mut EventLoop<Lane>, event: Event) {
        match event {
            Event::Connected(_) => {
                self.connected += 1;
                self.connect(event_loop);
                if self.connected == self.plan.connections {
                    self.start(event_loop);
                }
            }
            Event::Received(id) => self.receive(event_loop, id),
            Event::Drained(id) => self.send(event_loop, id),
            Event::Closed(id, reason) => self.lose(event_loop, id, reason),
            Event::Timer(id) if Some(id) == self.pace => self.keep_pace(event_loop),
            Event::Timer(id) if Some(id) == self.sampler => self.sample(event_loop.now()),
            Event::Timer(id) if Some(id) == self.end => self.stop(event_loop),
            _ => {}
        }
    }

    /// Sends nothing new from now on and waits for what is under way; when called again, not even
    /// that.
    pub fn stop(&mut self, event_loop: &mut EventLoop<Lane>) {
        match self.phase {
            Phase::Sending if self.outstanding > 0 => {
                self.phase = Phase::Draining;
                self.end = Some(event_loop.set_timer(GRACE));
            }
            Phase::Over => {}
            Phase::Connecting | Phase::Sending | Phase::Draining => self.end(event_loop),
        }
    }

    /// All have connected.
    fn start(&mut self, event_loop: &mut EventLoop<Lane>) {
        let (now, time) = (event_loop.now(), self.plan.time);
        (self.start, self.sampled, self.phase) = (now, now, Phase::Sending);
        self.end = Some(event_loop.set_timer(time));
        let interval = (time / 200).clamp(Duration::from_millis(100), Duration::from_secs(1));
        self.sampler = Some(event_loop.set_repeating_timer(interval));
        if self.plan.rate.is_some() {
            return self.keep_pace(event_loop);
        }
        for id in self.lanes.clone() {
            (0..self.plan.depth).for_each(|_| self.make_due(event_loop, id, now));
            self.send(event_loop, id);
        }
    }

    /// Makes due what is due by now, and sets the time of the next.
    fn keep_pace(&mut self, event_loop: &mut EventLoop<Lane>) {
        let Some(rate) = self.plan.rate.filter(|_| self.phase == Phase::Sending) else { return };
        let now = event_loop.now();
        loop {
            let due = self.start + Duration::from_secs_f64(self.next as f64 / rate);
            if due > now {
                self.pace = Some(event_loop.set_timer(due - now));
                return;
            }
            let id = self.lanes[(self.next % self.lanes.len() as u64) as usize];
            self.next += 1;
            self.make_due(event_loop, id, due);
            self.send(event_loop, id);
        }
    }

    /// Where the connection has failed, nothing is due any more: its failure is told by itself.
    fn make_due(&mut self, event_loop: &mut EventLoop<Lane>, id: ConnectionId, due: Instant) {
        if let Some(connection) = event_loop.get_mut(id) {
            connection.data.due.push_back(due);
            self.outstanding += 1;
        }
    }

    fn send(&mut self, event_loop: &mut EventLoop<Lane>, id: ConnectionId) {
        if let Some(connection) = event_loop.get_mut(id) {
            let (lane, stream) = connection.split();
            lane.send(stream, &self.plan, &self.noise);
        }
    }

    fn receive(&mut self, event_loop: &mut EventLoop<Lane>, id: ConnectionId) {
        let now = event_loop.now();
        let is_closed_loop = self.plan.rate.is_none() && self.phase == Phase::Sending;
        event_loop[id].attend(|connection| {
            let (lane, stream) = connection.split();
            let mut count = 0;
            let outcome = lane.receive(stream, &self.plan, &self.noise, |due| {
                count += 1;
                record(&mut self.interval, now.saturating_duration_since(due));
            });
            self.outstanding -= count;
            if is_closed_loop {
                lane.due.extend((0..count).map(|_| now));
                self.outstanding += count;
            }
            lane.send(stream, &self.plan, &self.noise);
            outcome.inspect_err(|error| note(&mut self.failure, lane.number, error))
        });
        self.end_if_drained(event_loop);
    }

    /// A connection has failed, since none is closed before the end.
    fn lose(&mut self, event_loop: &mut EventLoop<Lane>, id: ConnectionId, reason: CloseReason) {
        if self.phase == Phase::Over {
            return;
        }
        self.failed += 1;
        let lane = &event_loop[id].data;
        if !matches!(reason, CloseReason::Rejected(_)) {
            note(&mut self.failure, lane.number, &reason);
        }
        self.give_up(event_loop.now(), id, event_loop);
        if self.phase == Phase::Connecting || event_loop.connection_count() == 0 {
            self.end(event_loop);
        }
        self.end_if_drained(event_loop);
    }

    fn end_if_drained(&mut self, event_loop: &mut EventLoop<Lane>) {
        if self.phase == Phase::Draining && self.outstanding == 0 {
            self.end(event_loop);
        }
    }

    /// Counts what a connection still has under way as unanswered.
    fn give_up(&mut self, now: Instant, id: ConnectionId, event_loop: &mut EventLoop<Lane>) {
        let Some(connection) = event_loop.get_mut(id) else { return };
        let lane = &mut connection.data;
        for due in lane.under_way.drain(..).chain(lane.due.drain(..)) {
            record(&mut self.interval, now.saturating_duration_since(due));
            self.unanswered += 1;
            self.outstanding -= 1;
        }
    }

    fn end(&mut self, event_loop: &mut EventLoop<Lane>) {
        let now = event_loop.now();
        for id in self.lanes.clone() {
            self.give_up(now, id, event_loop);
        }
        if self.phase != Phase::Connecting {
            self.sample(now);
        }
        self.phase = Phase::Over;
    }

    /// Ends an interval.
    fn sample(&mut self, now: Instant) {
        let interval = &mut self.interval;
        let time = (now - self.sampled).as_secs_f64();
        // What comes back behind the last interval is too little for one of its own.
        if !interval.is_empty() && time > 0.01 {
            let at = |quantile| Duration::from_nanos(interval.value_at_quantile(quantile));
            self.samples.push(Sample {
                at: now - self.start,
                rate: interval.len() as f64 / time,
                p50: at(0.5),
                p99: at(0.99),
                max: at(1.0),
            });
        }
        self.latencies.add(&*interval).expect("both have the same bounds");
        interval.reset();
        self.sampled = now;
    }
}

fn record(histogram: &mut Histogram<u64>, latency: Duration) {
    histogram.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
}

fn note(failure: &mut Option<String>, number: usize, what: &dyn std::fmt::Display) {
    failure.get_or_insert_with(|| format!("connection {}: {what}", number + 1));
}
