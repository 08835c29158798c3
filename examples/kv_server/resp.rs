//! RESP2, the protocol of Redis: requests as they arrive, and replies as they leave.
//!
//! A request is an array of strings, `*2\r\n$3\r\nGET\r\n$1\r\nx\r\n`, or a line of words, as one
//! types it. Each string is taken when the whole of it has arrived, so nothing is allocated by a
//! length that a client claims, and nothing is looked at twice when more arrives.

use std::io::ErrorKind::InvalidData;
use std::ops::Range;
use std::slice;

use readiness::ReadHalf;

/// The longest request, which is also the size of a client's read buffer at most.
pub(crate) const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// The longest string, or array.
const LENGTH_MAX: i64 = REQUEST_MAX as i64;
/// The longest line of words.
const INLINE_MAX: usize = 64 * 1024;
/// The longest line with a length.
const HEADER_MAX: usize = 64;
/// The longest reply, and how much a client may have unsent: a few words may ask for the same value
/// many times.
pub(crate) const REPLY_MAX: usize = 64 * 1024 * 1024;

/// What was asked for, or the text of an error reply.
pub(crate) type Outcome<T = ()> = Result<T, String>;

/// The request that arrives: the words that were taken.
#[derive(Default)]
pub(crate) struct Parser {
    bytes: Vec<u8>,
    /// Where each word is in `bytes`.
    places: Vec<Range<usize>>,
    /// How many words of the array are still missing.
    pub(crate) missing: usize,
    /// How many bytes were taken.
    length: usize,
}

impl Parser {
    /// Takes what has arrived of a request, and lends its words once it is whole: none of an empty
    /// one.
    pub(crate) fn next(&mut self, read: &mut ReadHalf<'_>) -> Outcome<Option<Vec<&[u8]>>> {
        if self.missing == 0 {
            self.bytes.clear();
            self.places.clear();
        }
        let is_line = self.missing == 0 && !read.received().starts_with(b"*");
        let is_whole = if is_line { self.take_line(read)? } else { self.take_array(read)? };
        let words = || self.places.iter().map(|place| &self.bytes[place.clone()]).collect();
        Ok(is_whole.then(words))
    }

    fn take_array(&mut self, read: &mut ReadHalf<'_>) -> Outcome<bool> {
        let (bytes, mut at) = (read.received(), 0);
        if self.missing == 0 {
            let Some((count, end)) = header(bytes, b'*')? else { return Ok(false) };
            (self.missing, self.length, at) = (count, 0, end);
        }
        while self.missing > 0 {
            let Some((length, start)) = header(&bytes[at..], b'$')? else { break };
            let (start, end) = (at + start, at + start + length);
            if self.length + end > REQUEST_MAX {
                return Err("too big request".into());
            }
            let Some(word) = bytes.get(start..end + 2) else { break };
            self.places.push(self.bytes.len()..self.bytes.len() + length);
            self.bytes.extend_from_slice(&word[..length]);
            (self.missing, at) = (self.missing - 1, end + 2);
        }
        self.length += at;
        read.consume(at);
        Ok(self.missing == 0)
    }

    fn take_line(&mut self, read: &mut ReadHalf<'_>) -> Outcome<bool> {
        match read.take_until(b'\n', INLINE_MAX) {
            Ok(Some(line @ [.., b'\n'])) => self.split(line).map(|()| true),
            Err(why) if why.kind() == InvalidData => Err("too big inline request".into()),
            // Incomplete, or cut off by the client's end.
            _ => Ok(false),
        }
    }

    /// Splits a line at white space outside of quotes. Its last byte is white space.
    fn split(&mut self, line: &[u8]) -> Outcome {
        let (mut start, mut quote, mut rest) = (None, None, line.iter());
        while let Some(&byte) = rest.next() {
            let (end, next) = (self.bytes.len(), rest.as_slice().first());
            if quote.is_none() && byte.is_ascii_whitespace() {
                self.places.extend(start.take().map(|start| start..end));
                continue;
            }
            start.get_or_insert(end);
            match (byte, quote) {
                (b'"' | b'\'', None) => quote = Some(byte),
                (b'\\', Some(b'"')) => self.bytes.extend(unescaped(&mut rest)),
                (b'\\', Some(_)) if next == Some(&b'\'') => self.bytes.extend(rest.next()),
                _ if quote != Some(byte) => self.bytes.push(byte),
                _ if next.is_some_and(u8::is_ascii_whitespace) => quote = None,
                _ => break,
            }
        }
        if quote.is_some() { Err("unbalanced quotes in request".into()) } else { Ok(()) }
    }
}

