//! From what a client sent to an exchange: what belongs to its connection is taken off, the path gets its one form.

use std::{cell::RefCell, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Version,
    header::{COOKIE, HOST, TRANSFER_ENCODING},
    uri::{Authority, PathAndQuery},
};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{task::spawn_local, time::timeout};

use super::Error;
use crate::exchange::{
    Body, Client, Exchange, RequestHead, RequestId, ResponseHead, headers,
    id::{RequestIds, X_REQUEST_ID},
    path::normalize,
};

/// How much of an unwanted body is read, and for how long.
const DISCARD_BYTES: usize = 256 << 10;
const DISCARD_TIME: Duration = Duration::from_secs(1);

/// Always an exchange, since a refusal needs one to be answered on; with why it is refused, if it is.
pub(super) fn exchange(
    request: Request<Incoming>,
    client: Arc<Client>,
    ids: &RefCell<RequestIds>,
) -> (Exchange, Body, Option<Error>) {
    let (parts, body) = request.into_parts();
    let id = RequestId::from_client(&parts.headers).unwrap_or_else(|| ids.borrow_mut().draw());
    let names_a_path = parts.uri.path_and_query().is_some();
    let head_only = parts.method == Method::HEAD;
    let mut head = RequestHead {
        method: parts.method,
        target: parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")),
        authority: parts.uri.authority().cloned(),
        version: parts.version,
        headers: parts.headers,
    };
    let (encoded_slash, refused) = match servable(&head, names_a_path).and_then(|()| canonical(&mut head)) {
        Ok(encoded_slash) => (encoded_slash, None),
        Err(error) => (false, Some(error)),
    };
    headers::remove_hop_by_hop(&mut head.headers);
    headers::set_forwarded(&mut head, &client);
    head.headers.insert(X_REQUEST_ID, id.to_value());
    let response = ResponseHead::default();
    let exchange = Exchange { id, client, request: head, head_only, encoded_slash, response, filters: Vec::new() };
    (exchange, Body::request(body), refused)
}

/// Reads what is left of a body that nobody wants, within bounds: a connection closed with unread data is reset, and
/// the reset may overtake the answer.
pub(super) fn discard(mut body: Body) {
    if body.is_empty() {
        return;
    }
    spawn_local(timeout(DISCARD_TIME, async move {
        let mut left = DISCARD_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
            if left == 0 {
                return;
            }
        }
    }));
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

/// What this gateway cannot serve is refused before a route could match it.
fn servable(head: &RequestHead, names_a_path: bool) -> Result<(), Error> {
    if head.method == Method::CONNECT {
        return Err(Error::NotImplemented("CONNECT"));
    }
    if !names_a_path || (head.target.path() == "*" && head.method != Method::OPTIONS) {
        return Err(Error::BadRequest("the request line names no path".into()));
    }
    // RFC 9112 §6.1: whoever takes off the last coding must know the others.
    match head.headers.get(TRANSFER_ENCODING) {
        Some(coding) if !coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            Err(Error::NotImplemented("a transfer coding other than chunked"))
        }
        _ => Ok(()),
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
    // RFC 9112 §3.2.2: a host in the request line replaces the field, for filters too.
    head.authority = head.authority.take().or(named);
    let Some(authority) = &head.authority else {
        head.headers.remove(HOST);
        let may_be_absent = head.version < Version::HTTP_2;
        return if may_be_absent { Ok(()) } else { Err(Error::BadRequest("there is no host".into())) };
    };
    if authority.as_str().contains('@') {
        return Err(Error::BadRequest("the host has a user name in it".into()));
    }
    if head.headers.get(HOST).is_none_or(|field| field != authority.as_str()) {
        let field = HeaderValue::from_str(authority.as_str());
        head.headers.insert(HOST, field.map_err(|_| Error::BadRequest("the host is no field value".into()))?);
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
