//! Views: what each connection waits for, as the rows of the page.

use std::collections::HashSet;
use std::time::Duration;

use readiness::{ConnectionId, ConnectionWaits, Explanation, Interest, Metrics, WaitsFor};
use serde_json::{Value, json};

use super::watcher::Seen;

/// How many connections are shown at most: half for what they need, half of the rest.
const ROWS_MAX: usize = 200;
/// A connection that waits for more than new bytes is stuck when nothing has moved for this long.
pub(super) const STUCK_AFTER: Duration = Duration::from_secs(1);

/// The connections that are shown without a need, where there are too many to show all. They stay
/// the same while they are open, so that the rows do not jump.
#[derive(Debug, Default)]
pub(super) struct Sample {
    ids: HashSet<ConnectionId>,
}

/// Returns a view as JSON. Its time is on the clock of the recorded steps.
pub(super) fn of(
    at: Duration,
    explanation: &Explanation,
    seen: &Seen,
    metrics: &Metrics,
    sample: &mut Sample,
) -> Value {
    let all: Vec<&ConnectionWaits> = connections(explanation, seen).collect();
    let total = all.len();
    let stuck = all.iter().filter(|it| is_stuck(it)).count();
    let received: usize = all.iter().map(|it| it.received).sum();
    let unsent: usize = all.iter().map(|it| it.unsent).sum();
    let listeners = explanation.listeners.iter().filter(|it| !seen.is_own_listener(it.id));
    let listeners: Vec<String> = listeners.map(ToString::to_string).collect();
    let counts = &seen.counts;
    let (descriptors, descriptors_max) = descriptors();
    json!({
        "at_ms": at.as_secs_f64() * 1000.0,
        "watched_seconds": seen.watched_time().as_secs_f64(),
        "turns": metrics.waits,
        "events": metrics.events,
        "waiting_seconds": counts.waiting.as_secs_f64(),
        "working_seconds": counts.working.as_secs_f64(),
        "read_bytes": metrics.bytes_read,
        "written_bytes": metrics.bytes_written,
        "accepted": counts.accepted,
        "connected": counts.connected,
        "accept_failures": counts.accept_failures,
        "closed": counts.closed,
        "skips_steps": seen.skips_steps(),
        "descriptors": descriptors,
        "descriptors_max": descriptors_max,
        "listeners": listeners,
        "total": total,
        "stuck": stuck,
        "received": received,
        "unsent": unsent,
        "rows": sample.choose(all).into_iter().map(row).collect::<Vec<Value>>(),
    })
}

/// Returns the connections of the program, without those to the page.
pub(super) fn connections<'e>(
    explanation: &'e Explanation,
    seen: &'e Seen,
) -> impl Iterator<Item = &'e ConnectionWaits> {
    explanation.connections.iter().filter(|connection| !seen.is_viewer(connection.id))
}

/// Returns whether a connection cannot go on until somebody acts who should have acted.
pub(super) fn is_stuck(connection: &ConnectionWaits) -> bool {
    connection.unmoved >= STUCK_AFTER
        && !matches!(
            connection.waits_for,
            WaitsFor::Loop | WaitsFor::PeerToSend | WaitsFor::PeerToFinish
        )
}

/// Returns the name of what a connection waits for, as a label of a metric has it.
pub(super) fn waits_for_name(waits_for: WaitsFor) -> &'static str {
    match waits_for {
        WaitsFor::Loop => "loop",
        WaitsFor::Connect => "connect",
        WaitsFor::PeerToRead => "peer_to_read",
        WaitsFor::PeerToReadOrSend => "peer_to_read_or_send",
        WaitsFor::PeerToSend => "peer_to_send",
        WaitsFor::PeerToFinish => "peer_to_finish",
        WaitsFor::ProgramToConsume => "program_to_consume",
        WaitsFor::ProgramToResume => "program_to_resume",
        WaitsFor::ProgramToFinish => "program_to_finish",
        WaitsFor::Writer => "writer",
        _ => "nobody",
    }
}

/// Returns how many descriptors the process has open and may have, as far as the system says it.
#[cfg(target_os = "linux")]
pub(super) fn descriptors() -> (Option<usize>, Option<u64>) {
    // The folder that is read is one of them.
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|files| files.count() - 1);
    (open, rustix::process::getrlimit(rustix::process::Resource::Nofile).current)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn descriptors() -> (Option<usize>, Option<u64>) {
    (None, None)
}

impl Sample {
    /// Chooses which connections are shown.
    fn choose<'e>(&mut self, mut all: Vec<&'e ConnectionWaits>) -> Vec<&'e ConnectionWaits> {
        if all.len() <= ROWS_MAX {
            self.ids.clear();
            return all;
        }
        let half = ROWS_MAX / 2;
        let need = |it: &&ConnectionWaits| (is_stuck(it), it.unsent, it.unmoved.as_secs());
        all.sort_by_key(|it| std::cmp::Reverse(need(it)));
        let rest = all.split_off(half);
        let open: HashSet<ConnectionId> = rest.iter().map(|it| it.id).collect();
        self.ids.retain(|id| open.contains(id));
        let step = (rest.len() / half).max(1);
        for connection in rest.iter().step_by(step).chain(&rest) {
            if self.ids.len() >= half {
                break;
            }
            self.ids.insert(connection.id);
        }
        all.extend(rest.into_iter().filter(|it| self.ids.contains(&it.id)));
        all
    }
}

fn row(connection: &ConnectionWaits) -> Value {
    let waits = connection;
    let text = match (waits.waits_for, waits.coupled_to) {
        (WaitsFor::Writer, Some(writer)) => format!("{writer}, which has unsent bytes"),
        (waits_for, _) => waits_for.to_string(),
    };
    let deadline = waits.deadline.map(|(deadline, left)| {
        json!({ "name": format!("{deadline:?}"), "left_seconds": left.as_secs_f64() })
    });
    json!({
        "id": waits.id.to_string(),
        "peer": waits.peer.map(|peer| peer.to_string()),
        "state": waits.state,
        "interest": interest_letter(waits.interest),
        "received": waits.received,
        "unsent": waits.unsent,
        "paused": waits.is_paused,
        "waits_for": waits_for_name(waits.waits_for),
        "waits_text": text,
        "unmoved_ms": u64::try_from(waits.unmoved.as_millis()).unwrap_or(u64::MAX),
        "deadline": deadline,
        "stuck": is_stuck(waits),
    })
}

fn interest_letter(interest: Interest) -> &'static str {
    match (interest.is_readable(), interest.is_writable()) {
        (true, true) => "B",
        (true, false) => "R",
        (false, true) => "W",
        (false, false) => "-",
    }
}
