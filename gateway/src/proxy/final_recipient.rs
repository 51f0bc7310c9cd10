//! `Max-Forwards` on OPTIONS and TRACE: the gateway counts the field down and answers the request that came with 0
//! (RFC 9110 §7.6.2).

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{ALLOW, CONTENT_TYPE, FORWARDED, HOST, MAX_FORWARDS, VIA},
};

use crate::{
    exchange::{Refusal, RequestHead, id::X_REQUEST_ID},
    plugin::Answer,
};

/// Fields that the answer to TRACE shows: those that tell the way of a request. Any other may hold a secret (RFC 9110 §9.3.8).
const SHOWN: [HeaderName; 8] = [
    HOST,
    MAX_FORWARDS,
    VIA,
    FORWARDED,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-proto"),
    X_REQUEST_ID,
];
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");

/// Counts the field down; returns the answer of the final recipient if it was 0.
///
/// # Errors
///
/// The field is not one whole number.
pub(super) fn answer(head: &mut RequestHead) -> Result<Option<Answer>, Refusal> {
    let is_trace = head.method == Method::TRACE;
    if !is_trace && head.method != Method::OPTIONS {
        return Ok(None);
    }
    let mut values = head.headers.get_all(MAX_FORWARDS).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let digits = value.to_str().ok().filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()));
    let Some(digits) = digits.filter(|_| values.next().is_none()) else {
        return Err(Refusal::BadRequest("Max-Forwards is not one whole number".into()));
    };
    match digits.parse::<u64>().unwrap_or(u64::MAX) {
        0 if is_trace => Ok(Some(trace(head))),
        0 => {
            let headers = HeaderMap::from_iter([(ALLOW, METHODS)]);
            Ok(Some(Answer { status: StatusCode::NO_CONTENT, headers, body: Bytes::new() }))
        }
        left => {
            head.headers.insert(MAX_FORWARDS, (left - 1).into());
            Ok(None)
        }
    }
}

fn trace(head: &RequestHead) -> Answer {
    let mut message = format!("TRACE {} {:?}\r\n", head.target, head.version).into_bytes();
    for (name, value) in head.headers.iter().filter(|(name, _)| SHOWN.contains(name)) {
        message.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    message.extend(b"\r\n");
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("message/http"))]);
    Answer { status: StatusCode::OK, headers, body: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: Method, fields: &[(HeaderName, &'static str)]) -> RequestHead {
        let mut head = RequestHead { method, ..RequestHead::default() };
        for (name, value) in fields {
            head.headers.append(name, HeaderValue::from_static(value));
        }
        head
    }

    #[test]
    fn the_field_is_counted_down_to_zero() {
        for (value, left) in [("1", "0"), ("010", "9"), ("99999999999999999999999", "18446744073709551614")] {
            let mut head = head(Method::OPTIONS, &[(MAX_FORWARDS, value)]);
            assert!(matches!(answer(&mut head), Ok(None)));
            assert_eq!(head.headers[MAX_FORWARDS], left);
        }
        for value in ["", "-1", "1.5", "a", "1, 2"] {
            assert!(answer(&mut head(Method::TRACE, &[(MAX_FORWARDS, value)])).is_err(), "{value}");
        }
        assert!(answer(&mut head(Method::TRACE, &[(MAX_FORWARDS, "1"), (MAX_FORWARDS, "1")])).is_err());
        assert!(matches!(answer(&mut head(Method::GET, &[(MAX_FORWARDS, "0")])), Ok(None)));
        assert!(matches!(answer(&mut head(Method::TRACE, &[])), Ok(None)));
    }

    #[test]
    fn the_last_answers_and_shows_no_secret() {
        let fields = [(MAX_FORWARDS, "0"), (VIA, "1.1 a"), (http::header::AUTHORIZATION, "secret")];
        let shown = answer(&mut head(Method::TRACE, &fields)).expect("a number").expect("an answer");
        assert_eq!(
            (shown.status, &shown.headers[CONTENT_TYPE]),
            (StatusCode::OK, &HeaderValue::from_static("message/http"))
        );
        assert_eq!(shown.body, "TRACE / HTTP/1.1\r\nmax-forwards: 0\r\nvia: 1.1 a\r\n\r\n");
        let allowed = answer(&mut head(Method::OPTIONS, &fields)).expect("a number").expect("an answer");
        assert_eq!((allowed.status, allowed.headers[ALLOW].is_empty()), (StatusCode::NO_CONTENT, false));
    }
}
