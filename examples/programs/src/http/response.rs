//! Responses: a file or a part of it, nothing where the client has it already, or a refusal.

use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::{HttpDate, parse_http_date};
use readiness::Stream;

use super::files::Found;
use super::request::{Request, Status, number};

/// The last second that a date of HTTP can name, of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// A response to be sent.
pub(super) struct Response {
    pub(super) status: Status,
    /// Lines of the head, each with its ending.
    fields: String,
    pub(super) body: Body,
}

pub(super) enum Body {
    /// None, and no length either.
    Empty,
    Text(String),
    File(FilePart),
}

/// What is still to be sent of a file: `length` bytes from where it stands.
#[derive(Debug)]
pub(super) struct FilePart {
    pub(super) file: File,
    pub(super) length: u64,
}

impl Response {
    /// The response to a request for which something was found.
    pub(super) fn new(request: &Request<'_>, found: Found) -> Self {
        let (status, fields, text) = match found {
            Found::File(file, metadata, content_type) => {
                return Self::file(request, file, &metadata, content_type);
            }
            Found::Listing(page) => {
                ("200 OK", "Content-Type: text/html; charset=utf-8".into(), page)
            }
            Found::Elsewhere(location) => {
                ("301 Moved Permanently", format!("Location: {location}"), String::new())
            }
        };
        Self { status, fields: fields + "\r\n", body: Body::Text(text) }
    }

    /// The response to what cannot be answered otherwise.
    pub(super) fn refusal(status: Status) -> Self {
        let more = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let fields = format!("Content-Type: text/plain\r\n{more}");
        Self { status, fields, body: Body::Text(format!("{status}\n")) }
    }

    fn file(
        request: &Request<'_>,
        mut file: File,
        metadata: &Metadata,
        content_type: &str,
    ) -> Self {
        let whole = metadata.len();
        let modified = metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let modified = modified.unwrap_or_default().min(LAST_SECOND);
        let date = HttpDate::from(UNIX_EPOCH + Duration::from_secs(modified.as_secs()));
        let tag = format!("\"{:x}-{whole:x}\"", modified.as_nanos());
        let mut fields = format!("ETag: {tag}\r\nLast-Modified: {date}\r\n");
        if is_known(request, &tag, date) {
            return Self { status: "304 Not Modified", fields, body: Body::Empty };
        }
        let part = range(request, &tag, date, whole);
        let status = match &part {
            None => "200 OK",
            Some(part) if part.is_empty() || file.seek(SeekFrom::Start(part.start)).is_err() => {
                let refusal = Self::refusal("416 Range Not Satisfiable");
                let fields = format!("{}Content-Range: bytes */{whole}\r\n", refusal.fields);
                return Self { fields, ..refusal };
            }
            Some(Range { start, end }) => {
                fields += &format!("Content-Range: bytes {start}-{}/{whole}\r\n", end - 1);
                "206 Partial Content"
            }
        };
        fields += &format!("Accept-Ranges: bytes\r\nContent-Type: {content_type}\r\n");
        let length = part.map_or(whole, |part| part.end - part.start);
        Self { status, fields, body: Body::File(FilePart { file, length }) }
    }

    /// Writes everything before the body. Without a request, the connection closes.
    pub(super) fn write_head(&self, head: &mut Vec<u8>, request: Option<&Request<'_>>) {
        head.clear();
        let connection = match request {
            Some(request) if request.keeps_alive && request.is_http_1_0 => {
                "Connection: keep-alive\r\n"
            }
            Some(request) if request.keeps_alive => "",
            _ => "Connection: close\r\n",
        };
        let (status, fields) = (self.status, &self.fields);
        let date = HttpDate::from(SystemTime::now());
        // A vector takes all that is written to it.
        let _ = write!(head, "HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}{connection}");
        let _ = match self.body {
            Body::Empty => write!(head, "\r\n"),
            _ => write!(head, "Content-Length: {}\r\n\r\n", self.body.len()),
        };
    }
}

impl Body {
    pub(super) fn len(&self) -> u64 {
        match self {
            Self::Empty => 0,
            Self::Text(text) => text.len() as u64,
            Self::File(part) => part.length,
        }
    }
}

impl FilePart {
    /// Sends the head of a response, and has the kernel move bytes of the file behind it, without a
    /// copy here, as far as there is room. Returns how much of the head was sent. To be called when
    /// nothing is unsent: it goes past the loop, which waits for room and finds out about errors at
    /// the next send.
    #[cfg(target_os = "linux")]
    pub(super) fn send_by_kernel(&mut self, stream: &Stream, head: &[u8]) -> usize {
        use rustix::net::{SendFlags, send};

        let Ok(socket) = stream.try_as_fd() else { return 0 };
        let sent = match head.len() {
            0 => Ok(0),
            _ => send(socket, head, SendFlags::MORE | SendFlags::NOSIGNAL),
        };
        while sent == Ok(head.len()) && self.length > 0 {
            let count = usize::try_from(self.length).unwrap_or(usize::MAX);
            match rustix::fs::sendfile(socket, &self.file, None, count) {
                Ok(count @ 1..) => self.length -= count as u64,
                _ => break,
            }
        }
        sent.unwrap_or(0)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn send_by_kernel(&mut self, _: &Stream, _: &[u8]) -> usize {
        0
    }
}

/// Whether the client has the file already, as it is now.
fn is_known(request: &Request<'_>, tag: &str, date: HttpDate) -> bool {
    match (request.field("If-None-Match"), request.field("If-Modified-Since")) {
        (Some(tags), _) => {
            let mut tags = tags.split(',').map(|one| one.trim().trim_start_matches("W/"));
            tags.any(|one| one == tag || one == "*")
        }
        (None, Some(since)) => {
            parse_http_date(since).is_ok_and(|since| date <= HttpDate::from(since))
        }
        (None, None) => false,
    }
}

/// The part of the file that is asked for: an empty one if there is no such part, and none if the
/// whole is to be sent, also for several parts.
fn range(request: &Request<'_>, tag: &str, date: HttpDate, whole: u64) -> Option<Range<u64>> {
    let condition = request.field("If-Range");
    if condition.is_some_and(|wanted| wanted != tag && wanted != date.to_string()) {
        return None;
    }
    let (first, last) = request.field("Range")?.strip_prefix("bytes=")?.split_once('-')?;
    match (number(first), number(last)) {
        _ if request.is_head => None,
        (Some(first), Some(last)) if first <= last => {
            Some(first..whole.min(last.saturating_add(1)))
        }
        (Some(first), None) if last.is_empty() => Some(first..whole),
        (None, Some(count)) if first.is_empty() => Some(whole.saturating_sub(count)..whole),
        _ => None,
    }
}
