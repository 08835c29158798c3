//! Says one thing to an echo server, and prints the whole answer.

use std::env;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let port = env::args().nth(1).unwrap_or("65432".into());
    let mut server = TcpStream::connect(format!("127.0.0.1:{port}"))?;
    let message = b"Hello, world";
    server.write_all(message)?;
    let mut buffer = [0; 1024];
    let mut received = 0;
    while received < message.len() {
        match server.read(&mut buffer[received..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => received += count,
        }
    }
    println!("Received {:?}", String::from_utf8_lossy(&buffer[..received]));
    Ok(())
}
