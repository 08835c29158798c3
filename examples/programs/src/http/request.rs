//! Requests: where one ends, and what it asks for.
//!
//! Two servers that read the same bytes as different requests let one client speak for another
//! (request smuggling). So whatever could be read in two ways is refused: a line that does not end
//! in CR LF, two lengths, a length beside a transfer coding, a space before a colon, a folded line.

use std::mem::MaybeUninit;

/// The number of a status, such as 404.
pub(super) type Status = u16;

/// The most bytes of a request line, and of a whole head.
const LINE_MAX: usize = 8 * 1024;
const HEAD_MAX: usize = 32 * 1024;
const FIELDS_MAX: usize = 64;
/// The most bytes of a body, which is skipped.
const BODY_MAX: u64 = 1024 * 1024;

/// A request for a file.
#[derive(Debug)]
pub(super) struct Request<'h> {
    pub(super) is_head: bool,
    /// The path as it was sent, and so percent-encoded, without a query. It begins with a slash.
    pub(super) path: &'h str,
    pub(super) is_http_1_0: bool,
    pub(super) keeps_alive: bool,
    pub(super) body_length: u64,
    pub(super) if_none_match: Option<&'h str>,
    pub(super) if_modified_since: Option<&'h str>,
    pub(super) range: Option<&'h str>,
    pub(super) if_range: Option<&'h str>,
}

/// Returns how long the head at the front of `received` is, with the empty line at its end, once it
/// is there. `searched` is how far the search has come before.
pub(super) fn head_length(received: &[u8], searched: &mut usize) -> Result<Option<usize>, Status> {
    let mut length = None;
    while let Some(place) = received[*searched..].iter().position(|byte| *byte == b'\n') {
        *searched += place + 1;
        let head = &received[..*searched];
        if !head.ends_with(b"\r\n") {
            return Err(400);
        }
        if head.ends_with(b"\r\n\r\n") {
            length = Some(std::mem::take(searched));
            break;
        }
    }
    let searched_all = length.unwrap_or(received.len());
    if length.is_none() {
        *searched = received.len();
    }
    let first = &received[..searched_all.min(LINE_MAX)];
    match searched_all {
        LINE_MAX.. if !first.contains(&b'\n') => Err(414),
        HEAD_MAX.. => Err(431),
        _ => Ok(length),
    }
}

impl<'h> Request<'h> {
    /// Reads a whole head.
    pub(super) fn parse(head: &'h [u8]) -> Result<Self, Status> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut parsed = httparse::Request::new(&mut []);
        parsed.parse_with_uninit_headers(head, &mut fields).map_err(|error| -> Status {
            match error {
                httparse::Error::TooManyHeaders => 431,
                httparse::Error::Version if names_a_version(head) => 505,
                _ => 400,
            }
        })?;
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(400); // not whole, although it has the empty line
        };
        let mut request = Self {
            is_head: method == "HEAD",
            path: path(target)?,
            is_http_1_0: minor == 0,
            keeps_alive: minor == 1,
            body_length: 0,
            if_none_match: None,
            if_modified_since: None,
            range: None,
            if_range: None,
        };
        request.read_fields(parsed.headers)?;
        match method {
            "GET" | "HEAD" if request.body_length > BODY_MAX => Err(413),
            "GET" | "HEAD" => Ok(request),
            "POST" | "PUT" | "DELETE" | "PATCH" | "OPTIONS" | "TRACE" | "CONNECT" => Err(405),
            _ => Err(501),
        }
    }

    fn read_fields(&mut self, fields: &[httparse::Header<'h>]) -> Result<(), Status> {
        let (mut hosts, mut length, mut has_coding) = (0, None, false);
        let (mut asks_to_close, mut expects) = (false, false);
        for field in fields {
            let is = |name: &str| field.name.eq_ignore_ascii_case(name);
            let text = std::str::from_utf8(field.value);
            match () {
                () if is("Host") => hosts += 1,
                () if is("Content-Length") && length.is_some() => return Err(400),
                () if is("Content-Length") => length = Some(number(field.value)?),
                () if is("Transfer-Encoding") => has_coding = true,
                () if is("Connection") => {
                    let words = field.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
                    for word in words {
                        asks_to_close |= word.eq_ignore_ascii_case(b"close");
                        self.keeps_alive |= word.eq_ignore_ascii_case(b"keep-alive");
                    }
                }
                () if is("Expect") => expects = true,
                () if is("If-None-Match") => self.if_none_match = text.ok(),
                () if is("If-Modified-Since") => self.if_modified_since = text.ok(),
                () if is("Range") => self.range = text.ok(),
                () if is("If-Range") => self.if_range = text.ok(),
                () => {}
            }
        }
        match (has_coding, length) {
            (true, Some(_)) => return Err(400),
            (true, None) => return Err(if self.is_http_1_0 { 400 } else { 501 }),
            (false, length) => self.body_length = length.unwrap_or(0),
        }
        if hosts > 1 || (hosts == 0 && !self.is_http_1_0) {
            return Err(400);
        }
        // A body that waits to be asked for may never come, so nothing can follow it.
        self.keeps_alive &= !asks_to_close && !expects;
        Ok(())
    }
}

/// The path of a target, which proxies write with the host before it.
fn path(target: &str) -> Result<&str, Status> {
    const SCHEME: &str = "http://";
    let after_host = match target.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => {
            let rest = &target[SCHEME.len()..];
            rest.find(['/', '?']).map_or("/", |place| &rest[place..])
        }
        _ => target,
    };
    match after_host.split('?').next() {
        Some("") if after_host != target => Ok("/"),
        Some(path) if path.starts_with('/') && !path.contains('#') => Ok(path),
        _ => Err(400),
    }
}

/// A length: digits alone, and neither a sign nor a list.
fn number(value: &[u8]) -> Result<u64, Status> {
    let digits = std::str::from_utf8(value).ok().filter(|text| is_number(text));
    digits.and_then(|digits| digits.parse().ok()).ok_or(400)
}

/// Whether a text has digits, and nothing else.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the request line ends in a version of HTTP, if not in one that is spoken here.
fn names_a_version(head: &[u8]) -> bool {
    let word = super::first_line(head).rsplit(|byte| *byte == b' ').next();
    let version = word.and_then(|word| word.strip_prefix(b"HTTP/"));
    version.is_some_and(|version| match version {
        [major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
        [major] => major.is_ascii_digit(),
        _ => false,
    })
}
