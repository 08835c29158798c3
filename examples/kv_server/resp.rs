//! RESP2, the protocol of Redis: requests as they arrive, and replies as they leave.
//!
//! A request is an array of strings, `*2\r\n$3\r\nGET\r\n$1\r\nx\r\n`, or a line of words, as one
//! types it. Each string is taken when the whole of it has arrived, so nothing is allocated by a
//! length that a client claims, and nothing is looked at twice when more arrives.

use std::io::ErrorKind;
use std::ops::Range;
use std::slice;

use readiness::ReadHalf;

/// The longest request, which is also the size of a client's read buffer at most.
pub(crate) const REQUEST_MAX: usize = 16 * 1024 * 1024;
/// The longest line of words.
const INLINE_MAX: usize = 64 * 1024;
/// The longest line with a length.
const HEADER_MAX: usize = 64;

/// The text of an error reply.
pub(crate) type Refusal = Vec<u8>;
pub(crate) type Outcome<T = ()> = Result<T, Refusal>;

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
            (self.missing, self.length, at) = (count, end, end);
        }
        while self.missing > 0 {
            let Some((length, start)) = header(&bytes[at..], b'$')? else { break };
            let end = start + length + 2;
            if self.length + end > REQUEST_MAX {
                return Err("too big request".into());
            }
            let Some(word) = bytes[at..].get(..end) else { break };
            self.places.push(self.bytes.len()..self.bytes.len() + length);
            self.bytes.extend_from_slice(&word[start..start + length]);
            (self.missing, self.length, at) = (self.missing - 1, self.length + end, at + end);
        }
        read.consume(at);
        Ok(self.missing == 0)
    }

    fn take_line(&mut self, read: &mut ReadHalf<'_>) -> Outcome<bool> {
        match read.take_until(b'\n', INLINE_MAX) {
            Ok(Some(line @ [.., b'\n'])) => self.split(line).map(|()| true),
            Err(why) if why.kind() == ErrorKind::InvalidData => {
                Err("too big inline request".into())
            }
            // Incomplete, or cut off by the client's end.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Splits a line at white space outside of quotes. Its last byte is white space.
    fn split(&mut self, line: &[u8]) -> Outcome {
        let (mut start, mut quote, mut rest) = (None, None, line.iter());
        while let Some(&byte) = rest.next() {
            let end = self.bytes.len();
            if quote.is_none() && byte.is_ascii_whitespace() {
                self.places.extend(start.take().map(|start| start..end));
                continue;
            }
            start.get_or_insert(end);
            let is_last = rest.as_slice().first().is_some_and(u8::is_ascii_whitespace);
            match (byte, quote) {
                (b'"' | b'\'', None) => quote = Some(byte),
                (b'\\', Some(b'"')) => self.bytes.extend(unescaped(&mut rest)),
                (b'\\', Some(_)) if rest.as_slice().starts_with(b"'") => {
                    self.bytes.extend(rest.next());
                }
                _ if quote != Some(byte) => self.bytes.push(byte),
                _ if is_last => quote = None,
                _ => break,
            }
        }
        if quote.is_some() { Err("unbalanced quotes in request".into()) } else { Ok(()) }
    }
}

/// Reads the line of a length: the number behind its sign, and how many bytes the line has.
fn header(bytes: &[u8], sign: u8) -> Outcome<Option<(usize, usize)>> {
    let (range, invalid, too_big) = match sign {
        // A negative number of words is none.
        b'*' => (i64::MIN..=i32::MAX.into(), "multibulk length", "mbulk count"),
        _ => (0..=REQUEST_MAX as i64, "bulk length", "bulk count"),
    };
    let Some((first, line)) = bytes.split_first() else { return Ok(None) };
    if *first != sign {
        return Err([b"expected '$', got '", &[*first][..], b"'"].concat());
    }
    match line[..line.len().min(HEADER_MAX)].iter().position(|byte| *byte == b'\r') {
        Some(end) if end + 1 < line.len() => {
            let number = integer(&line[..end]).filter(|number| range.contains(number));
            let number = number.ok_or_else(|| format!("invalid {invalid}"))?;
            Ok(Some((usize::try_from(number).unwrap_or(0), end + 3)))
        }
        None if line.len() >= HEADER_MAX => Err(format!("too big {too_big} string").into()),
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

/// The replies to a request. A command may end with any of its methods, which do not fail.
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

    pub(crate) fn simple(&mut self, text: &str) -> Outcome {
        self.line(b'+', text)
    }

    pub(crate) fn number(&mut self, number: impl ToString) -> Outcome {
        self.line(b':', number.to_string())
    }

    pub(crate) fn bulk(&mut self, text: impl AsRef<[u8]>) -> Outcome {
        let text = text.as_ref();
        self.line(b'$', text.len().to_string())?;
        self.0.extend_from_slice(text);
        self.0.extend_from_slice(b"\r\n");
        Ok(())
    }

    pub(crate) fn bulk_or_nil(&mut self, text: Option<impl AsRef<[u8]>>) -> Outcome {
        let Some(text) = text else { return self.line(b'$', "-1") };
        self.bulk(text)
    }

    /// Begins an array: this many replies follow, which are its items.
    pub(crate) fn array(&mut self, length: usize) -> Outcome {
        self.line(b'*', length.to_string())
    }

    pub(crate) fn bulks<'t>(&mut self, texts: impl IntoIterator<Item = &'t [u8]>) -> Outcome {
        let texts: Vec<&[u8]> = texts.into_iter().collect();
        self.array(texts.len())?;
        texts.iter().try_for_each(|text| self.bulk(text))
    }

    /// Appends an error, which is one line whatever its text.
    pub(crate) fn error(&mut self, mut text: Refusal) {
        text.iter_mut().filter(|byte| b"\r\n".contains(byte)).for_each(|byte| *byte = b' ');
        self.0.extend([b"-", &*text, b"\r\n"].concat());
    }
}
