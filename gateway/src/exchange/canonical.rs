//! The one form of a request's head, which is matched, filtered and forwarded: one good host, a normal path, one Cookie
//! field. Or why it has none, and the status of the answer.

use std::net::Ipv6Addr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode, Version,
    header::{COOKIE, HOST},
    uri::{Authority, PathAndQuery},
};
use thiserror::Error;

use super::{
    RequestHead,
    framing::{CodingError, is_chunked},
    path::normalize,
    query::escaped,
};

/// Why a request is refused whatever its route would be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("{0}")]
    BadRequest(String),
    #[error("this gateway does not serve {0}")]
    NotImplemented(&'static str),
    #[error("the request has passed this gateway {0} times")]
    Loop(usize),
    #[error("the request has more than {0} header fields")]
    TooManyFields(usize),
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NotImplemented(_) => StatusCode::NOT_IMPLEMENTED,
            Self::Loop(_) => StatusCode::LOOP_DETECTED,
            Self::TooManyFields(_) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        }
    }
}

/// Refuses a request that this gateway cannot serve, before a route could match it.
///
/// # Errors
///
/// The method or the form of the target is not served.
pub fn servable(head: &RequestHead, names_a_path: bool) -> Result<(), Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::NotImplemented("CONNECT"));
    }
    if !names_a_path || (head.target.path() == "*" && head.method != Method::OPTIONS) {
        return Err(Refusal::BadRequest("the request line names no path".into()));
    }
    Ok(())
}

/// Checks the transfer coding of a request.
///
/// # Errors
///
/// It is another one than `chunked`.
pub fn check_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    match is_chunked(headers) {
        Ok(_) => Ok(()),
        Err(error @ CodingError::Invalid) => Err(Refusal::BadRequest(error.to_string())),
        Err(CodingError::Unsupported) => Err(Refusal::NotImplemented("a transfer coding other than chunked")),
    }
}

/// Says whether the path hides a separator. `last_host` is one that was parsed before, and becomes that of this request.
///
/// # Errors
///
/// There is not one good host, or the path has no normal form.
pub fn canonical(head: &mut RequestHead, last_host: &mut Option<Authority>) -> Result<bool, Refusal> {
    authority(head, last_host).inspect_err(|_| forget_user(head))?;
    let normal = normalize(head.target.path()).map_err(|error| Refusal::BadRequest(error.to_string()))?;
    let encoded_slash = normal.encoded_slash;
    let query = head.target.query();
    if normal.path != head.target.path() || query.is_some_and(|query| !query.is_ascii()) {
        let text = match query {
            Some(query) => format!("{}?{}", normal.path, escaped(query)),
            None => normal.path.into_owned(),
        };
        head.target = PathAndQuery::from_maybe_shared(Bytes::from(text))
            .map_err(|error| Refusal::BadRequest(format!("the path is not valid: {error}")))?;
    }
    if head.version == Version::HTTP_2 {
        check_values(&head.headers)?;
        join_cookies(&mut head.headers);
    }
    Ok(encoded_slash)
}

/// Checks the host and the transfer coding of a request that the gateway answers itself and forwards to nobody.
///
/// # Errors
///
/// There is not one good host, or the coding is another one than `chunked`.
pub fn check_unforwarded<B>(request: &Request<B>) -> Result<(), Refusal> {
    check_coding(request.headers())?;
    host_field(request.headers(), request.version(), &mut None)?;
    request.uri().authority().map_or(Ok(()), check)
}

/// Refuses values with white space around them, which is no part of a value and which HTTP/2 does not take off as HTTP/1.1 does
/// (RFC 9113 §8.2.1): a recipient would read another value than the one that routes were matched with.
fn check_values(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.iter().find(|(_, value)| value.as_bytes() != value.as_bytes().trim_ascii()) {
        Some((name, _)) => Err(Refusal::BadRequest(format!("the value of \"{name}\" has white space around it"))),
        None => Ok(()),
    }
}

/// One host, from the request line or from `Host` (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn authority(head: &mut RequestHead, last: &mut Option<Authority>) -> Result<(), Refusal> {
    let named = host_field(&head.headers, head.version, last)?;
    match &head.authority {
        // RFC 9112 §3.2.2: a host in the request line replaces the field, for filters too.
        Some(asked) => {
            check(asked)?;
            if named.is_none_or(|named| named.as_str() != asked.as_str()) {
                let field = HeaderValue::from_str(asked.as_str());
                head.headers.insert(HOST, field.map_err(|_| Refusal::BadRequest("the host is no field value".into()))?);
            }
        }
        None if named.is_none() && head.version >= Version::HTTP_2 => {
            return Err(Refusal::BadRequest("there is no host".into()));
        }
        None => head.authority = named,
    }
    Ok(())
}

/// Reads the Host field, which HTTP/1.1 requires.
fn host_field(
    headers: &HeaderMap,
    version: Version,
    last: &mut Option<Authority>,
) -> Result<Option<Authority>, Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::BadRequest("there is more than one Host field".into()));
    }
    if host.is_none() && version == Version::HTTP_11 {
        return Err(Refusal::BadRequest("there is no Host field".into()));
    }
    host.map(|host| parsed(host.as_bytes(), last)).transpose()
}

