//! The standard traits on a connection, at their bounds.

use std::io::{self, BufRead, ErrorKind, Read};

use crate::event::Event;
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::simulation::{Peer, Simulation};
use crate::slots::ConnectionId;

/// The read buffer of each connection.
const BUFFER: usize = 8;

fn connected() -> (Simulation, EventLoop, ConnectionId, Peer) {
    let simulation = Simulation::new(1);
    let mut limits = Limits::default();
    limits.connection.read_buffer_max = BUFFER;
    let mut server: EventLoop = simulation.event_loop_with_limits(limits).unwrap();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let peer = simulation.connect(server.listener_addr(listener).unwrap());
    let Event::Accepted(_, id) = server.next_event().unwrap() else {
        panic!("Accepted is delivered first");
    };
    (simulation, server, id, peer)
}

/// Lets the peer send, and delivers `Received` until all of it has arrived.
fn receive(server: &mut EventLoop, id: ConnectionId, peer: &mut Peer, bytes: &[u8]) {
    let count = server[id].received().len() + bytes.len();
    assert_eq!(peer.write(bytes), bytes.len());
    for _ in bytes {
        if server[id].received().len() < count {
            assert_eq!(server.next_event().unwrap(), Event::Received(id));
        }
    }
    assert_eq!(server[id].received().len(), count, "an event for each byte at most");
}

/// Exactly as many bytes as the buffer takes can be there at once; one more never.
#[test]
fn read_exact_of_the_whole_buffer_waits_for_it_and_of_one_more_is_invalid() {
    let (_simulation, mut server, id, mut peer) = connected();
    receive(&mut server, id, &mut peer, b"seven b");
    let mut whole = [0; BUFFER];
    let kind = server[id].read_exact(&mut whole).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::WouldBlock);
    let kind = server[id].read_exact(&mut [0; BUFFER + 1]).unwrap_err().kind();
    assert_eq!(kind, ErrorKind::InvalidData);
    assert_eq!(server[id].received(), b"seven b", "neither has consumed anything");
    receive(&mut server, id, &mut peer, b"y");
    server[id].read_exact(&mut whole).unwrap();
    assert_eq!(&whole, b"seven by");
    assert!(server[id].received().is_empty());
}

/// Takes the next word through the trait alone. On a connection itself, its own methods of the same
/// names would be called.
fn take_word(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let word = reader.fill_buf()?.split(|byte| *byte == b' ').next().unwrap_or_default().to_vec();
    reader.consume(word.len() + 1);
    Ok(word)
}

#[test]
fn consume_through_the_trait_takes_what_it_says_and_makes_room() {
    let (_simulation, mut server, id, mut peer) = connected();
    receive(&mut server, id, &mut peer, b"one two ");
    assert_eq!(take_word(&mut *server[id]).unwrap(), b"one");
    assert_eq!(server[id].received(), b"two ");
    receive(&mut server, id, &mut peer, b"six ");
    assert_eq!(take_word(&mut *server[id]).unwrap(), b"two");
    assert_eq!(take_word(&mut *server[id]).unwrap(), b"six");
    assert_eq!(take_word(&mut *server[id]).unwrap_err().kind(), ErrorKind::WouldBlock);
}
