//! Responses: a file or a part of it, nothing where the client has it already, or a refusal.

use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::{HttpDate, parse_http_date};
use readiness::Stream;

use super::request::{Request, Status, number};

/// The last second that a date of HTTP can name, of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// Maximum number of bytes that the kernel sends of a file at a time, so that other clients get their
/// turn.
const SENDFILE_MAX: u64 = 512 * 1024;

/// A response to be sent.
pub(super) struct Response {
    pub(super) status: Status,
    /// Lines of the head, each with its ending.
    fields: String,
    text: String,
    pub(super) file: Option<FilePart>,
}

/// What is still to be sent of a file: `length` bytes from where it stands.
#[derive(Debug)]
pub(super) struct FilePart {
    pub(super) file: File,
    pub(super) length: u64,
}

impl Response {
    /// Returns a text, of which `fields` say what it is.
    pub(super) fn text(status: Status, fields: &str, text: String) -> Self {
        let fields = format!("{fields}Content-Length: {}\r\n", text.len());
        Self { status, fields, text, file: None }
    }

    /// Returns the response to what cannot be answered otherwise.
    pub(super) fn refusal(status: Status) -> Self {
        let more = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
        let fields = format!("Content-Type: text/plain\r\n{more}");
        Self::text(status, &fields, format!("{status}\n"))
    }

    /// Returns a file, or what the request wants of it.
    pub(super) fn file(
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
        let known = format!("ETag: {tag}\r\nLast-Modified: {date}\r\n");
        if is_known(request, &tag, date) {
            let (status, text) = ("304 Not Modified", String::new());
            return Self { status, fields: known, text, file: None };
        }
        let (status, part, range) = match range(request, &tag, date, whole) {
            None => ("200 OK", 0..whole, String::new()),
            Some(part) if part.is_empty() || file.seek(SeekFrom::Start(part.start)).is_err() => {
                let status = "416 Range Not Satisfiable";
                let fields = format!("Content-Range: bytes */{whole}\r\n");
                return Self::text(status, &fields, format!("{status}\n"));
            }
            Some(part) => {
                let (first, last) = (part.start, part.end - 1);
                let range = format!("Content-Range: bytes {first}-{last}/{whole}\r\n");
                ("206 Partial Content", part, range)
            }
        };
        let length = part.end - part.start;
        let fields = format!(
            "{known}{range}Accept-Ranges: bytes\r\nContent-Type: {content_type}\r\n\
             Content-Length: {length}\r\n"
        );
        Self { status, fields, text: String::new(), file: Some(FilePart { file, length }) }
    }

    pub(super) fn without_body(self) -> Self {
        Self { text: String::new(), file: None, ..self }
    }

    /// Returns everything before the file. Without a request, the connection closes.
    pub(super) fn head(&self, request: Option<&Request<'_>>) -> Vec<u8> {
        let connection = match request {
            Some(request) if request.keeps_alive && request.is_http_1_0 => {
                "Connection: keep-alive\r\n"
            }
            Some(request) if request.keeps_alive => "",
            _ => "Connection: close\r\n",
        };
        let Self { status, fields, text, .. } = self;
        let date = HttpDate::from(SystemTime::now());
        let mut head = Vec::with_capacity(512 + text.len());
        // A vector takes all that is written to it.
        let _ = write!(head, "HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}{connection}\r\n{text}");
        head
    }

    /// Returns how many bytes the body has.
    pub(super) fn length(&self) -> u64 {
        self.file.as_ref().map_or(self.text.len() as u64, |part| part.length)
    }
}

impl FilePart {
    /// Sends the head of a response, and has the kernel move bytes of the file behind it, without a
    /// copy here, as far as there is room. Returns how much of the head was sent. It goes past the
    /// loop, which waits for room and finds out about errors at the next send; so it does nothing
    /// while something is unsent.
    #[cfg(target_os = "linux")]
    pub(super) fn send_by_kernel(&mut self, stream: &Stream, head: &[u8]) -> usize {
        use rustix::net::{SendFlags, send};

        if stream.unsent() > 0 {
            return 0;
        }
        let Ok(socket) = stream.try_as_fd() else { return 0 };
        let sent = match head.len() {
            0 => Ok(0),
            _ => send(socket, head, SendFlags::MORE | SendFlags::NOSIGNAL),
        };
        // No more than this at a time, or one client with a fast line holds up all others.
        let count = self.length.min(SENDFILE_MAX);
        if sent == Ok(head.len())
            && count > 0
            && let Ok(count) = usize::try_from(count)
            && let Ok(count) = rustix::fs::sendfile(socket, &self.file, None, count)
        {
            self.length -= count as u64;
        }
        sent.unwrap_or(0)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn send_by_kernel(&mut self, _: &Stream, _: &[u8]) -> usize {
        0
    }
}

/// Returns whether the client has the file already, as it is now.
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

/// Returns the part of the file that is asked for: an empty one if there is no such part, and none
/// if the whole is to be sent, also for several parts.
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
