//! Responses: a file or a part of it, nothing where the client has it already, or a refusal.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use super::files::Found;
use crate::request::{Request, Status, number};

/// The last second that a date of HTTP can name, of the year 9999.
const LAST_SECOND: Duration = Duration::from_secs(253_402_300_799);

/// A response to be sent.
pub(super) struct Response {
    pub(super) status: Status,
    /// Lines of the head, each with its ending.
    fields: String,
    pub(super) text: String,
    /// The file from where it stands, up to the end of what is wanted.
    pub(super) file: Option<Take<File>>,
}

impl Response {
    /// Returns a text, of which `fields` say what it is.
    pub(super) fn text(status: Status, fields: &str, text: String) -> Self {
        let fields = format!("{fields}Content-Length: {}\r\n", text.len());
        Self { status, fields, text, file: None }
    }

    /// Returns a response that says no more than its status, and what else is in its head.
    pub(super) fn plain(status: Status, more: &str) -> Self {
        Self::text(status, &format!("Content-Type: text/plain\r\n{more}"), format!("{status}\n"))
    }

    /// Returns a file, or what the request wants of it.
    pub(super) fn file(request: &Request<'_>, path: &Path, found: Found) -> io::Result<Self> {
        let (metadata, mut file) = found;
        let size = metadata.len();
        let modified = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let date = HttpDate::from(UNIX_EPOCH + modified.min(LAST_SECOND));
        let tag = format!("\"{:x}-{size:x}\"", modified.as_nanos());
        let mut fields = format!("ETag: {tag}\r\nLast-Modified: {date}\r\n");
        if is_known(request, &tag, date) {
            let status = "304 Not Modified";
            return Ok(Self { status, fields, text: String::new(), file: None });
        }
        let (status, part) = match range(request, &tag, date, size) {
            None => ("200 OK", 0..size),
            Some(part) if part.is_empty() => {
                let more = format!("Content-Range: bytes */{size}\r\n");
                return Ok(Self::plain("416 Range Not Satisfiable", &more));
            }
            Some(part) => {
                let (first, last) = (part.start, part.end - 1);
                fields += &format!("Content-Range: bytes {first}-{last}/{size}\r\n");
                file.seek(SeekFrom::Start(first))?;
                ("206 Partial Content", part)
            }
        };
        let length = part.end - part.start;
        let content_type = mime_guess::from_path(path).first_raw();
        let content_type = content_type.unwrap_or("application/octet-stream");
        fields += &format!(
            "Accept-Ranges: bytes\r\nContent-Type: {content_type}\r\nContent-Length: {length}\r\n"
        );
        Ok(Self { status, fields, text: String::new(), file: Some(file.take(length)) })
    }

    /// Returns everything before the file. `connection` is a line, or empty.
    pub(super) fn head(&self, connection: &str) -> String {
        let Self { status, fields, text, .. } = self;
        let date = HttpDate::from(SystemTime::now());
        format!("HTTP/1.1 {status}\r\nDate: {date}\r\n{fields}{connection}\r\n{text}")
    }

    /// Returns how many bytes the body has.
    pub(super) fn length(&self) -> u64 {
        self.file.as_ref().map_or(self.text.len() as u64, Take::limit)
    }
}

/// Returns whether the client has the file already, as it is now.
fn is_known(request: &Request<'_>, tag: &str, date: HttpDate) -> bool {
    if let Some(tags) = request.field("If-None-Match") {
        let mut tags = tags.split(',').map(|one| one.trim().trim_start_matches("W/"));
        return tags.any(|one| one == tag || one == "*");
    }
    let since = request.field("If-Modified-Since").and_then(|since| since.parse().ok());
    since.is_some_and(|since: HttpDate| date <= since)
}

/// Returns the part of the file that is asked for: an empty one if there is no such part, and none
/// if the whole is to be sent, also for several parts.
fn range(request: &Request<'_>, tag: &str, date: HttpDate, size: u64) -> Option<Range<u64>> {
    let condition = request.field("If-Range").unwrap_or(tag);
    if request.is_head || (condition != tag && condition != date.to_string()) {
        return None;
    }
    let (first, last) = request.field("Range")?.strip_prefix("bytes=")?.split_once('-')?;
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first <= last => Some(first..size.min(last.saturating_add(1))),
        (Some(first), None) if last.is_empty() => Some(first..size),
        (None, Some(count)) if first.is_empty() => Some(size.saturating_sub(count)..size),
        _ => None,
    }
}
