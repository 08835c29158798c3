//! Bugs around a loop that were found, each as the shortest scenario that shows it.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::event::{CloseReason, Deadline, Event};
use crate::event_loop::EventLoop;
use crate::interest::Interest;
use crate::limits::Limits;
use crate::observer::Step;
use crate::simulation::{Faults, Simulation};
use crate::slots::ConnectionId;
use crate::system::simulated::{Failing, lock};

const SECOND: Duration = Duration::from_secs(1);

fn next_at_once(event_loop: &mut EventLoop) -> Option<Event> {
    event_loop.poll_event(Some(Duration::ZERO)).unwrap()
}

/// Moves what a connection has received to the end of what was received before.
fn take_received(server: &mut EventLoop, id: ConnectionId, received: &mut Vec<u8>) {
    let (_, stream) = server[id].split();
    received.extend_from_slice(stream.received());
    stream.consume(stream.received().len());
}

/// It was delivered a whole period after its due time, and so was out of step from then on.
#[test]
fn repeating_timer_is_held_up_for_periods_comes_once_and_stays_in_step() {
    let simulation = Simulation::new(1);
    let mut event_loop: EventLoop = simulation.event_loop();
    let id = event_loop.set_repeating_timer(10 * SECOND);
    simulation.pass_time(35 * SECOND);
    assert_eq!(next_at_once(&mut event_loop), Some(Event::Timer(id)));
    assert_eq!(next_at_once(&mut event_loop), None);
    assert_eq!(event_loop.next_timeout(), Some(5 * SECOND));
}

/// It waited forever: the listener was neither watched nor tried again.
#[test]
fn shutdown_of_a_paused_listener_whose_registration_fails_still_accepts_and_ends() {
    let simulation = Simulation::new(1);
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    server.pause_accepting(listener).unwrap();
    let mut peer = simulation.connect(server.listener_addr(listener).unwrap());
    peer.finish();
    {
        let mut network = lock(&simulation.network);
        let at = network.calls + 1;
        let error = || std::io::ErrorKind::OutOfMemory.into();
        network.script.failures = vec![Failing { at, is_persistent: false, error }];
    }
    server.shutdown(Duration::MAX);
    let mut events = Vec::new();
    while events.last() != Some(&Event::ShutDown) {
        events.push(server.next_event().unwrap());
    }
    assert!(matches!(events[0], Event::Accepted(..)), "{events:?}");
}

/// A timer had fired and its event was never delivered. A wake and the end of a shutdown were lost
/// in the same way.
#[test]
fn observer_panics_before_an_event_that_is_delivered_all_the_same() {
    let simulation = Simulation::new(1);
    let mut event_loop: EventLoop = simulation.event_loop();
    event_loop.set_observer(|step| match step {
        Step::TimerFired { .. } | Step::Woken | Step::ShutDown => panic!("an observer's bug"),
        _ => {}
    });
    let id = event_loop.set_timer(Duration::ZERO);
    event_loop.waker().wake().unwrap();
    event_loop.shutdown(Duration::ZERO);
    let mut events = Vec::new();
    while events.len() < 3 {
        let polled = catch_unwind(AssertUnwindSafe(|| event_loop.next_event()));
        events.extend(polled.ok().map(Result::unwrap));
    }
    assert_eq!(events, [Event::ShutDown, Event::Timer(id), Event::Woken]);
}

/// What the kernel had taken of the answer was forgotten, and would have been sent once more.
#[test]
fn observer_panics_while_an_answer_leaves_in_part_every_byte_leaves_once() {
    let kinds: [fn(&Step) -> bool; 4] = [
        |step| matches!(step, Step::Queued { .. }),
        |step| matches!(step, Step::Flushed { .. }),
        |step| matches!(step, Step::WriteBlocked { .. }),
        |step| matches!(step, Step::InterestChanged { from: Interest::Readable, .. }),
    ];
    for kind in kinds {
        let narrow = Faults { send_buffer: 4, receive_buffer: 4, ..Faults::none() };
        let simulation = Simulation::with_faults(1, narrow);
        let mut server: EventLoop = simulation.event_loop();
        let listener = server.listen("127.0.0.1:0").unwrap();
        let mut peer = simulation.connect(server.listener_addr(listener).unwrap());
        let Some(Event::Accepted(_, id)) = next_at_once(&mut server) else {
            panic!("Accepted is delivered first");
        };
        while next_at_once(&mut server).is_some() || simulation.step() {}
        peer.write(b"?");
        while simulation.step() {}
        assert_eq!(next_at_once(&mut server), Some(Event::Received(id)));
        server[id].consume(1);
        server[id].send(b"0123456789");
        let mut has_panicked = false;
        server.set_observer(move |step| {
            if kind(&step) && !std::mem::replace(&mut has_panicked, true) {
                panic!("an observer's bug");
            }
        });
        catch_unwind(AssertUnwindSafe(|| server.next_event())).expect_err("it panics");
        let mut answer = Vec::new();
        while answer.len() < 10 {
            assert_eq!(next_at_once(&mut server), None);
            while simulation.step() {}
            answer.extend(peer.read());
        }
        assert_eq!(answer, b"0123456789");
    }
}

