//! Texts that guests wrote, made fit for a log: one line each, of a bounded length.

use std::borrow::Cow;

/// Longest text of a guest that is logged, kept or shown, in bytes.
pub(super) const MAX_TEXT: usize = 4096;
/// Bytes of it that the note about the cut may take.
const NOTE: usize = 40;

/// Escapes line ends and other control characters but the tab, and cuts the text at 4 KiB, which its end then says.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_TEXT && !text.contains(is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut line = String::with_capacity(text.len().min(MAX_TEXT));
    for (at, character) in text.char_indices() {
        let before = line.len();
        if is_escaped(character) {
            line.extend(character.escape_debug());
        } else {
            line.push(character);
        }
        if line.len() > MAX_TEXT - NOTE {
            line.truncate(before);
            line.push_str(&format!("\u{2026} ({} more bytes)", text.len() - at));
            break;
        }
    }
    Cow::Owned(line)
}

/// Line ends by Unicode's count are among them.
fn is_escaped(character: char) -> bool {
    character != '\t' && (character.is_control() || matches!(character, '\u{2028}' | '\u{2029}'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_stays_one_line_of_4_kib() {
        assert!(matches!(one_line("plain \t \u{e9}"), Cow::Borrowed("plain \t \u{e9}")));
        assert_eq!(one_line("a\r\nb\0c\x1b[31m\u{2028}"), "a\\r\\nb\\0c\\u{1b}[31m\\u{2028}");
        let long = "\u{e9}".repeat(1_000_000);
        let line = one_line(&long);
        assert!(line.len() <= MAX_TEXT && line.len() > MAX_TEXT - 2 * NOTE, "{}", line.len());
        assert!(line.ends_with("\u{e9}\u{2026} (1995944 more bytes)"), "{}", &line[line.len() - 60..]);
        assert!(one_line(&"\n".repeat(4000)).len() <= MAX_TEXT);
    }
}
