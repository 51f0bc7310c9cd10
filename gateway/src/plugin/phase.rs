//! The phases of an exchange that a plugin may take part in, what each is given and what one comes to, whatever the ABI.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

/// In the order that an exchange meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the service is contacted.
    Request,
    /// Likewise, once the whole body is there.
    RequestBody,
    /// While the body passes.
    RequestStream,
    /// After it.
    RequestTrailers,
    /// Before the client sees the response's head.
    Response,
    ResponseBody,
    ResponseStream,
    ResponseTrailers,
}

impl Phase {
    pub const ALL: [Self; 8] = [
        Self::Request,
        Self::RequestBody,
        Self::RequestStream,
        Self::RequestTrailers,
        Self::Response,
        Self::ResponseBody,
        Self::ResponseStream,
        Self::ResponseTrailers,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::RequestBody => "request-body",
            Self::RequestStream => "request-stream",
            Self::RequestTrailers => "request-trailers",
            Self::Response => "response",
            Self::ResponseBody => "response-body",
            Self::ResponseStream => "response-stream",
            Self::ResponseTrailers => "response-trailers",
        }
    }
}

/// What a phase is given beside the exchange.
#[derive(Debug, Clone, Default)]
pub enum Given {
    #[default]
    Nothing,
    Body(Bytes),
    Trailers(HeaderMap),
}

/// What follows a phase.
#[derive(Debug)]
pub enum Verdict {
    Proceed,
    /// Proceed, and let the body pass this filter unseen.
    PassBody,
    /// Proceed, and call this filter for no later phase of the exchange.
    Done,
    /// Proceed with this body.
    Replace(Bytes),
    /// Proceed with these trailers.
    Trailers(HeaderMap),
    Respond(Answer),
}

/// An answer made by a plugin: a final status, and fields that a plugin may write.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}
