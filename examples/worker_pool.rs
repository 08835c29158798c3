//! A server whose answers are long work: worker threads do it, while the loop serves all clients.
//!
//! It shows how a loop works with threads. A request goes to the workers through a channel, with
//! the id of its connection. The answer returns through another, and a wake says that it is there.
//! The loop then looks the id up by `get_mut`: a connection that has closed in the meantime is no
//! longer found, and its answer is dropped; its slot's next owner never gets it.
//!
//! While its requests are out a connection is paused. That answers three questions at once. The
//! peer cannot pile up requests, for nothing more is read from it. If it has finished in the
//! meantime (`printf '7
//! ' | nc ...`), its connection does not close before the answer was sent, for a paused one does
//! not close by itself. And a graceful shutdown waits for it, since it is not quiet. The price:
//! that a peer has closed is noticed only when its answer is sent.
//!
//! Answers leave in the order of the requests, though several workers may be at them: early answers
//! wait in the connection's `data`.
//!
//! ```text
//! cargo run --release --example worker_pool
//! ```
//!
//! Then, in another terminal, `nc 127.0.0.1 65432`: for each number, how many primes are below it.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use readiness::{Connection, ConnectionId, Event, EventLoop, Waker};

mod common;
#[path = "common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Answers each line, a number, with how many primes are below it. Several threads
do the work.

Usage: worker_pool [ADDRESS] [WORKERS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  WORKERS     how many threads work, up to 1024 [default: one for each core]
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

/// The highest number that is answered; it keeps a worker busy for seconds.
const LIMIT_MAX: u32 = 10_000_000;

/// The longest line that is a request.
const LINE_MAX: usize = 1_000;

/// What the program knows of each connection.
#[derive(Default)]
struct Client {
    asked: u64,
    answered: u64,
    /// The answers that arrived before the answers to earlier requests.
    early: BTreeMap<u64, String>,
}

/// A request on its way to the workers, or the answer on its way back.
struct Job {
    /// The connection that asked. Only the loop knows whether it still exists.
    id: ConnectionId,
    number: u64,
    text: String,
}

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let [address, workers] = arguments.values()?;
    let address = common::address(address)?;
    let count = match common::number("WORKERS", workers, 1..=1024)? {
        Some(count) => count,
        None => thread::available_parallelism()?.get(),
    };

    let mut server = EventLoop::new()?;
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    let pool = Pool::start(count, &server.waker())?;
    let mut ctrl_c = CtrlC::new(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    loop {
        let event = server.next_event()?;
        if event == Event::ShutDown {
            pool.stop();
            return Ok(());
        }
        ctrl_c.handle(&mut server, event);
        handle(&mut server, event, &pool);
    }
}

fn handle(server: &mut EventLoop<Client>, event: Event, pool: &Pool) {
    match event {
        // At the peer's end what is left is a line too, its last.
        Event::Received(id) | Event::PeerFinished(id) => {
            server[id].attend(|connection| hand_out(connection, pool));
        }
        Event::Woken => {
            for answer in pool.answers.try_iter() {
                match server.get_mut(answer.id) {
                    Some(connection) => take_in(answer, connection),
                    None => log::debug!("{} has gone before its answer came", answer.id),
                }
            }
        }
        _ => {}
    }
}

/// Hands every whole line to the workers, and pauses until all are answered. What is no text, or no
/// line, ends this connection alone.
fn hand_out(connection: &mut Connection<Client>, pool: &Pool) -> io::Result<()> {
    let id = connection.id();
    let (client, stream) = connection.split();
    let (mut read, mut write) = stream.halves();
    while let Some(line) = read.take_line(LINE_MAX)? {
        let text = std::str::from_utf8(line).map_err(|_| ErrorKind::InvalidData)?.to_owned();
        pool.hand_out(Job { id, number: client.asked, text });
        client.asked += 1;
        write.pause();
    }
    Ok(())
}

/// Sends an answer and the later ones that have waited for it, and reads on after the last.
fn take_in(answer: Job, connection: &mut Connection<Client>) {
    let (client, stream) = connection.split();
    client.early.insert(answer.number, answer.text);
    while let Some(text) = client.early.remove(&client.answered) {
        stream.send(text.as_bytes());
        client.answered += 1;
    }
    if client.answered == client.asked {
        stream.resume();
    }
}

/// Threads that take one request after the other.
struct Pool {
    requests: Sender<Job>,
    answers: Receiver<Job>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    fn start(count: usize, waker: &Waker) -> io::Result<Self> {
        let (requests, requested) = mpsc::channel();
        let (answered, answers) = mpsc::channel();
        let requested = Arc::new(Mutex::new(requested));
        let workers = (0..count).map(|_| {
            let (requested, answered, waker) = (requested.clone(), answered.clone(), waker.clone());
            thread::Builder::new().spawn(move || work(&requested, &answered, &waker))
        });
        let workers = workers.collect::<io::Result<_>>()?;
        Ok(Self { requests, answers, workers })
    }

    fn hand_out(&self, job: Job) {
        // The workers stay as long as the pool has the sender.
        let _ = self.requests.send(job);
    }

    /// Ends each worker when it has done what is at hand.
    fn stop(self) {
        // What waits has no client any more: without these two a worker leaves.
        drop((self.requests, self.answers));
        for worker in self.workers {
            // A worker that has panicked has said so.
            let _ = worker.join();
        }
    }
}

fn work(requested: &Mutex<Receiver<Job>>, answered: &Sender<Job>, waker: &Waker) {
    loop {
        let request = requested.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(mut job) = request else { return };
        job.text = answer(&job.text);
        // After the send, so that the answer is there when the loop looks.
        if answered.send(job).is_err() || waker.wake().is_err() {
            return;
        }
    }
}

fn answer(line: &str) -> String {
    match line.trim().parse() {
        Ok(limit @ 0..=LIMIT_MAX) => format!("{} primes below {limit}\n", primes_below(limit)),
        _ => format!("{:?} is not a number up to {LIMIT_MAX}\n", line.trim()),
    }
}

/// Slow on purpose.
fn primes_below(limit: u32) -> usize {
    let is_prime = |number: &u32| {
        let mut divisors = (2..).take_while(|divisor| divisor * divisor <= *number);
        divisors.all(|divisor| !number.is_multiple_of(divisor))
    };
    (2..limit).filter(is_prime).count()
}
