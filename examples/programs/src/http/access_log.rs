//! The access log, in the common format: a line for each response, when it begins.
//!
//! Lines are gathered for a moment and written together, since a write for each would cost as much
//! as the response itself. Where they go must not block: while it does, all connections wait.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use httpdate::HttpDate;
use readiness::{Event, EventLoop, TimerId};

use super::response::Response;

/// How long a line waits for others.
const GATHERED_FOR: Duration = Duration::from_millis(100);
/// With this many bytes it does not wait.
const GATHERED_MAX: usize = 64 * 1024;

/// An access log.
pub struct AccessLog {
    output: Box<dyn Write>,
    gathered: Vec<u8>,
    timer: Option<TimerId>,
    has_failed: bool,
}

impl AccessLog {
    /// Returns a log that is written to `output`.
    #[must_use]
    pub fn new(output: impl Write + 'static) -> Self {
        let output = Box::new(output);
        Self { output, gathered: Vec::new(), timer: None, has_failed: false }
    }

    pub(super) fn write(&mut self, peer: io::Result<SocketAddr>, line: &[u8], response: &Response) {
        let peer = peer.map_or_else(|_| "-".to_owned(), |peer| peer.ip().to_string());
        let date = HttpDate::from(SystemTime::now()).to_string(); // Sun, 06 Nov 1994 08:49:37 GMT
        let (day, month, year, time) = (&date[5..7], &date[8..11], &date[12..16], &date[17..25]);
        let (line, status, length) =
            (line.escape_ascii(), &response.status[..3], response.length());
        // A vector takes all that is written to it.
        let _ = writeln!(
            self.gathered,
            "{peer} - - [{day}/{month}/{year}:{time} +0000] \"{line}\" {status} {length}"
        );
    }

    /// Writes what was gathered, when it is time. To be called behind each event.
    pub(super) fn handle<T>(&mut self, server: &mut EventLoop<T>, event: Event) {
        let is_time = match event {
            Event::Timer(timer) => self.timer.take_if(|own| *own == timer).is_some(),
            Event::ShutDown => true,
            _ => self.gathered.len() > GATHERED_MAX,
        };
        if is_time {
            let written = self.output.write_all(&self.gathered).and_then(|()| self.output.flush());
            self.gathered.clear();
            match &written {
                Err(error) if !self.has_failed => {
                    log::warn!("cannot write the access log: {error}");
                }
                Err(error) => log::debug!("cannot write the access log: {error}"),
                Ok(()) => {}
            }
            self.has_failed |= written.is_err();
        } else if self.timer.is_none() && !self.gathered.is_empty() {
            self.timer = Some(server.set_timer(GATHERED_FOR));
        }
    }
}
