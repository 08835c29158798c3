//! RESP2, the protocol of Redis: requests as they arrive, and replies as they leave.
//!
//! A request is an array of strings, `*2\r\n$3\r\nGET\r\n$1\r\nx\r\n`, or a line of words, as one
//! types it. The strings of an array are lent from the read buffer, where they lie. Nothing is
//! allocated by a length that a client claims, and what was looked at once is not looked at again
//! when more arrives.

use std::io::ErrorKind;
use std::ops::{Range, RangeInclusive};

use readiness::ReadHalf;

/// The longest request, which is also the size of a client's read buffer at most.
pub(crate) const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// The longest line of words.
const INLINE_MAX: usize = 64 * 1024;
/// The longest line with a length.
const HEADER_MAX: usize = 64;
/// How many words an array may have: a negative number is none.
const COUNTS: Numbers = i64::MIN..=i32::MAX as i64;
const LENGTHS: Numbers = 0..=REQUEST_MAX as i64;

type Numbers = RangeInclusive<i64>;

/// The text of an error reply.
pub(crate) type Refusal = Vec<u8>;
pub(crate) type Outcome<T = ()> = Result<T, Refusal>;

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
    pub(crate) fn next(&mut self, read: &mut ReadHalf<'_>) -> Outcome<Option<usize>> {
        if read.received().starts_with(b"*") {
            let length = self.array(read.received())?;
            let is_full = length.is_none() && read.received().len() >= REQUEST_MAX;
            return if is_full { Err("too big request".into()) } else { Ok(length) };
        }
        match read.take_until(b'\n', INLINE_MAX) {
            Ok(Some(line @ [.., b'\n'])) => self.split(line).map(|()| Some(0)),
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                Err("too big inline request".into())
            }
            // Incomplete, or cut off by the client's end.
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// Lends the words of the request that was found at the front of `received`.
    pub(crate) fn words<'b>(&'b self, received: &'b [u8]) -> impl Iterator<Item = &'b [u8]> {
        let bytes = if self.line.is_empty() { received } else { &self.line };
        self.places.iter().map(|place| &bytes[place.clone()])
    }

    fn array(&mut self, bytes: &[u8]) -> Outcome<Option<usize>> {
        if self.missing == 0 {
            let Some(header) = header(bytes, COUNTS, "multibulk")? else { return Ok(None) };
            (self.missing, self.at) = header;
            self.places.clear();
            self.line.clear();
        }
        while self.missing > 0 {
            let rest = &bytes[self.at..];
            match rest {
                [] => return Ok(None),
                [b'$', ..] => {}
                [other, ..] => return Err([b"expected '$', got '", &[*other][..], b"'"].concat()),
            }
            let Some((length, start)) = header(rest, LENGTHS, "bulk")? else { return Ok(None) };
            if rest.len() < start + length + 2 {
                return Ok(None);
            }
            let start = self.at + start;
            self.places.push(start..start + length);
            (self.missing, self.at) = (self.missing - 1, start + length + 2);
        }
        Ok(Some(self.at))
    }

    /// Splits a line at white space outside of quotes.
    fn split(&mut self, mut rest: &[u8]) -> Outcome {
        const UNBALANCED: &str = "unbalanced quotes in request";
        let is_at_space = |rest: &[u8]| rest.first().is_none_or(u8::is_ascii_whitespace);
        self.places.clear();
        self.line.clear();
        loop {
            rest = rest.trim_ascii_start();
            if rest.is_empty() {
                return Ok(());
            }
            let (start, mut quote) = (self.line.len(), None);
            while quote.is_some() || !is_at_space(rest) {
                let (byte, behind) = rest.split_first().ok_or(UNBALANCED)?;
                rest = behind;
                match (byte, quote) {
                    (b'"' | b'\'', None) => quote = Some(*byte),
                    (_, Some(open)) if *byte != open && *byte != b'\\' => self.line.push(*byte),
                    (b'\\', Some(b'"')) => self.line.push(unescaped(&mut rest)),
                    (b'\\', Some(_)) if rest.starts_with(b"'") => {
                        self.line.extend(rest.split_off_first());
                    }
                    (b'\\', _) | (_, None) => self.line.push(*byte),
                    (_, Some(_)) if is_at_space(rest) => quote = None,
                    (_, Some(_)) => return Err(UNBALANCED.into()),
                }
            }
            self.places.push(start..self.line.len());
        }
    }
}

