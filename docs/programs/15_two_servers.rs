//! Two servers on the loop: one echoes, and one numbers the lines of its clients.

use std::env;
use std::io;
use std::mem;

mod tiny_loop;

use tiny_loop::{Connection, RECEIVED_MAX, TinyLoop};

fn main() -> io::Result<()> {
    let port = env::args().nth(1).unwrap_or("65432".into());
    let handle = match env::args().nth(2).as_deref() {
        Some("lines") => number_lines,
        _ => Connection::send_received,
    };
    let mut server = TinyLoop::listen(&format!("127.0.0.1:{port}"))?;
    println!("Listening on {}", server.listener.local_addr()?);
    loop {
        server.turn(handle)?;
    }
}

/// Sends each whole line back with its number before it.
fn number_lines(connection: &mut Connection) {
    let received = mem::take(&mut connection.received);
    let whole = received.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    for line in received[..whole].split_inclusive(|byte| *byte == b'\n') {
        connection.data += 1;
        connection.send(format!("{} ", connection.data).as_bytes());
        connection.send(line);
    }
    connection.received = received[whole..].to_vec();
    if connection.received.len() == RECEIVED_MAX {
        connection.send(b"line too long\n");
        connection.finish();
    }
}
