//! With SIGPIPE at its default action, as in a host written in C, no write path ends the process.
//!
//! A Rust program begins with the signal ignored, so each part here runs in its own process, which
//! sets it back first. The controls show that it really is at its default: there the same kinds of
//! broken pipe, written to in ways that the loop does not use, end the process.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::io::{IoSlice, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use common::child::{self, alone, is_child};
use common::steps::Steps;
use common::{
    PATIENCE, accepted, hold_little, listening, pair, pattern, peer, reset, turns, until,
};
use readiness::{CloseReason, ConnectionId, Event, EventLoop, Step};

/// The number of the signal on every system that has it.
const SIGPIPE: i32 = 13;

/// Returns what becomes of this test as a child process, which may be ended by a signal.
fn run_child(test: &str) -> Output {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env(child::VARIABLE, test);
    child.output().unwrap()
}

/// Runs a part, with the signal at its default action, that is to end its process by the signal.
fn assert_is_killed(test: &str, break_a_pipe: impl FnOnce()) {
    if is_child(test) {
        sigpipe::reset();
        return break_a_pipe();
    }
    let output = run_child(test);
    assert_eq!(output.status.signal(), Some(SIGPIPE), "{output:?}");
}

/// Runs a part, with the signal at its default action, that is not to end its process. Behind it
/// the process breaks a pipe, and that is to end it: so the action was at its default all the time.
fn survive(test: &str, body: impl FnOnce()) {
    if is_child(test) {
        sigpipe::reset();
        body();
        child::report("survived", test);
        return break_a_pipe();
    }
    let output = run_child(test);
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("survived"), "{}:\n{said}\n{complaint}", output.status);
    assert_eq!(output.status.signal(), Some(SIGPIPE), "the signal was not at its default action");
}

/// Writes to a pipe without a reader.
fn break_a_pipe() {
    let (reader, mut writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(writer.write(b"x").is_err());
}

/// Returns a socket whose peer has reset it: to write to it is to break a pipe.
fn broken() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut socket = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (peer, _) = listener.accept().unwrap();
    reset(peer);
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(socket.read(&mut [0]).is_err(), "the reset has arrived");
    socket
}

// The controls.

#[test]
fn control_a_pipe_without_a_reader_ends_the_process() {
    assert_is_killed("control_a_pipe_without_a_reader_ends_the_process", break_a_pipe);
}

#[cfg(any(target_os = "linux", target_os = "android"))]
#[test]
fn control_a_vectored_write_to_a_broken_socket_ends_the_process() {
    assert_is_killed("control_a_vectored_write_to_a_broken_socket_ends_the_process", || {
        let _ = broken().write_vectored(&[IoSlice::new(b"x")]);
    });
}

#[test]
fn control_without_the_default_action_the_process_survives() {
    const NAME: &str = "control_without_the_default_action_the_process_survives";
    alone(NAME, "", || {
        break_a_pipe();
        assert!(broken().write_vectored(&[IoSlice::new(b"x")]).is_err());
    });
}

// The loop.

/// Fails unless the loop reaches the end of this connection, after whatever has gone wrong.
fn until_gone(event_loop: &mut EventLoop, id: ConnectionId) -> CloseReason {
    until(event_loop, |_, event| match event {
        Event::Closed(of, reason) if of == id => Some(reason),
        _ => None,
    })
}

/// Returns a connection whose peer has reset it, which the loop has not noticed yet. It is paused,
/// so that a read does not notice it either.
fn reset_while_paused() -> (EventLoop, ConnectionId) {
    let (mut event_loop, id, peer) = pair::<()>();
    event_loop[id].pause();
    assert_eq!(turns(&mut event_loop, 1), []);
    reset(peer);
    take_reset(&event_loop, id);
    (event_loop, id)
}

/// Waits for a reset and takes the error from our socket, as a program that looks at its errors
/// may: a kernel reports it once, and a write after that breaks the pipe.
fn take_reset(event_loop: &EventLoop, id: ConnectionId) {
    await_reset(event_loop, id);
    let socket = socket2::SockRef::from(&*event_loop[id]);
    assert!(socket.take_error().unwrap().is_some());
}

