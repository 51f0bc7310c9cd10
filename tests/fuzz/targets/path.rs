//! The one form of a path: it means what the path meant that came, and nothing can be read in two ways in it.
#![no_main]

use std::borrow::Cow;

use http::uri::PathAndQuery;
use libfuzzer_sys::fuzz_target;
use stile_gateway::exchange::path::{Normalized, PathError, normalize, normalize_pattern, segment_name};

fuzz_target!(|bytes: &[u8]| {
    let Ok(path) = std::str::from_utf8(bytes) else { return };
    match normalize(path) {
        Ok(Normalized { path: normal, encoded_slash }) => {
            is_canonical(&normal);
            is_bounded(path, &normal);
            if path != "*" {
                means_the_same(path, &normal, encoded_slash);
            }
        }
        Err(PathError::NotAbsolute) => assert!(!path.starts_with('/') && path != "*"),
        Err(PathError::InvalidEscape) => assert!(path.starts_with('/') && decoded(path).is_none()),
        Err(PathError::DotParameters) => assert!(path.contains('.') || path.contains("%2")),
        Err(PathError::BareParameters) => assert!(path.contains(';')),
    }
    pattern(path);
});

/// It is what it says: forwardable, in the only spelling there is, and its own normal form.
fn is_canonical(normal: &str) {
    assert!(normal.starts_with('/') || normal == "*");
    let target: PathAndQuery = normal.parse().expect("it can be forwarded");
    assert_eq!((target.path(), target.query()), (normal, None));
    assert!(!normal.contains("//"));
    assert!(normal.split('/').map(segment_name).all(|segment| segment != "." && segment != ".."));
    let mut bytes = normal.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| digit.expect("two digits"));
                assert!(digits.iter().all(|digit| digit.is_ascii_digit() || (b'A'..=b'F').contains(digit)));
                let octet = octet(digits).expect("hexadecimal digits");
                assert!(!octet.is_ascii_alphanumeric() && !b"-._~".contains(&octet), "{octet:#x} needs no escape");
            }
            _ => assert!(byte.is_ascii_alphanumeric() || b"/-._~:@!$&'()*+,;=".contains(&byte), "{byte:#x}"),
        }
    }
    let again = normalize(normal).expect("a normal form has a normal form");
    assert!(matches!(again.path, Cow::Borrowed(same) if same == normal));
}

/// Each byte becomes an escape at most, and a last dot segment a slash.
fn is_bounded(path: &str, normal: &str) {
    assert!(normal.len() <= 3 * path.len() + 1);
}

/// Segment by segment, decoded: another way to the same end.
fn means_the_same(path: &str, normal: &str, encoded_slash: bool) {
    let segments = decoded(path).expect("its escapes are good");
    let hides = |segment: &Vec<u8>| segment.iter().any(|octet| matches!(octet, b'/' | b'\\' | 0));
    assert_eq!(encoded_slash, segments.iter().any(hides));
    let mut expected: Vec<Vec<u8>> = Vec::new();
    let last = segments.len() - 1;
    for (index, segment) in segments.into_iter().enumerate() {
        match &segment[..] {
            b"." => {}
            b".." => drop(expected.pop()),
            _ => {
                expected.push(segment);
                continue;
            }
        }
        // RFC 3986 §5.2.4: what ends in a dot segment ends in a slash.
        if index == last {
            expected.push(Vec::new());
        }
    }
    let in_a_slash = expected.last().is_none_or(Vec::is_empty);
    expected.retain(|segment| !segment.is_empty());
    if in_a_slash {
        expected.push(Vec::new());
    }
    assert_eq!(decoded(normal).expect("good escapes"), expected);
}

/// A pattern differs in its braces alone.
fn pattern(path: &str) {
    let Ok(normal) = normalize_pattern(path) else { return };
    assert_eq!(normalize_pattern(&normal).as_ref(), Ok(&normal));
    let as_path = normalize(path).expect("it is good as a pattern");
    assert_eq!(normal.replace('{', "%7B").replace('}', "%7D"), as_path.path);
}

/// The segments with every escape decoded; none if an escape is bad.
fn decoded(path: &str) -> Option<Vec<Vec<u8>>> {
    path.strip_prefix('/')?.split('/').map(decoded_segment).collect()
}

fn decoded_segment(segment: &str) -> Option<Vec<u8>> {
    let (mut octets, mut rest) = (Vec::new(), segment.as_bytes());
    while let [byte, after @ ..] = rest {
        (rest, _) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => (after, octets.push(octet([*high, *low])?)),
            (b'%', _) => return None,
            _ => (after, octets.push(*byte)),
        };
    }
    Some(octets)
}

fn octet(digits: [u8; 2]) -> Option<u8> {
    let text = std::str::from_utf8(&digits).ok().filter(|_| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(text, 16).ok()
}
