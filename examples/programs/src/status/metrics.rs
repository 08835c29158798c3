//! The counts in the text format of Prometheus, version 0.0.4.

use std::collections::BTreeMap;
use std::fmt::{Display, Write};

use readiness::{Explanation, Metrics};

use super::view::{connections, descriptors, is_stuck, waits_for_name};
use super::watcher::Seen;

/// Returns all metrics.
pub(super) fn text(
    seen: &Seen,
    metrics: &Metrics,
    explanation: &Explanation,
    feeds: usize,
) -> String {
    let mut text = Text(String::new());
    text.counters(seen, metrics);
    text.gauges(seen, explanation, feeds);
    text.watched(seen);
    text.0
}

struct Text(String);

impl Text {
    fn counters(&mut self, seen: &Seen, metrics: &Metrics) {
        let counts = &seen.counts;
        self.counter("turns_total", "Turns of the loop, the page's own too.", metrics.waits);
        self.counter(
            "events_total",
            "Events that the kernel has reported, the page's own too.",
            metrics.events,
        );
        self.counter("fills_total", "Fills of a read buffer, the page's own too.", metrics.fills);
        self.counter(
            "flushes_total",
            "Flushes of a write buffer, the page's own too.",
            metrics.flushes,
        );
        let help = "Bytes read, without requests to the page.";
        self.counter("read_bytes_total", help, metrics.bytes_read);
        let help = "Bytes written, without answers of the page.";
        self.counter("written_bytes_total", help, metrics.bytes_written);
        let help = "Times that an interest has changed, the page's own too.";
        self.counter("interest_changes_total", help, metrics.interest_changes);
        self.counter("accepted_total", "Connections that were accepted.", counts.accepted);
        self.counter("connected_total", "Connects that have succeeded.", counts.connected);
        let help = "Times that accepting failed, once per shortage.";
        self.counter("accept_failures_total", help, counts.accept_failures);
        let help = "Bytes that the program had sent and that were never to reach the peer.";
        self.counter("lost_bytes_total", help, counts.lost);
        self.family("readiness_closed_total", "counter", "Connections that closed, by reason.");
        self.labelled("readiness_closed_total", "reason", &counts.closed);
    }

    fn gauges(&mut self, seen: &Seen, explanation: &Explanation, feeds: usize) {
        let (mut received, mut unsent, mut stuck, mut total) = (0, 0, 0_usize, 0_usize);
        let mut waiting: BTreeMap<&'static str, u64> = BTreeMap::new();
        for connection in connections(explanation, seen) {
            total += 1;
            received += connection.received;
            unsent += connection.unsent;
            stuck += usize::from(is_stuck(connection));
            *waiting.entry(waits_for_name(connection.waits_for)).or_default() += 1;
        }
        self.gauge("readiness_connections", "Open connections, without the page's own.", total);
        let help = "Connections on which nothing has moved for a second though more is to be done.";
        self.gauge("readiness_stuck_connections", help, stuck);
        let help = "Open connections, by what each waits for.";
        self.family("readiness_waiting_connections", "gauge", help);
        self.labelled("readiness_waiting_connections", "waits_for", &waiting);
        let help = "Bytes that were received and not consumed.";
        self.gauge("readiness_received_bytes", help, received);
        let help = "Bytes that the program has sent and the kernel has not taken.";
        self.gauge("readiness_unsent_bytes", help, unsent);
        let listeners = explanation.listeners.iter().filter(|it| !seen.is_own_listener(it.id));
        self.gauge("readiness_listeners", "Listeners, without the page's own.", listeners.count());
        self.gauge("readiness_viewers", "Viewers of the page that are fed.", feeds);
        let (open, most) = descriptors();
        if let Some(open) = open {
            self.gauge("process_open_fds", "Descriptors that the process has open.", open);
        }
        if let Some(most) = most {
            self.gauge("process_max_fds", "Descriptors that the process may have.", most);
        }
    }

    /// These stand still while nobody watches: the loop reads no clock for them then.
    fn watched(&mut self, seen: &Seen) {
        let counts = &seen.counts;
        let time = seen.watched_time().as_secs_f64();
        let help = "Time in which somebody has watched the page.";
        self.counter("watched_seconds_total", help, time);
        let help = "Time in which the loop waited while watched.";
        self.counter("watched_waiting_seconds_total", help, counts.waiting.as_secs_f64());
        let help = "Time in which the loop worked while watched.";
        self.counter("watched_working_seconds_total", help, counts.working.as_secs_f64());
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.single(&format!("readiness_{name}"), "counter", help, value);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.single(name, "gauge", help, value);
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.line(format_args!("{name} {value}"));
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    /// The values of the label are words of ours, so nothing in them needs an escape.
    fn labelled(&mut self, name: &str, label: &str, values: &BTreeMap<&'static str, u64>) {
        for (value, count) in values {
            self.line(format_args!("{name}{{{label}=\"{value}\"}} {count}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // A string takes all that is written to it.
        let _ = writeln!(self.0, "{line}");
    }
}