/// Waits until a reset has reached our socket, without taking the error from it.
fn await_reset(event_loop: &EventLoop, id: ConnectionId) {
    let socket = socket2::SockRef::from(&*event_loop[id]);
    let end = Instant::now() + PATIENCE;
    while socket.peer_addr().is_ok() {
        assert!(Instant::now() < end, "the reset does not arrive");
        std::thread::yield_now();
    }
}

#[test]
fn writes_to_a_peer_that_has_reset_fail_and_nothing_else() {
    survive("writes_to_a_peer_that_has_reset_fail_and_nothing_else", || {
        type Act = fn(&mut EventLoop, ConnectionId);
        let acts: [(&str, Act); 7] = [
            ("send", |event_loop, id| event_loop[id].send(b"answer")),
            ("write", |event_loop, id| event_loop[id].write_all(b"answer").unwrap()),
            ("send and finish", |event_loop, id| {
                event_loop[id].send(b"answer");
                event_loop[id].finish();
            }),
            ("send and close", |event_loop, id| {
                event_loop[id].send(b"answer");
                event_loop[id].close();
            }),
            ("finish", |event_loop, id| event_loop[id].finish()),
            ("close", |event_loop, id| event_loop[id].close()),
            ("abort", |event_loop, id| {
                event_loop[id].send(b"answer");
                event_loop[id].abort();
            }),
        ];
        for (name, act) in acts {
            let (mut event_loop, id) = reset_while_paused();
            let steps = Steps::of(&mut event_loop);
            act(&mut event_loop, id);
            turns(&mut event_loop, 2);
            if let Some(connection) = event_loop.get_mut(id) {
                connection.send(b"more");
                connection.resume();
                connection.close();
                let reason = until_gone(&mut event_loop, id);
                assert!(reason != CloseReason::Finished, "{name}: {reason}");
            }
            assert_eq!(steps.count(|step| matches!(step, Step::Closed { .. })), 1, "{name}");
        }
    });
}

#[test]
fn write_after_the_kernel_has_reported_the_reset_fails_and_nothing_else() {
    survive("write_after_the_kernel_has_reported_the_reset_fails_and_nothing_else", || {
        // The peer closes with bytes unread, so that its kernel resets.
        let (mut event_loop, id, peer) = pair::<()>();
        event_loop[id].pause();
        event_loop[id].send(b"never read");
        assert_eq!(turns(&mut event_loop, 1), []);
        drop(peer);
        take_reset(&event_loop, id);
        let steps = Steps::of(&mut event_loop);
        event_loop[id].send(b"answer");
        turns(&mut event_loop, 2);
        if let Some(connection) = event_loop.get_mut(id) {
            connection.resume();
            until_gone(&mut event_loop, id);
        }
        assert_eq!(
            steps.count(|step| matches!(step, Step::Closed { reason: CloseReason::Reset, .. })),
            1
        );
    });
}

#[test]
fn flush_that_goes_on_after_a_reset_fails_and_nothing_else() {
    survive("flush_that_goes_on_after_a_reset_fails_and_nothing_else", || {
        for ending in [
            |_: &mut EventLoop, _| {},
            |event_loop: &mut EventLoop, id| {
                event_loop.get_mut(id).into_iter().for_each(|connection| connection.close());
            },
        ] {
            let (mut event_loop, id, peer) = pair::<()>();
            hold_little(&event_loop, id, &peer);
            event_loop[id].send(&pattern(0, 4 << 20));
            ending(&mut event_loop, id);
            assert_eq!(turns(&mut event_loop, 1), []);
            assert!(event_loop[id].unsent() > 0);
            reset(peer);
            take_reset(&event_loop, id);
            assert_eq!(until_gone(&mut event_loop, id), CloseReason::Reset);
        }
    });
}

