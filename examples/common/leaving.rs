//! What a server prints while it shuts down gracefully.

use std::time::Duration;

use readiness::{CloseReason, Deadline, Event, EventLoop};

use super::status;

/// How long the connections have to finish after the first Ctrl-C.
pub(crate) const GRACE: Duration = Duration::from_secs(10);

/// Says what the call of [`EventLoop::shutdown`] means that comes next. Where nobody is connected
/// nothing is waited for.
pub(crate) fn announce(deadline: Duration, connections: usize) {
    let whom = match connections {
        0 => return status("Shutting down"),
        1 => "1 connection".to_owned(),
        count => format!("{count} connections"),
    };
    match deadline {
        Duration::ZERO => status(format_args!("Aborting {whom}")),
        _ => status(format_args!(
            "Shutting down: {deadline:?} for {whom} to finish. Ctrl-C again aborts the rest"
        )),
    }
}

/// Names a connection that the loop closed without its peer: one that keeps its side open is not
/// waited for until the end of the grace, but only up to the close deadline of `ConnectionLimits`.
/// To be called with each event.
pub(crate) fn tell_cut_off<T>(event_loop: &EventLoop<T>, event: Event) {
    if let Event::Closed(id, CloseReason::TimedOut(Deadline::Close)) = event {
        let whose = match event_loop[id].peer_addr() {
            Ok(peer) => format!("{id} of {peer}"),
            Err(_) => id.to_string(),
        };
        status(format_args!("{whose} was ended by the close deadline: the peer did not finish"));
    }
}
