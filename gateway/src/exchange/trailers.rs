//! Trailers that pass. The rules of a head hold for them too, and no field passes that a recipient may merge into a head and
//! decide by (RFC 9110 §6.5.1).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{
    Body, BodyError, RequestHead,
    headers::{is_gateways_own, named},
    names::{NameGuard, is_claim, twin},
};

/// Removes the trailers that only a head may carry, and those that a `Connection` trailer names. Returns how many of them state
/// something about the client.
pub fn retain_allowed(trailers: &mut HeaderMap) -> u64 {
    // HTTP/2 keeps white space that is no part of a value (RFC 9113 §8.2.1).
    for value in trailers.values_mut() {
        let trimmed = value.as_bytes().trim_ascii();
        if trimmed.len() < value.len()
            && let Ok(trimmed) = HeaderValue::from_bytes(trimmed)
        {
            *value = trimmed;
        }
    }
    let options: Vec<HeaderName> = trailers.get_all(http::header::CONNECTION).iter().flat_map(named).collect();
    let gone: Vec<HeaderName> = trailers.keys().filter(|name| is_for_heads(name)).cloned().chain(options).collect();
    let mut claims = 0;
    for name in gone {
        let is_there = trailers.remove(&name).is_some();
        claims += u64::from(is_there && is_claim(plain(&name).as_str()));
    }
    claims
}

/// Says whether a field has a meaning in a head only: it frames, routes, authenticates or controls the message, or states
/// something about the client. A `_` counts as a `-`, since some servers read it as one.
fn is_for_heads(name: &HeaderName) -> bool {
    if let Some(twin) = twin(name) {
        return is_for_heads(&twin);
    }
    let name_is_for_heads = matches!(
        name.as_str(),
        // Framing and content.
        "content-encoding" | "content-range" | "content-type" | "trailer"
        // Controls and conditions of a request.
        | "cache-control" | "if-match" | "if-modified-since" | "if-none-match" | "if-range" | "if-unmodified-since"
        | "max-forwards" | "pragma" | "range"
        // Identity of the client and of the request.
        | "authorization" | "cookie" | "proxy-authorization" | "set-cookie" | "traceparent" | "via"
        | "www-authenticate" | "x-request-id"
        // Controls of a response.
        | "age" | "date" | "expires" | "location" | "retry-after" | "vary" | "warning"
    );
    name_is_for_heads || is_gateways_own(name) || is_claim(name.as_str())
}

/// A request's body of unknown length. A trailer passes only if the head has no field of its name and no filter has read, set or
/// removed one, with `_` for `-` neither: a service may merge both.
#[derive(Debug)]
pub struct Guarded {
    body: Body,
    /// Names with `-` in place of each `_`.
    head: Vec<HeaderName>,
    guard: Option<Box<NameGuard>>,
}

impl Guarded {
    pub fn new(body: Body, head: &RequestHead) -> Self {
        Self { body, head: head.headers.keys().map(plain).collect(), guard: head.guard.clone() }
    }

    fn forbids(&self, trailer: &HeaderName) -> bool {
        let plain = plain(trailer);
        self.head.contains(&plain) || self.guard.as_ref().is_some_and(|guard| guard.forbids(trailer, &plain))
    }
}

impl HttpBody for Guarded {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        let mut polled = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &mut polled
            && let Some(trailers) = frame.trailers_mut()
        {
            let gone: Vec<HeaderName> = trailers.keys().filter(|name| this.forbids(name)).cloned().collect();
            for name in gone {
                trailers.remove(name);
            }
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A name as a server sees it that takes `_` for `-`.
fn plain(name: &HeaderName) -> HeaderName {
    twin(name).unwrap_or_else(|| name.clone())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::BodyExt;

    use super::*;
    use crate::exchange::body::Whole;

    #[tokio::test]
    async fn trailers_that_the_head_has_or_their_twins_do_not_pass() {
        let fields = |names: &[&'static str]| -> HeaderMap {
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect()
        };
        let trailers = fields(&["x-user", "x_user", "x-set", "x_other-name", "x-other", "x-sum"]);
        let body = Body::from(Whole { bytes: Bytes::new(), trailers: Some(trailers) });
        let headers = fields(&["x-user", "x_set", "x-other_name"]);
        let guarded = Guarded::new(body, &RequestHead { headers, ..RequestHead::default() });
        let trailers = guarded.collect().await.expect("a body").trailers().cloned().unwrap_or_default();
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["x-other", "x-sum"]);
    }

    #[test]
    fn white_space_around_values_is_taken_off() {
        let mut trailers = HeaderMap::new();
        for value in [" a b\t", "c"] {
            trailers.append("x-sum", HeaderValue::from_static(value));
        }
        assert_eq!(retain_allowed(&mut trailers), 0);
        assert!(trailers.get_all("x-sum").iter().eq(["a b", "c"]), "{trailers:?}");
    }

    #[test]
    fn fields_that_a_head_decides_by_do_not_pass() {
        let mut trailers = HeaderMap::new();
        for name in [
            "x-sum",
            "etag",
            "grpc-status",
            "Connection",
            "x-mine",
            "TE",
            "Transfer-Encoding",
            "Content-Length",
            "Host",
            "Expect",
            "X-Forwarded-Anything",
            "X_Forwarded_For",
            "content_length",
            "X-Request-Id",
            "Cookie",
            "CF-Connecting-IP",
            "X-Original-URL",
            "X_Remote_User",
            "SSL-Client-Verify",
            "api_key",
        ] {
            let value = if name == "Connection" { "close, x-mine" } else { "1" };
            trailers.insert(name.parse::<HeaderName>().expect("a name"), HeaderValue::from_static(value));
        }
        retain_allowed(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["api_key", "etag", "grpc-status", "x-sum"]);
    }
}
