//! The one form of a request's head, which is matched, filtered and forwarded: one good host, a normal path, one Cookie
//! field. Or why it has none; what the client is told of that is the proxy's to know.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Version,
    header::{COOKIE, HOST, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery},
};
use thiserror::Error;

use super::{RequestHead, path::normalize, query::escaped};

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

/// What this gateway cannot serve is refused before a route could match it.
///
/// # Errors
///
/// The method, the form of the target or the transfer coding is not served.
pub fn servable(head: &RequestHead, names_a_path: bool) -> Result<(), Refusal> {
    if head.method == Method::CONNECT {
        return Err(Refusal::NotImplemented("CONNECT"));
    }
    if !names_a_path || (head.target.path() == "*" && head.method != Method::OPTIONS) {
        return Err(Refusal::BadRequest("the request line names no path".into()));
    }
    // RFC 9112 §6.1: whoever takes off the last coding must know the others.
    match head.headers.get(TRANSFER_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Err(Refusal::NotImplemented("a transfer coding other than chunked"))
        }
        _ => Ok(()),
    }
}

/// Says whether the path hides a separator.
///
/// # Errors
///
/// There is not one good host, or the path has no normal form.
pub fn canonical(head: &mut RequestHead) -> Result<bool, Refusal> {
    authority(head)?;
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
        join_cookies(&mut head.headers);
    }
    Ok(encoded_slash)
}

/// One host, from the request line or from `Host` (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn authority(head: &mut RequestHead) -> Result<(), Refusal> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::BadRequest("there is more than one Host field".into()));
    }
    let named = match host {
        Some(value) if !value.is_empty() => Some(
            Authority::try_from(value.as_bytes())
                .map_err(|_| Refusal::BadRequest("the Host field is not a host and port".into()))?,
        ),
        _ => None,
    };
    if host.is_none() && head.version == Version::HTTP_11 {
        return Err(Refusal::BadRequest("there is no Host field".into()));
    }
    // RFC 9112 §3.2.2: a host in the request line replaces the field, for filters too.
    head.authority = head.authority.take().or(named);
    let Some(authority) = &head.authority else {
        head.headers.remove(HOST);
        let may_be_absent = head.version < Version::HTTP_2;
        return if may_be_absent { Ok(()) } else { Err(Refusal::BadRequest("there is no host".into())) };
    };
    if authority.as_str().contains('@') {
        return Err(Refusal::BadRequest("the host has a user name in it".into()));
    }
    if head.headers.get(HOST).is_none_or(|field| field != authority.as_str()) {
        let field = HeaderValue::from_str(authority.as_str());
        head.headers.insert(HOST, field.map_err(|_| Refusal::BadRequest("the host is no field value".into()))?);
    }
    Ok(())
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
        authority(&mut head).map(|()| head.authority.map(|authority| authority.to_string()))
    }

    #[test]
    fn the_field_says_what_the_request_line_says() {
        let mut head = RequestHead { authority: Some(Authority::from_static("inside:81")), ..RequestHead::default() };
        head.headers.insert(HOST, HeaderValue::from_static("outside"));
        authority(&mut head).expect("a host");
        assert_eq!((head.host(), &head.headers[HOST]), ("inside", &HeaderValue::from_static("inside:81")));
    }

    #[test]
    fn asks_for_one_good_host() {
        assert_eq!(with_hosts(Version::HTTP_11, &["a.example:80"]).expect("host").as_deref(), Some("a.example:80"));
        assert_eq!(with_hosts(Version::HTTP_10, &[]).expect("none"), None);
        assert!(with_hosts(Version::HTTP_2, &[]).is_err());
        for bad in [&[][..], &["a", "a"], &["a b"], &["user@a"], &["a/b"]] {
            assert!(with_hosts(Version::HTTP_11, bad).is_err(), "{bad:?}");
        }
    }
}
