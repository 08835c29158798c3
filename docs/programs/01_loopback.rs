//! Waits for one client and says where it comes from. It comes from this host.

use std::env;
use std::io;
use std::net::TcpListener;

fn main() -> io::Result<()> {
    let port = env::args().nth(1).unwrap_or("65432".into());
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))?;
    println!("Listening on {}", listener.local_addr()?);
    let (_client, peer) = listener.accept()?;
    println!("A client from {peer}");
    Ok(())
}
