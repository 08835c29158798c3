//! What the load is ordered to do, and what it reports afterwards.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) address: SocketAddr,
    /// The process of the server, whose time is measured.
    pub(crate) server: u32,
    pub(crate) task: Task,
    pub(crate) extent: Extent,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Task {
    /// On connections that stay. The first group is the one that is measured.
    Talk {
        groups: Vec<Group>,
        /// Each message is a line.
        lines: bool,
        wait: Wait,
    },
    /// One connection after the other, `at_once` of them open: `bytes` are sent and echoed.
    Visit {
        at_once: usize,
        bytes: usize,
        /// The visitor finishes before it reads, and reads to the end.
        finish: bool,
    },
}

/// Connections that do the same.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) connections: usize,
    /// Bytes of a message.
    pub(crate) size: usize,
    pub(crate) manner: Manner,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Manner {
    /// Says nothing.
    Idle,
    /// This many messages are under way; for each that was echoed another is sent.
    InFlight(usize),
    /// Sends as much as the kernel takes, and reads as much as there is.
    Stream,
    /// Sends as much as the kernel takes, and reads a little whenever anything happens.
    Slow,
}

/// What the load does while nothing is there for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wait {
    /// Sleeps, and the kernel wakes it.
    Asleep,
    /// Looks again and again, so that only the server's waking is measured.
    Awake,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Extent {
    /// Measures for a window of time, after a warm-up; both in milliseconds.
    Time { warm_up: u64, window: u64 },
    /// Ends after at least this many messages; everything counts.
    Messages(u64),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    /// Messages of the first group, or visits, that were completed.
    pub(crate) messages: u64,
    /// Bytes that were echoed to the other groups.
    pub(crate) background_bytes: u64,
    /// Processor time of the server, and of the load, in nanoseconds.
    pub(crate) server_time: u64,
    pub(crate) load_time: u64,
    /// None where it would say nothing.
    pub(crate) latency: Option<Latency>,
}

/// In nanoseconds, from before the first byte was sent until the last was back.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) p999: u64,
}
