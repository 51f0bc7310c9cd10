//! Trailers: which of them pass. The rules of a head hold for them too, and a recipient may merge none of those that a head decides by
//! (RFC 9110 §6.5.1).

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::{
    Body, BodyError,
    headers::{is_gateways_own, named},
};

/// Removes the trailers that only a head may carry, and those that a `Connection` trailer names.
pub fn retain_allowed(trailers: &mut HeaderMap) {
    let options: Vec<HeaderName> = trailers.get_all(http::header::CONNECTION).iter().flat_map(named).collect();
    let gone: Vec<HeaderName> = trailers.keys().filter(|name| is_for_heads(name)).cloned().chain(options).collect();
    for name in gone {
        trailers.remove(name);
    }
}

/// Says whether a field has a meaning in a head only: it frames, routes, authenticates or controls the message, or says whom it
/// comes from. A `_` counts as a `-`, since some servers read it as one.
fn is_for_heads(name: &HeaderName) -> bool {
    if name.as_str().contains('_') {
        return name.as_str().replace('_', "-").parse().is_ok_and(|twin| is_for_heads(&twin));
    }
    let name_is_for_heads = matches!(
        name.as_str(),
        // Framing and content.
        "content-encoding" | "content-range" | "content-type" | "trailer"
        // Controls and conditions of a request.
        | "cache-control" | "if-match" | "if-modified-since" | "if-none-match" | "if-range" | "if-unmodified-since"
        | "max-forwards" | "pragma" | "range"
        // Who it comes from, and what for.
        | "authorization" | "cookie" | "forwarded" | "proxy-authorization" | "set-cookie" | "traceparent"
        | "true-client-ip" | "via" | "www-authenticate" | "x-client-ip" | "x-real-ip" | "x-request-id"
        // Controls of a response.
        | "age" | "date" | "expires" | "location" | "retry-after" | "vary" | "warning"
    );
    name_is_for_heads || is_gateways_own(name) || name.as_str().starts_with("x-forwarded-")
}

/// A request's body of unknown length. Of its trailers, those pass that its head has no field for: a filter may have set that
/// field, and a service may merge both.
#[derive(Debug)]
pub struct Guarded {
    body: Body,
    head: Vec<HeaderName>,
}

impl Guarded {
    pub fn new(body: Body, head: &HeaderMap) -> Self {
        Self { body, head: head.keys().cloned().collect() }
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
            for name in &this.head {
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn what_a_head_decides_by_does_not_pass() {
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
