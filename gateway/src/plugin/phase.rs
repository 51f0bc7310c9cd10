//! The phases of an exchange that a filter may take part in, and what one comes to, whatever the ABI.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Before the service is contacted.
    Request,
    /// Before the client sees the response's head.
    Response,
}

impl Phase {
    pub const ALL: [Self; 2] = [Self::Request, Self::Response];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
        }
    }
}

/// What follows a phase.
#[derive(Debug)]
pub enum Verdict {
    Proceed,
    /// Proceed, and call this filter for no later phase of the exchange.
    Done,
    Respond(Answer),
}

/// An answer made by a plugin: a final status, and fields that a plugin may write.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}
