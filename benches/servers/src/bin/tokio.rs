//! tokio in one thread: a task for each connection, with a buffer of its own.

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
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        socket.write_all(&buffer[..count]).await?;
    }
}
