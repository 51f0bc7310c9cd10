//! From what a client sent to an exchange: what belongs to its connection is taken off, the path gets its one form.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Request, Version,
    header::{COOKIE, HOST},
    uri::{Authority, PathAndQuery},
};
use hyper::body::Incoming;

use super::Error;
use crate::exchange::{
    Body, Client, Exchange, RequestHead, RequestId, ResponseHead, headers,
    id::{RequestIds, X_REQUEST_ID},
    path::normalize,
};

/// Always an exchange, since a refusal needs one to be answered on; with why it is refused, if it is.
pub(super) fn exchange(
    request: Request<Incoming>,
    client: Arc<Client>,
    ids: &RefCell<RequestIds>,
) -> (Exchange, Body, Option<Error>) {
    let (parts, body) = request.into_parts();
    let id = RequestId::from_client(&parts.headers).unwrap_or_else(|| ids.borrow_mut().draw());
    let mut head = RequestHead {
        method: parts.method,
        target: parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        authority: parts.uri.authority().cloned(),
        version: parts.version,
        headers: parts.headers,
    };
    let (encoded_slash, refused) = match canonical(&mut head) {
        Ok(encoded_slash) => (encoded_slash, None),
        Err(error) => (false, Some(error)),
    };
    headers::remove_hop_by_hop(&mut head.headers);
    headers::set_forwarded(&mut head, &client);
    head.headers.insert(X_REQUEST_ID, id.to_value());
    let response = ResponseHead::default();
    let exchange = Exchange { id, client, request: head, encoded_slash, response, filters: Vec::new() };
    (exchange, Body::Stream(body), refused)
}

/// Takes a route's prefix off the path, whole segments only; a path without it stays.
pub(super) fn rewrite(head: &mut RequestHead, strip_prefix: Option<&str>) {
    let Some(prefix) = strip_prefix else { return };
    let text = head.target.as_str();
    let Some(rest) = text.strip_prefix(prefix.trim_end_matches('/')) else { return };
    let stripped = match rest.as_bytes().first() {
        Some(b'/') => rest.to_owned(),
        None | Some(b'?') => format!("/{rest}"),
        Some(_) => return,
    };
    if let Ok(target) = PathAndQuery::from_maybe_shared(Bytes::from(stripped)) {
        head.target = target;
    }
}

/// Says whether the path hides a separator.
fn canonical(head: &mut RequestHead) -> Result<bool, Error> {
    authority(head)?;
    let normal = normalize(head.target.path()).map_err(|error| Error::BadRequest(error.to_string()))?;
    let encoded_slash = normal.encoded_slash;
    if normal.path != head.target.path() {
        let text = match head.target.query() {
            Some(query) => format!("{}?{query}", normal.path),
            None => normal.path.into_owned(),
        };
        head.target = PathAndQuery::from_maybe_shared(Bytes::from(text))
            .map_err(|error| Error::BadRequest(format!("the path is not valid: {error}")))?;
    }
    if head.version == Version::HTTP_2 {
        join_cookies(&mut head.headers);
    }
    Ok(encoded_slash)
}

/// One host, from the request line or from `Host` (RFC 9112 §3.2, RFC 9113 §8.3.1).
fn authority(head: &mut RequestHead) -> Result<(), Error> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Error::BadRequest("there is more than one Host field".into()));
    }
    let named = match host {
        Some(value) if !value.is_empty() => Some(
            Authority::try_from(value.as_bytes())
                .map_err(|_| Error::BadRequest("the Host field is not a host and port".into()))?,
        ),
        _ => None,
    };
    if host.is_none() && head.version == Version::HTTP_11 {
        return Err(Error::BadRequest("there is no Host field".into()));
    }
    // RFC 9112 §3.2.2: a host in the request line replaces the field.
    head.authority = head.authority.take().or(named);
    match &head.authority {
        Some(authority) if authority.as_str().contains('@') => {
            Err(Error::BadRequest("the host has a user name in it".into()))
        }
        _ => Ok(()),
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

    fn rewritten(target: &'static str, prefix: &str) -> String {
        let mut head = RequestHead { target: PathAndQuery::from_static(target), ..RequestHead::default() };
        rewrite(&mut head, Some(prefix));
        head.target.to_string()
    }

    #[test]
    fn strips_whole_segments_only() {
        assert_eq!(rewritten("/users/7?x=1", "/users"), "/7?x=1");
        assert_eq!(rewritten("/users/7", "/users/"), "/7");
        assert_eq!(rewritten("/users", "/users"), "/");
        assert_eq!(rewritten("/users?x=1", "/users"), "/?x=1");
        assert_eq!(rewritten("/usersx", "/users"), "/usersx");
        assert_eq!(rewritten("/other", "/users"), "/other");
    }

    #[test]
    fn joins_crumbs_of_a_cookie() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    fn with_hosts(version: Version, hosts: &[&'static str]) -> Result<Option<String>, Error> {
        let mut head = RequestHead { version, ..RequestHead::default() };
        for host in hosts {
            head.headers.append(HOST, HeaderValue::from_static(host));
        }
        authority(&mut head).map(|()| head.authority.map(|authority| authority.to_string()))
    }

    #[test]
    fn asks_for_one_good_host() {
        assert_eq!(with_hosts(Version::HTTP_11, &["a.example:80"]).expect("host").as_deref(), Some("a.example:80"));
        assert_eq!(with_hosts(Version::HTTP_10, &[]).expect("none"), None);
        for bad in [&[][..], &["a", "a"], &["a b"], &["user@a"], &["a/b"]] {
            assert!(with_hosts(Version::HTTP_11, bad).is_err(), "{bad:?}");
        }
    }
}
