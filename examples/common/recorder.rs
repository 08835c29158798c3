//! The recorder: an observer that writes a run as a timeline, one line per step.
//!
//! A run is text. Its first line is [`HEADER`]; each other line has six columns, separated by tabs:
//!
//! | column | what it holds |
//! |---|---|
//! | time | microseconds since the run began |
//! | step | the kind of step: `filled`, `interest`, … |
//! | id | what it is about: `c0.1`, `l0.1`, … or `loop` |
//! | fields | `name=value`, separated by spaces; a value has no spaces |
//! | sentence | the step in words |
//! | place | the file of `src/` and the function that took the step |
//!
//! Some kinds of lines are not steps of a loop: a `gauge` holds how many bytes are where, an `event` is
//! one that the program handles, and a `peer` is what the other end of a connection did, where a test
//! plays it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use readiness::Step;

/// The first line of a run.
pub(crate) const HEADER: &str = "# readiness run 1";

/// One line of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The time since the run began.
    pub(crate) at: Duration,
    /// The kind of step.
    pub(crate) step: String,
    /// What it is about.
    pub(crate) id: String,
    /// Its fields, in order.
    pub(crate) fields: Vec<(String, String)>,
    /// The step in words.
    pub(crate) sentence: String,
}

impl Record {
    /// Records a step of a loop.
    #[must_use]
    pub(crate) fn of(at: Duration, step: &Step) -> Self {
        let (name, id, fields) = parts(step);
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Self { at, step: name.to_owned(), id, fields, sentence: step.to_string() }
    }

    /// Returns the value of a field, or an empty string.
    #[must_use]
    pub(crate) fn field(&self, name: &str) -> &str {
        self.fields.iter().find(|field| field.0 == name).map_or("", |field| &field.1)
    }

    /// Returns a field that is a number, or 0.
    #[must_use]
    pub(crate) fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or(0)
    }

    /// Returns the file of `src/` and the function that took the step.
    #[must_use]
    pub(crate) fn place(&self) -> (&'static str, &'static str) {
        PLACES
            .iter()
            .find(|place| place.0 == self.step)
            .map_or(("", ""), |place| (place.1, place.2))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fields: Vec<String> =
            self.fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let (file, function) = self.place();
        let place = format!("{file} {function}");
        let (at, fields) = (self.at.as_micros(), fields.join(" "));
        write!(f, "{at}\t{}\t{}\t{fields}\t{}\t{}", self.step, self.id, self.sentence, place.trim())
    }
}

impl FromStr for Record {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let columns: Vec<&str> = line.split('\t').collect();
        let [at, step, id, fields, sentence, _place] = columns[..] else {
            return Err(format!("a line has {} columns and not 6: {line}", columns.len()));
        };
        let at = at.parse().map_err(|_| format!("a time is no number: {at}"))?;
        let split = |field: &str| {
            let (name, value) =
                field.split_once('=').ok_or(format!("a field has no =: {field}"))?;
            Ok((name.to_owned(), value.to_owned()))
        };
        let fields = fields.split(' ').filter(|field| !field.is_empty()).map(split);
        Ok(Self {
            at: Duration::from_micros(at),
            step: step.to_owned(),
            id: id.to_owned(),
            fields: fields.collect::<Result<_, String>>()?,
            sentence: sentence.to_owned(),
        })
    }
}

/// Parses a whole run.
///
/// # Errors
///
/// Returns what is wrong with the first line that is not one of a run.
pub(crate) fn parse(run: &str) -> Result<Vec<Record>, String> {
    let mut lines = run.lines();
    match lines.next() {
        Some(HEADER) => lines.map(str::parse).collect(),
        first => Err(format!("not a run: it begins with {:?}", first.unwrap_or(""))),
    }
}

/// Which file of `src/` takes each kind of step, and in which function.
pub(crate) const PLACES: [(&str, &str, &str); 32] = [
    ("waited", "turn/waiting.rs", "wait_for_events"),
    ("ready", "turn/waiting.rs", "record_readiness"),
    ("filled", "connection/serving.rs", "fill"),
    ("discarded", "connection/serving.rs", "fill"),
    ("read_blocked", "transfer.rs", "fill"),
    ("peer_ended", "transfer.rs", "fill"),
    ("queued", "connection/settling.rs", "settle"),
    ("flushed", "connection/serving.rs", "flush"),
    ("write_blocked", "transfer.rs", "flush"),
    ("interest", "connection/settling.rs", "update_interest"),
    ("listening", "listener.rs", "insert"),
    ("listener_closed", "listener.rs", "close"),
    ("accepted", "turn/adding.rs", "add_accepted"),
    ("accept_skipped", "listener.rs", "accept"),
    ("accept_failed", "turn.rs", "accept"),
    ("accept_paused", "listener.rs", "back_off"),
    ("resolving", "turn/adding.rs", "add_named"),
    ("resolved", "turn/adding.rs", "resolved"),
    ("connecting", "turn/adding.rs", "add_outgoing"),
    ("attempt_failed", "connection/connecting.rs", "look_at_race"),
    ("connect_paused", "connection/connecting.rs", "pause_connecting"),
    ("adopted", "event_loop/connecting.rs", "add_adopted"),
    ("connected", "connection/connecting.rs", "has_connected"),
    ("finished", "connection/settling.rs", "send_end"),
    ("deadline_passed", "connection/serving.rs", "alarm_fired"),
    ("timer_fired", "turn.rs", "fire_next"),
    ("woken", "turn.rs", "next_in_turn"),
    ("source_ready", "turn.rs", "announce_source"),
    ("shutting_down", "shutdown.rs", "begin"),
    ("shutdown_timed_out", "shutdown.rs", "abort_rest"),
    ("shut_down", "shutdown.rs", "end"),
    ("closed", "turn/delivering.rs", "deliver_closed"),
];

