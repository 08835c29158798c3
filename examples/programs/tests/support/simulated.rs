//! A program on the simulated network that is run until it rests.

#![allow(dead_code, reason = "each test file uses a part of what they share")]

use std::io;
use std::time::Duration;

use readiness::simulation::Simulation;
use readiness::{CloseReason, ConnectionId, Event, EventLoop};

/// A program on the simulated network, and how its connections have ended.
pub struct Simulated<T, H> {
    pub simulation: Simulation,
    pub event_loop: EventLoop<T>,
    handle: H,
    pub closed: Vec<(ConnectionId, CloseReason)>,
}

impl<T, H: FnMut(&mut EventLoop<T>, Event) -> io::Result<()>> Simulated<T, H> {
    pub fn new(simulation: Simulation, event_loop: EventLoop<T>, handle: H) -> Self {
        Self { simulation, event_loop, handle, closed: Vec::new() }
    }

    /// Runs until neither the network nor the program does anything more. No time passes.
    pub fn rest(&mut self) {
        let mut idle = 0;
        while idle < 3 {
            idle += 1;
            if self.simulation.step() {
                idle = 0;
            }
            while let Some(event) = self.event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
                idle = 0;
                (self.handle)(&mut self.event_loop, event).unwrap();
                if let Event::Closed(id, reason) = event {
                    self.closed.push((id, reason));
                }
            }
        }
    }

    /// Returns the reason of the one connection that has ended. There is no other.
    pub fn only_closed(&self) -> CloseReason {
        assert_eq!(self.event_loop.connection_count(), 0, "{}", self.event_loop.explain());
        assert_eq!(self.closed.len(), 1, "{:?}", self.closed);
        self.closed[0].1
    }
}
