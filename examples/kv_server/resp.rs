//! RESP2, the protocol of Redis: requests as they arrive, and replies as they leave.
//!
//! A request is an array of strings, `*2\r\n$3\r\nGET\r\n$1\r\nx\r\n`, or a line of words, as one
//! types it. The strings of an array are lent from the read buffer, where they lie. Nothing is
//! allocated by a length that a client claims, and what was looked at once is not looked at again
//! when more arrives.

use std::io::ErrorKind;
use std::ops::Range;

use readiness::ReadHalf;

/// The longest request, which is also the size of a client's read buffer at most.
pub(crate) const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// The longest line of words.
const INLINE_MAX: usize = 64 * 1024;
/// The longest line with a length.
const HEADER_MAX: usize = 64;

/// The text of an error reply.
pub(crate) type Refusal = Vec<u8>;
/// How a command ends: with a reply, or with an error.
pub(crate) type Answer<'v> = Result<Reply<'v>, Refusal>;

/// How far the request at the front of the read buffer is known.
#[derive(Debug, Default)]
pub(crate) struct Parser {
    /// Where the words are: in `line`, if that is not empty, or else in the read buffer.
    places: Vec<Range<usize>>,
    line: Vec<u8>,
    /// Invariant: what is before this was looked at.
    at: usize,
    /// How many words of the array are still missing.
    missing: usize,
}

impl Parser {
    /// Looks whether a whole request has arrived. If so, returns how many bytes are to be consumed
    /// once its words were used: none of a line, which is consumed here.
    pub(crate) fn next(&mut self, read: &mut ReadHalf<'_>) -> Result<Option<usize>, Refusal> {
        match read.received().first() {
            None => Ok(None),
            Some(b'*') => match self.array(read.received())? {
                None if read.received().len() >= REQUEST_MAX => Err("too big request".into()),
                next => Ok(next),
            },
            Some(_) => match read.take_until(b'\n', INLINE_MAX) {
                Ok(Some(line @ [.., b'\n'])) => self.split(line),
                Err(error) if error.kind() == ErrorKind::InvalidData => {
                    Err("too big inline request".into())
                }
                // Incomplete, or cut off by the client's end.
                Ok(_) | Err(_) => Ok(None),
            },
        }
    }

    /// Lends the words of the request that was found at the front of `received`.
    pub(crate) fn words<'b>(&'b self, received: &'b [u8]) -> Vec<&'b [u8]> {
        let bytes = if self.line.is_empty() { received } else { &self.line };
        self.places.iter().map(|place| &bytes[place.clone()]).collect()
    }

    fn array(&mut self, bytes: &[u8]) -> Result<Option<usize>, Refusal> {
        if self.missing == 0 {
            let Some((count, behind)) = header(bytes, 0, "mbulk")? else { return Ok(None) };
            let count = count.filter(|count| *count <= i64::from(i32::MAX));
            let count = count.ok_or("invalid multibulk length")?;
            (self.missing, self.at) = (usize::try_from(count).unwrap_or(0), behind);
            self.places.clear();
            self.line.clear();
        }
        while self.missing > 0 {
            match bytes.get(self.at) {
                None => return Ok(None),
                Some(b'$') => {}
                Some(other) => return Err([b"expected '$', got '", &[*other][..], b"'"].concat()),
            }
            let Some((length, start)) = header(bytes, self.at, "bulk")? else { return Ok(None) };
            let length = length.and_then(|length| usize::try_from(length).ok());
            let length = length.filter(|length| *length <= REQUEST_MAX);
            let end = start + length.ok_or("invalid bulk length")?;
            if bytes.len() < end + 2 {
                return Ok(None);
            }
            self.places.push(start..end);
            (self.missing, self.at) = (self.missing - 1, end + 2);
        }
        Ok(Some(self.at))
    }

