//! Sockets whose descriptors have duplicates, in this process or in a forked child.
//!
//! The kernel ends a registration when the last duplicate is closed, and an end of the connection
//! is sent no sooner. So whatever a loop closes it deregisters first.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use common::steps::Steps;
use common::{Folder, accepted, child, next, peer, turns, until_closed};
use fork::Fork;
use readiness::mio::unix::SourceFd;
use readiness::mio::{Events, Interest, Poll, Token};
use readiness::{ConnectionId, Event, EventLoop, Step};

fn duplicate(of: &impl AsFd) -> OwnedFd {
    of.as_fd().try_clone_to_owned().unwrap()
}

fn new_loop() -> (EventLoop, Steps) {
    let mut event_loop = EventLoop::new().unwrap();
    let steps = Steps::of(&mut event_loop);
    (event_loop, steps)
}

/// Fails if a wait of the loop reports anything, whatever `call` does in the meantime.
fn assert_hears_nothing(event_loop: &mut EventLoop, steps: &Steps, mut call: impl FnMut()) {
    turns(event_loop, 2);
    steps.take();
    for _ in 0..10 {
        call();
        assert_eq!(event_loop.poll_event(Some(Duration::from_millis(5))).unwrap(), None);
    }
    let is_woken = |step: &Step| matches!(step, Step::Waited { events, .. } if *events > 0);
    assert_eq!(steps.count(is_woken), 0, "turns for what was closed");
}

/// Closes the connection, and has its peer send something to the duplicate that is left of it.
fn assert_duplicate_of_closed_costs_no_turns(
    (mut event_loop, steps): (EventLoop, Steps),
    id: ConnectionId,
    peer: &mut impl Write,
    end: fn(&mut EventLoop, ConnectionId),
) {
    let _duplicate = duplicate(&event_loop[id]);
    end(&mut event_loop, id);
    until_closed(&mut event_loop, id);
    assert_hears_nothing(&mut event_loop, &steps, || {
        peer.write_all(b"is anybody there?").unwrap();
    });
}

#[test]
fn duplicate_of_a_closed_tcp_connection_costs_no_turns() {
    let ends: [fn(&mut EventLoop, ConnectionId); 2] = [
        |event_loop, id| event_loop[id].abort(),
        |event_loop, id| {
            let connection = &mut event_loop[id];
            connection.set_idle_timeout(Some(Duration::from_millis(1))).unwrap();
        },
    ];
    for end in ends {
        let (mut event_loop, steps) = new_loop();
        let listener = event_loop.listen("127.0.0.1:0").unwrap();
        let mut peer = peer(event_loop.listener_addr(listener).unwrap());
        let id = accepted(&mut event_loop);
        assert_duplicate_of_closed_costs_no_turns((event_loop, steps), id, &mut peer, end);
    }
}

#[test]
fn duplicate_of_a_closed_unix_domain_connection_costs_no_turns() {
    let (mut event_loop, steps) = new_loop();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let id = event_loop.adopt_unix_stream(ours, ()).unwrap();
    assert_eq!(next(&mut event_loop), Event::Connected(id));
    turns(&mut event_loop, 1);
    let abort = |event_loop: &mut EventLoop, id| event_loop[id].abort();
    assert_duplicate_of_closed_costs_no_turns((event_loop, steps), id, &mut theirs, abort);
}

#[test]
fn duplicate_of_a_connect_that_was_given_up_costs_no_turns() {
    let (mut event_loop, steps) = new_loop();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let id = event_loop.connect(listener.local_addr().unwrap(), ());
    turns(&mut event_loop, 1);
    let duplicate = duplicate(&event_loop[id]);
    event_loop[id].abort();
    until_closed(&mut event_loop, id);
    let (mut theirs, _) = listener.accept().unwrap();
    assert_hears_nothing(&mut event_loop, &steps, || {
        theirs.write_all(b"is anybody there?").unwrap();
    });
    drop(duplicate);
}

#[test]
fn duplicate_of_a_closed_listener_costs_no_turns() {
    let close: fn(&mut EventLoop, _) = |event_loop, id| event_loop.close_listener(id).unwrap();
    let shut_down: fn(&mut EventLoop, _) = |event_loop, _| {
        event_loop.shutdown(Duration::from_secs(1));
        assert_eq!(next(event_loop), Event::ShutDown);
    };
    for end in [close, shut_down] {
        let (mut event_loop, steps) = new_loop();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let duplicate = listener.try_clone().unwrap();
        let id = event_loop.adopt_listener(listener, |_| ()).unwrap();
        end(&mut event_loop, id);
        let address = duplicate.local_addr().unwrap();
        let mut peers = Vec::new();
        assert_hears_nothing(&mut event_loop, &steps, || peers.push(peer(address)));
    }
}

#[test]
fn duplicate_of_a_closed_unix_domain_listener_costs_no_turns() {
    let folder = Folder::new();
    let (mut event_loop, steps) = new_loop();
    let listener = UnixListener::bind(folder.path("socket")).unwrap();
    let _duplicate = listener.try_clone().unwrap();
    let id = event_loop.adopt_unix_listener(listener, |_| ()).unwrap();
    event_loop.close_listener(id).unwrap();
    let mut peers = Vec::new();
    assert_hears_nothing(&mut event_loop, &steps, || {
        peers.push(UnixStream::connect(folder.path("socket")).unwrap());
    });
}

#[test]
fn duplicates_of_a_dropped_loop_and_of_its_sockets_are_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _listening = listener.try_clone().unwrap();
    let mut event_loop: EventLoop = EventLoop::new().unwrap();
    event_loop.adopt_listener(listener, |_| ()).unwrap();
    let mut peer = peer(address);
    let id = accepted(&mut event_loop);
    let _socket = duplicate(&event_loop[id]);
    let descriptor = duplicate(&event_loop);
    drop(event_loop);

    peer.write_all(b"is anybody there?").unwrap();
    let _other = TcpStream::connect(address).unwrap();
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let mut source = SourceFd(&descriptor.as_raw_fd());
    poll.registry().register(&mut source, Token(0), Interest::READABLE).unwrap();
    poll.poll(&mut events, Some(Duration::from_millis(50))).unwrap();
    assert_eq!(events.iter().count(), 0, "a dropped loop has something to do");
}

#[test]
fn forked_child_drops_its_loop_and_the_parent_is_served_on() {
    const NAME: &str = "forked_child_drops_its_loop_and_the_parent_is_served_on";
    child::alone(NAME, "", || {
        let folder = Folder::new();
        let path = folder.path("socket");
        let mut event_loop: EventLoop = EventLoop::new().unwrap();
        event_loop.listen_unix(path.clone()).unwrap();
        let mut before = UnixStream::connect(&path).unwrap();
        let id = accepted(&mut event_loop);
        turns(&mut event_loop, 2);

        match fork::fork().unwrap() {
            Fork::Child => {
                drop(event_loop);
                // Not the end of a test: what else the process has is the parent's.
                std::process::exit(0);
            }
            Fork::Parent(process) => assert_eq!(fork::waitpid(process).unwrap(), 0),
        }
        assert!(fs::symlink_metadata(&path).is_ok(), "the file is the parent's");
        before.write_all(b"hello").unwrap();
        assert_eq!(next(&mut event_loop), Event::Received(id), "it is still registered");
        let _after = UnixStream::connect(&path).unwrap();
        accepted(&mut event_loop);
        drop(event_loop);
        assert!(fs::symlink_metadata(&path).is_err(), "the parent removes its file");
    });
}
