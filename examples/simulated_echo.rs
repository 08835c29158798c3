//! The echo program under a thousand bad networks, and a bug of a program that they find.
//!
//! It shows how a program is tested on the simulated network: without a socket, without waiting,
//! and so that a run that failed can be replayed from its seed.
//!
//! ```text
//! cargo run --features simulation --example simulated_echo
//! ```

use std::process::ExitCode;

use readiness::simulation::{Program, Simulation, try_seeds};
use readiness::{Event, EventLoop};

mod common;

const USAGE: &str = "\
Runs an echo program on a thousand simulated networks, and one that has a bug.

Usage: simulated_echo

  -h, --help  print this

READINESS_SEED=7 in the environment tries the network of that seed only.";

/// Handles an event as the echo server: `main` of `echo_server` on real sockets, here on simulated
/// ones.
fn echo(server: &mut EventLoop, event: Event) -> std::io::Result<()> {
    if let Event::Received(id) = event {
        server[id].send_received();
    }
    Ok(())
}

/// Echoes by lines, with a bug: what arrived together with a line is forgotten. As long as lines
/// are typed one by one, nobody sees it.
fn forgetful_echo(server: &mut EventLoop, event: Event) -> std::io::Result<()> {
    if let Event::Received(id) = event {
        let received = server[id].received().to_vec();
        if let Some(end) = received.iter().position(|byte| *byte == b'\n') {
            server[id].send(&received[..=end]);
            server[id].consume(received.len());
        }
    }
    Ok(())
}

type Handle = fn(&mut EventLoop, Event) -> std::io::Result<()>;

/// Lets a peer send two lines and read the echo.
fn two_lines_come_back(simulation: &Simulation, handle: Handle) -> std::io::Result<()> {
    let mut server = Program::new(simulation.event_loop(), handle);
    let listener = server.event_loop.listen("127.0.0.1:65432")?;
    let mut peer = simulation.connect(server.event_loop.listener_addr(listener)?);
    let text = b"Hello, world\nGood night, world\n";
    let (mut sent, mut received) = (0, Vec::new());
    while received.len() < text.len() {
        sent += peer.write(&text[sent..]);
        simulation.advance(&mut [&mut server])?;
        received.extend(peer.read());
    }
    assert_eq!(received, text);
    Ok(())
}

fn main() -> ExitCode {
    common::run(USAGE, try_both)
}

fn try_both(arguments: common::Arguments) -> common::Outcome {
    let [] = arguments.values()?;
    log::set_max_level(log::LevelFilter::Off); // of faults that the networks are asked for
    try_seeds(0..1000, |simulation| two_lines_come_back(simulation, echo))?;
    common::print("echo works on a thousand bad networks.")?;
    match try_seeds(0..1000, |simulation| two_lines_come_back(simulation, forgetful_echo)) {
        Ok(()) => common::print("forgetful_echo works too."),
        Err(failed) => common::print(format_args!("forgetful_echo has a bug: {failed}")),
    }
}