/// Takes what follows a backslash, and returns what that stands for.
fn unescaped(rest: &mut &[u8]) -> u8 {
    if let [b'x', digits @ ..] = rest
        && let Some((digits, behind)) = digits.split_at_checked(2)
        && digits.iter().all(u8::is_ascii_hexdigit)
    {
        *rest = behind;
        let digit = |byte: u8| if byte < b'a' { byte - b'0' } else { byte - b'a' + 10 };
        return digits.iter().fold(0, |sum, byte| 16 * sum + digit(byte.to_ascii_lowercase()));
    }
    match rest.split_off_first() {
        Some(b'n') => b'\n',
        Some(b'r') => b'\r',
        Some(b't') => b'\t',
        other => other.copied().unwrap_or(b'\\'),
    }
}

/// Reads the line of a length behind its sign: the length, and where the line ends.
fn header(bytes: &[u8], range: Numbers, what: &str) -> Outcome<Option<(usize, usize)>> {
    let line = &bytes[1..bytes.len().min(1 + HEADER_MAX)];
    match line.iter().position(|byte| *byte == b'\r') {
        Some(end) if end + 2 < bytes.len() => {
            let number = integer(&line[..end]).filter(|number| range.contains(number));
            let number = number.ok_or_else(|| format!("invalid {what} length"))?;
            Ok(Some((usize::try_from(number).unwrap_or(0), end + 3)))
        }
        None if line.len() == HEADER_MAX => {
            Err(format!("too big {} count string", what.replace("multi", "m")).into())
        }
        _ => Ok(None),
    }
}

/// Reads a number as Redis writes it: without a plus, zeros in front or white space.
pub(crate) fn integer(word: &[u8]) -> Option<i64> {
    match word {
        [b'0'] => Some(0),
        [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] => str::from_utf8(word).ok()?.parse().ok(),
        _ => None,
    }
}

/// The replies to a client's requests, which leave together.
#[derive(Default)]
pub(crate) struct Replies(pub(crate) Vec<u8>);

impl Replies {
    fn line(&mut self, sign: u8, text: &[u8]) {
        self.0.push(sign);
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn simple(&mut self, text: &str) {
        self.line(b'+', text.as_bytes());
    }

    pub(crate) fn number(&mut self, number: impl ToString) {
        self.line(b':', number.to_string().as_bytes());
    }

    pub(crate) fn nil(&mut self) {
        self.line(b'$', b"-1");
    }

    pub(crate) fn bulk(&mut self, text: impl AsRef<[u8]>) {
        let text = text.as_ref();
        self.line(b'$', text.len().to_string().as_bytes());
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\r\n");
    }

    pub(crate) fn value(&mut self, value: Option<&[u8]>) {
        match value {
            Some(value) => self.bulk(value),
            None => self.nil(),
        }
    }

    /// Begins an array: this many replies follow, which are its items.
    pub(crate) fn array(&mut self, length: usize) {
        self.line(b'*', length.to_string().as_bytes());
    }

    pub(crate) fn bulks(&mut self, texts: &[&[u8]]) {
        self.array(texts.len());
        texts.iter().for_each(|text| self.bulk(text));
    }

    /// Appends an error, which is one line whatever its text.
    pub(crate) fn error(&mut self, text: &[u8]) {
        let is_end = |byte: &u8| b"\r\n".contains(byte);
        let text: Vec<u8> =
            text.iter().map(|byte| if is_end(byte) { b' ' } else { *byte }).collect();
        self.line(b'-', &text);
    }
}