/// The second deadline of the connection was ahead of all that were due, and was not due itself in
/// that turn: so the turn delivered nothing else.
#[test]
fn connection_with_two_deadlines_passed_does_not_hold_up_a_timer() {
    let simulation = Simulation::new(1);
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let _peer = simulation.connect(server.listener_addr(listener).unwrap());
    let Some(Event::Accepted(_, id)) = next_at_once(&mut server) else {
        panic!("Accepted is delivered first");
    };
    server[id].set_deadline(Some(SECOND));
    server[id].set_idle_timeout(Some(2 * SECOND)).unwrap();
    while next_at_once(&mut server).is_some() {}
    let timer = server.set_timer(3 * SECOND);
    simulation.pass_time(10 * SECOND);
    assert_eq!(next_at_once(&mut server), Some(Event::Deadline(id)));
    assert_eq!(next_at_once(&mut server), Some(Event::Timer(timer)));
    assert_eq!(next_at_once(&mut server), None);
    let idle = CloseReason::TimedOut(Deadline::Idle);
    assert_eq!(next_at_once(&mut server), Some(Event::Closed(id, idle)));
}

/// It closed the connection after the first byte: the read had stopped at the mark, and a short one
/// was taken for the end of what was there.
#[test]
fn shutdown_of_a_paused_connection_with_urgent_data_closes_after_the_last_byte() {
    let simulation = Simulation::new(1);
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let mut peer = simulation.connect(server.listener_addr(listener).unwrap());
    let Some(Event::Accepted(_, id)) = next_at_once(&mut server) else {
        panic!("Accepted is delivered first");
    };
    server[id].pause();
    while next_at_once(&mut server).is_some() {}
    peer.write(b"1");
    peer.mark_urgent();
    peer.write(b"2");
    while simulation.step() {}
    server.shutdown(Duration::MAX);
    while next_at_once(&mut server).is_some() {}
    // In the middle of a turn, so that it is read before the kernel is asked again.
    server.waker().wake().unwrap();
    assert_eq!(next_at_once(&mut server), Some(Event::Woken));
    server[id].resume();
    let mut received = Vec::new();
    while let Some(event) = next_at_once(&mut server) {
        assert_eq!(event, Event::Received(id));
        take_received(&mut server, id, &mut received);
    }
    assert_eq!(received, b"12");
}

/// The same happened with a peer that was still to be accepted.
#[test]
fn shutdown_before_a_peer_with_urgent_data_is_accepted_closes_after_the_last_byte() {
    let simulation = Simulation::new(1);
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let mut peer = simulation.connect(server.listener_addr(listener).unwrap());
    peer.write(b"1");
    peer.mark_urgent();
    peer.write(b"2");
    while simulation.step() {}
    server.shutdown(Duration::MAX);
    let mut received = Vec::new();
    for _ in 0..20 {
        match next_at_once(&mut server) {
            // The kernel may report it in a later wait than the first.
            Some(Event::Accepted(..)) => {
                simulation.set_faults(Faults { delayed_rate: 1000, ..Faults::none() });
            }
            Some(Event::Received(id)) => take_received(&mut server, id, &mut received),
            _ => {}
        }
    }
    assert_eq!(received, b"12");
}

/// It was closed before it was read: another was settled first that read for it.
#[test]
fn connection_accepted_in_a_shutdown_whose_reader_closes_is_read_before_it_closes() {
    let simulation = Simulation::new(1);
    let limits = Limits { accept_budget: 1, ..Limits::default() };
    let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let address = server.listener_addr(listener).unwrap();
    let mut peer = simulation.connect(address);
    peer.write(b"held");
    while simulation.step() {}
    let Event::Accepted(_, reader) = server.next_event().unwrap() else {
        panic!("it is delivered")
    };
    assert_eq!(server.next_event().unwrap(), Event::Received(reader));
    let _first = simulation.connect(address);
    let mut peer = simulation.connect(address);
    peer.write(b"sent before");
    while simulation.step() {}
    server.shutdown(Duration::MAX);
    // The turn of this reads the reader until there is no more.
    assert!(matches!(server.next_event().unwrap(), Event::Accepted(..)));
    let Event::Accepted(_, writer) = server.next_event().unwrap() else {
        panic!("it is delivered")
    };
    server.couple(reader, writer);
    server[reader].consume(4);
    let mut received = Vec::new();
    loop {
        match server.next_event().unwrap() {
            Event::Received(id) => take_received(&mut server, id, &mut received),
            Event::Closed(id, _) if id == writer => break,
            _ => {}
        }
    }
    assert_eq!(received, b"sent before");
}
