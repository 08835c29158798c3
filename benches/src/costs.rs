//! What the system calls of a loop cost, each by itself, with data always ready.
//!
//! The best of many rounds, on one core: nothing waits, nothing is woken.

use std::error::Error;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Instant;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use crate::table;

const CALLS: u32 = 1_000;
const MESSAGE: [u8; 64] = [7; 64];

type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) fn measure(rounds: usize) -> Outcome<()> {
    let (mut near, mut far) = pair()?;
    let mut buffer = [0; 64 * 1024];
    let mut table = table::table(&["call", "µs, the best of the rounds"]);
    let mut add = |name: &str, micros: f64| {
        table.add_row([name.to_owned(), format!("{micros:.2}")]);
    };
    add(
        "none but the crossing (getppid)",
        best(rounds, || {
            std::hint::black_box(rustix::process::getppid());
            Ok(())
        })?,
    );
    near.set_nonblocking(true)?;
    add(
        "recv that finds nothing",
        best(rounds, || match near.read(&mut buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => Err(format!("there was something: {other:?}").into()),
        })?,
    );
    let echo = best(rounds, || {
        far.write_all(&MESSAGE)?;
        Ok(near.read_exact(&mut buffer[..MESSAGE.len()])?)
    })?;
    let mut receive = f64::INFINITY;
    for _ in 0..rounds {
        receive = receive.min(receives(&mut near, &mut far)?);
    }
    add("recv of 64 bytes", receive);
    add("send of 64 bytes, delivered in the sender's time", echo - receive);
    waiting(rounds, &near, &mut far, &mut add)?;
    writeln!(io::stdout(), "{table}")?;
    Ok(())
}

/// Measures what registering anew costs, and waiting for something that is ready.
fn waiting(
    rounds: usize,
    near: &TcpStream,
    far: &mut TcpStream,
    add: &mut impl FnMut(&str, f64),
) -> Outcome<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let data = EventData::new_u64(0);
    epoll::add(&epoll, near, data, EventFlags::IN)?;
    far.write_all(&MESSAGE)?;
    add(
        "epoll_ctl that changes an interest",
        best(rounds, || {
            epoll::modify(&epoll, near, data, EventFlags::IN)?;
            Ok(())
        })?,
    );
    let mut events = Vec::with_capacity(64);
    add(
        "epoll_wait with one event",
        best(rounds, || {
            events.clear();
            epoll::wait(&epoll, spare_capacity(&mut events), None)?;
            Ok(())
        })?,
    );
    Ok(())
}

fn pair() -> Outcome<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let far = TcpStream::connect(listener.local_addr()?)?;
    let (near, _) = listener.accept()?;
    far.set_nodelay(true)?;
    near.set_nodelay(true)?;
    Ok((near, far))
}

/// Of messages that are all there already, since a receive that follows its send at once would be
/// part of the same measurement.
fn receives(near: &mut TcpStream, far: &mut TcpStream) -> Outcome<f64> {
    let mut buffer = [0; MESSAGE.len()];
    for _ in 0..CALLS {
        far.write_all(&MESSAGE)?;
    }
    let start = Instant::now();
    for _ in 0..CALLS {
        near.read_exact(&mut buffer)?;
    }
    Ok(micros_of_one(start))
}

fn best(rounds: usize, mut call: impl FnMut() -> Outcome<()>) -> Outcome<f64> {
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        for _ in 0..CALLS {
            call()?;
        }
        best = best.min(micros_of_one(start));
    }
    Ok(best)
}

fn micros_of_one(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e6 / f64::from(CALLS)
}
