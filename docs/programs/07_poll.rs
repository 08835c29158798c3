//! Waits until the kernel reports that something can be done. Serves one client at a time.

use std::env;
use std::io::{self, ErrorKind, Read, Write};

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);
const CLIENT: Token = Token(1);

fn main() -> io::Result<()> {
    let port = env::args().nth(1).unwrap_or("65432".into());
    let listener = std::net::TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("Listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut client: Option<TcpStream> = None;
    loop {
        if client.is_none()
            && let Some(mut stream) = accept(&listener)?
        {
            poll.registry().register(&mut stream, CLIENT, Interest::READABLE)?;
            client = Some(stream);
        }
        wait(&mut poll, &mut events)?;
        for event in &events {
            if event.token() == CLIENT
                && let Some(stream) = &mut client
                && !serve(stream)?
            {
                client = None;
            }
        }
    }
}

/// Blocks until there are events. A signal may end the wait early, without any.
fn wait(poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    match poll.poll(events, None) {
        Err(error) if error.kind() != ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Returns the next client, if one waits.
fn accept(listener: &TcpListener) -> io::Result<Option<TcpStream>> {
    match listener.accept() {
        Ok((client, peer)) => {
            println!("A client from {peer}");
            Ok(Some(client))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Echoes what has arrived. Returns whether the client is still there.
fn serve(client: &mut TcpStream) -> io::Result<bool> {
    let mut buffer = [0; 1024];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return Ok(false),
            Ok(received) => send_all(client, &buffer[..received])?,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}

/// Sends until nothing is left, or an error occurs. Asks again while there is no room.
fn send_all(client: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match client.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