type Parts = (&'static str, String, Vec<(&'static str, String)>);

/// Cuts a step into its kind, what it is about, and its fields.
fn parts(step: &Step) -> Parts {
    let address = |address: Option<std::net::SocketAddr>| match address {
        Some(address) => address.to_string(),
        None => "unix".to_owned(),
    };
    match *step {
        Step::Waited { at_most, events } => {
            let at_most = at_most.map_or("forever".to_owned(), |most| most.as_micros().to_string());
            ("waited", "loop".to_owned(), vec![("at_most", at_most), ("events", count(events))])
        }
        Step::Ready { id, readiness } => {
            let (readable, writable) = (readiness.is_readable(), readiness.is_writable());
            let fields =
                vec![("readable", readable.to_string()), ("writable", writable.to_string())];
            ("ready", id.to_string(), fields)
        }
        Step::Filled { id, count: read } => {
            ("filled", id.to_string(), vec![("count", count(read))])
        }
        Step::Discarded { id, count: read } => {
            ("discarded", id.to_string(), vec![("count", count(read))])
        }
        Step::ReadBlocked { id } => ("read_blocked", id.to_string(), Vec::new()),
        Step::PeerEnded { id } => ("peer_ended", id.to_string(), Vec::new()),
        Step::Queued { id, count: sent } => {
            ("queued", id.to_string(), vec![("count", count(sent))])
        }
        Step::Flushed { id, count: written, unsent } => {
            let fields = vec![("count", count(written)), ("unsent", count(unsent))];
            ("flushed", id.to_string(), fields)
        }
        Step::WriteBlocked { id } => ("write_blocked", id.to_string(), Vec::new()),
        Step::InterestChanged { id, from, to } => {
            let name = |interest: readiness::Interest| interest.to_string().replace(' ', "-");
            ("interest", id.to_string(), vec![("from", name(from)), ("to", name(to))])
        }
        Step::Listening { id, address: at } => {
            ("listening", id.to_string(), vec![("address", address(at))])
        }
        Step::Accepted { listener, id, peer } => {
            let fields = vec![("listener", listener.to_string()), ("peer", address(peer))];
            ("accepted", id.to_string(), fields)
        }
        Step::Connecting { id, address: to } => {
            ("connecting", id.to_string(), vec![("address", address(to))])
        }
        Step::Connected { id } => ("connected", id.to_string(), Vec::new()),
        Step::Finished { id } => ("finished", id.to_string(), Vec::new()),
        Step::Closed { id, unsent, lost, .. } => {
            let fields = vec![("unsent", count(unsent)), ("lost", lost.to_string())];
            ("closed", id.to_string(), fields)
        }
        _ => rare_parts(step),
    }
}

/// Cuts the kinds of steps that say all they have to say in their sentence.
fn rare_parts(step: &Step) -> Parts {
    let (name, id) = match *step {
        Step::ListenerClosed { id } => ("listener_closed", id.to_string()),
        Step::AcceptSkipped { id } => ("accept_skipped", id.to_string()),
        Step::AcceptFailed { id, .. } => ("accept_failed", id.to_string()),
        Step::AcceptPaused { id, .. } => ("accept_paused", id.to_string()),
        Step::Resolving { id } => ("resolving", id.to_string()),
        Step::Resolved { id, .. } => ("resolved", id.to_string()),
        Step::AttemptFailed { id, .. } => ("attempt_failed", id.to_string()),
        Step::ConnectPaused { id, .. } => ("connect_paused", id.to_string()),
        Step::Adopted { id } => ("adopted", id.to_string()),
        Step::DeadlinePassed { id, .. } => ("deadline_passed", id.to_string()),
        Step::TimerFired { id } => ("timer_fired", id.to_string()),
        Step::SourceReady { id, .. } => ("source_ready", id.to_string()),
        Step::ShuttingDown { .. } => ("shutting_down", "loop".to_owned()),
        Step::ShutdownTimedOut { .. } => ("shutdown_timed_out", "loop".to_owned()),
        Step::ShutDown => ("shut_down", "loop".to_owned()),
        _ => ("woken", "loop".to_owned()),
    };
    (name, id, Vec::new())
}

fn count(number: usize) -> String {
    number.to_string()
}
