//! tokio, answering each line into a buffer, which is flushed when no whole line is left: what
//! users write once they have seen what a write for each answer costs.

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
    let (mut line, mut answers) = (String::new(), String::new());
    loop {
        line.clear();
        if socket.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        writeln!(answers, "{}", line.trim_end()).map_err(io::Error::other)?;
        if !socket.buffer().contains(&b'\n') {
            socket.write_all(answers.as_bytes()).await?;
            answers.clear();
        }
    }
}
