//! The one form of a path, which is matched and forwarded (RFC 3986 §6.2.2); matching passes over parameters of segments.
//! Text in, text out: which route may forward an encoded slash is the caller's to know.

use std::borrow::Cow;

use thiserror::Error;

/// A path in its one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Normalized<'a> {
    /// Borrowed if it came in this form.
    pub path: Cow<'a, str>,
    /// It came with an encoded `/` or NUL, or with a backslash, encoded or not: servers read these in different ways,
    /// so only a route that allows it may forward them.
    pub encoded_slash: bool,
}

/// Why a path has no normal form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    #[error("path does not start with \"/\"")]
    NotAbsolute,
    #[error("\"%\" in path is not followed by two hexadecimal digits")]
    InvalidEscape,
    #[error("path has parameters on a dot segment, such as \"/..;\"")]
    DotParameters,
    #[error("path has a segment that consists of parameters alone, such as \"/;a/\"")]
    BareParameters,
}

/// Decodes unreserved characters, writes other escapes in upper case, encodes what RFC 3986 §3.3 does not allow in a
/// path (a backslash too), removes dot segments, then merges slashes. The `*` of OPTIONS stays as it is.
///
/// # Errors
///
/// The path does not start with `/`, has a `%` without two hexadecimal digits, or has `;` where servers that strip parameters
/// would find a dot segment or no segment.
pub fn normalize(path: &str) -> Result<Normalized<'_>, PathError> {
    if is_plain(path) {
        return Ok(Normalized { path: Cow::Borrowed(path), encoded_slash: false });
    }
    let (normal, encoded_slash) = rewrite(path, is_legal)?;
    let path = if normal == path { Cow::Borrowed(path) } else { Cow::Owned(normal) };
    Ok(Normalized { path, encoded_slash })
}

/// The same for a pattern, whose `{` and `}` are its own and not part of a path.
pub fn normalize_pattern(pattern: &str) -> Result<String, PathError> {
    rewrite(pattern, |byte| is_legal(byte) || matches!(byte, b'{' | b'}')).map(|(normal, _)| normal)
}

/// A path, with or without a query, without a prefix of whole segments; none if it does not start with that. Segments of
/// the path match with their parameters taken off, as they do when a route is looked for.
pub fn strip_prefix(target: &str, prefix: &str) -> Option<String> {
    let mut rest = target;
    for wanted in prefix.trim_end_matches('/').split('/').skip(1) {
        rest = rest.strip_prefix('/')?;
        let end = rest.bytes().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
        let (segment, after) = rest.split_at(end);
        if segment != wanted && segment_name(segment) != wanted {
            return None;
        }
        rest = after;
    }
    if rest.starts_with('/') { Some(rest.to_owned()) } else { Some(format!("/{rest}")) }
}

/// A segment without its parameters, which begin with `;` (RFC 3986 §3.3).
pub fn segment_name(segment: &str) -> &str {
    segment.split_once(';').map_or(segment, |(name, _)| name)
}

/// Tells in one scan that there is nothing to do; what looks like a dot segment or an escape is left to `rewrite`.
fn is_plain(path: &str) -> bool {
    let mut previous = b' ';
    let every_byte_is = path.bytes().all(|byte| {
        let after_slash = previous == b'/';
        previous = byte;
        LEGAL[usize::from(byte)] && !(after_slash && matches!(byte, b'/' | b'.' | b';'))
    });
    every_byte_is && path.starts_with('/') || path == "*"
}

fn rewrite(path: &str, legal: impl Fn(u8) -> bool) -> Result<(String, bool), PathError> {
    let segments = path.strip_prefix('/').ok_or(PathError::NotAbsolute)?.split('/');
    let mut normal = String::with_capacity(path.len() + 8);
    let (mut encoded_slash, mut ends_in_dots) = (false, false);
    for segment in segments {
        let parent = normal.len();
        normal.push('/');
        encoded_slash |= push_segment(&mut normal, segment, &legal)?;
        if has_dot_parameters(&normal[parent..]) {
            return Err(PathError::DotParameters);
        }
        let up = &normal[parent..] == "/..";
        ends_in_dots = up || &normal[parent..] == "/.";
        if ends_in_dots {
            normal.truncate(parent);
        }
        if up {
            normal.truncate(normal.rfind('/').unwrap_or(0));
        }
    }
    if ends_in_dots {
        normal.push('/');
    }
    let mut previous = ' ';
    normal.retain(|c| std::mem::replace(&mut previous, c) != '/' || c != '/');
    if has_bare_parameters(&normal) {
        return Err(PathError::BareParameters);
    }
    Ok((normal, encoded_slash))
}

