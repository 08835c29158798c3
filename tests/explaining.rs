//! Why nothing happens: on real sockets, each cause that `explain` names, as data and as a line.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]

mod common;

use std::io::Write;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use common::{
    accepted, connection_limits, hold_little, listening, next, pair, pair_with, peer, turns, until,
};
use readiness::{ConnectionId, ConnectionLimits, Deadline, Event, EventLoop, Interest, WaitsFor};

const BLOCK: usize = 64 * 1024;

/// Returns the line of one connection, with the times in it replaced by a dot.
fn line(event_loop: &EventLoop, id: ConnectionId) -> String {
    let explanation = event_loop.explain();
    let waits = explanation.connections.iter().find(|waits| waits.id == id).unwrap();
    let line = waits.to_string();
    assert!(explanation.to_string().contains(&format!("\n  {line}")), "it is a line of the whole");
    assert_eq!(waits.waits_for, event_loop.get(id).unwrap().waits_for());
    let unmoved = format!("{:?}", waits.unmoved);
    let line = line.replace(&format!("unmoved for {unmoved};"), "unmoved for .;");
    match waits.deadline {
        Some((_, left)) => line.replace(&format!(" in {left:?}"), " in ."),
        None => line,
    }
}

/// Runs turns until one is over in which nothing was to be done.
fn rest(event_loop: &mut EventLoop) {
    for _ in 0..3 {
        assert_eq!(event_loop.poll_event(Some(Duration::from_millis(5))).unwrap(), None);
    }
}

/// Sends until the kernels take no more, so that some is unsent.
fn clog(event_loop: &mut EventLoop, id: ConnectionId, peer: &TcpStream) {
    hold_little(event_loop, id, peer);
    event_loop[id].send(&vec![7; 16 << 20]);
    loop {
        let before = event_loop.get(id).unwrap().unsent();
        rest(event_loop);
        // The peer's kernel may still take some, and then the loop has something to do.
        let stream = event_loop.get(id).unwrap();
        if stream.unsent() == before && stream.waits_for() != WaitsFor::Loop {
            return;
        }
    }
}

