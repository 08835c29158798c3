//! The framed protocol of the tutorial: its messages, which both sides read and write.
//!
//! A message is two bytes with the length of a header, the header, and the content. The header is a
//! JSON object that describes the content:
//!
//! ```text
//! 00 68 {"byteorder": "little", "content-type": "text/json", …, "content-length": 43} {"result": …}
//! ```
//!
//! Each part says how long the next one is, and no length is believed before it is checked: it is
//! compared with a limit, and the bytes are taken from the read buffer once they are there. Nothing
//! is allocated for bytes that a peer has only promised.

pub mod client;
mod encoding;
pub mod server;
#[path = "../../common/terminal.rs"]
mod terminal;

use std::io::{self, ErrorKind};

use readiness::ReadHalf;
use serde_json::{Map, Value};

/// The content type of a message that is JSON.
const JSON: &str = "text/json";

/// The most characters of an error's message, which repeats what is wrong.
const ERROR_MAX: usize = 200;

/// How much of a message has been read: the state of a connection of either side.
#[derive(Debug, Default)]
pub enum Incoming {
    /// Nothing.
    #[default]
    Nothing,
    /// The length of the header.
    Length(usize),
    /// The header.
    Header(Header),
}

/// What a header says about the content.
#[derive(Clone, Debug)]
pub struct Header {
    content_type: String,
    encoding: String,
    length: usize,
}

impl Incoming {
    /// Takes a message, once the whole of it has arrived, whose content has `content_max` bytes at
    /// most.
    ///
    /// # Errors
    ///
    /// Returns `InvalidData` for a message that is none, `UnexpectedEof` if the peer's end precedes
    /// its last byte, or the error with which the connection ended.
    pub fn take<'r>(
        &mut self,
        read: &'r mut ReadHalf<'_>,
        content_max: usize,
    ) -> io::Result<Option<(Header, &'r [u8])>> {
        loop {
            *self = match self {
                Self::Nothing => {
                    let Some(length) = whole(read.take_exact(2))? else { return Ok(None) };
                    Self::Length(u16::from_be_bytes([length[0], length[1]]).into())
                }
                Self::Length(length) => {
                    let Some(header) = whole(read.take_exact(*length))? else { return Ok(None) };
                    Self::Header(Header::parse(header, content_max)?)
                }
                Self::Header(header) => {
                    let content = whole(read.take_exact(header.length))?;
                    return Ok(content.map(|content| (header.clone(), content)));
                }
            }
        }
    }
}

impl Header {
    /// Reads the four fields that have to be there, in whatever order. Others are ignored.
    fn parse(bytes: &[u8], content_max: usize) -> io::Result<Self> {
        let fields: Map<String, Value> = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("the header is no JSON object: {error}")))?;
        let field = |name| {
            fields.get(name).ok_or_else(|| invalid(format!("the header has no field {name:?}")))
        };
        let text = |name| match field(name)? {
            Value::String(text) => Ok(text.clone()),
            other => Err(invalid(format!("{name:?} is no string: {other}"))),
        };
        field("byteorder")?;
        let length = field("content-length")?;
        let length = length
            .as_u64()
            .ok_or_else(|| invalid(format!("\"content-length\" is no length: {length}")))?;
        match usize::try_from(length) {
            Ok(length) if length <= content_max => Ok(Self {
                content_type: text("content-type")?,
                encoding: text("content-encoding")?,
                length,
            }),
            _ => Err(invalid(format!("{length} bytes of content are more than {content_max}"))),
        }
    }
}

/// Returns the JSON object in a content.
fn object(header: &Header, content: &[u8]) -> io::Result<Map<String, Value>> {
    let text = encoding::decode(&header.encoding, content)?;
    serde_json::from_str(&text)
        .map_err(|error| invalid(format!("the content is no JSON object: {error}")))
}

/// Returns a message as the tutorial writes it, to the byte.
fn message(content_type: &str, encoding: &str, content: &[u8]) -> Vec<u8> {
    let byte_order = if cfg!(target_endian = "little") { "little" } else { "big" };
    let length = content.len();
    let header = format!(
        "{{\"byteorder\": \"{byte_order}\", \"content-type\": \"{content_type}\", \
         \"content-encoding\": \"{encoding}\", \"content-length\": {length}}}"
    );
    let header_length = u16::try_from(header.len()).expect("it has a few short fields");
    [&header_length.to_be_bytes()[..], header.as_bytes(), content].concat()
}

/// Returns a string in JSON, which leaves what is not ASCII as it is.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Bytes of a message, or why it will never be whole.
fn whole<T>(taken: io::Result<T>) -> io::Result<T> {
    taken.map_err(|error| match error.kind() {
        kind @ ErrorKind::UnexpectedEof => {
            io::Error::new(kind, "the end came before the whole message")
        }
        _ => error,
    })
}

/// Returns the error of a message that is none. What it repeats of it is short, and does nothing to
/// a terminal on which the log is read.
fn invalid(message: impl Into<String>) -> io::Error {
    let message = message.into().replace(terminal::steers, "\u{fffd}");
    io::Error::new(ErrorKind::InvalidData, message.chars().take(ERROR_MAX).collect::<String>())
}
