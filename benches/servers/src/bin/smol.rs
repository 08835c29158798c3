//! smol in one thread: each connection has a task and a buffer.

use std::io;
use std::net::{TcpListener, TcpStream};

use readiness_benches_servers::{BUFFER, listener};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::{Async, LocalExecutor};

fn main() -> io::Result<()> {
    let executor = LocalExecutor::new();
    smol::block_on(executor.run(async {
        let listener: Async<TcpListener> = Async::new(listener()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            executor.spawn(echo(socket)).detach();
        }
    }))
}

async fn echo(mut socket: Async<TcpStream>) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = socket.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        socket.write_all(&buffer[..count]).await?;
    }
}