/// The host of a Host field; most often it is the last one that was parsed.
fn parsed(field: &[u8], last: &mut Option<Authority>) -> Result<Authority, Refusal> {
    if let Some(last) = last.as_ref().filter(|last| last.as_str().as_bytes() == field) {
        return Ok(last.clone());
    }
    if field.is_empty() {
        return Err(Refusal::BadRequest("the Host field is empty".into()));
    }
    let authority = Authority::try_from(field);
    let authority = authority.map_err(|_| Refusal::BadRequest("the Host field is not a host and port".into()))?;
    check(&authority)?;
    Ok(last.insert(authority).clone())
}

/// Lets a host pass that is `uri-host [ ":" port ]` (RFC 9110 §4.2.3, RFC 3986 §3.2.2), without percent-encoding.
fn check(authority: &Authority) -> Result<(), Refusal> {
    if is_host_and_port(authority.as_str()) {
        return Ok(());
    }
    let has_user = authority.as_str().contains('@');
    let reason = if has_user { "the host has a user name in it" } else { "the host is not a host and port" };
    Err(Refusal::BadRequest(reason.into()))
}

fn is_host_and_port(text: &str) -> bool {
    let (is_host, port) = match text.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(Some((literal, rest))) => {
            let port = if rest.is_empty() { Some("") } else { rest.strip_prefix(':') };
            (literal.parse::<Ipv6Addr>().is_ok(), port)
        }
        Some(None) => (false, None),
        None => {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            (!host.is_empty() && host.bytes().all(is_of_name), Some(port))
        }
    };
    let is_port =
        |port: &str| port.is_empty() || port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_host && port.is_some_and(is_port)
}

/// RFC 3986 §2: unreserved characters and sub-delims, but for the comma, which would make a list of a Host field.
fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b'+' | b';' | b'=')
}

/// A refused request is logged; what stands before the host may be a password.
fn forget_user(head: &mut RequestHead) {
    head.authority.take_if(|authority| authority.as_str().contains('@'));
    if head.headers.get_all(HOST).iter().any(|host| host.as_bytes().contains(&b'@')) {
        head.headers.remove(HOST);
    }
}

/// RFC 9113 §8.2.3: cookies split into fields of their own are one field again for HTTP/1.1.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(COOKIE).iter().nth(1).is_none() {
        return;
    }
    let crumbs: Vec<&[u8]> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(whole) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
        headers.insert(COOKIE, whole);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joins_crumbs_of_a_cookie() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    fn with_hosts(version: Version, hosts: &[&'static str]) -> Result<Option<String>, Refusal> {
        let mut head = RequestHead { version, ..RequestHead::default() };
        for host in hosts {
            head.headers.append(HOST, HeaderValue::from_static(host));
        }
        authority(&mut head, &mut None).map(|()| head.authority.map(|authority| authority.to_string()))
    }

    #[test]
    fn the_field_says_what_the_request_line_says() {
        let mut head = RequestHead { authority: Some(Authority::from_static("inside:81")), ..RequestHead::default() };
        head.headers.insert(HOST, HeaderValue::from_static("outside"));
        authority(&mut head, &mut None).expect("a host");
        assert_eq!((head.host(), &head.headers[HOST]), ("inside", &HeaderValue::from_static("inside:81")));
    }

    #[test]
    fn a_host_is_parsed_once() {
        let mut last = None;
        let mut named = |host: &'static str| {
            let mut head = RequestHead { version: Version::HTTP_11, ..RequestHead::default() };
            head.headers.insert(HOST, HeaderValue::from_static(host));
            let sound = authority(&mut head, &mut last);
            sound.ok().and(head.authority).map(|authority| (authority.as_str().as_ptr(), authority.to_string()))
        };
        let first = named("a:80").expect("a host");
        assert_eq!([named("a b"), named("")], [None, None]);
        assert_eq!(named("a:80"), Some(first), "a refused host takes the place of no good one");
        assert_eq!(named("a:8").map(|(_, host)| host).as_deref(), Some("a:8"));
    }

    #[test]
    fn a_refused_host_is_kept_for_the_log_without_its_user() {
        for (asked, kept) in [("a:99999", Some("a:99999")), ("user:password@a", None)] {
            let mut head = RequestHead { authority: Some(Authority::from_static(asked)), ..RequestHead::default() };
            head.headers.insert(HOST, HeaderValue::from_static("a"));
            assert!(canonical(&mut head, &mut None).is_err(), "{asked}");
            assert_eq!(head.authority.as_ref().map(Authority::as_str), kept);
        }
    }

    #[test]
    fn asks_for_one_good_host() {
        assert_eq!(with_hosts(Version::HTTP_11, &["a.example:80"]).expect("host").as_deref(), Some("a.example:80"));
        assert_eq!(with_hosts(Version::HTTP_10, &[]).expect("none"), None);
        assert!(with_hosts(Version::HTTP_2, &[]).is_err());
        for bad in [
            &[][..],
            &["a", "a"],
            &["a b"],
            &["user@a"],
            &["user:pw@a"],
            &["a/b"],
            &[""],
            &["a:x"],
            &["a:-1"],
            &["a:+1"],
            &["a:65536"],
            &["[::1]x"],
            &["[::1"],
            &["[::g]"],
            &["[]"],
            &["::1"],
            &[":80"],
            &["a:80:80"],
            &["a,b"],
            &["a%41"],
        ] {
            assert!(with_hosts(Version::HTTP_11, bad).is_err(), "{bad:?}");
        }
        for good in ["a", "a:", "a_b.example.", "[::1]", "[2001:db8::1]:65535", "192.0.2.1:1"] {
            assert_eq!(with_hosts(Version::HTTP_11, &[good]).expect("host").as_deref(), Some(good));
        }
    }
}
