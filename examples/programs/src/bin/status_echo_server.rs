//! An echo server with a page that shows what its loop does.
//!
//! It shows how little a program has to do for the page: it mounts it, and hands it each event.
//!
//! ```text
//! cargo run --release --manifest-path examples/programs/Cargo.toml --bin status_echo_server
//! ```
//!
//! Then open the address that it prints, and let somebody connect and never read:
//!
//! ```text
//! yes | nc 127.0.0.1 65432 | sleep 100
//! ```

use std::process::ExitCode;

use programs::status::StatusPage;
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Sends back what each client sends, and serves a page that shows the loop.

Usage: status_echo_server [ADDRESS] [--status ADDRESS]

  ADDRESS           where to listen [default: 127.0.0.1:65432]; with port 0 the
                    system chooses one
  --status ADDRESS  where to serve the page [default: 127.0.0.1:8081]
  -h, --help        print this

Whoever can reach the address of the page can see who is connected.
Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
The signal USR1 prints what each client waits for, where there are signals.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

/// Where the page is unless it is told otherwise.
const PAGE: &str = "127.0.0.1:8081";

fn main() -> ExitCode {
    common::run_with_options(USAGE, &[("status", "an address")], serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let page = arguments.option("status").unwrap_or_else(|| PAGE.into());
    let page = page.into_string().map_err(|_| "the address after --status is not UTF-8")?;
    let [address] = arguments.values()?;
    let (address, page) = (common::address(address)?, common::address(Some(page))?);

    let mut server: EventLoop = EventLoop::new()?;
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut status =
        StatusPage::mount(&mut server, &page, |_| ()).map_err(common::cannot_listen(&page))?;
    let mut ctrl_c = CtrlC::explaining(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    common::status(format_args!("Status at http://{}/", server.listener_addr(status.listener())?));
    loop {
        let event = server.next_event()?;
        if status.handle(&mut server, event) {
            continue;
        }
        match event {
            Event::Received(id) => server[id].send_received(),
            Event::ShutDown => return Ok(()),
            event => ctrl_c.handle(&mut server, event),
        }
    }
}
