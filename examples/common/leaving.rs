//! How a server shuts down gracefully, and what it prints while it does.

use std::time::Duration;

use readiness::{CloseReason, Deadline, Event, EventLoop};

use super::status;

/// How long the connections have to finish after the first Ctrl-C.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// The graceful shutdown of one loop.
#[derive(Default)]
pub(crate) struct Leaving {
    /// How often it was asked for.
    asked: usize,
    /// Whether anybody was connected when it was asked for, so that the user knows of the grace.
    is_told: bool,
}

impl Leaving {
    /// Shuts the loop down: gracefully at the first call, and at once at the second.
    /// `Event::ShutDown` is delivered at the end.
    pub(crate) fn shut_down<T>(&mut self, event_loop: &mut EventLoop<T>) {
        let deadline = if self.asked == 0 { GRACE } else { Duration::ZERO };
        print_shutdown(event_loop.connection_count(), deadline);
        self.asked += 1;
        self.is_told |= event_loop.connection_count() > 0;
        event_loop.shutdown(deadline);
    }

    /// Prints what there is to say about an event. To be called with each.
    pub(crate) fn watch<T>(&mut self, event_loop: &EventLoop<T>, event: Event) {
        match event {
            // A shutdown accepts all that had connected before it.
            Event::Accepted(..) if self.asked == 1 && !self.is_told => {
                self.is_told = true;
                print_grace("those that had waited to be accepted");
            }
            // A client that keeps its side open is waited for only up to the close deadline, and
            // not to the end of the grace: see `ConnectionLimits`.
            Event::Closed(id, CloseReason::TimedOut(Deadline::Close)) => {
                let whose = match event_loop[id].peer_addr() {
                    Ok(peer) => format!("{id} of {peer}"),
                    Err(_) => id.to_string(),
                };
                status(format_args!(
                    "{whose} was ended by the close deadline: the peer did not finish"
                ));
            }
            _ => {}
        }
    }
}

/// Prints what becomes of this many connections, which have until the deadline to finish.
pub(crate) fn print_shutdown(connections: usize, deadline: Duration) {
    let whom = match connections {
        0 => return status("Shutting down"), // there is nobody to wait for
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    if deadline.is_zero() {
        status(format_args!("Aborting {whom}"));
    } else {
        print_grace(&whom);
    }
}

fn print_grace(whom: &str) {
    status(format_args!(
        "Shutting down: {GRACE:?} for {whom} to finish. Ctrl-C again aborts the rest"
    ));
}
