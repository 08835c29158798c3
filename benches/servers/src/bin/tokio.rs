//! tokio in one thread: each connection has a task and a buffer.

use std::io;

use readiness_benches_servers::{BUFFER, listener};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            tokio::spawn(echo(socket));
        }
    })
}

async fn echo(mut socket: TcpStream) -> io::Result<()> {
    // Not zeroed: of memory that was not touched there is none.
    let mut buffer = Vec::with_capacity(BUFFER);
    while socket.read_buf(&mut buffer).await? > 0 {
        socket.write_all(&buffer).await?;
        buffer.clear();
    }
    Ok(())
}
