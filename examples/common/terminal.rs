//! Text of strangers on a terminal, which obeys more than letters.

/// Returns whether a character does something to a terminal, or to what follows it there: it begins
/// an escape sequence, rings, moves the cursor, ends a line or changes the direction of writing.
pub(crate) fn steers(letter: char) -> bool {
    letter.is_control() || matches!(letter, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