#[test]
fn shutdown_with_peers_that_reset_survives() {
    survive("shutdown_with_peers_that_reset_survives", || {
        for deadline in [Duration::MAX, Duration::ZERO] {
            let (mut event_loop, _, address) = listening::<()>();
            let peers: Vec<TcpStream> = (0..4).map(|_| peer(address)).collect();
            let ids: Vec<ConnectionId> = (0..4).map(|_| accepted(&mut event_loop)).collect();
            for (id, peer) in ids.iter().zip(&peers) {
                hold_little(&event_loop, *id, peer);
                event_loop[*id].send(&pattern(0, 1 << 20));
            }
            assert_eq!(turns(&mut event_loop, 1), []);
            // Half of them have closed before, half close while it shuts down; one waits in the
            // queue.
            let mut peers = peers.into_iter();
            peers.by_ref().take(2).for_each(reset);
            reset(peer(address));
            ids[..2].iter().for_each(|id| take_reset(&event_loop, *id));
            event_loop.shutdown(deadline);
            turns(&mut event_loop, 1);
            peers.for_each(reset);
            until(&mut event_loop, |_, event| (event == Event::ShutDown).then_some(()));
            assert_eq!(event_loop.connection_count(), 0);
        }
    });
}

#[test]
fn sending_again_and_again_while_peers_close_reset_and_finish_survives() {
    survive("sending_again_and_again_while_peers_close_reset_and_finish_survives", || {
        type End = fn(TcpStream);
        let ends: [End; 4] = [
            drop,
            reset,
            |peer| peer.shutdown(Shutdown::Read).unwrap(),
            |peer| peer.shutdown(Shutdown::Both).unwrap(),
        ];
        for end in ends {
            let (mut event_loop, id, mut peer) = pair::<()>();
            event_loop[id].allow_half_open(true);
            event_loop[id].send(b"unread");
            peer.write_all(b"message").unwrap();
            assert!(turns(&mut event_loop, 1).len() <= 1);
            end(peer);
            let until_then = Instant::now() + PATIENCE;
            // Longer than a half-open peer lets it: the second write to it at the latest fails.
            while let Some(connection) = event_loop.get_mut(id) {
                assert!(Instant::now() < until_then, "it can be written to forever");
                connection.send(b"answer");
                turns(&mut event_loop, 1);
            }
        }
    });
}

#[test]
fn wake_after_the_loop_has_gone_and_a_dropped_loop_with_unsent_bytes_survive() {
    survive("wake_after_the_loop_has_gone_and_a_dropped_loop_with_unsent_bytes_survive", || {
        let (mut event_loop, id, peer) = pair::<()>();
        let waker = event_loop.waker();
        event_loop[id].send(b"answer");
        reset(peer);
        await_reset(&event_loop, id);
        drop(event_loop);
        waker.wake().unwrap();
    });
}

#[test]
fn writes_to_a_peer_that_has_gone_in_the_unix_domain_fail_and_nothing_else() {
    survive("writes_to_a_peer_that_has_gone_in_the_unix_domain_fail_and_nothing_else", || {
        type Act = fn(&mut EventLoop, ConnectionId);
        let acts: [Act; 3] = [
            |event_loop, id| event_loop[id].send(b"answer"),
            |event_loop, id| {
                event_loop[id].send(b"answer");
                event_loop[id].close();
            },
            |event_loop, id| {
                event_loop[id].send(b"answer");
                event_loop.shutdown(Duration::ZERO);
            },
        ];
        for act in acts {
            let (ours, peer) = std::os::unix::net::UnixStream::pair().unwrap();
            let mut event_loop: EventLoop = EventLoop::new().unwrap();
            let id = event_loop.adopt_unix_stream(ours, ()).unwrap();
            assert_eq!(event_loop.next_event().unwrap(), Event::Connected(id));
            // Paused, so that no read shows that the peer has closed.
            event_loop[id].pause();
            assert_eq!(turns(&mut event_loop, 1), []);
            drop(peer);
            act(&mut event_loop, id);
            // It writes. Where nothing was closed, what arrived before the error is to be read
            // first.
            if event_loop.poll_event(Some(Duration::ZERO)).unwrap().is_none() {
                event_loop[id].resume();
                until_gone(&mut event_loop, id);
            }
        }
    });
}
