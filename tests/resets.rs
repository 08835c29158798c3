//! A client that resets hurts no other, whatever it had under way.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::cell::RefCell;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use common::talker::Talker;
use common::{PATIENCE, accepted, await_backlog, drive, listening, peer, reset, until};
use readiness::{CloseReason, ConnectionId, Event, EventLoop, Interest};

/// What each of the others sends and gets back, half of it before the reset.
const COUNT: usize = 512 * 1024;

/// Echoes, except that a connection with `true` for its data leaves what it receives.
fn handle(event_loop: &mut EventLoop<bool>, event: Event) {
    if let Event::Received(id) = event
        && !event_loop[id].data
    {
        event_loop[id].send_received();
    }
}

/// Lets others exchange the first half of what they have to send, a victim connect and be reset,
/// and the others exchange the rest. The reset closes the victim, and no other connection.
fn assert_hurts_no_other(bring: impl FnOnce(&mut EventLoop<bool>, SocketAddr) -> TcpStream) {
    let (mut event_loop, _, address) = listening();
    let mut others: Vec<Talker> = (0..4).map(|_| Talker::connect(address)).collect();
    let others_ids: Vec<ConnectionId> = others.iter().map(|_| accepted(&mut event_loop)).collect();
    drive(&mut event_loop, handle, || talk_up_to(&mut others, COUNT / 2));

    reset(bring(&mut event_loop, address));
    let closed = RefCell::new(Vec::new());
    let note = |event_loop: &mut EventLoop<bool>, event| {
        handle(event_loop, event);
        if let Event::Closed(id, reason) = event {
            closed.borrow_mut().push((id, reason));
        }
    };
    drive(&mut event_loop, note, || talk_up_to(&mut others, COUNT) && !closed.borrow().is_empty());
    let closed = closed.into_inner();
    assert!(matches!(closed[..], [(_, CloseReason::Reset)]), "{closed:?}");
    assert!(!others_ids.contains(&closed[0].0), "the reset was another's");
    assert_eq!(event_loop.connection_count(), others.len());
}

/// Goes on with all of them. Returns whether each has sent `count` bytes and received their echo.
fn talk_up_to(talkers: &mut [Talker], count: usize) -> bool {
    for talker in &mut *talkers {
        talker.write_to(count);
        talker.read_on();
        assert!(!talker.at_end, "the server ended another client");
    }
    talkers.iter().all(|talker| talker.read == count)
}

#[test]
fn idle_client_resets_and_no_other_is_hurt() {
    assert_hurts_no_other(|event_loop, address| {
        let victim = peer(address);
        accepted(event_loop);
        victim
    });
}

#[test]
fn client_resets_before_it_is_accepted_and_no_other_is_hurt() {
    assert_hurts_no_other(|_, address| {
        let victim = peer(address);
        await_backlog(address, 1);
        victim
    });
}

#[test]
fn client_with_half_a_message_resets_and_no_other_is_hurt() {
    assert_hurts_no_other(|event_loop, address| {
        let mut victim = peer(address);
        let id = accepted(event_loop);
        event_loop[id].data = true;
        victim.write_all(b"half a mess").unwrap();
        until(event_loop, |_, event| (event == Event::Received(id)).then_some(()));
        victim
    });
}

#[test]
fn client_that_does_not_read_its_answer_resets_and_no_other_is_hurt() {
    assert_hurts_no_other(|event_loop, address| {
        let mut victim = Talker::connect(address);
        let id = accepted(event_loop);
        let end = Instant::now() + PATIENCE;
        while event_loop[id].interest() != Interest::Writable {
            assert!(Instant::now() < end, "the kernel takes whatever the server owes");
            victim.write_to(victim.written + 64 * 1024);
            while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
                handle(event_loop, event);
            }
        }
        assert!(event_loop[id].unsent() > 0);
        victim.stream
    });
}
