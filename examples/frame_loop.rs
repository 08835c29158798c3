//! A small game that has its own loop, by frames, and serves its players between them.
//!
//! It shows a host that never waits for the network while somebody plays: each frame handles the
//! events that are there, at most [`FRAME_BUDGET`] of them, by `poll_event` with no time, and goes
//! on to draw. What a frame does to connections by itself, outside of any event, leaves with the
//! next frame. While nobody plays there are no frames: the game waits for an event, at no cost.
//!
//! ```text
//! cargo run --example frame_loop
//! ```
//!
//! Then, in other terminals, `nc 127.0.0.1 65432`: each `+` and `-` moves you, and after each frame
//! in which somebody moved, all players get everybody's position.

use std::io;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use readiness::{Event, EventLoop};

mod common;
#[path = "common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
A game whose players move by the signs + and -, with frames of its own.

Usage: frame_loop [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

/// The most events that one frame handles; what is left waits for the next.
const FRAME_BUDGET: usize = 100;
/// Sixty of them make a second.
const FRAME: Duration = Duration::from_nanos(1_000_000_000 / 60);

/// A player.
#[derive(Default)]
struct Player {
    place: i64,
    has_moved: bool,
}

fn main() -> ExitCode {
    common::run(USAGE, play)
}

fn play(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let mut game: EventLoop<Player> = EventLoop::new()?;
    let listener = game.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut ctrl_c = CtrlC::new(&mut game)?;
    common::status(format_args!("Listening on {}", game.listener_addr(listener)?));
    let mut has_ended = false;
    let mut handle = |game: &mut EventLoop<Player>, event| {
        has_ended |= event == Event::ShutDown;
        ctrl_c.handle(game, event);
        handle(game, event);
        has_ended
    };
    let mut frame = 0_u64;
    loop {
        if game.connection_count() == 0 {
            // Idle: there is no player to see a frame.
            let event = game.next_event()?;
            if handle(&mut game, event) {
                return Ok(());
            }
            continue;
        }
        let next_frame = Instant::now() + FRAME;
        if serve_frame(&mut game, &mut handle)? {
            return Ok(());
        }
        frame += 1;
        draw(&mut game, frame);
        thread::sleep(next_frame.saturating_duration_since(Instant::now()));
    }
}

/// Hands over the events of one frame, without waiting: those of one turn at most, and within the
/// budget. Ends early when `handle` answers that the game is over.
pub(crate) fn serve_frame<T>(
    event_loop: &mut EventLoop<T>,
    mut handle: impl FnMut(&mut EventLoop<T>, Event) -> bool,
) -> io::Result<bool> {
    for _ in 0..FRAME_BUDGET {
        match event_loop.poll_event(Some(Duration::ZERO))? {
            Some(event) if handle(event_loop, event) => return Ok(true),
            Some(_) => {}
            None => break,
        }
    }
    Ok(false)
}

fn handle(game: &mut EventLoop<Player>, event: Event) {
    if let Event::Received(id) = event {
        let (player, stream) = game[id].split();
        for sign in stream.received() {
            player.place += match sign {
                b'+' => 1,
                b'-' => -1,
                _ => continue,
            };
            player.has_moved = true;
        }
        stream.consume(stream.received().len());
    }
}

/// Tells all players where they stand, if anybody has moved. One that does not read is left out,
/// rather than that bytes pile up for it.
fn draw(game: &mut EventLoop<Player>, frame: u64) {
    if !game.connections().any(|player| player.data.has_moved) {
        return;
    }
    let places: Vec<i64> = game.connections().map(|player| player.data.place).collect();
    let picture = format!("frame {frame}: {places:?}\n");
    for player in game.connections_mut() {
        player.data.has_moved = false;
        if !player.is_clogged() {
            player.send(picture.as_bytes());
        }
    }
}
