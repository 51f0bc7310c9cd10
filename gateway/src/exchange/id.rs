//! Request ids: what ties a client's answer, the log lines and the upstream's request together.

use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a client.
const MAX_LENGTH: usize = 128;

/// Visible ASCII without quotes and backslashes, at most 128 characters: it can be logged as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(HeaderValue);

impl RequestId {
    /// The client's own id where it sent one of this form.
    pub fn from_client(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(X_REQUEST_ID)?;
        let bytes = value.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        let fits = !bytes.is_empty() && bytes.len() <= MAX_LENGTH && bytes.iter().all(is_plain);
        fits.then(|| Self(value.clone()))
    }

    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    pub fn to_value(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Makes ids that are unique over workers and restarts: 64 random bits, drawn once, and a count.
#[derive(Debug)]
pub struct RequestIds {
    prefix: [u8; 16],
    count: u64,
}

impl RequestIds {
    pub fn new() -> Self {
        // The standard library's hasher keys are its one source of randomness.
        Self { prefix: digits(RandomState::new().hash_one(std::process::id())), count: 0 }
    }

    /// 32 hexadecimal digits.
    pub fn draw(&mut self) -> RequestId {
        self.count = self.count.wrapping_add(1);
        let id = [self.prefix, digits(self.count)].concat();
        RequestId(HeaderValue::from_maybe_shared(Bytes::from(id)).expect("hexadecimal digits are a field value"))
    }
}

fn digits(bits: u64) -> [u8; 16] {
    std::array::from_fn(|n| b"0123456789abcdef"[(bits >> (60 - 4 * n)) as usize & 0xf])
}

impl Default for RequestIds {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn makes_different_ids_of_32_digits() {
        let mut ids = RequestIds::new();
        let (a, b) = (ids.draw(), ids.draw());
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), 32);
        assert!(a.as_str().ends_with("0001"), "{a:?}");
        assert_ne!(a.as_str()[..16], *RequestIds::new().draw().as_str().get(..16).expect("16 digits"));
    }

    #[test]
    fn takes_over_only_an_id_fit_for_a_log_line() {
        let given = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(X_REQUEST_ID, HeaderValue::from_bytes(value).expect("value"));
            RequestId::from_client(&headers)
        };
        assert_eq!(given(b"abc-1").expect("taken").as_str(), "abc-1");
        assert!(given(b"").is_none());
        assert!(given(b"two words").is_none());
        assert!(given(b"a\"b").is_none() && given(b"a\\b").is_none());
        assert!(given("ä".as_bytes()).is_none());
        assert!(given(&[b'x'; 129]).is_none());
    }
}
