//! An observer is shown what the loop does, and the metrics count it. It must not panic; where it does
//! anyway, the loop loses nothing by it.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{PATIENCE, listening, next, pair, peer, turns};
use readiness::{CloseReason, Deadline, Event, EventLoop, Step};

/// Makes an observer panic at the first step of this kind.
fn panic_at(event_loop: &mut EventLoop, fits: impl Fn(&Step) -> bool + Send + 'static) {
    let mut has_panicked = false;
    event_loop.set_observer(move |step: Step| {
        if !has_panicked && fits(&step) {
            has_panicked = true;
            panic!("at {step}, as the test has it");
        }
    });
}

/// Calls into the loop until it panics: without an event, since the panic is first.
fn until_panic(event_loop: &mut EventLoop) {
    let waits = AssertUnwindSafe(|| event_loop.poll_event(Some(PATIENCE)));
    assert!(catch_unwind(waits).is_err(), "no step has made the observer panic");
}

#[test]
fn metrics_count_what_a_loop_does_whether_or_not_somebody_observes_it() {
    for observes in [false, true] {
        let (mut event_loop, id, mut client) = pair::<()>();
        if observes {
            event_loop.set_observer(|_| {});
        }
        turns(&mut event_loop, 3);
        let before = event_loop.metrics();
        client.write_all(b"hello").unwrap();
        assert_eq!(next(&mut event_loop), Event::Received(id));
        event_loop[id].send_received();
        event_loop[id].send(b" and more");
        turns(&mut event_loop, 1);
        client.read_exact(&mut [0; 14]).unwrap();
        let after = event_loop.metrics();
        assert!(after.waits > before.waits && after.events > before.events, "{after:?}");
        assert_eq!((after.fills - before.fills, after.bytes_read - before.bytes_read), (1, 5));
        let written = after.bytes_written - before.bytes_written;
        assert_eq!((after.flushes - before.flushes, written), (1, 14));
        assert_eq!(after.interest_changes, before.interest_changes);
    }
}

#[test]
fn observer_panics_at_what_the_kernel_said_everybody_is_served_all_the_same() {
    let kinds: [fn(&Step) -> bool; 2] = [
        |step| matches!(step, Step::Waited { events: 1.., .. }),
        |step| matches!(step, Step::Ready { .. }),
    ];
    for kind in kinds {
        let (mut event_loop, id, mut client) = pair::<()>();
        turns(&mut event_loop, 3);
        panic_at(&mut event_loop, kind);
        client.write_all(b"hello").unwrap();
        until_panic(&mut event_loop);
        assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
        assert_eq!(next(&mut event_loop), Event::Received(id));
    }
}

#[test]
fn observer_panics_at_a_step_of_a_message_that_is_delivered_and_answered_all_the_same() {
    let kinds: [fn(&Step) -> bool; 4] = [
        |step| matches!(step, Step::Filled { .. }),
        |step| matches!(step, Step::ReadBlocked { .. }),
        |step| matches!(step, Step::Queued { .. }),
        |step| matches!(step, Step::Flushed { .. }),
    ];
    for (kind, is_of_the_answer) in kinds.into_iter().zip([false, false, true, true]) {
        let (mut event_loop, id, mut client) = pair::<()>();
        turns(&mut event_loop, 3);
        panic_at(&mut event_loop, kind);
        client.write_all(b"hello").unwrap();
        if !is_of_the_answer {
            until_panic(&mut event_loop);
        }
        assert_eq!(next(&mut event_loop), Event::Received(id));
        event_loop[id].send_received();
        if is_of_the_answer {
            until_panic(&mut event_loop);
        }
        turns(&mut event_loop, 3);
        let mut answer = [0; 5];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
        client.write_all(b"again").unwrap();
        assert_eq!(next(&mut event_loop), Event::Received(id));
        assert_eq!(event_loop[id].received(), b"again");
    }
}

#[test]
fn observer_panics_at_an_accept_that_is_delivered_all_the_same() {
    let (mut event_loop, listener, address) = listening::<()>();
    panic_at(&mut event_loop, |step| matches!(step, Step::Accepted { .. }));
    let mut client = peer(address);
    until_panic(&mut event_loop);
    let id = event_loop.connections().next().unwrap().id();
    assert_eq!(next(&mut event_loop), Event::Accepted(listener, id));
    client.write_all(b"hello").unwrap();
    assert_eq!(next(&mut event_loop), Event::Received(id));
}

#[test]
fn observer_panics_at_a_deadline_the_connection_ends_by_it() {
    let (mut event_loop, id, _client) = pair::<()>();
    event_loop[id].set_idle_timeout(Some(Duration::from_millis(1))).unwrap();
    panic_at(&mut event_loop, |step| matches!(step, Step::DeadlinePassed { .. }));
    until_panic(&mut event_loop);
    let reason = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(next(&mut event_loop), Event::Closed(id, reason));
}

#[test]
fn observer_panics_at_the_end_of_a_shutdown_a_host_comes_back_at_once_and_hears_of_it() {
    let mut event_loop = EventLoop::new().unwrap();
    panic_at(&mut event_loop, |step| *step == Step::ShutDown);
    event_loop.shutdown(PATIENCE);
    until_panic(&mut event_loop);
    assert_eq!(event_loop.next_timeout(), Some(Duration::ZERO));
    assert_eq!(next(&mut event_loop), Event::ShutDown);
}
