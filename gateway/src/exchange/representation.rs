//! Fields that describe the content of a message, and those of them that another content in its place makes wrong.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_ENCODING, ETAG},
};

/// Digests of the content (RFC 9530, RFC 3230, RFC 1864), and ranges of it, which nobody could serve (RFC 9110 §14.3).
const OF_THE_BYTES: [&str; 5] = ["content-digest", "repr-digest", "digest", "content-md5", "accept-ranges"];

/// Says whether a field describes the content, in any case of letters.
pub fn describes_content(name: &str) -> bool {
    let others = [ETAG.as_str(), CONTENT_ENCODING.as_str()];
    OF_THE_BYTES.into_iter().chain(others).any(|known| known.eq_ignore_ascii_case(name))
}

/// Takes off what may no longer be true once a filter changes the content as it passes; `own` names fields that the filter
/// has written itself. A strong entity tag becomes a weak one (RFC 9110 §8.8.1).
pub fn content_changes(headers: &mut HeaderMap, own: &[HeaderName]) {
    for name in OF_THE_BYTES.into_iter().filter(|name| !own.iter().any(|own| own == name)) {
        headers.remove(name);
    }
    let tag = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/") && !own.contains(&ETAG));
    if let Some(tag) = tag {
        match HeaderValue::from_maybe_shared(Bytes::from([b"W/", tag.as_bytes()].concat())) {
            Ok(weak) => drop(headers.insert(ETAG, weak)),
            Err(_) => drop(headers.remove(ETAG)),
        }
    }
}

/// The same once a filter has put another content in the place of the whole, which has the codings that the filter names.
pub fn content_replaced(headers: &mut HeaderMap, own: &[HeaderName]) {
    content_changes(headers, own);
    if !own.contains(&CONTENT_ENCODING) {
        headers.remove(CONTENT_ENCODING);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> HeaderMap {
        let fields =
            ["Content-Digest", "Repr-Digest", "Digest", "Content-MD5", "Accept-Ranges", "Content-Encoding", "ETag"];
        let mut headers = HeaderMap::new();
        for name in fields {
            assert!(describes_content(name), "{name}");
            headers.insert(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_static("\"v\""));
        }
        assert!(!describes_content("content-type"));
        headers.insert("content-type", HeaderValue::from_static("text/plain"));
        headers
    }

    fn left(headers: &HeaderMap) -> Vec<&str> {
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        left
    }

    #[test]
    fn what_described_the_bytes_goes_and_a_strong_tag_becomes_weak() {
        let mut headers = described();
        content_changes(&mut headers, &[]);
        assert_eq!(left(&headers), ["content-encoding", "content-type", "etag"]);
        assert_eq!(headers[ETAG], "W/\"v\"");
        content_replaced(&mut headers, &[]);
        assert_eq!(left(&headers), ["content-type", "etag"]);
        assert_eq!(headers[ETAG], "W/\"v\"", "it is weak already");
    }

    #[test]
    fn what_the_filter_wrote_itself_stays() {
        let mut headers = described();
        content_replaced(&mut headers, &[ETAG, CONTENT_ENCODING, HeaderName::from_static("content-digest")]);
        assert_eq!(left(&headers), ["content-digest", "content-encoding", "content-type", "etag"]);
        assert_eq!(headers[ETAG], "\"v\"");
    }
}
