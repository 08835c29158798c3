//! Signals as a source of the loop: Ctrl-C, and what else a program wants to hear.
//!
//! A signal comes at any time, between any two instructions. Here it becomes one more event, which
//! the program handles when it is at rest.

#![allow(dead_code, reason = "each example uses a part of what they share")]

use std::io::{self, Write};
use std::time::Duration;

use readiness::{Event, EventLoop};

pub(crate) use own::Signals;

/// How long the connections have to finish after the first Ctrl-C.
const GRACE: Duration = Duration::from_secs(10);

/// Ctrl-C, or the signal that asks a process to end: the first has the loop shut down gracefully,
/// the second at once. Either way `Event::ShutDown` comes at the end.
pub(crate) struct CtrlC {
    signals: Signals,
    count: usize,
}

impl CtrlC {
    pub(crate) fn new<T>(event_loop: &mut EventLoop<T>) -> io::Result<Self> {
        Ok(Self { signals: Signals::new(event_loop, &ENDING)?, count: 0 })
    }

    /// To be called with each event, of which most are no signal.
    pub(crate) fn handle<T>(
        &mut self,
        event_loop: &mut EventLoop<T>,
        event: Event,
    ) -> io::Result<()> {
        if let Some(deadline) = self.deadline(event) {
            let whom = match event_loop.connection_count() {
                1 => "1 connection".to_owned(),
                count => format!("{count} connections"),
            };
            say(deadline, &whom)?;
            event_loop.shutdown(deadline);
        }
        Ok(())
    }

    /// How long the connections have, if the event was such a signal.
    pub(crate) fn deadline(&mut self, event: Event) -> Option<Duration> {
        let count = self.signals.take(event).count();
        if count == 0 {
            return None;
        }
        self.count += count;
        Some(if self.count == 1 { GRACE } else { Duration::ZERO })
    }
}

/// Tells who is there what is going on.
pub(crate) fn say(deadline: Duration, whom: &str) -> io::Result<()> {
    let mut stdout = io::stdout();
    match deadline {
        Duration::ZERO => writeln!(stdout, "Aborting {whom}"),
        _ => writeln!(
            stdout,
            "Shutting down: {deadline:?} for {whom} to finish. Ctrl-C again aborts the rest"
        ),
    }
}

#[cfg(unix)]
const ENDING: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
#[cfg(not(unix))]
const ENDING: [i32; 0] = [];

#[cfg(unix)]
mod own {
    use super::*;
    use readiness::{Interest, SourceId};

    /// The signals that a program has chosen to hear.
    pub(crate) struct Signals {
        id: SourceId,
        signals: signal_hook_mio::v1_0::Signals,
    }

    impl Signals {
        pub(crate) fn new<T>(event_loop: &mut EventLoop<T>, which: &[i32]) -> io::Result<Self> {
            let mut signals = signal_hook_mio::v1_0::Signals::new(which)?;
            let id = event_loop.register(&mut signals, Interest::Readable)?;
            Ok(Self { id, signals })
        }

        /// The signals that have come, if the event is about them: all, as of any source.
        pub(crate) fn take(&mut self, event: Event) -> impl Iterator<Item = i32> {
            let is_ours = matches!(event, Event::Ready(id, _) if id == self.id);
            is_ours.then(|| self.signals.pending()).into_iter().flatten()
        }
    }
}

/// Elsewhere Ctrl-C ends the process at once, as it does with any program.
#[cfg(not(unix))]
mod own {
    use super::*;

    pub(crate) struct Signals;

    impl Signals {
        pub(crate) fn new<T>(_: &mut EventLoop<T>, _: &[i32]) -> io::Result<Self> {
            Ok(Self)
        }

        pub(crate) fn take(&mut self, _: Event) -> impl Iterator<Item = i32> {
            std::iter::empty()
        }
    }
}
