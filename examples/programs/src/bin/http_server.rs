//! A web server for the files of a folder.
//!
//! It shows a protocol that strangers speak, where whatever arrives is either understood or
//! refused, and files of any size sent in constant memory, at the pace of each peer.
//!
//! ```text
//! cargo run --release --manifest-path examples/programs/Cargo.toml --bin http_server 127.0.0.1:8080 .
//! curl http://127.0.0.1:8080/
//! ```

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use programs::http::{self, Client, HttpServer};
use programs::status::StatusPage;
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use signals::CtrlC;

fn main() -> ExitCode {
    let options = [("log", "a file"), ("status", "an address")];
    common::run_with_options(include_str!("http_server.txt"), &options, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let log: Option<Box<dyn Write>> = match arguments.option("log") {
        None => Some(Box::new(io::stdout())),
        Some(file) if file == "off" => None,
        Some(file) => {
            let opened = File::options().append(true).create(true).open(&file);
            let cannot_open = |error| format!("cannot open {}: {error}", file.display());
            Some(Box::new(opened.map_err(cannot_open)?))
        }
    };
    let page = arguments.option("status").map(|page| page.to_string_lossy().into_owned());
    let page = page.map(|page| common::address(Some(page))).transpose()?;
    let [address, folder] = arguments.values()?;
    let address = common::address(address)?;
    let folder = folder.unwrap_or_else(|| ".".into());

    let mut files = HttpServer::new(folder.as_ref(), log)
        .map_err(|error| format!("cannot serve the folder {folder:?}: {error}"))?;
    let mut server = EventLoop::with_limits(http::limits())?;
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut status = None;
    if let Some(page) = page {
        let mounted = StatusPage::mount(&mut server, &page, |_| Client::default());
        status = Some(mounted.map_err(common::cannot_listen(&page))?);
    }
    let mut ctrl_c = CtrlC::new(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    if let Some(status) = &status {
        let address = server.listener_addr(status.listener())?;
        common::status(format_args!("Status at http://{address}/"));
    }
    loop {
        let event = server.next_event()?;
        if status.as_mut().is_some_and(|status| status.handle(&mut server, event)) {
            continue;
        }
        ctrl_c.handle(&mut server, event);
        files.handle(&mut server, event);
        if event == Event::ShutDown {
            return Ok(());
        }
    }
}
