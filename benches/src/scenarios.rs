//! What is measured: each scenario is a task for the load, and where both sides run.

use crate::load::{Group, Manner, Task, Wait};

#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) protocol: Protocol,
    pub(crate) task: Task,
    /// Server and load on the same core: nothing overlaps, and neither waits for the other's core.
    pub(crate) one_core: bool,
    pub(crate) unit: Unit,
    /// It is measured this many times as long as others: a message takes longer the more there are.
    pub(crate) times_as_long: u64,
    /// How many connections a group of it has at most, where it was to have more.
    pub(crate) limited_to: Option<usize>,
    /// Measured without being asked for.
    pub(crate) is_usual: bool,
    /// What the servers are to be judged by.
    pub(crate) judged_by: Judge,
}

/// What a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Sends back what arrived.
    Echo,
    /// Answers each line, by a separate write.
    Lines,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Message,
    /// 64 KiB of a stream.
    Block,
    Visit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judge {
    Throughput,
    /// The latency that 99 % do not exceed.
    Latency,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Unit::Message => "message",
            Unit::Block => "64 KiB",
            Unit::Visit => "visit",
        }
    }
}

/// The name of a scenario that not every server can stand.
pub(crate) const SLOW_READER: &str = "slow-reader";

/// Returns all scenarios, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = exchanges();
    all.extend(crowds());
    all.extend([stream(), small_talker(), slow_reader()]);
    all.extend(visits());
    all.push(lines());
    all
}

/// Messages that go there and back.
fn exchanges() -> Vec<Scenario> {
    let ping = |name, about, connections, in_flight, size| {
        talk(name, about, vec![exchanging(connections, in_flight, size)])
    };
    let one_core = |scenario| Scenario { one_core: true, ..scenario };
    vec![
        ping("ping-1", "64 bytes there and back, 1 connection", 1, 1, 64),
        awake(ping("ping-1-awake", "the same, and the load does not sleep", 1, 1, 64)),
        ping("ping-50", "as ping-1, 50 connections", 50, 1, 64),
        ping("ping-100", "as ping-1, 100 connections", 100, 1, 64),
        ping("ping-1000", "as ping-1, 1,000 connections", 1_000, 1, 64),
        Scenario {
            times_as_long: 3,
            ..ping("ping-10000", "as ping-1, 10,000 connections", 10_000, 1, 64)
        },
        ping(
            "flight-16",
            "16 messages of 64 bytes in flight on each of 50 connections",
            50,
            16,
            64,
        ),
        one_core(ping("one-core-ping-1", "as ping-1, both sides on one core", 1, 1, 64)),
        one_core(ping("one-core-ping-50", "as ping-50, both sides on one core", 50, 1, 64)),
        one_core(ping("one-core-flight-16", "as flight-16, both sides on one core", 50, 16, 64)),
        ping("large-16k", "16 KiB there and back, 50 connections", 50, 1, 16 * 1024),
    ]
}

/// Returns the scenario with a load that spins while it waits.
fn awake(mut scenario: Scenario) -> Scenario {
    if let Task::Talk { wait, .. } = &mut scenario.task {
        *wait = Wait::Awake;
    }
    scenario
}

/// Many connections, most of which say nothing.
fn crowds() -> Vec<Scenario> {
    let idle = Group { connections: 10_000, size: 64, manner: Manner::Idle };
    let groups = vec![exchanging(1, 1, 64), idle];
    let about = "64 bytes there and back on 1 connection, beside 10,000 idle ones";
    let crowd = talk("idle-10000", about, groups.clone());
    let about = "as idle-10000, both sides on one core";
    let one_core = talk("one-core-idle-10000", about, groups);
    vec![crowd, Scenario { one_core: true, is_usual: false, ..one_core }]
}

fn stream() -> Scenario {
    let about = "4 connections send as much as they can, and read it back";
    let groups = vec![Group { connections: 4, size: 64 * 1024, manner: Manner::Stream }];
    Scenario { unit: Unit::Block, ..talk("stream", about, groups) }
}

