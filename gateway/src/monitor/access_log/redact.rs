//! What a log must not tell: values of query parameters and header fields, by name.

use std::borrow::Cow;

use crate::exchange::query::{octets, parameters};

/// Stands for what is not told.
pub(super) const REDACTED: &str = "[redacted]";

/// Names whose values are not written.
#[derive(Debug)]
pub(super) struct Redact {
    names: Vec<String>,
    /// A bit for each length that a name has: most others differ in that already.
    lengths: u64,
}

impl Redact {
    pub(super) fn new(names: &[String]) -> Self {
        let lengths = names.iter().fold(0, |lengths, name| lengths | length_bit(name.len()));
        Self { names: names.to_vec(), lengths }
    }

    pub(super) fn hides(&self, name: &[u8]) -> bool {
        self.lengths & length_bit(name.len()) != 0
            && self.names.iter().any(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes()))
    }

    /// Names of parameters are decoded, so that `%74oken` hides like `token`.
    fn hides_parameter(&self, name: &str) -> bool {
        if name.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
            self.hides(&octets(name).collect::<Vec<_>>())
        } else {
            self.hides(name.as_bytes())
        }
    }

    /// The query as it is, unless there is something to hide in it.
    pub(super) fn query<'q>(&self, query: &'q str) -> Cow<'q, str> {
        if !parameters(query).any(|(name, _)| self.hides_parameter(name)) {
            return Cow::Borrowed(query);
        }
        let shown = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) if self.hides_parameter(name) => format!("{name}={REDACTED}"),
            _ => pair.to_owned(),
        });
        Cow::Owned(shown.collect::<Vec<_>>().join("&"))
    }
}

/// Names of 63 bytes and more share one.
fn length_bit(length: usize) -> u64 {
    1 << length.min(63)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_values_by_name_however_it_is_written() {
        let long = "x".repeat(100);
        let redact = Redact::new(&["token".to_owned(), "Api_Key".to_owned(), long.clone()]);
        let shown = |query: &str| redact.query(query).into_owned();
        assert_eq!(shown("a=1&TOKEN=2&api_key=3&token"), "a=1&TOKEN=[redacted]&api_key=[redacted]&token");
        assert_eq!(shown("%74oken=1&to+ken=2"), "%74oken=[redacted]&to+ken=2");
        assert_eq!(shown(&format!("{long}=1&y{}=2", &long[1..])), format!("{long}=[redacted]&y{}=2", &long[1..]));
        assert!(redact.hides(b"api_KEY") && !redact.hides(b"api-key") && !redact.hides(b""));
    }
}
