//! An echo server and a peer that does not read for a while. Prints what the loop does.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use readiness::{Event, EventLoop, Interest, Step};

fn main() -> io::Result<()> {
    for step in run()? {
        println!("{step}");
    }
    Ok(())
}

/// Runs the server and its slow reader to the end, and returns every step of the loop.
pub(crate) fn run() -> io::Result<Vec<Step>> {
    let (seen, steps) = mpsc::channel();
    let mut server: EventLoop = EventLoop::new()?;
    server.set_observer(move |step: Step| {
        let _ = seen.send(step);
    });
    let listener = server.listen("127.0.0.1:0")?;
    let mut peer = TcpStream::connect(server.listener_addr(listener)?)?;
    peer.set_nonblocking(true)?;
    let give_up = Instant::now() + Duration::from_secs(30);

    // A short message first: this is how it goes with a peer that reads.
    let mut sent = peer.write(b"Hello, world")?;
    let mut received = 0;
    while received < sent {
        assert!(Instant::now() < give_up, "the short message did not come back");
        turn(&mut server)?;
        received += read_all(&mut peer)?;
    }

    // Then the peer only writes, until the server stops reading.
    while !server.connections().any(|connection| connection.interest() == Interest::Writable) {
        assert!(Instant::now() < give_up, "the server did not stop reading");
        sent += write_some(&mut peer)?;
        turn(&mut server)?;
    }

    // The peer writes on while its own kernel takes it: nobody reads that now.
    let mut written = sent;
    while written > 0 {
        written = write_some(&mut peer)?;
        sent += written;
    }

    // Nothing can move. The loop rests: it waits for as long as it may.
    server.poll_event(Some(Duration::from_millis(20)))?;

    // The peer reads again, and gets every byte.
    while received < sent {
        assert!(Instant::now() < give_up, "not every byte came back");
        received += read_all(&mut peer)?;
        turn(&mut server)?;
    }
    assert_eq!(received, sent);

    // The peer ends, and so does the server's side.
    peer.shutdown(Shutdown::Write)?;
    while server.connection_count() > 0 {
        assert!(Instant::now() < give_up, "the connection did not close");
        turn(&mut server)?;
    }
    Ok(steps.try_iter().collect())
}

/// The echo server: one turn of its loop, which waits a millisecond at most.
fn turn(server: &mut EventLoop) -> io::Result<()> {
    while let Some(event) = server.poll_event(Some(Duration::from_millis(1)))? {
        if let Event::Received(id) = event {
            server[id].send_received();
        }
    }
    Ok(())
}

/// Writes as much of one piece as the kernel takes.
fn write_some(peer: &mut TcpStream) -> io::Result<usize> {
    match peer.write(&[b'x'; 64 * 1024]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        outcome => outcome,
    }
}

/// Reads all that has come, and says how much it was.
fn read_all(peer: &mut TcpStream) -> io::Result<usize> {
    let mut count = 0;
    loop {
        match peer.read(&mut [0; 64 * 1024]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(read) => count += read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(count),
            Err(error) => return Err(error),
        }
    }
}
