//! An echo server over TLS 1.2 and 1.3, for any number of clients in one thread.
//!
//! It shows a protocol that is between the program and the bytes: see `src/tls_echo.rs`.
//!
//! ```text
//! openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
//!     -keyout key.pem -out cert.pem
//! cargo run --release --manifest-path examples/programs/Cargo.toml --bin tls_echo_server -- \
//!     --cert cert.pem --key key.pem
//! openssl s_client -connect 127.0.0.1:65432
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use programs::tls_echo::{self, Session};
use readiness::{Event, EventLoop};

#[path = "../../../common/mod.rs"]
mod common;
#[path = "../../../common/signals.rs"]
mod signals;

use signals::CtrlC;

const USAGE: &str = "\
Sends back what each client sends over TLS 1.2 or 1.3, in one thread.

Usage: tls_echo_server [ADDRESS] --cert FILE --key FILE

  ADDRESS      where to listen [default: 127.0.0.1:65432]; with port 0 the
               system chooses one
  --cert FILE  the certificate, and behind it those that vouch for it, as PEM
  --key FILE   its private key, as PEM
  -h, --help   print this

Ctrl-C answers what has arrived, says so to the clients (close_notify) and lets
them finish for up to 10 seconds; a second one aborts them.
RUST_LOG=programs=info in the environment prints why connections were closed:
streams cut short, clients that do not speak TLS.";

fn main() -> ExitCode {
    common::run_with_options(USAGE, &[("cert", "a path"), ("key", "a path")], serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let path = |name| arguments.option(name).map(PathBuf::from);
    let (Some(cert), Some(key)) = (path("cert"), path("key")) else {
        return Err("both --cert FILE and --key FILE are needed (--help tells more)".into());
    };
    let address = arguments.address()?;
    let config = tls_echo::configuration(&cert, &key)?;

    let mut server = EventLoop::with_limits(tls_echo::limits())?;
    let listener = server
        .listen_with(&address, move |_| Session::new(&config))
        .map_err(common::cannot_listen(&address))?;
    let mut ctrl_c = CtrlC::new(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    loop {
        let event = server.next_event()?;
        match event {
            Event::ShutDown => return Ok(()),
            Event::Ready(..) => tls_echo::say_goodbye(&mut server),
            _ => tls_echo::handle(&mut server, event),
        }
        ctrl_c.handle(&mut server, event);
    }
}
