//! Signals as a source of the loop: Ctrl-C, and any others that a program asks for.
//!
//! A signal arrives at any time, between any two instructions. Here it becomes one more event,
//! which the program handles when it is at rest.

#![allow(dead_code, reason = "each example uses a part of what they share")]

use std::io;

use readiness::{Event, EventLoop};

use super::common::leaving::Leaving;
use super::common::status;

pub(crate) use own::Signals;

/// Ctrl-C, or the signal that asks a process to end: at the first the loop shuts down gracefully,
/// at the second at once. Either way `Event::ShutDown` is delivered at the end.
pub(crate) struct CtrlC {
    signals: Signals,
    leaving: Leaving,
}

impl CtrlC {
    pub(crate) fn new<T>(event_loop: &mut EventLoop<T>) -> io::Result<Self> {
        Self::of(event_loop, &ENDING)
    }

    /// Watches these signals and USR1 too, at which it prints what each connection and listener
    /// waits for.
    pub(crate) fn explaining<T>(event_loop: &mut EventLoop<T>) -> io::Result<Self> {
        Self::of(event_loop, &[&ENDING[..], &EXPLAINING].concat())
    }

    fn of<T>(event_loop: &mut EventLoop<T>, which: &[i32]) -> io::Result<Self> {
        let signals = Signals::new(event_loop, which)?;
        Ok(Self { signals, leaving: Leaving::default() })
    }

    /// To be called with each event. Most are neither a signal nor of interest while leaving.
    pub(crate) fn handle<T>(&mut self, event_loop: &mut EventLoop<T>, event: Event) {
        match event {
            Event::Ready(..) => {
                for signal in self.signals.take(event) {
                    match EXPLAINING.contains(&signal) {
                        true => status(event_loop.explain()),
                        false => self.leaving.shut_down(event_loop),
                    }
                }
            }
            Event::Accepted(..) | Event::Closed(..) => self.leaving.watch(event_loop, event),
            _ => {}
        }
    }

    /// Returns how often it was pressed, if the event reports that. For a program with several
    /// loops.
    pub(crate) fn count(&mut self, event: Event) -> usize {
        self.signals.take(event).count()
    }
}

#[cfg(unix)]
const ENDING: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];
#[cfg(not(unix))]
const ENDING: [i32; 0] = [];

#[cfg(unix)]
const EXPLAINING: [i32; 1] = [signal_hook::consts::SIGUSR1];
#[cfg(not(unix))]
const EXPLAINING: [i32; 0] = [];

#[cfg(unix)]
mod own {
    use super::*;
    use readiness::{Interest, SourceId};

    /// The signals that a program has chosen to receive.
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

        /// Returns the signals that have arrived, if the event is about them: all, as of any
        /// source.
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
