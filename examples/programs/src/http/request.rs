//! Requests: where one ends, and what it asks for.
//!
//! Two servers that read the same bytes as different requests let one client speak for another
//! (request smuggling). So whatever could be read in two ways is refused: a line that does not end
//! in CR LF, two lengths, a length next to a transfer coding, a space before a colon, a folded
//! line.

use httparse::{Error, Header};

/// A status as the first line of a response has it, such as `404 Not Found`.
pub(super) type Status = &'static str;

/// The most bytes of a request line, of a head, and of a body, which is skipped.
pub(super) const LINE_MAX: usize = 8 * 1024;
const HEAD_MAX: usize = 32 * 1024;
const BODY_MAX: u64 = 1024 * 1024;
/// The most fields of a head.
pub(super) const FIELDS_MAX: usize = 64;

const BAD_REQUEST: Status = "400 Bad Request";
const TOO_LARGE: Status = "431 Request Header Fields Too Large";
/// Methods that there are, and that files do not have.
const OTHER_METHODS: [&str; 7] = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// A request for a file.
pub(super) struct Request<'h> {
    pub(super) is_head: bool,
    /// The path as it was sent, and so percent-encoded, without a query. It begins with a slash.
    pub(super) path: &'h str,
    pub(super) is_http_1_0: bool,
    pub(super) keeps_alive: bool,
    pub(super) body_length: u64,
    fields: &'h [Header<'h>],
}

/// Returns how long the head at the front of `received` is, with the empty line at its end, once it
/// is there. `searched` is how far the search has got before.
pub(super) fn head_length(received: &[u8], searched: &mut usize) -> Result<Option<usize>, Status> {
    let mut length = None;
    while let Some(place) = received[*searched..].iter().position(|byte| *byte == b'\n') {
        *searched += place + 1;
        let head = &received[..*searched];
        if !head.ends_with(b"\r\n") {
            return Err(BAD_REQUEST);
        }
        if head.ends_with(b"\r\n\r\n") {
            length = Some(head.len());
            break;
        }
    }
    *searched = if length.is_some() { 0 } else { received.len() };
    let head = &received[..length.unwrap_or(received.len())];
    match head.iter().position(|byte| *byte == b'\n').unwrap_or(head.len()) {
        LINE_MAX.. => Err("414 URI Too Long"),
        _ if head.len() > HEAD_MAX => Err(TOO_LARGE),
        _ => Ok(length),
    }
}

impl<'h> Request<'h> {
    /// Reads a whole head.
    pub(super) fn parse(head: &'h [u8], fields: &'h mut [Header<'h>]) -> Result<Self, Status> {
        let mut parsed = httparse::Request::new(fields);
        parsed.parse(head).map_err(|error| match error {
            Error::TooManyHeaders => TOO_LARGE,
            Error::Version if names_a_version(head) => "505 HTTP Version Not Supported",
            _ => BAD_REQUEST,
        })?;
        let (Some(method), Some(target), Some(minor)) =
            (parsed.method, parsed.path, parsed.version)
        else {
            return Err(BAD_REQUEST); // not whole, although it has the empty line
        };
        let mut request = Self {
            is_head: method == "HEAD",
            path: path(target).ok_or(BAD_REQUEST)?,
            is_http_1_0: minor == 0,
            keeps_alive: false,
            body_length: 0,
            fields: parsed.headers,
        };
        request.frame()?;
        match method {
            "GET" | "HEAD" if request.body_length > BODY_MAX => Err("413 Content Too Large"),
            "GET" | "HEAD" => Ok(request),
            _ if OTHER_METHODS.contains(&method) => Err("405 Method Not Allowed"),
            _ => Err("501 Not Implemented"),
        }
    }

    /// Finds out where the request ends, and whether another may follow it.
    fn frame(&mut self) -> Result<(), Status> {
        let count = |name| self.all(name).count();
        match (count("Transfer-Encoding"), count("Content-Length"), count("Host")) {
            (0, 0 | 1, 1) => {}
            (0, 0 | 1, 0) if self.is_http_1_0 => {}
            (1.., 0, 1) if !self.is_http_1_0 => return Err("501 Not Implemented"),
            _ => return Err(BAD_REQUEST),
        }
        let asks_for = |wanted: &str| {
            let mut words = self.all("Connection").flat_map(|value| value.split(','));
            words.any(|word| word.trim().eq_ignore_ascii_case(wanted))
        };
        // A body that waits to be asked for may never arrive, so nothing can follow it.
        let has_to_close = asks_for("close") || count("Expect") > 0;
        self.keeps_alive = !has_to_close && (!self.is_http_1_0 || asks_for("keep-alive"));
        let length = self.field("Content-Length").map(number);
        self.body_length = length.unwrap_or(Some(0)).ok_or(BAD_REQUEST)?;
        Ok(())
    }

    /// Returns the value of a field that is there once.
    pub(super) fn field(&self, name: &str) -> Option<&'h str> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Returns the values of a field. One that is not UTF-8 is empty.
    fn all(&self, name: &str) -> impl Iterator<Item = &'h str> {
        let fields = self.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
        fields.map(|field| std::str::from_utf8(field.value).unwrap_or_default())
    }
}

/// Returns the path of a target, which proxies write with the host before it.
fn path(target: &str) -> Option<&str> {
    let (path, _) = target.split_once('?').unwrap_or((target, ""));
    let path = match path.strip_prefix("http://") {
        Some(rest) => rest.find('/').map_or("/", |place| &rest[place..]),
        None => path,
    };
    (path.starts_with('/') && !path.contains('#')).then_some(path)
}

/// Returns a number of digits alone, without a sign.
pub(super) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Returns whether the request line ends in a version of HTTP, if not in one that is spoken here.
fn names_a_version(head: &[u8]) -> bool {
    let version = super::first_line(head).rsplit(|byte| *byte == b' ').next();
    let version = version.and_then(|word| word.strip_prefix(b"HTTP/"));
    version.and_then(<[u8]>::first).is_some_and(u8::is_ascii_digit)
}