    /// Splits a line at white space outside of quotes; its line ending ends the last word.
    fn split(&mut self, mut rest: &[u8]) -> Result<Option<usize>, Refusal> {
        self.places.clear();
        self.line.clear();
        let (mut quote, mut start) = (None, None);
        while let [byte, behind @ ..] = rest {
            rest = behind;
            let is_last = rest.first().is_none_or(u8::is_ascii_whitespace);
            let kept = match (byte, quote) {
                (space, None) if space.is_ascii_whitespace() => {
                    self.places.extend(start.take().map(|start| start..self.line.len()));
                    continue;
                }
                (b'"' | b'\'', None) => {
                    quote = Some(*byte);
                    None
                }
                (_, Some(open)) if *byte == open && is_last => {
                    quote = None;
                    None
                }
                (_, Some(open)) if *byte == open => break,
                (b'\\', Some(b'"')) => Some(unescaped(&mut rest)),
                (b'\\', Some(_)) if rest.starts_with(b"'") => rest.split_off_first().copied(),
                _ => Some(*byte),
            };
            start.get_or_insert(self.line.len());
            self.line.extend(kept);
        }
        if quote.is_some() { Err("unbalanced quotes in request".into()) } else { Ok(Some(0)) }
    }
}

/// Takes what follows a backslash, and returns what that stands for.
fn unescaped(rest: &mut &[u8]) -> u8 {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    if let [b'x', high, low, behind @ ..] = *rest
        && let (Some(high), Some(low)) = (digit(*high), digit(*low))
    {
        *rest = behind;
        return 16 * high + low;
    }
    match rest.split_off_first() {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        other => other.copied().unwrap_or(b'\\'),
    }
}

/// Reads the line of a length behind its sign: the number, if it is one, and where the line ends.
fn header(bytes: &[u8], at: usize, what: &str) -> Result<Option<(Option<i64>, usize)>, Refusal> {
    let line = &bytes[at + 1..];
    let line = &line[..line.len().min(HEADER_MAX)];
    match line.iter().position(|byte| *byte == b'\r') {
        Some(end) if at + end + 2 < bytes.len() => Ok(Some((integer(&line[..end]), at + end + 3))),
        None if line.len() == HEADER_MAX => Err(format!("too big {what} count string").into()),
        _ => Ok(None),
    }
}

/// Reads a number as Redis writes it: without a plus, zeros in front or white space.
pub(crate) fn integer(word: &[u8]) -> Option<i64> {
    let (sign, digits) = word.strip_prefix(b"-").map_or((1, word), |digits| (-1, digits));
    let with = |sum: i64, digit: &u8| {
        let digit = Some(digit).filter(|digit| digit.is_ascii_digit())? - b'0';
        sum.checked_mul(10)?.checked_add(sign * i64::from(digit))
    };
    match digits {
        [b'0'] if sign == 1 => Some(0),
        [b'1'..=b'9', ..] => digits.iter().try_fold(0, with),
        _ => None,
    }
}

/// What a command answers.
pub(crate) enum Reply<'v> {
    /// It has appended its replies itself.
    Done,
    Simple(&'static str),
    Integer(i64),
    Nil,
    Bulk(&'v [u8]),
    Text(Vec<u8>),
    Array(Vec<Reply<'v>>),
}

pub(crate) const OK: Reply<'static> = Reply::Simple("OK");

/// Returns the number of something.
pub(crate) fn count<'v>(count: usize) -> Reply<'v> {
    Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX))
}

/// Appends a reply to the replies that are to be sent.
pub(crate) fn append(replies: &mut Vec<u8>, reply: &Reply<'_>) {
    match reply {
        Reply::Done => {}
        Reply::Simple(text) => append_line(replies, b'+', text),
        Reply::Integer(number) => append_line(replies, b':', &number.to_string()),
        Reply::Nil => append_line(replies, b'$', "-1"),
        Reply::Bulk(value) => {
            append_line(replies, b'$', &value.len().to_string());
            replies.extend_from_slice(value);
            replies.extend_from_slice(b"\r\n");
        }
        Reply::Text(text) => append(replies, &Reply::Bulk(text)),
        Reply::Array(items) => {
            append_line(replies, b'*', &items.len().to_string());
            items.iter().for_each(|item| append(replies, item));
        }
    }
}

pub(crate) fn append_line(replies: &mut Vec<u8>, sign: u8, text: &str) {
    replies.push(sign);
    replies.extend_from_slice(text.as_bytes());
    replies.extend_from_slice(b"\r\n");
}

/// Appends an error, which is one line whatever its text.
pub(crate) fn append_error(replies: &mut Vec<u8>, text: &[u8]) {
    replies.push(b'-');
    replies.extend(text.iter().map(|byte| if b"\r\n".contains(byte) { b' ' } else { *byte }));
    replies.extend_from_slice(b"\r\n");
}
