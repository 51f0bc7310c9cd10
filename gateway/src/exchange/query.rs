//! A query as clients write it: parameters, and the octets that a name or a value stands for. It copies nothing.

use std::iter;

use super::path::octet;

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
