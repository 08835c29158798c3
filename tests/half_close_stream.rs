//! A peer that asks, ends its direction at once, and then reads a long answer.

#[allow(unreachable_pub, clippy::unwrap_used, reason = "helpers of tests, shared by several")]
mod common;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use common::{listening, peer, until};
use readiness::{CloseReason, Event};

#[test]
fn peer_finished_before_a_streamed_answer_still_gets_all_of_it() {
    const WHOLE: usize = 1 << 20;
    let (mut server, _, address) = listening::<usize>();
    let client = thread::spawn(move || {
        let mut client = peer(address);
        client.write_all(b"all of it, please").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        answer
    });
    let (reason, lost) = until(&mut server, |server, event| match event {
        Event::PeerFinished(id) | Event::Drained(id) => {
            let (sent, stream) = server[id].split();
            while *sent < WHOLE && !stream.is_clogged() {
                stream.send(&common::pattern(*sent, 4096));
                *sent += 4096;
            }
            None
        }
        Event::Closed(id, reason) => Some((reason, server[id].lost())),
        _ => None,
    });
    assert_eq!((reason, lost), (CloseReason::Finished, 0));
    server.poll_event(Some(std::time::Duration::ZERO)).unwrap();
    assert!(client.join().unwrap() == common::pattern(0, WHOLE), "the answer, whole and in order");
}
