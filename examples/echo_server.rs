//! An echo server for any number of clients, in one thread.
//!
//! It shows how little a program on the loop is: it asks for the next event and acts on the
//! connection that the event names. Buffers, partial sends, slow readers and lost clients are the
//! loop's affair. A client that never reads makes the server stop reading from it, and harms no
//! other.
//!
//! It also shows how to leave. Ctrl-C is one more event, from a foreign source: the server then
//! takes no more clients, echoes what has arrived, and ends when every client has its bytes, or
//! after ten seconds. A second Ctrl-C aborts the clients that are left.
//!
//! And it shows how to find out why nothing happens: `kill -USR1` with its process id prints what
//! each connection waits for, and for how long nothing has moved.
//!
//! ```text
//! cargo run --example echo_server
//! RUST_LOG=readiness=trace cargo run --example echo_server
//! ```
//!
//! The second prints each step of the loop. Then, in another terminal, `nc 127.0.0.1 65432`, or
//! the examples `echo_client` and `multi_connection_client`.

use std::process::ExitCode;
use std::time::Instant;

use readiness::{Event, EventLoop, Step};

mod common;
#[allow(dead_code, reason = "a server never comes to the end of its lesson")]
#[path = "common/lesson.rs"]
mod lesson;
#[allow(dead_code, reason = "the drawings of the guide also read what was recorded")]
#[path = "common/recorder.rs"]
mod recorder;
#[path = "common/signals.rs"]
mod signals;

use lesson::Lesson;
use recorder::Record;
use signals::CtrlC;

const USAGE: &str = "\
Sends back what each client sends, for any number of clients in one thread.

Usage: echo_server [ADDRESS] [--lesson]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  --lesson    print what the loop does and why, in a few lines
  -h, --help  print this

Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
The signal USR1 prints what each client waits for, where there are signals.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

fn main() -> ExitCode {
    common::run_with_options(USAGE, &[("lesson", common::FLAG)], serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let has_lesson = arguments.has("lesson");
    let address = arguments.address()?;

    let mut server: EventLoop = EventLoop::new()?;
    if has_lesson {
        let (start, mut lesson) = (Instant::now(), Lesson::default());
        server.set_observer(move |step: Step| {
            let lines = lesson.see(&Record::of(start.elapsed(), &step));
            lines.iter().for_each(common::status);
        });
    }
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut ctrl_c = CtrlC::explaining(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    loop {
        match server.next_event()? {
            Event::Received(id) => server[id].send_received(), // what came in goes out, whole
            Event::ShutDown => return Ok(()),
            event => ctrl_c.handle(&mut server, event),
        }
    }
}
