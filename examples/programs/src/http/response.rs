//! Responses: a file or a part of it, nothing where the client has it already, or a refusal.

use std::fs::{File, Metadata};
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::{HttpDate, parse_http_date};

use super::files::Found;
use super::request::{Request, Status, is_number};

/// The last second that a date of HTTP can name, of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// A response to be sent.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: Status,
    /// Lines of the head, each with its ending.
    fields: String,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// None, and no length either.
    Empty,
    Text(String),
    File(FilePart),
}

/// What is still to be sent of a file: so many bytes from where it stands.
#[derive(Debug)]
pub(super) struct FilePart {
    pub(super) file: File,
    pub(super) length: u64,
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

impl Response {
    /// The response to a request for which something was found.
    pub(super) fn new(request: &Request<'_>, found: Found) -> Self {
        match found {
            Found::File(file, metadata, content_type) => {
                Self::file(request, file, &metadata, content_type)
            }
            Found::Listing(page) => {
                Self::text(200, "Content-Type: text/html; charset=utf-8\r\n".into(), page)
            }
            Found::Elsewhere(location) => {
                Self::text(301, format!("Location: {location}\r\n"), String::new())
            }
        }
    }

    /// The response to what cannot be answered otherwise.
    pub(super) fn refusal(status: Status) -> Self {
        let mut fields = String::from("Content-Type: text/plain\r\n");
        match status {
            405 => fields.push_str("Allow: GET, HEAD\r\n"),
            503 => fields.push_str("Retry-After: 1\r\n"),
            _ => {}
        }
        Self::text(status, fields, format!("{}\n", title(status)))
    }

    fn text(status: Status, fields: String, text: String) -> Self {
        Self { status, fields, body: Body::Text(text) }
    }

    fn file(
        request: &Request<'_>,
        mut file: File,
        metadata: &Metadata,
        content_type: &str,
    ) -> Self {
        let length = metadata.len();
        let since_epoch =
            metadata.modified().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        let since_epoch = since_epoch.unwrap_or_default().min(LAST_SECOND);
        let modified = UNIX_EPOCH + Duration::from_secs(since_epoch.as_secs());
        let tag = format!("\"{:x}-{length:x}\"", since_epoch.as_nanos());
        let date = HttpDate::from(modified);
        let mut fields = format!("ETag: {tag}\r\nLast-Modified: {date}\r\n");
        if is_known(request, &tag, modified) {
            return Self { status: 304, fields, body: Body::Empty };
        }
        fields.push_str("Accept-Ranges: bytes\r\nContent-Type: ");
        fields.push_str(content_type);
        fields.push_str("\r\n");
        match range(request, &tag, &date.to_string(), length) {
            None => Self { status: 200, fields, body: Body::File(FilePart { file, length }) },
            Some(part)
                if part.start >= part.end || file.seek(SeekFrom::Start(part.start)).is_err() =>
            {
                let fields = format!("Content-Range: bytes */{length}\r\n");
                Self::text(416, fields, format!("{}\n", title(416)))
            }
            Some(Range { start, end }) => {
                let last = end - 1;
                fields.push_str(&format!("Content-Range: bytes {start}-{last}/{length}\r\n"));
                Self {
                    status: 206,
                    fields,
                    body: Body::File(FilePart { file, length: end - start }),
                }
            }
        }
    }

    /// Writes everything before the body. Without a request, the connection closes.
    pub(super) fn write_head(&self, head: &mut Vec<u8>, request: Option<&Request<'_>>) {
        head.clear();
        let connection = match request {
            Some(request) if !request.keeps_alive => "Connection: close\r\n",
            Some(request) if request.is_http_1_0 => "Connection: keep-alive\r\n",
            Some(_) => "",
            None => "Connection: close\r\n",
        };
        let (title, date) = (title(self.status), HttpDate::from(SystemTime::now()));
        let (fields, length) = (&self.fields, self.body.len());
        // A vector takes all that is written to it.
        let _ = match self.body {
            Body::Empty => {
                write!(head, "HTTP/1.1 {title}\r\nDate: {date}\r\n{fields}{connection}\r\n")
            }
            _ => write!(
                head,
                "HTTP/1.1 {title}\r\nDate: {date}\r\n{fields}Content-Length: {length}\r\n\
                 {connection}\r\n"
            ),
        };
    }
}

/// Whether the client has the file already, as it is now.
fn is_known(request: &Request<'_>, tag: &str, modified: SystemTime) -> bool {
    match (request.if_none_match, request.if_modified_since) {
        (Some(tags), _) => {
            let mut tags = tags.split(',').map(|one| one.trim().trim_start_matches("W/"));
            tags.any(|one| one == tag || one == "*")
        }
        (None, Some(date)) => parse_http_date(date).is_ok_and(|date| modified <= date),
        (None, None) => false,
    }
}

/// The part of the file that is asked for: an empty one if there is no such part, and none if the
/// whole is to be sent, also for several parts.
fn range(request: &Request<'_>, tag: &str, date: &str, length: u64) -> Option<Range<u64>> {
    let is_as_it_was = request.if_range.is_none_or(|wanted| wanted == tag || wanted == date);
    if request.is_head || !is_as_it_was {
        return None;
    }
    let (unit, part) = request.range?.split_once('=')?;
    let (first, last) = part.trim().split_once('-')?;
    let bound = |text: &str| is_number(text).then(|| text.parse().unwrap_or(u64::MAX));
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (bound(first), bound(last)) {
        (Some(first), Some(last)) if first > last => None,
        (Some(first), Some(last)) => Some(first..length.min(last.saturating_add(1))),
        (Some(first), None) if last.is_empty() => Some(first..length),
        (None, Some(count)) if first.is_empty() => Some(length.saturating_sub(count)..length),
        _ => None,
    }
}

/// A status as the first line of a response has it.
pub(super) fn title(status: Status) -> &'static str {
    match status {
        200 => "200 OK",
        206 => "206 Partial Content",
        301 => "301 Moved Permanently",
        304 => "304 Not Modified",
        400 => "400 Bad Request",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        408 => "408 Request Timeout",
        413 => "413 Content Too Large",
        414 => "414 URI Too Long",
        416 => "416 Range Not Satisfiable",
        431 => "431 Request Header Fields Too Large",
        501 => "501 Not Implemented",
        505 => "505 HTTP Version Not Supported",
        _ => "503 Service Unavailable",
    }
}