/// Reads the line of a length: the number behind its sign, and how many bytes the line has.
fn header(bytes: &[u8], sign: u8) -> Outcome<Option<(usize, usize)>> {
    let [first, line @ ..] = bytes else { return Ok(None) };
    if *first != sign {
        return Err(format!("expected '$', got '{}'", char::from(*first)));
    }
    let either = |array, string| if sign == b'*' { array } else { string };
    match line[..line.len().min(HEADER_MAX)].iter().position(|byte| *byte == b'\r') {
        Some(end) if end + 1 < line.len() => match integer(&line[..end]) {
            Some(number @ 0..=LENGTH_MAX) => Ok(Some((number as usize, end + 3))),
            // A negative number of words is none.
            Some(..0) if sign == b'*' => Ok(Some((0, end + 3))),
            _ => Err(format!("invalid {} length", either("multibulk", "bulk"))),
        },
        None if line.len() >= HEADER_MAX => {
            Err(format!("too big {} count string", either("mbulk", "bulk")))
        }
        _ => Ok(None),
    }
}

/// Takes what is behind a backslash, and returns what it stands for.
fn unescaped(rest: &mut slice::Iter<'_, u8>) -> Option<u8> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    if let [b'x', high, low, behind @ ..] = rest.as_slice()
        && let (Some(high), Some(low)) = (digit(high), digit(low))
    {
        *rest = behind.iter();
        return u8::try_from(16 * high + low).ok();
    }
    rest.next().map(|byte| match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => *other,
    })
}

/// Reads a number as Redis writes it: without a plus, zeros in front or white space.
pub(crate) fn integer(word: &[u8]) -> Option<i64> {
    let (sign, digits) = word.strip_prefix(b"-").map_or((1, word), |digits| (-1, digits));
    match digits {
        [b'0'] if sign == 1 => Some(0),
        [b'1'..=b'9', ..] => digits.iter().try_fold(0i64, |sum, digit| {
            let digit = char::from(*digit).to_digit(10)?;
            sum.checked_mul(10)?.checked_add(sign * i64::from(digit))
        }),
        _ => None,
    }
}

/// The replies to a request. A command may end with any of its methods.
#[derive(Default)]
pub(crate) struct Replies(pub(crate) Vec<u8>);

impl Replies {
    /// Appends a line: `+`, `:`, `$` or `*`, and what it says.
    pub(crate) fn line(&mut self, sign: u8, text: impl AsRef<[u8]>) -> Outcome {
        self.0.push(sign);
        self.0.extend_from_slice(text.as_ref());
        self.0.extend_from_slice(b"\r\n");
        Ok(())
    }

    pub(crate) fn number(&mut self, sign: u8, number: impl ToString) -> Outcome {
        self.line(sign, number.to_string())
    }

    pub(crate) fn bulk(&mut self, text: impl AsRef<[u8]>) -> Outcome {
        let text = text.as_ref();
        if self.0.len() + text.len() > REPLY_MAX {
            return Err("ERR the reply exceeds 64 MiB".into());
        }
        self.number(b'$', text.len())?;
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\r\n");
        Ok(())
    }

    pub(crate) fn bulk_or_nil(&mut self, text: Option<impl AsRef<[u8]>>) -> Outcome {
        let Some(text) = text else { return self.line(b'$', "-1") };
        self.bulk(text)
    }

    pub(crate) fn bulks(&mut self, texts: &[impl AsRef<[u8]>]) -> Outcome {
        self.number(b'*', texts.len())?;
        texts.iter().try_for_each(|text| self.bulk(text))
    }

    /// Replaces the replies by an error, which is one line whatever its text.
    pub(crate) fn refuse(&mut self, text: &str) {
        self.0 = format!("-{}\r\n", text.replace(['\r', '\n'], " ")).into();
    }
}
