//! The lesson trace: what a loop does, and why, in a few lines.
//!
//! The common steps of a connection (ready, read, written) are counted and summed up in one line
//! when something else happens: its interest changes, it ends, or the loop sleeps.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use crate::recorder::Record;

/// A wait that took longer than this is shown as sleep.
const SLEEP: Duration = Duration::from_millis(100);

/// Turns records into the lines of a lesson.
#[derive(Debug, Default)]
pub(crate) struct Lesson {
    tallies: BTreeMap<String, Tally>,
    /// When the last step was taken.
    last: Duration,
    /// How long the loop has slept since the last line, and in how many waits.
    slept: (Duration, u64),
}

/// What was counted of a connection since its last line.
#[derive(Debug, Default)]
struct Tally {
    since: Duration,
    reads: u64,
    read: u64,
    written: u64,
    unsent: u64,
    peer_read: u64,
    is_blocked: bool,
}

impl Lesson {
    /// Takes the next record of a run, and returns the lines that are due now.
    pub(crate) fn see(&mut self, record: &Record) -> Vec<String> {
        let mut lines = Vec::new();
        let waited = record.at.saturating_sub(self.last);
        self.last = record.at;
        match record.step.as_str() {
            "waited" if waited >= SLEEP => {
                self.describe_all(&mut lines);
                self.slept = (self.slept.0 + waited, self.slept.1 + 1);
            }
            "filled" => self.count(record, |tally| {
                tally.reads += 1;
                tally.read += record.number("count");
            }),
            "flushed" => self.count(record, |tally| {
                tally.written += record.number("count");
                tally.unsent = record.number("unsent");
            }),
            "peer" if record.number("count") > 0 && record.sentence.contains("reads") => {
                self.count(record, |tally| tally.peer_read += record.number("count"));
            }
            "peer" if record.number("count") > 0 => {}
            "write_blocked" => self.count(record, |tally| tally.is_blocked = true),
            "waited" | "ready" | "read_blocked" | "queued" | "discarded" | "gauge" | "event" => {}
            _ => {
                self.describe_sleep(record.at, &mut lines);
                let unsent = self.tallies.get(&record.id).map_or(0, |tally| tally.unsent);
                self.tell(&record.id, &mut lines);
                if let Some(sentence) = sentence(record, unsent) {
                    lines.push(line(record.at, &record.id, &sentence));
                }
            }
        }
        lines
    }

    /// Returns the lines of what was counted and not shown yet.
    pub(crate) fn finish(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        self.describe_all(&mut lines);
        self.describe_sleep(self.last, &mut lines);
        lines
    }

    fn count(&mut self, record: &Record, change: impl FnOnce(&mut Tally)) {
        let tally = self.tallies.entry(record.id.clone()).or_default();
        if !tally.has_moved() {
            tally.since = record.at;
        }
        change(tally);
    }

    fn describe_all(&mut self, lines: &mut Vec<String>) {
        let ids: Vec<String> = self.tallies.keys().cloned().collect();
        if self.tallies.values().any(Tally::has_moved) {
            self.describe_sleep(self.last, lines);
        }
        for id in ids {
            self.tell(&id, lines);
        }
    }

    /// Tells what was counted of one connection.
    fn tell(&mut self, id: &str, lines: &mut Vec<String>) {
        let Some(tally) = self.tallies.get_mut(id) else { return };
        if tally.has_moved() || tally.is_blocked {
            lines.push(line(tally.since, id, &tally.to_string()));
        }
        *tally = Tally { unsent: tally.unsent, ..Tally::default() };
    }

    fn describe_sleep(&mut self, at: Duration, lines: &mut Vec<String>) {
        let (slept, waits) = std::mem::take(&mut self.slept);
        if waits > 0 {
            let began = at.saturating_sub(slept);
            let text = format!("sleeps {}: nothing can go on", shown(slept));
            lines.push(line(began, "loop", &text));
        }
    }
}

impl Tally {
    fn has_moved(&self) -> bool {
        self.reads > 0 || self.written > 0 || self.peer_read > 0
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { reads, read, written, unsent, peer_read, is_blocked, .. } = *self;
        let mut text = String::new();
        let times = |count| if count == 1 { String::new() } else { format!(" in {count} reads") };
        match (read, written) {
            (0, 0) => {}
            (0, written) => _ = write!(text, "{} leave", bytes(written)),
            (read, 0) => _ = write!(text, "{} arrive{}", bytes(read), times(reads)),
            (read, written) if read == written && unsent == 0 => {
                _ = write!(text, "{} arrive{} and are answered", bytes(read), times(reads));
            }
            (read, written) => {
                _ = write!(
                    text,
                    "{} arrive{}, {} leave",
                    bytes(read),
                    times(reads),
                    bytes(written)
                );
            }
        }
        if is_blocked && unsent > 0 {
            let comma = if text.is_empty() { "" } else { "; " };
            _ = write!(text, "{comma}the kernel takes no more: {} wait", bytes(unsent));
        }
        if peer_read > 0 && peer_read != written {
            let comma = if text.is_empty() { "" } else { "; " };
            _ = write!(text, "{comma}the peer reads {}", bytes(peer_read));
        }
        f.write_str(&text)
    }
}

/// Returns what a step means, if it is worth a line.
fn sentence(record: &Record, unsent: u64) -> Option<String> {
    if record.step != "interest" {
        let text = record.sentence.strip_prefix(&record.id).unwrap_or(&record.sentence);
        let text = text.strip_prefix("loop ").unwrap_or(text).trim();
        return Some(text.to_owned());
    }
    let (from, to) = (record.field("from"), record.field("to"));
    let why = match (from, to) {
        ("none", "readable") => "its bytes are wanted",
        ("readable", "writable") => "no reading until the answer is sent",
        ("writable", "readable") => "the answer is sent, so it may ask again",
        ("readable", _) if to != "none" && unsent > 0 => "unsent bytes wait for room",
        (_, "readable") => "everything is sent",
        (_, "none") => "there is nothing to wait for",
        _ => "what it waits for has changed",
    };
    Some(format!("interest {from} -> {to}: {why}"))
}

fn line(at: Duration, id: &str, text: &str) -> String {
    format!("{:>9.3} s  {id:<6} {text}", at.as_secs_f64())
}

fn shown(time: Duration) -> String {
    match time.as_millis() {
        millis if millis < 1_000 => format!("{millis} ms"),
        _ => format!("{:.1} s", time.as_secs_f64()),
    }
}

fn bytes(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text + if count == 1 { " byte" } else { " bytes" }
}
