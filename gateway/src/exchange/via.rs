//! `Via`: the gateway's own entry, and the passes of a request through the gateway (RFC 9110 §7.6.3).

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Version, header::VIA};

use super::headers::options;

/// The name of a gateway in `Via`, and the bound beyond which a request is taken for a loop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passes {
    /// A token.
    pub pseudonym: String,
    /// Passes of one request through the gateway; one more is refused.
    pub max: usize,
}

/// The entries of one worker, made once.
#[derive(Debug)]
pub struct Via {
    passes: Passes,
    entries: [HeaderValue; 3],
}

impl Via {
    /// Each worker makes its own: a shared value would be counted on memory that all of them write.
    pub fn new(passes: Passes) -> Self {
        let entry = |version: &str| {
            let text = format!("{version} {}", passes.pseudonym);
            HeaderValue::from_maybe_shared(Bytes::from(text)).unwrap_or(HeaderValue::from_static("1.1 stile"))
        };
        Self { entries: ["1.0", "1.1", "2.0"].map(entry), passes }
    }

    /// The entry for a message that came in this version.
    pub fn entry(&self, version: Version) -> &HeaderValue {
        match version {
            Version::HTTP_10 => &self.entries[0],
            Version::HTTP_2 => &self.entries[2],
            _ => &self.entries[1],
        }
    }

    /// The entries that a message came with, and the gateway's own.
    pub fn with_entry(&self, headers: &HeaderMap, version: Version) -> HeaderValue {
        let entries = headers.get_all(VIA).iter().chain([self.entry(version)]);
        let list = entries.map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b", "[..]);
        HeaderValue::from_maybe_shared(Bytes::from(list)).unwrap_or_else(|_| self.entry(version).clone())
    }

    /// Says whether a request has passed the gateway as often as it may.
    pub fn is_loop(&self, headers: &HeaderMap) -> bool {
        // By bytes: an odd one in a stranger's entry does not hide the others.
        let entries = headers.get_all(VIA).iter().flat_map(options);
        let word = |byte: &u8| byte.is_ascii_whitespace();
        let names = entries.filter_map(|entry| entry.split(word).filter(|word| !word.is_empty()).nth(1));
        names.filter(|name| *name == self.passes.pseudonym.as_bytes()).count() >= self.passes.max
    }

    pub fn max_passes(&self) -> usize {
        self.passes.max
    }
}

/// Says whether a text can stand for a gateway in `Via` (RFC 9110 §5.6.2).
pub fn is_token(text: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_its_own_passes_alone() {
        let via = Via::new(Passes { pseudonym: "stile-1".to_owned(), max: 3 });
        for (lines, expected) in [
            (&[][..], false),
            (&["1.1 stile-1, 1.1 stile-1"], false),
            (&["1.1 stile-1, 2.0 other", "1.0 stile-1 (x), HTTP/1.1   stile-1"], true),
            (&["1.1 stile-10, 1.1 stile-1a, 1.1 stile, stile-1, 1.1 stile-1, 1.1 stile-1"], false),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(VIA, HeaderValue::from_static(line));
            }
            assert_eq!(via.is_loop(&headers), expected, "{lines:?}");
        }
        let odd = HeaderValue::from_bytes(b"1.1 \xff, 1.1 stile-1, 1.1 stile-1, 1.1 stile-1").expect("a field value");
        assert!(via.is_loop(&HeaderMap::from_iter([(VIA, odd)])));
        let headers = HeaderMap::from_iter([(VIA, HeaderValue::from_static("1.1 a, 1.0 b"))]);
        assert_eq!(via.with_entry(&headers, Version::HTTP_2), "1.1 a, 1.0 b, 2.0 stile-1");
        assert_eq!(via.with_entry(&HeaderMap::new(), Version::HTTP_10), "1.0 stile-1");
    }
}