fn small_talker() -> Scenario {
    let about = "64 bytes there and back on 1 connection, beside 4 streams";
    let streams = Group { connections: 4, size: 64 * 1024, manner: Manner::Stream };
    let groups = vec![exchanging(1, 1, 64), streams];
    Scenario { judged_by: Judge::Latency, ..talk("small-talker", about, groups) }
}

fn slow_reader() -> Scenario {
    let about = "as ping-50, beside a client that sends without end and reads slowly";
    let slow = Group { connections: 1, size: 64 * 1024, manner: Manner::Slow };
    talk(SLOW_READER, about, vec![exchanging(50, 1, 64), slow])
}

fn visits() -> Vec<Scenario> {
    let visit = |name, about, bytes, finish| Scenario {
        name,
        about,
        protocol: Protocol::Echo,
        task: Task::Visit { at_once: 32, bytes, finish },
        one_core: false,
        unit: Unit::Visit,
        times_as_long: 1,
        limited_to: None,
        is_usual: true,
        judged_by: Judge::Throughput,
    };
    vec![
        visit("churn", "connect, 64 bytes there and back, close", 64, false),
        visit("half-close", "connect, send 4 KiB, finish, read to the end", 4096, true),
    ]
}

fn lines() -> Scenario {
    let about = "16 lines of 64 bytes at once, each answered by a write of its own";
    let mut scenario = talk("lines-16", about, vec![exchanging(50, 16, 64)]);
    scenario.protocol = Protocol::Lines;
    if let Task::Talk { lines, .. } = &mut scenario.task {
        *lines = true;
    }
    scenario
}

fn talk(name: &'static str, about: &'static str, groups: Vec<Group>) -> Scenario {
    Scenario {
        name,
        about,
        protocol: Protocol::Echo,
        task: Task::Talk { groups, lines: false, wait: Wait::Asleep },
        one_core: false,
        unit: Unit::Message,
        times_as_long: 1,
        limited_to: None,
        is_usual: true,
        judged_by: Judge::Throughput,
    }
}

fn exchanging(connections: usize, in_flight: usize, size: usize) -> Group {
    Group { connections, size, manner: Manner::InFlight(in_flight) }
}

impl Scenario {
    /// Leaves out connections above a number in each group. False if there were none.
    pub(crate) fn limit_connections(&mut self, most: usize) -> bool {
        if let Task::Talk { groups, .. } = &mut self.task {
            for group in groups.iter_mut().filter(|group| group.connections > most) {
                group.connections = most;
                self.limited_to = Some(most);
            }
        }
        self.limited_to.is_some()
    }

    /// Returns what it is, and where it was not measured as it is meant or as the others are.
    pub(crate) fn title(&self) -> String {
        let mut title = format!("{}: {}", self.name, self.about);
        if let Some(most) = self.limited_to {
            title += &format!("; but at most {most} connections");
        }
        if self.times_as_long > 1 {
            title += &format!("; {} times as long as the others", self.times_as_long);
        }
        title
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique() {
        let names: BTreeSet<_> = all().iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), all().len());
    }

    #[test]
    fn title_says_what_was_measured_otherwise() {
        let scenarios = all();
        let mut crowd = scenarios.into_iter().find(|one| one.name == "ping-10000").unwrap();
        let title = "ping-10000: as ping-1, 10,000 connections; 3 times as long as the others";
        assert_eq!(crowd.title(), title);
        assert!(crowd.limit_connections(500));
        let title = "ping-10000: as ping-1, 10,000 connections; but at most 500 connections; \
                     3 times as long as the others";
        assert_eq!(crowd.title(), title);
    }

    #[test]
    fn load_is_awake_where_the_name_says_so() {
        for scenario in all() {
            let awake = matches!(scenario.task, Task::Talk { wait: Wait::Awake, .. });
            assert_eq!(awake, scenario.name.ends_with("-awake"), "{}", scenario.name);
        }
    }
}
