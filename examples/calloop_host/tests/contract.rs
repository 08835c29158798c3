//! The loop inside calloop, tried by every check of the contract, and the echo program.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/contract.rs"]
mod contract;
#[path = "../../../tests/common/programs.rs"]
mod programs;

use std::io;
use std::path::Path;
use std::time::Duration;

use calloop::timer::{TimeoutAction, Timer};
use calloop_host::{Hosted, dispatch, watch};
use contract::{Host, OwnWork, Program};
use readiness::{Event, EventLoop};

struct Hosting<'p> {
    event_loop: EventLoop,
    program: &'p mut dyn Program,
}

impl Hosted for Hosting<'_> {
    type Data = ();

    fn event_loop(&mut self) -> &mut EventLoop {
        &mut self.event_loop
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        self.program.handle(&mut self.event_loop, event);
        Ok(())
    }
}

fn run(event_loop: EventLoop, program: &mut dyn Program, work: OwnWork) {
    let mut host = calloop::EventLoop::try_new().unwrap();
    let mut hosting = Hosting { event_loop, program };
    watch(&host.handle(), &mut hosting).unwrap();
    let period = match work {
        OwnWork::None => None,
        OwnWork::Ticks => Some(Duration::from_millis(1)),
        OwnWork::Always => Some(Duration::ZERO),
    };
    if let Some(period) = period {
        let timer = Timer::from_duration(period);
        let own_work = move |_, (): &mut (), hosting: &mut Hosting<'_>| {
            hosting.program.own_work(&mut hosting.event_loop);
            TimeoutAction::ToDuration(period)
        };
        host.handle().insert_source(timer, own_work).unwrap();
    }
    while !hosting.program.is_done() {
        dispatch(&mut host, &mut hosting).unwrap();
    }
}

contract_checks! { Host { run, turns_at_rest: 0 } }

#[test]
fn program_echoes_and_leaves_by_ctrl_c_when_its_clients_are_done() {
    programs::assert_echoes_and_leaves(Path::new(env!("CARGO_BIN_EXE_calloop_host")));
}
