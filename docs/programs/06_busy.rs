//! Serves all clients in one thread: asks each of them in turn, and never waits.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let port = env::args().nth(1).unwrap_or("65432".into());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("Listening on {}", listener.local_addr()?);
    listener.set_nonblocking(true)?;
    let mut clients = Vec::new();
    loop {
        if let Some(client) = accept(&listener)? {
            client.set_nonblocking(true)?;
            clients.push(client);
        }
        let mut index = 0;
        while index < clients.len() {
            if serve(&mut clients[index])? {
                index += 1;
            } else {
                clients.swap_remove(index);
            }
        }
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
