//! What a program's logger gets: at `warn` no more than an operator should act on.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::collections::VecDeque;
use std::sync::Mutex;

use common::{child, listening, peer, until};
use log::{Level, LevelFilter, Log, Metadata, Record};
use readiness::Event;

/// Keeps every line that is logged.
struct Lines(Mutex<Vec<(Level, String)>>);

static LINES: Lines = Lines(Mutex::new(Vec::new()));

impl Log for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() == "readiness" {
            self.0.lock().unwrap().push((record.level(), record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Connections arrive and leave at a process that has no descriptor left for the others that wait.
#[test]
fn shortage_of_descriptors_is_one_line_at_warn_however_many_come_and_go() {
    const NAME: &str = "shortage_of_descriptors_is_one_line_at_warn_however_many_come_and_go";
    const ROUNDS: usize = 300;
    child::alone(NAME, "ulimit -n 64;", || {
        log::set_logger(&LINES).unwrap();
        log::set_max_level(LevelFilter::Debug);
        let (mut event_loop, _, address) = listening::<()>();
        let mut peers: VecDeque<_> = (0..45).map(|_| peer(address)).collect();
        let mut accepted = VecDeque::new();
        until(&mut event_loop, |_, event| match event {
            Event::Accepted(_, id) => {
                accepted.push_back(id);
                None
            }
            Event::AcceptFailed(_, failure) => {
                assert_eq!(failure.raw_os_error(), Some(24), "{failure}");
                Some(())
            }
            other => panic!("{other:?} was not expected"),
        });
        for _ in 0..ROUNDS {
            event_loop[accepted.pop_front().unwrap()].abort();
            until(&mut event_loop, |_, event| matches!(event, Event::Closed(..)).then_some(()));
            peers.pop_front();
            peers.push_back(peer(address));
            accepted.push_back(common::accepted(&mut event_loop));
        }
        let lines = LINES.0.lock().unwrap();
        let warned: Vec<_> = lines.iter().filter(|(level, _)| *level <= Level::Warn).collect();
        assert_eq!(warned.len(), 1, "{warned:#?}");
        assert!(warned[0].1.starts_with("l0.1 cannot accept: Too many open files"), "{warned:?}");
        assert!(lines.len() > ROUNDS, "the lives of connections are logged at debug");
    });
}