/// Says whether a segment before the last is nothing to servers that strip parameters.
fn has_bare_parameters(normal: &str) -> bool {
    // Few paths have a `;`, and looking for one costs less than looking at each segment.
    normal.contains(';') && normal.rsplit('/').skip(1).any(|segment| segment.starts_with(';'))
}

/// Says whether a segment after its slash is a dot segment to servers that strip parameters before they remove dot segments.
fn has_dot_parameters(segment: &str) -> bool {
    let rest = segment.strip_prefix("/..").or_else(|| segment.strip_prefix("/."));
    rest.is_some_and(|rest| rest.starts_with(';') || rest.starts_with("%3B"))
}

/// Appends one segment; true if an octet in it hides a separator.
fn push_segment(normal: &mut String, segment: &str, legal: impl Fn(u8) -> bool) -> Result<bool, PathError> {
    let mut hides_separator = false;
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = byte == b'%';
        let octet = if escaped { octet(bytes.next(), bytes.next()).ok_or(PathError::InvalidEscape)? } else { byte };
        if if escaped { is_unreserved(octet) } else { legal(octet) } {
            normal.push(char::from(octet));
        } else {
            hides_separator |= matches!(octet, b'/' | b'\\' | 0);
            normal.extend(['%', hex_digit(octet >> 4), hex_digit(octet & 15)]);
        }
    }
    Ok(hides_separator)
}

/// The octet that two hexadecimal digits stand for.
pub(super) fn octet(high: Option<u8>, low: Option<u8>) -> Option<u8> {
    let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

pub(super) fn hex_digit(nibble: u8) -> char {
    char::from(b"0123456789ABCDEF"[usize::from(nibble)])
}

/// RFC 3986 §2.3.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands for itself in a path: `/` and `pchar` but escapes (RFC 3986 §3.3).
const fn is_legal(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'/' | b':' | b'@')
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'=')
}

