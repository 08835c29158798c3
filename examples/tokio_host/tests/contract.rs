//! The loop inside tokio, tried by every check of the contract, and the echo program.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/contract.rs"]
mod contract;
#[path = "../../../tests/common/programs.rs"]
mod programs;

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use contract::{Host, OwnWork, Program};
use readiness::EventLoop;
use tokio::runtime::Builder;
use tokio::task::{LocalSet, yield_now};
use tokio::time::interval;
use tokio_host::AsyncEventLoop;

fn run(event_loop: EventLoop, program: &mut dyn Program, work: OwnWork) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let event_loop = AsyncEventLoop::new(event_loop).unwrap();
        match work {
            OwnWork::None => alone(event_loop, program).await,
            OwnWork::Ticks => beside_ticks(event_loop, program).await,
            OwnWork::Always => beside_a_busy_task(event_loop, program).await,
        }
    });
}

async fn alone(mut event_loop: AsyncEventLoop<()>, program: &mut dyn Program) {
    while !program.is_done() {
        let event = event_loop.next_event().await.unwrap();
        program.handle(&mut event_loop, event);
    }
}

/// The future of the next event is dropped with each tick.
async fn beside_ticks(mut event_loop: AsyncEventLoop<()>, program: &mut dyn Program) {
    let mut ticks = interval(Duration::from_millis(1));
    while !program.is_done() {
        tokio::select! {
            event = event_loop.next_event() => program.handle(&mut event_loop, event.unwrap()),
            _ = ticks.tick() => program.own_work(&mut event_loop),
        }
    }
}

/// The program learns at the next event that the other task had its turn.
async fn beside_a_busy_task(mut event_loop: AsyncEventLoop<()>, program: &mut dyn Program) {
    let has_worked = Rc::new(Cell::new(false));
    let works = Rc::clone(&has_worked);
    tokio::task::spawn_local(async move {
        loop {
            works.set(true);
            yield_now().await;
        }
    });
    while !program.is_done() {
        let event = event_loop.next_event().await.unwrap();
        if has_worked.take() {
            program.own_work(&mut event_loop);
        }
        program.handle(&mut event_loop, event);
    }
}

contract_checks! { Host { run, turns_at_rest: 0 } }

#[test]
fn program_echoes_and_leaves_by_ctrl_c_when_its_clients_are_done() {
    programs::assert_echoes_and_leaves(Path::new(env!("CARGO_BIN_EXE_tokio_host")));
}
