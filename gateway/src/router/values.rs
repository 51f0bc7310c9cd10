//! The values that a request has for a name: in its query, and in its cookies.
//! Nothing is copied but a value with escapes, and that only under the name asked for.

use std::borrow::Cow;

use http::{HeaderMap, header::COOKIE};

use crate::exchange::query::{octets, parameters};

/// The values of every parameter of this name, names and values decoded; a parameter without `=` is empty.
pub(super) fn in_query<'a>(query: Option<&'a str>, name: &'a str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    parameters(query.unwrap_or_default())
        .filter(move |(given, _)| octets(given).eq(name.bytes()))
        .map(|(_, value)| decoded(value))
}

/// The values of every cookie of this name. Quotes are part of a value, as RFC 6265 §5.2 and §5.4 hand them back.
pub(super) fn in_cookies<'a>(headers: &'a HeaderMap, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
    cookies(headers).filter(|(given, _)| *given == name.as_bytes()).map(|(_, value)| value)
}

/// The cookies of all Cookie fields (RFC 6265 §4.2.1), with any white space around names and values taken off.
pub fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&[u8], &[u8])> {
    let pairs = headers.get_all(COOKIE).iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(|pair| {
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        Some((pair[..equals].trim_ascii(), pair[equals + 1..].trim_ascii()))
    })
}

fn decoded(text: &str) -> Cow<'_, [u8]> {
    if text.contains(['%', '+']) { Cow::Owned(octets(text).collect()) } else { Cow::Borrowed(text.as_bytes()) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn query(query: &str, name: &str) -> Vec<String> {
        in_query(Some(query), name).map(|value| String::from_utf8_lossy(&value).into_owned()).collect()
    }

    fn cookies(fields: &[&'static str], name: &str) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(COOKIE, HeaderValue::from_static(field));
        }
        in_cookies(&headers, name).map(|value| String::from_utf8_lossy(value).into_owned()).collect()
    }

    #[test]
    fn every_parameter_of_a_name() {
        assert_eq!(query("a=1&b=2&a=3&a", "a"), ["1", "3", ""]);
        assert_eq!(query("a=b=c&&=x&A=1", "a"), ["b=c"]);
        assert_eq!(query("", "a"), [""; 0]);
        assert_eq!(in_query(None, "a").count(), 0);
    }

    #[test]
    fn a_query_is_decoded_once() {
        assert_eq!(query("%61%20b=x%2By+z", "a b"), ["x+y z"]);
        assert_eq!(query("a+b=%2541", "a b"), ["%41"]);
        assert_eq!(query("a%26b=%26&c", "a&b"), ["&"]);
        assert_eq!(query("caf%C3%A9=caf%c3%a9", "caf\u{e9}"), ["caf\u{e9}"]);
    }

    #[test]
    fn an_escape_that_is_none_stands_for_itself() {
        assert_eq!(query("a=%&a=%4&a=%zz&a=%%41&a=%+1", "a"), ["%", "%4", "%zz", "%A", "% 1"]);
        assert_eq!(in_query(Some("a=%ff"), "a").next().as_deref(), Some(&b"\xff"[..]));
    }

    #[test]
    fn every_cookie_of_a_name_over_all_fields() {
        assert_eq!(cookies(&["a=1; b=2; a=3", "a=4"], "a"), ["1", "3", "4"]);
        assert_eq!(cookies(&["A=1; aa=2"], "a"), [""; 0]);
    }

    #[test]
    fn cookies_are_read_with_tolerance() {
        assert_eq!(cookies(&[" a = 1 ;a=2;;  ; a; =3; a=b=c;\ta=\"q\";"], "a"), ["1", "2", "b=c", "\"q\""]);
        assert_eq!(cookies(&["a="], "a"), [""]);
    }
}
