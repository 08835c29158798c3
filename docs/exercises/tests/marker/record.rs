//! What happened in a run, in words.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use readiness::{ConnectionId, Event, Step};

/// The most lines that are shown of a run: its last ones.
const LINES_SHOWN: usize = 40;

/// Begins a line of which the last one counts.
const STILL_UNSENT: &str = "  still unsent to ";

/// The lines of a run. A clone is the same record, so that the observer of a loop can write to it.
#[derive(Clone, Default)]
pub(crate) struct Record(Arc<Mutex<Lines>>);

#[derive(Default)]
struct Lines {
    lines: Vec<Line>,
    /// The names of the programs, in the order of their numbers.
    programs: Vec<&'static str>,
    /// The names of the clients, by which their connections are shown.
    addresses: Vec<(SocketAddr, &'static str)>,
    names: HashMap<(&'static str, ConnectionId), &'static str>,
}

/// One line. Lines that differ only in their count are shown as one.
struct Line {
    before: String,
    count: Option<usize>,
    after: String,
    times: usize,
}

impl Record {
    /// Adds a line.
    pub(crate) fn note(&self, text: impl Into<String>) {
        self.lines().add(text.into(), None, String::new());
    }

    /// Gives the peer at an address a name.
    pub(crate) fn name(&self, address: SocketAddr, name: &'static str) {
        self.lines().addresses.push((address, name));
    }

    /// Names the next program.
    pub(crate) fn name_program(&self, name: &'static str) {
        self.lines().programs.push(name);
    }

    /// Adds an event that a program handles.
    pub(crate) fn note_event(&self, program: &'static str, event: Event) {
        let lines = self.lines();
        let of = event.connection().map(|id| lines.shown(program, id)).unwrap_or_default();
        drop(lines);
        let event = match event {
            Event::Accepted(..) => format!("Accepted for {of}"),
            Event::Connected(_) => format!("Connected to {of}"),
            Event::Received(_) => format!("Received from {of}"),
            Event::Full(_) => format!("Full for {of}"),
            Event::Drained(_) => format!("Drained for {of}"),
            Event::PeerFinished(_) => format!("PeerFinished of {of}"),
            Event::Deadline(_) => format!("Deadline of {of}"),
            Event::Closed(_, reason) => format!("Closed for {of}: {reason}"),
            Event::AcceptFailed(_, failure) => format!("AcceptFailed: {failure}"),
            Event::Timer(_) => String::from("Timer"),
            other => format!("{other:?}"),
        };
        self.note(format!("{program} handles {event}"));
    }

    /// Adds a step of a program's loop, unless an event or a peer says the same.
    pub(crate) fn note_step(&self, program: &'static str, step: Step) {
        let mut lines = self.lines();
        let of = |lines: &Lines, id| lines.shown(program, id);
        match step {
            Step::Accepted { id, peer: Some(address), .. }
            | Step::Connecting { id, address: Some(address) } => {
                if let Some(name) = lines.name_of(address) {
                    lines.names.insert((program, id), name);
                }
            }
            Step::Filled { id, count } => {
                let after = format!(" from {}", of(&lines, id));
                lines.add(format!("{program} reads "), Some(count), after);
            }
            Step::PeerEnded { id } => {
                let text = format!("{program} reads the end of file of {}", of(&lines, id));
                lines.add(text, None, String::new());
            }
            Step::Queued { id, count } => {
                let after = format!(" to {}", of(&lines, id));
                lines.add(format!("{program} sends "), Some(count), after);
            }
            Step::Flushed { id, unsent, .. } if unsent > 0 => {
                let before = format!("{STILL_UNSENT}{}: ", of(&lines, id));
                lines.add(before, Some(unsent), String::new());
            }
            Step::Finished { id } => {
                let text = format!("{program} sends its end of file to {}", of(&lines, id));
                lines.add(text, None, String::new());
            }
            Step::InterestChanged { id, from, to } if from.is_readable() && !to.is_readable() => {
                let text = format!("{program} stops reading from {}", of(&lines, id));
                lines.add(text, None, String::new());
            }
            _ => {}
        }
    }

    /// Returns how many lines there are.
    pub(crate) fn len(&self) -> usize {
        self.lines().lines.len()
    }

    /// Returns a cause in which everybody has its name, and without what is nobody's fault.
    pub(crate) fn with_names(&self, cause: &str) -> String {
        let names = self.lines();
        let mut named: Vec<String> = Vec::new();
        for line in cause.lines().filter(|line| !line.ends_with("waits for a peer to connect")) {
            let mut line = line.to_owned();
            for (number, name) in names.programs.iter().enumerate() {
                line = line.replace(&format!("program {number}:"), &format!("{name}:"));
            }
            for (address, name) in &names.addresses {
                line = line.replace(&address.to_string(), name);
            }
            named.push(line);
        }
        named.join("\n")
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lines {
    fn add(&mut self, before: String, count: Option<usize>, after: String) {
        if let Some(last) = self.lines.last_mut()
            && last.before == before
            && last.after == after
        {
            if last.before.starts_with(STILL_UNSENT) {
                last.count = count;
            } else {
                last.times += 1;
                last.count = last.count.zip(count).map(|(last, count)| last + count);
            }
            return;
        }
        self.lines.push(Line { before, count, after, times: 1 });
    }

    fn name_of(&self, address: SocketAddr) -> Option<&'static str> {
        let named = self.addresses.iter().find(|(named, _)| *named == address);
        named.map(|(_, name)| *name)
    }

    fn shown(&self, program: &'static str, id: ConnectionId) -> String {
        self.names.get(&(program, id)).map_or_else(|| id.to_string(), ToString::to_string)
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lines();
        let hidden = lines.lines.len().saturating_sub(LINES_SHOWN);
        if hidden > 0 {
            writeln!(f, "  ({hidden} lines before)")?;
        }
        lines.lines[hidden..].iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { before, count, after, times } = self;
        match count {
            None => write!(f, "{before}{after}")?,
            Some(1) => write!(f, "{before}1 byte{after}")?,
            Some(count) => write!(f, "{before}{count} bytes{after}")?,
        }
        match times {
            1 => Ok(()),
            times => write!(f, " ({times} times)"),
        }
    }
}