#[test]
fn the_whole_is_counted_and_listeners_stand_first() {
    let (mut server, listener, address) = listening::<()>();
    let waiting = format!("{listener} at {address}: waits for a peer to connect");
    assert_eq!(server.explain().to_string(), format!("0 connections, 1 listener\n  {waiting}"));
    let client = peer(address);
    let id = accepted(&mut server);
    rest(&mut server);
    let text = server.explain().to_string();
    let expected = format!("1 connection, 1 listener\n  {waiting}\n  {id} with ");
    assert!(text.starts_with(&expected), "{text}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    server.connect(other.local_addr().unwrap(), ());
    assert!(server.explain().to_string().starts_with("2 connections, 1 listener\n"));
    drop(client);
}

#[test]
fn quiet_connection_waits_for_the_peer_to_send() {
    let (mut server, id, client) = pair::<()>();
    rest(&mut server);
    let peer = client.local_addr().unwrap();
    assert_eq!(
        line(&server, id),
        format!(
            "{id} with {peer}: Open, interest readable, ready for writable, 0 received, 0 unsent, \
             coupled to itself; unmoved for .; waits for the peer to send or to finish"
        )
    );
    let waits = server.explain().connections.remove(0);
    assert_eq!((waits.peer, waits.interest), (Some(peer), Interest::Readable));
    assert_eq!((waits.coupled_to, waits.deadline), (Some(id), None));
}

#[test]
fn bytes_that_are_to_leave_wait_for_the_loop() {
    let (mut server, id, _client) = pair::<()>();
    server[id].send(b"Hello");
    let line = line(&server, id);
    assert!(line.contains("0 received, 5 unsent"), "{line}");
    assert!(line.ends_with("; waits for the loop"), "{line}");
}

#[test]
fn unsent_bytes_wait_for_the_peer_to_read() {
    let (mut server, id, client) = pair::<()>();
    clog(&mut server, id, &client);
    let unsent = server.get(id).unwrap().unsent();
    let peer = client.local_addr().unwrap();
    assert_eq!(
        line(&server, id),
        format!(
            "{id} with {peer}: Open, interest writable, ready for nothing, 0 received, {unsent} \
             unsent, coupled to itself; unmoved for .; waits for the peer to read, or the deadline \
             StalledWrite in ."
        )
    );
    let (deadline, left) = server.explain().connections[0].deadline.unwrap();
    assert_eq!(deadline, Deadline::StalledWrite);
    assert!(left <= ConnectionLimits::default().stalled_write_deadline);
    // A connection that reads on in the meantime waits for either.
    server.uncouple(id);
    rest(&mut server);
    assert_eq!(server.get(id).unwrap().waits_for(), WaitsFor::PeerToReadOrSend);
    assert!(line(&server, id).contains("waits for the peer to read or to send, or the deadline"));
}

#[test]
fn full_read_buffer_waits_for_the_program_to_consume() {
    let (mut server, id, mut client) = pair::<()>();
    client.write_all(&[b'x'; BLOCK + 1]).unwrap();
    until(&mut server, |_, event| (event == Event::Full(id)).then_some(()));
    rest(&mut server);
    let line = line(&server, id);
    assert!(
        line.contains(&format!("interest none, ready for readable+writable, {BLOCK} rec")),
        "{line}"
    );
    let end = "; waits for the program to consume: the read buffer is full, or the deadline \
               StalledRead in .";
    assert!(line.ends_with(end), "{line}");
}

#[test]
fn paused_connection_waits_for_the_program_to_resume_it() {
    let (mut server, id, mut client) = pair::<()>();
    client.write_all(b"left").unwrap();
    assert_eq!(next(&mut server), Event::Received(id));
    server[id].pause();
    rest(&mut server);
    let line = line(&server, id);
    assert!(line.contains("interest none, ready for writable, 4 received, 0 unsent, paused, coup"));
    assert!(line.ends_with("; waits for the program to resume it"), "{line}");
}

#[test]
fn half_open_connection_waits_for_the_program_to_finish() {
    let (mut server, id, client) = pair::<()>();
    server[id].allow_half_open(true);
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(next(&mut server), Event::PeerFinished(id));
    rest(&mut server);
    let line = line(&server, id);
    assert!(line.contains(": PeerFinished, interest none, "), "{line}");
    assert!(line.ends_with("; waits for the program to finish"), "{line}");
}

#[test]
fn closed_connection_waits_for_the_peer_to_finish() {
    let (mut server, id, _client) = pair::<()>();
    server[id].close();
    rest(&mut server);
    let line = line(&server, id);
    assert!(line.contains(": Lingering, interest readable, "), "{line}");
    assert!(line.ends_with("; waits for the peer to finish, or the deadline Close in ."), "{line}");
}

#[test]
fn coupled_connection_waits_for_its_writer_by_name() {
    let (mut server, _, address) = listening::<()>();
    let _talker = peer(address);
    let reader = accepted(&mut server);
    let listener = peer(address);
    let writer = accepted(&mut server);
    clog(&mut server, writer, &listener);
    server.couple(reader, writer);
    rest(&mut server);
    let line = line(&server, reader);
    let end =
        format!(", coupled to {writer}; unmoved for .; waits for {writer}, which has unsent bytes");
    assert!(line.ends_with(&end), "{line}");
    assert_eq!(server.explain().connections[0].coupled_to, Some(writer));
}

#[cfg(target_os = "linux")]
#[test]
fn connect_under_way_waits_to_be_answered() {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    // Linux lets one more wait than the backlog asks for.
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let _waiting = peer(address);
    common::await_backlog(address, 1);
    let mut client: EventLoop = EventLoop::new().unwrap();
    let id = client.connect(address, ());
    client[id].send(b"Hello");
    rest(&mut client);
    assert_eq!(
        line(&client, id),
        format!(
            "{id} with {address}: Connecting, interest writable, ready for nothing, 0 received, 5 \
             unsent; unmoved for .; waits for the connect to be answered, or the deadline Connect \
             in ."
        )
    );
}

/// The clock of a line goes on, and begins anew when something moves.
#[test]
fn time_since_something_moved_grows_until_something_moves() {
    const WHILE: Duration = Duration::from_millis(40);
    let limits = connection_limits(|limits| limits.idle_timeout = Some(Duration::from_secs(1_000)));
    let (mut server, id, mut client) = pair_with::<()>(limits);
    let unmoved = |server: &EventLoop| server.explain().connections[0].unmoved;
    assert_eq!(server.poll_event(Some(WHILE)).unwrap(), None);
    let before = unmoved(&server);
    assert!(before >= WHILE - Duration::from_millis(1), "only {before:?}");
    let (deadline, _) = server.explain().connections[0].deadline.unwrap();
    assert_eq!(deadline, Deadline::Idle);
    client.write_all(b"x").unwrap();
    assert_eq!(next(&mut server), Event::Received(id));
    assert!(unmoved(&server) < before);
    assert_eq!(turns(&mut server, 1), []);
}

#[test]
fn paused_listener_and_one_that_waits_for_room_say_so() {
    let mut limits = readiness::Limits::default();
    limits.connections_max = Some(1);
    let mut server: EventLoop = EventLoop::with_limits(limits).unwrap();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let address = server.listener_addr(listener).unwrap();
    server.pause_accepting(listener).unwrap();
    let text = server.explain().to_string();
    let paused = format!("{listener} at {address}: waits for the program to resume accepting");
    assert!(text.ends_with(&paused), "{text}");
    server.resume_accepting(listener).unwrap();
    let (_first, _second) = (peer(address), peer(address));
    accepted(&mut server);
    rest(&mut server);
    let text = server.explain().listeners[0].to_string();
    assert_eq!(
        text,
        format!(
            "{listener} at {address}: waits for a connection to close: there are as many as the limits allow"
        )
    );
}
