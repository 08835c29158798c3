//! The encodings of a content, by the names that Python gives them.

use std::io;

use super::invalid;

/// Decodes a text. Of a name neither case counts, nor hyphens and underscores: `UTF_8` is `utf-8`.
pub(super) fn decode(name: &str, bytes: &[u8]) -> io::Result<String> {
    let plain: String = name.chars().filter(|one| !matches!(one, '-' | '_' | ' ')).collect();
    let text = match plain.to_ascii_lowercase().as_str() {
        "utf8" | "u8" => String::from_utf8(bytes.to_vec()).ok(),
        "ascii" | "usascii" => bytes.is_ascii().then(|| latin_1(bytes)),
        "latin1" | "iso88591" | "l1" => Some(latin_1(bytes)),
        "utf16" | "u16" => utf_16(bytes),
        "utf16le" => utf_16_by(bytes, u16::from_le_bytes),
        "utf16be" => utf_16_by(bytes, u16::from_be_bytes),
        _ => return Err(invalid(format!("unknown encoding {name:?}"))),
    };
    text.ok_or_else(|| invalid(format!("the content is not {name}")))
}

/// Decodes a text in which each byte is the character of its number.
fn latin_1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Decodes UTF-16. A mark before the text gives the order of the bytes; without one it is this
/// computer's.
fn utf_16(bytes: &[u8]) -> Option<String> {
    match bytes {
        [0xff, 0xfe, text @ ..] => utf_16_by(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => utf_16_by(text, u16::from_be_bytes),
        text => utf_16_by(text, u16::from_ne_bytes),
    }
}

fn utf_16_by(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<String> {
    let (pairs, []) = bytes.as_chunks() else { return None };
    let units = pairs.iter().map(|pair| unit(*pair));
    char::decode_utf16(units).collect::<Result<String, _>>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_decoded_as_python_decodes_it_by_the_name() {
        let cases: [(&str, &[u8], Option<&str>); 14] = [
            ("utf-8", "ring 💍".as_bytes(), Some("ring 💍")),
            ("UTF_8", b"ring", Some("ring")),
            ("utf-8", b"\xff", None),
            ("latin-1", b"caf\xe9\x80", Some("café\u{80}")),
            ("iso8859-1", b"\xe9", Some("é")),
            ("ascii", b"ring", Some("ring")),
            ("ascii", b"\x80", None),
            ("utf-16", b"\xff\xfeh\0i\0", Some("hi")),
            ("utf-16", b"\xfe\xff\0h\0i", Some("hi")),
            ("utf-16-le", b"h\0\x3d\xd8\x36\xdc", Some("h🐶")),
            ("utf-16-be", b"\0h", Some("h")),
            ("utf-16-le", b"h\0i", None),
            ("utf-16-le", b"\x3d\xd8", None),
            ("klingon", b"", None),
        ];
        for (name, bytes, text) in cases {
            assert_eq!(decode(name, bytes).ok().as_deref(), text, "{name} {bytes:?}");
        }
    }
}
