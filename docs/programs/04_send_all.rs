//! Serves one client after the other, and sends every byte of each answer.

use std::env;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let port = env::args().nth(1).unwrap_or("65432".into());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("Listening on {}", listener.local_addr()?);
    loop {
        let (client, peer) = listener.accept()?;
        println!("A client from {peer}");
        serve(client)?;
    }
}

/// Echoes what arrives, until the client has ended.
fn serve(mut client: TcpStream) -> io::Result<()> {
    let mut buffer = [0; 1024];
    loop {
        let received = client.read(&mut buffer)?;
        if received == 0 {
            return Ok(());
        }
        send_all(&mut client, &buffer[..received])?;
    }
}

/// Sends until nothing is left, or an error occurs.
fn send_all(client: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        let sent = client.write(bytes)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}
