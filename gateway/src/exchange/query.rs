//! A query as clients write it: parameters, and the octets that a name or a value stands for. It copies nothing.

use std::{borrow::Cow, iter};

use super::path::{hex_digit, octet};

/// Every parameter, as it is written; one without `=` has an empty value.
pub fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = Some(query);
    iter::from_fn(move || {
        let (pair, after) = cut(rest?, b'&');
        rest = after;
        let (name, value) = cut(pair, b'=');
        Some((name, value.unwrap_or("")))
    })
}

/// Says whether a byte of a query is escaped: the query set of the URL standard without controls and spaces, which are refused. Of
/// requests over HTTP/1.1 the socket has escaped all of them (`socket/query.rs`).
fn needs_escape(byte: u8) -> bool {
    matches!(byte, b'"' | b'<' | b'>' | b'#' | 0x80..)
}

/// A query with escapes in the place of the bytes that need one.
pub fn escaped(query: &str) -> Cow<'_, str> {
    if !query.bytes().any(needs_escape) {
        return Cow::Borrowed(query);
    }
    let mut text = String::with_capacity(3 * query.len());
    for byte in query.bytes() {
        if needs_escape(byte) {
            text.extend(['%', hex_digit(byte >> 4), hex_digit(byte & 15)]);
        } else {
            text.push(char::from(byte));
        }
    }
    Cow::Owned(text)
}

/// What is before the first such byte and what is after it. Parameters are short: a search made for long texts costs more.
fn cut(text: &str, at: u8) -> (&str, Option<&str>) {
    match text.bytes().position(|byte| byte == at) {
        Some(place) => (&text[..place], Some(&text[place + 1..])),
        None => (text, None),
    }
}

/// Decoded as a form is: `%41` is `A` and `+` is a space (WHATWG URL §5.1). An escape that is none stands for itself.
pub fn octets(text: &str) -> impl Iterator<Item = u8> + Clone {
    let mut rest = text.as_bytes();
    iter::from_fn(move || {
        let escaped = match rest {
            [b'%', high, low, ..] => octet(Some(*high), Some(*low)),
            _ => None,
        };
        let (octet, length) = match (escaped, rest.first()?) {
            (Some(octet), _) => (octet, 3),
            (None, b'+') => (b' ', 1),
            (None, byte) => (*byte, 1),
        };
        rest = &rest[length..];
        Some(octet)
    })
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn only_bytes_that_are_not_ascii_become_escapes() {
        assert_eq!(escaped("a=[1]{b}|\\^`'%zz&&"), "a=[1]{b}|\\^`'%zz&&");
        assert_eq!(escaped("\u{e9}=%C3\u{20ac}"), "%C3%A9=%C3%E2%82%AC");
    }
}
