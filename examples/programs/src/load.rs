//! Load on an echo server: many connections in one thread, each with messages under way.
//!
//! Two ways to offer load. *Closed loop*: each connection always has as many messages under way as
//! it may; a server that is slow is offered less. *Open loop*, with a rate: message *k* is due at
//! *k / rate* seconds, whatever the server does, and its latency counts from then. So what waits
//! because the server was slow is counted, too, which a measurement from the actual send would leave
//! out (*coordinated omission*).
//!
//! Every byte of the echo is compared. A connection sends a block of noise, over and over, and where
//! in it it begins follows from its number: so a message that is lost, doubled, swapped or of
//! another connection shows.
//!
//! It is driven by events alone, so that it runs on the simulated network too. Its steps: the
//! connections connect; it sends for the time that it was given; it waits for the answers that are
//! still out, up to [`GRACE`].

use std::collections::VecDeque;
use std::io;
use std::iter::repeat_n;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use readiness::{CloseReason, Connection, ConnectionId, Event, EventLoop, Stream, TimerId};

pub mod chart;

/// How long the last answers are waited for.
pub const GRACE: Duration = Duration::from_secs(5);

/// How many connections are begun before others have succeeded: listeners take few at once.
const CONNECTING_MAX: usize = 128;

/// How long the noise is: a prime, so that messages of any usual size begin at different places.
const NOISE: usize = 65_521;

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
    /// are echoed.
    pub rate: Option<f64>,
}

/// One connection, with what it has under way.
#[derive(Debug, Default)]
pub struct Lane {
    number: usize,
    /// When the messages that were not echoed yet were due, whether they were sent or not.
    due: VecDeque<Instant>,
    /// How many bytes were sent, and how many have been echoed.
    sent: u64,
    received: u64,
}

/// What was measured in one interval.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// The end of the interval, in time since the load began.
    pub at: Duration,
    /// How many messages were echoed, a second.
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
    /// How many connections have succeeded.
    pub connected: usize,
    phase: Phase,
    start: Instant,
    /// The timers of the intervals, of the end, and in open loop of the next message.
    sampler: Option<TimerId>,
    end: Option<TimerId>,
    pace: Option<TimerId>,
    /// In open loop, the number of the message that is due next.
    next: usize,
    /// How many messages were due and have not been echoed.
    outstanding: usize,
    /// The latencies of this interval, in nanoseconds.
    interval: Histogram<u64>,
    /// For how long messages were sent and waited for, up to this interval.
    pub took: Duration,
    /// The latencies of all messages, in nanoseconds.
    pub latencies: Histogram<u64>,
    /// The intervals so far.
    pub samples: Vec<Sample>,
    /// How many messages have not been echoed. Their latencies count up to the end.
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
    fn send(connection: &mut Connection<Self>, plan: &Plan, noise: &[u8]) {
        let (lane, stream) = connection.split();
        let count = lane.due.len().min(plan.depth) as u64;
        let end = (lane.back(plan) + count) * plan.size as u64;
        while lane.sent < end && !stream.is_clogged() {
            let piece = lane.piece(noise, lane.sent, end - lane.sent);
            stream.send(piece);
            lane.sent += piece.len() as u64;
        }
    }

    /// Compares what has been echoed.
    fn receive(&mut self, stream: &mut Stream, plan: &Plan, noise: &[u8]) -> io::Result<()> {
        while !stream.received().is_empty() {
            let message = self.back(plan) + 1;
            let end = self.sent.min(message * plan.size as u64);
            let expected = self.piece(noise, self.received, end - self.received);
            let count = stream.received().len().min(expected.len());
            if count == 0 {
                return Err(io::Error::other("more came back than was sent"));
            }
            if stream.received()[..count] != expected[..count] {
                return Err(io::Error::other(format!("message {message} came back changed")));
            }
            stream.consume(count);
            self.received += count as u64;
        }
        Ok(())
    }

    /// Returns how many messages have been echoed.
    fn back(&self, plan: &Plan) -> u64 {
        self.received / plan.size as u64
    }

    /// Returns what is sent from a place on: at most `max` bytes, and up to the end of the noise.
    fn piece<'n>(&self, noise: &'n [u8], place: u64, max: u64) -> &'n [u8] {
        let begin = (self.number as u64 * 7919 + place) % NOISE as u64;
        let end = (begin + max).min(NOISE as u64);
        &noise[begin as usize..end as usize]
    }
}

