//! What a loop did, step by step, and whether it has come to rest.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use readiness::{ConnectionId, EventLoop, Interest, Step};

use super::PATIENCE;

/// The steps of one loop since they were taken last.
#[derive(Clone)]
pub struct Steps(Arc<Mutex<Vec<Step>>>);

impl Steps {
    /// Records the steps of this loop from now on.
    pub fn of<T>(event_loop: &mut EventLoop<T>) -> Self {
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&steps);
        event_loop.set_observer(move |step: Step| seen.lock().unwrap().push(step));
        Self(steps)
    }

    /// Returns the steps so far; from here on they are recorded anew.
    pub fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    /// Returns the steps so far, which stay.
    pub fn all(&self) -> Vec<Step> {
        self.0.lock().unwrap().clone()
    }

    /// Returns how often the loop has waited.
    pub fn waits(&self) -> usize {
        self.count(|step| matches!(step, Step::Waited { .. }))
    }

    /// Returns how many of the steps fit.
    pub fn count(&self, fits: impl Fn(&Step) -> bool) -> usize {
        self.0.lock().unwrap().iter().filter(|step| fits(step)).count()
    }

    /// Returns the interests of one connection, each as it was registered with the kernel.
    pub fn interests(&self, id: ConnectionId) -> Vec<(Interest, Interest)> {
        let steps = self.0.lock().unwrap();
        let changes = steps.iter().filter_map(|step| match *step {
            Step::InterestChanged { id: of, from, to } if of == id => Some((from, to)),
            _ => None,
        });
        changes.collect()
    }
}

/// Fails unless the loop comes to rest without an event: call after call that waits to its end in
/// one single wait. What is still under way in the kernel may arrive first; a loop that spins never
/// gets there.
pub fn assert_rests<T>(event_loop: &mut EventLoop<T>, steps: &Steps) {
    let end = Instant::now() + PATIENCE;
    let mut calls_at_rest = 0;
    while calls_at_rest < 4 {
        assert!(Instant::now() < end, "the loop does not come to rest");
        steps.take();
        let event = event_loop.poll_event(Some(Duration::from_millis(20))).unwrap();
        assert_eq!(event, None);
        calls_at_rest = if steps.waits() == 1 { calls_at_rest + 1 } else { 0 };
    }
}
