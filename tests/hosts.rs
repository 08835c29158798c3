//! The loop inside hosts: none, a program with frames, another loop. Each is tried by every check
//! of the contract. The hosts are those of the examples; what is here is the work that they have
//! of their own. The hosts with dependencies are crates in `examples/`, with tests by the same
//! checks.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/contract.rs"]
mod contract;
#[expect(dead_code, reason = "the program around the host")]
#[path = "../examples/frame_loop.rs"]
mod frame_loop;
#[path = "../examples/unix/nested_host.rs"]
mod nested_host;

use std::time::Duration;

use contract::{Host, OwnWork, Program};
use readiness::{Event, EventLoop};

/// No host: the program's own loop is the one around `poll_event`.
mod no_host {
    use super::*;

    fn run(mut event_loop: EventLoop, program: &mut dyn Program, work: OwnWork) {
        let most = match work {
            OwnWork::None => None,
            OwnWork::Ticks => Some(Duration::from_millis(1)),
            OwnWork::Always => Some(Duration::ZERO),
        };
        while !program.is_done() {
            match event_loop.poll_event(most).unwrap() {
                Some(event) => program.handle(&mut event_loop, event),
                None => program.own_work(&mut event_loop),
            }
        }
    }

    contract_checks! { Host { run, turns_at_rest: 1 } }
}

/// A host with frames, each of which is a piece of the host's work.
mod frames {
    use super::*;

    fn run(mut event_loop: EventLoop, program: &mut dyn Program, work: OwnWork) {
        loop {
            let is_done = frame_loop::serve_frame(&mut event_loop, |event_loop, event| {
                program.handle(event_loop, event);
                program.is_done()
            });
            program.own_work(&mut event_loop);
            if is_done.unwrap() || program.is_done() {
                return;
            }
            if work != OwnWork::Always {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    contract_checks! { Host { run, turns_at_rest: 1 } }
}

/// A host that is a loop of this crate, whose own work is started by its timer.
mod another_loop {
    use super::*;

    fn run(mut inner: EventLoop, program: &mut dyn Program, work: OwnWork) {
        let mut outer: EventLoop = EventLoop::new().unwrap();
        let source = nested_host::watch(&mut outer, &inner).unwrap();
        match work {
            OwnWork::None => None,
            OwnWork::Ticks => Some(outer.set_repeating_timer(Duration::from_millis(1))),
            OwnWork::Always => Some(outer.set_repeating_timer(Duration::ZERO)),
        };
        while !program.is_done() {
            let event = nested_host::iterate(&mut outer, &mut inner, source, |inner, event| {
                program.handle(inner, event);
                Ok(())
            });
            if let Some(Event::Timer(_)) = event.unwrap() {
                program.own_work(&mut inner);
            }
        }
        nested_host::unwatch(&mut outer, &inner, source).unwrap();
    }

    contract_checks! { Host { run, turns_at_rest: 0 } }
}