impl Load {
    /// Begins to connect. The first of the addresses that answers is used.
    pub fn begin(plan: Plan, addresses: &[SocketAddr], event_loop: &mut EventLoop<Lane>) -> Self {
        let histogram = Histogram::new(3).expect("three digits are allowed");
        let mut noise = vec![0; NOISE];
        fastrand::Rng::with_seed(0).fill(&mut noise);
        let mut load = Self {
            addresses: addresses.to_vec(),
            noise,
            lanes: Vec::new(),
            connected: 0,
            phase: Phase::Connecting,
            start: event_loop.now(),
            sampler: None,
            end: None,
            pace: None,
            next: 0,
            outstanding: 0,
            interval: histogram.clone(),
            took: Duration::ZERO,
            latencies: histogram,
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

    /// Returns whether everything has been echoed, or is not waited for any longer.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Handles an event of its loop.
    pub fn handle(&mut self, event_loop: &mut EventLoop<Lane>, event: Event) {
        let now = event_loop.now();
        match event {
            Event::Connected(_) => {
                self.connected += 1;
                self.connect(event_loop);
                if self.connected == self.plan.connections {
                    self.start(event_loop);
                }
            }
            Event::Received(id) => self.receive(&mut event_loop[id], now),
            Event::Drained(id) => Lane::send(&mut event_loop[id], &self.plan, &self.noise),
            Event::Closed(id, reason) if !self.is_over() => self.lose(event_loop, id, reason),
            Event::Timer(id) if Some(id) == self.pace => self.keep_pace(event_loop),
            Event::Timer(id) if Some(id) == self.sampler => self.sample(now),
            Event::Timer(id) if Some(id) == self.end => self.stop(event_loop),
            _ => {}
        }
        if self.phase == Phase::Draining && self.outstanding == 0 {
            self.end(event_loop);
        }
    }

    /// Sends nothing new from now on and waits for what is under way, if that is anything when the
    /// next event is handled; when called again, not even that.
    pub fn stop(&mut self, event_loop: &mut EventLoop<Lane>) {
        if self.phase != Phase::Sending {
            return self.end(event_loop);
        }
        self.phase = Phase::Draining;
        self.end = Some(event_loop.set_timer(GRACE));
    }

    /// All have connected.
    fn start(&mut self, event_loop: &mut EventLoop<Lane>) {
        let (now, time) = (event_loop.now(), self.plan.time);
        (self.start, self.phase) = (now, Phase::Sending);
        self.end = Some(event_loop.set_timer(time));
        let interval = (time / 200).clamp(Duration::from_millis(100), Duration::from_secs(1));
        self.sampler = Some(event_loop.set_repeating_timer(interval));
        if self.plan.rate.is_some() {
            return self.keep_pace(event_loop);
        }
        for id in self.lanes.clone() {
            (0..self.plan.depth).for_each(|_| self.make_due(event_loop, id, now));
        }
    }

    /// Makes due what is due by now, and sets the time of the next.
    fn keep_pace(&mut self, event_loop: &mut EventLoop<Lane>) {
        let Some(rate) = self.plan.rate.filter(|_| self.phase == Phase::Sending) else { return };
        let (now, start) = (event_loop.now(), self.start);
        let due = |number| start + Duration::from_secs_f64(number as f64 / rate);
        while due(self.next) <= now {
            let id = self.lanes[self.next % self.lanes.len()];
            self.make_due(event_loop, id, due(self.next));
            self.next += 1;
        }
        self.pace = Some(event_loop.set_timer(due(self.next) - now));
    }

    /// Makes a message due. Where the connection has failed, none is due any more: the failure is
    /// reported separately.
    fn make_due(&mut self, event_loop: &mut EventLoop<Lane>, id: ConnectionId, due: Instant) {
        if let Some(connection) = event_loop.get_mut(id) {
            connection.data.due.push_back(due);
            self.outstanding += 1;
            Lane::send(connection, &self.plan, &self.noise);
        }
    }

    fn receive(&mut self, connection: &mut Connection<Lane>, now: Instant) {
        let is_closed_loop = self.plan.rate.is_none() && self.phase == Phase::Sending;
        connection.attend(|connection| {
            let (lane, stream) = connection.split();
            let back = lane.back(&self.plan);
            let outcome = lane.receive(stream, &self.plan, &self.noise);
            let count = (lane.back(&self.plan) - back) as usize;
            self.record(lane.due.drain(..count), now);
            if is_closed_loop {
                lane.due.extend(repeat_n(now, count));
                self.outstanding += count;
            }
            let outcome = outcome.inspect_err(|error| self.note(lane, error));
            Lane::send(connection, &self.plan, &self.noise);
            outcome
        });
    }

    /// Records the latencies of messages that were due at these times.
    fn record(&mut self, due: impl Iterator<Item = Instant>, now: Instant) {
        for due in due {
            self.interval += now.saturating_duration_since(due).as_nanos() as u64;
            self.outstanding -= 1;
        }
    }

    /// Notes the first failure of all.
    fn note(&mut self, lane: &Lane, what: impl ToString) {
        self.failure
            .get_or_insert_with(|| format!("connection {}: {}", lane.number + 1, what.to_string()));
    }

    /// A connection has failed, since none is closed before the end.
    fn lose(&mut self, event_loop: &mut EventLoop<Lane>, id: ConnectionId, reason: CloseReason) {
        self.failed += 1;
        let now = event_loop.now();
        let lane = &mut event_loop[id].data;
        self.note(lane, reason); // unless it was rejected here, and so noted already
        self.give_up(lane, now);
        if self.phase == Phase::Connecting || event_loop.connection_count() == 0 {
            self.end(event_loop);
        }
    }

    /// Counts what a connection still has under way as unanswered.
    fn give_up(&mut self, lane: &mut Lane, now: Instant) {
        self.unanswered += lane.due.len() as u64;
        self.record(lane.due.drain(..), now);
    }

    fn end(&mut self, event_loop: &mut EventLoop<Lane>) {
        let now = event_loop.now();
        for connection in event_loop.connections_mut() {
            self.give_up(&mut connection.data, now);
        }
        self.sample(now);
        self.phase = Phase::Over;
    }

    /// Ends an interval.
    fn sample(&mut self, now: Instant) {
        let (interval, at) = (&mut self.interval, now - self.start);
        let time = (at - self.took).as_secs_f64();
        // What is echoed after the last interval is too little for another.
        if !interval.is_empty() && time > 0.01 {
            let latency = |quantile| Duration::from_nanos(interval.value_at_quantile(quantile));
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(latency);
            self.samples.push(Sample { at, rate: interval.len() as f64 / time, p50, p99, max });
        }
        self.latencies += &*interval;
        interval.reset();
        self.took = at;
    }
}
