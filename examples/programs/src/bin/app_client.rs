//! The application client of the tutorial: one request, and its answer.
//!
//! It shows the other half of a protocol of one's own, and what the tutorial's client leaves out:
//! it fails when it was not answered. The tutorial's server works with it unchanged.
//!
//! ```text
//! cargo run --manifest-path examples/programs/Cargo.toml --bin app_client search morpheus
//! ```

use std::process::ExitCode;

use programs::app::client;
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;

const USAGE: &str = "\
Sends one request to app_server, and prints the answer.

Usage: app_client [ADDRESS] search VALUE
       app_client [ADDRESS] ACTION VALUE

  ADDRESS     where to connect [default: 127.0.0.1:65432]
  search      ask what there is for VALUE, such as morpheus or ring
  ACTION      anything else: it is sent with the VALUE behind it, as bytes
  -h, --help  print this

The exit status is 0 if there was an answer, and else 1.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

fn main() -> ExitCode {
    common::run(USAGE, exchange)
}

fn exchange(arguments: common::Arguments) -> common::Outcome {
    let (address, action, value) = match arguments.values()? {
        [Some(action), Some(value), None] => (None, action, value),
        [Some(address), Some(action), Some(value)] => (Some(address), action, value),
        _ => return Err("an ACTION and a VALUE are needed, such as: search ring".into()),
    };
    let server = common::name(address)?;

    let mut event_loop = EventLoop::with_limits(client::limits())?;
    client::ask(&mut event_loop, server.as_str(), &action, &value);
    loop {
        let event = event_loop.next_event()?;
        if let Event::Closed(_, reason) = event {
            server.check(reason)?;
        }
        if let Some(answer) = client::handle(&mut event_loop, event)? {
            return common::print(answer);
        }
    }
}
