//! HTTP requests, for each program here that answers them: where one ends, and what it asks for.
//!
//! Two servers that read the same bytes as different requests let one client speak for another
//! (request smuggling). So whatever could be read in two ways is refused: a line that does not end
//! in CR LF, two lengths, a length next to a transfer coding, a space before a colon, a folded
//! line.

use bstr::ByteSlice;
use httparse::{EMPTY_HEADER, Error, Header};

/// A status as the first line of a response has it, such as `404 Not Found`.
pub(crate) type Status = &'static str;

/// The most bytes of a request line, of a head, and of a body, which is skipped.
const LINE_MAX: usize = 8 * 1024;
pub(crate) const HEAD_MAX: usize = 32 * 1024;
const BODY_MAX: u64 = 1024 * 1024;
/// Room for the fields of a head.
pub(crate) const FIELDS: [Header<'_>; 64] = [EMPTY_HEADER; 64];

pub(crate) const BAD_REQUEST: Status = "400 Bad Request";
pub(crate) const TIMEOUT: Status = "408 Request Timeout";
const TOO_LARGE: Status = "431 Request Header Fields Too Large";
const OTHER_VERSION: Status = "505 HTTP Version Not Supported";
/// Methods that there are, and that do more than read.
const OTHER_METHODS: [&str; 7] = ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"];

/// The line of a response behind which the connection closes.
pub(crate) const CLOSE: &str = "Connection: close\r\n";

/// A request that reads something.
pub(crate) struct Request<'h> {
    pub(crate) is_head: bool,
    /// The path as it was sent, and so percent-encoded, without a query. It begins with a slash.
    pub(crate) path: &'h str,
    /// How long the head is, and the body behind it.
    pub(crate) head_length: usize,
    pub(crate) body_length: u64,
    /// What the response says about the connection.
    pub(crate) connection: &'static str,
    fields: &'h [Header<'h>],
}

impl<'h> Request<'h> {
    /// Reads the request at the front of what was received, once its head is whole.
    pub(crate) fn parse(
        received: &'h [u8],
        fields: &'h mut [Header<'h>],
    ) -> Result<Option<Self>, Status> {
        let mut parsed = httparse::Request::new(fields);
        let outcome = parsed.parse(received).map_err(|error| match error {
            Error::TooManyHeaders => TOO_LARGE,
            Error::Version if first_line(received).contains_str(" HTTP/") => OTHER_VERSION,
            _ => BAD_REQUEST,
        })?;
        let head = match outcome {
            httparse::Status::Complete(length) => &received[..length],
            httparse::Status::Partial => received,
        };
        match head.len() {
            _ if first_line(head).len() == LINE_MAX => return Err("414 URI Too Long"),
            HEAD_MAX.. => return Err(TOO_LARGE),
            _ if head.find_iter("\n").count() > head.find_iter("\r\n").count() => {
                return Err(BAD_REQUEST);
            }
            _ if outcome.is_partial() => return Ok(None),
            _ => {}
        }
        let method = parsed.method.unwrap_or_default();
        let mut request = Self {
            is_head: method == "HEAD",
            path: parsed.path.and_then(path).ok_or(BAD_REQUEST)?,
            head_length: head.len(),
            body_length: 0,
            connection: "",
            fields: parsed.headers,
        };
        request.frame(parsed.version == Some(0))?;
        match method {
            "GET" | "HEAD" if request.body_length > BODY_MAX => Err("413 Content Too Large"),
            "GET" | "HEAD" => Ok(Some(request)),
            _ if OTHER_METHODS.contains(&method) => Err("405 Method Not Allowed"),
            _ => Err("501 Not Implemented"),
        }
    }

    /// Finds out where the request ends, and whether another may follow it.
    fn frame(&mut self, is_http_1_0: bool) -> Result<(), Status> {
        let count = |name| self.all(name).count();
        match (count("Transfer-Encoding"), count("Content-Length"), count("Host")) {
            (0, 0 | 1, 1) => {}
            (0, 0 | 1, 0) if is_http_1_0 => {}
            (1.., 0, 1) if !is_http_1_0 => return Err("501 Not Implemented"),
            _ => return Err(BAD_REQUEST),
        }
        let wishes = self.all("Connection").collect::<Vec<_>>().join(",").to_lowercase();
        let asks_for = |wish| wishes.split(',').any(|word| word.trim() == wish);
        self.connection = match is_http_1_0 {
            // A body that waits to be asked for may never arrive, so nothing can follow it.
            _ if asks_for("close") || count("Expect") > 0 => CLOSE,
            true if asks_for("keep-alive") => "Connection: keep-alive\r\n",
            true => CLOSE,
            false => "",
        };
        let length = self.field("Content-Length").map_or(Some(0), number);
        self.body_length = length.ok_or(BAD_REQUEST)?;
        Ok(())
    }

    /// Returns the first value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&'h str> {
        self.all(name).next()
    }

    /// Returns the values of a field. One that is not UTF-8 is empty.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &'h str> {
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
pub(crate) fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Returns the first line of a head, as far as it is there and can be long.
pub(crate) fn first_line(head: &[u8]) -> &[u8] {
    let line = head.lines().next().unwrap_or_default();
    &line[..line.len().min(LINE_MAX)]
}
