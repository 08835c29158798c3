//! tokio, answering each line by a separate write.

use std::fmt::Write as _;
use std::io;

use readiness_benches_servers::listener;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let listener = TcpListener::from_std(listener()?)?;
        loop {
            let (socket, _) = listener.accept().await?;
            tokio::spawn(answer(socket));
        }
    })
}

async fn answer(socket: TcpStream) -> io::Result<()> {
    let mut socket = BufReader::new(socket);
    let (mut line, mut answer) = (String::new(), String::new());
    loop {
        line.clear();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        answer.clear();
        writeln!(answer, "{}", line.trim_end()).map_err(io::Error::other)?;
        socket.write_all(answer.as_bytes()).await?;
    }
}
