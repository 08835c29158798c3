//! An echo server on the loop, inside a program of tokio's that has other things to do.
//!
//! It shows the loop as one task among others, all in one thread: another task counts seconds and
//! asks by a channel that the clients be told, and Ctrl-C comes from tokio.
//!
//! ```text
//! cargo run --manifest-path examples/tokio_host/Cargo.toml -- 127.0.0.1:65432
//! ```

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use readiness::{Event, EventLoop};
use tokio::signal::ctrl_c;
use tokio::sync::mpsc;
use tokio::time::interval;
use tokio_host::AsyncEventLoop;

const GRACE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:65432".into());
    let address: SocketAddr =
        address.parse().map_err(|error| format!("{address:?} is no address: {error}"))?;

    let mut server: EventLoop = EventLoop::new()?;
    let listener = server.listen(address)?;
    println!("Listening on {}", server.listener_addr(listener)?);
    let mut server = AsyncEventLoop::new(server)?;
    let (news, mut told) = mpsc::channel(1);
    tokio::spawn(count_minutes(news));

    let mut deadline = GRACE;
    loop {
        tokio::select! {
            event = server.next_event() => match event? {
                Event::Received(id) => server[id].send_received(),
                Event::ShutDown => return Ok(()),
                _ => {}
            },
            Some(minutes) = told.recv() => {
                // Outside of any event: what is sent leaves at the next call all the same.
                let line = format!("{minutes} minutes have passed\n");
                server.connections_mut().for_each(|client| client.send(line.as_bytes()));
            }
            pressed = ctrl_c() => {
                pressed?;
                println!("Shutting down within {deadline:?}");
                server.shutdown(deadline);
                deadline = Duration::ZERO; // the second time at once
            }
        }
    }
}

/// A task of its own. It ends with the server.
async fn count_minutes(news: mpsc::Sender<u64>) {
    let mut minute = interval(Duration::from_secs(60));
    minute.tick().await; // the first is now
    for minutes in 1.. {
        minute.tick().await;
        if news.send(minutes).await.is_err() {
            return;
        }
    }
}
