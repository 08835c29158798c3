//! The last steps of a run, shown when it fails.
//!
//! They are kept as data and formatted only then: noting one costs no allocation.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::event::Event;

/// Enough to see how a failure came about, and few enough to read.
const STEPS_KEPT: usize = 40;

/// A step of a program, a peer or the clock. A peer is identified by its own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// The program at this index handled an event.
    Handled(usize, Event),
    Connected(SocketAddr),
    Accepted(SocketAddr),
    Wrote(SocketAddr, usize),
    Read(SocketAddr, usize),
    Finished(SocketAddr),
    Reset(SocketAddr),
    Closed(SocketAddr),
    TimePassed(Duration),
}

impl fmt::Display for Happened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Handled(program, event) => {
                write!(f, "program {program} handles {}", shown(*event))
            }
            Self::Connected(peer) => write!(f, "peer {peer} connects"),
            Self::Accepted(peer) => write!(f, "peer {peer} accepts"),
            Self::Wrote(peer, count) => write!(f, "peer {peer} writes {count} bytes"),
            Self::Read(peer, count) => write!(f, "peer {peer} reads {count} bytes"),
            Self::Finished(peer) => write!(f, "peer {peer} finishes"),
            Self::Reset(peer) => write!(f, "peer {peer} resets"),
            Self::Closed(peer) => write!(f, "peer {peer} closes"),
            Self::TimePassed(time) => write!(f, "{time:?} pass"),
        }
    }
}

/// An event with the id as the logs show it.
fn shown(event: Event) -> String {
    match event {
        Event::Accepted(_, id) => format!("Accepted {id}"),
        Event::Connected(id) => format!("Connected {id}"),
        Event::Received(id) => format!("Received {id}"),
        Event::Full(id) => format!("Full {id}"),
        Event::Drained(id) => format!("Drained {id}"),
        Event::PeerFinished(id) => format!("PeerFinished {id}"),
        Event::Deadline(id) => format!("Deadline {id}"),
        Event::Closed(id, reason) => format!("Closed {id}, {reason}"),
        Event::Timer(id) => format!("Timer {id}"),
        Event::Ready(id, readiness) => format!("Ready {id}, {readiness}"),
        other @ (Event::AcceptFailed(..) | Event::Woken | Event::ShutDown) => format!("{other:?}"),
    }
}

/// Returns the last steps, the oldest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Script(VecDeque<Happened>);

impl Script {
    pub(crate) fn note(&mut self, happened: Happened) {
        if self.0.len() == STEPS_KEPT {
            self.0.pop_front();
        }
        self.0.push_back(happened);
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|happened| writeln!(f, "  {happened}"))
    }
}