const LEGAL: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < table.len() {
        table[byte] = is_legal(byte as u8);
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(path: &str) -> String {
        normalize(path).expect(path).path.into_owned()
    }

    #[test]
    fn what_is_normal_is_lent_back() {
        for path in
            ["/", "*", "/users/7", "/a/", "/.well-known/x", "/a/...", "/a%20b", "/a%2Fb", "/~a;b=1,(2)/@:!$&'*+"]
        {
            assert!(matches!(normalize(path).expect(path).path, Cow::Borrowed(same) if same == path), "{path}");
        }
    }

    #[test]
    fn decodes_only_unreserved_characters() {
        assert_eq!(normal("/%61%5A%30%2d%2E%5f%7e"), "/aZ0-._~");
        assert_eq!(normal("/%3a%40%24%2b%c3%a9%7f"), "/%3A%40%24%2B%C3%A9%7F");
        assert_eq!(normal("/%2561"), "/%2561");
    }

    #[test]
    fn encodes_what_a_path_may_not_hold() {
        assert_eq!(normal("/caf\u{e9}"), "/caf%C3%A9");
        assert_eq!(normal("/{a}|\"[^] ?#"), "/%7Ba%7D%7C%22%5B%5E%5D%20%3F%23");
    }

    #[test]
    fn removes_dot_segments() {
        // The last but five from RFC 3986 §5.2.4 and §5.4.
        for (path, expected) in [
            ("/a/b/c/./../../g", "/a/g"),
            ("/../a", "/a"),
            ("/b/c/..", "/b/"),
            ("/b/c/.", "/b/c/"),
            ("/b/c/g/../h", "/b/c/h"),
            ("/b/c/.g/..g/g..", "/b/c/.g/..g/g.."),
            ("/..", "/"),
            ("/.", "/"),
            ("/a/%2e%2E/b/.%2e/%2e/c", "/c"),
            ("/a/../../../b", "/b"),
            ("/a//../b", "/a/b"),
        ] {
            assert_eq!(normal(path), expected, "{path}");
        }
    }

    #[test]
    fn merges_slashes() {
        assert_eq!(normal("//"), "/");
        assert_eq!(normal("//a///b//"), "/a/b/");
        assert_eq!(normal("/a/%2F/b"), "/a/%2F/b");
    }

    #[test]
    fn tells_of_hidden_separators() {
        for (path, expected) in [
            ("/a%2fb", "/a%2Fb"),
            ("/a%2Fb", "/a%2Fb"),
            ("/a%00", "/a%00"),
            ("/a%5cb", "/a%5Cb"),
            ("/a\\b", "/a%5Cb"),
            ("/a%2fb/../c", "/c"),
        ] {
            let normalized = normalize(path).expect(path);
            assert_eq!((&*normalized.path, normalized.encoded_slash), (expected, true), "{path}");
        }
        assert!(!normalize("/a%2Eb//%20").expect("normal").encoded_slash);
    }

    #[test]
    fn refuses_what_has_no_normal_form() {
        for path in ["", "a", "?", "**", "%2Fa"] {
            assert_eq!(normalize(path), Err(PathError::NotAbsolute), "{path}");
        }
        for path in ["/%zz", "/%", "/a%2", "/%2g", "/%/41", "/%+1", "/%%34%31", "/%zz/.."] {
            assert_eq!(normalize(path), Err(PathError::InvalidEscape), "{path}");
        }
    }

    #[test]
    fn refuses_parameters_that_hide_a_segment() {
        for path in ["/a/..;/b", "/a/.;x=1/b", "/..;", "/a/%2e%2E;/b", "/a/.%2e%3bx/b", "/%2e%3B", "/..;x/../a"] {
            assert_eq!(normalize(path), Err(PathError::DotParameters), "{path}");
        }
        for path in ["/;/a", "/;x=1/a/", "/a//;x/b", "/a/;x/"] {
            assert_eq!(normalize(path), Err(PathError::BareParameters), "{path}");
        }
        for path in ["/;x", "/a/;x", "/...;x/a", "/.a;x", "/a;/b", "/a;x=1;y=2/b"] {
            assert_eq!(normal(path), path);
        }
        assert_eq!(normal("/a/;x/../b"), "/a/b");
    }

    #[test]
    fn strips_whole_segments_only() {
        let stripped = |target, prefix| strip_prefix(target, prefix).unwrap_or_default();
        assert_eq!(stripped("/users/7?x=1", "/users"), "/7?x=1");
        assert_eq!(stripped("/users/7", "/users/"), "/7");
        assert_eq!(stripped("/users", "/users"), "/");
        assert_eq!(stripped("/users?x=1", "/users"), "/?x=1");
        assert_eq!(stripped("/users;v=1/7;a/b?x=1", "/users"), "/7;a/b?x=1");
        assert_eq!(stripped("/a;x/users;v=1", "/a/users"), "/");
        assert_eq!(stripped("/users;v=1?x", "/users;v=1"), "/?x");
        assert_eq!(stripped("/users/7", "/"), "/users/7");
        assert_eq!(strip_prefix("/users;v=2", "/users;v=1"), None);
        assert_eq!(strip_prefix("/users?/7", "/users/7"), None);
        assert_eq!(strip_prefix("/usersx", "/users"), None);
        assert_eq!(strip_prefix("/other", "/users"), None);
    }

    proptest! {
        #[test]
        fn is_idempotent_and_forwardable(path in "/([a.;/%\\\\{\u{e9}]|%2[eEfF5]|%[0-9a-fA-F]{2}){0,12}") {
            if let Ok(once) = normalize(&path) {
                let twice = normalize(&once.path).expect("normal form");
                prop_assert!(matches!(twice.path, Cow::Borrowed(same) if same == once.path));
                prop_assert!(once.path.parse::<http::uri::PathAndQuery>().is_ok());
                prop_assert!(!once.path.contains("//"));
                prop_assert!(once.path.split('/').map(segment_name).all(|segment| segment != "." && segment != ".."));
            }
        }
    }
}
