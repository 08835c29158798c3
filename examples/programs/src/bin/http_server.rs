//! A web server for the files of a folder.
//!
//! It shows a protocol that strangers speak, where whatever arrives is either understood or
//! refused, and files of any size sent in constant memory, at the pace of each peer.
//!
//! ```text
//! cargo run --release --manifest-path examples/programs/Cargo.toml --bin http_server 127.0.0.1:8080 .
//! curl http://127.0.0.1:8080/
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use programs::http::access_log::AccessLog;
use programs::http::{self, Client, HttpServer};
use programs::status::StatusPage;
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Serves the files of a folder over HTTP/1.1.

Usage: http_server [ADDRESS] [FOLDER] [OPTION]...

  ADDRESS           where to listen [default: 127.0.0.1:65432]; with port 0 the
                    system chooses one
  FOLDER            what to serve [default: the current one]; nothing outside of
                    it is served, also where a symbolic link leads there
  --log FILE        append the access log, in the common format, to this file;
                    `off` for none [default: standard output]
  --status ADDRESS  serve a page there that shows the running loop, such as at
                    127.0.0.1:8081 [default: none]
  -h, --help        print this

Whoever can reach the address of the page can see who is connected.

A folder is shown by its index.html, or else as a list of what is in it.
Ctrl-C lets the clients finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=debug in the environment prints why connections are closed,
RUST_LOG=readiness=trace each step of the loop.";

fn main() -> ExitCode {
    common::run_with_options(USAGE, &[("log", "a file"), ("status", "an address")], serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let log = access_log(arguments.option("log"))?;
    let page = page_address(arguments.option("status"))?;
    let [address, folder] = arguments.values()?;
    let address = common::address(address)?;
    let folder = folder.unwrap_or_else(|| ".".into());

    let mut server = HttpServer::new(Path::new(&folder), log, true)
        .map_err(|error| format!("cannot serve the folder {folder:?}: {error}"))?;
    let mut event_loop = EventLoop::with_limits(http::limits())?;
    let listener = event_loop.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut status = page.map(|page| mount(&mut event_loop, &page)).transpose()?;
    let mut ctrl_c = CtrlC::new(&mut event_loop)?;
    common::status(format_args!("Listening on {}", event_loop.listener_addr(listener)?));
    if let Some(status) = &status {
        let address = event_loop.listener_addr(status.listener())?;
        common::status(format_args!("Status at http://{address}/"));
    }
    loop {
        let event = event_loop.next_event()?;
        if status.as_mut().is_some_and(|status| status.handle(&mut event_loop, event)) {
            continue;
        }
        ctrl_c.handle(&mut event_loop, event);
        server.handle(&mut event_loop, event);
        if event == Event::ShutDown {
            return Ok(());
        }
    }
}

/// Returns the address that `--status` gives.
fn page_address(option: Option<OsString>) -> common::Outcome<Option<common::Address>> {
    let Some(address) = option else { return Ok(None) };
    let address = address.into_string().map_err(|_| "the address after --status is not UTF-8")?;
    common::address(Some(address)).map(Some)
}

fn mount(
    event_loop: &mut EventLoop<Client>,
    address: &common::Address,
) -> common::Outcome<StatusPage> {
    let page = StatusPage::mount(event_loop, address, |_| Client::default());
    Ok(page.map_err(common::cannot_listen(address))?)
}

/// Returns the log that `--log` asks for.
fn access_log(option: Option<OsString>) -> common::Outcome<Option<AccessLog>> {
    match option {
        None => Ok(Some(AccessLog::new(io::stdout()))),
        Some(file) if file == "off" => Ok(None),
        Some(file) => {
            let opened = File::options().append(true).create(true).open(&file);
            let opened =
                opened.map_err(|error| format!("cannot open {}: {error}", file.display()))?;
            Ok(Some(AccessLog::new(opened)))
        }
    }
}
