//! The phases of an exchange that a plugin may take part in, what each is given and what one comes to, whatever the ABI.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::exchange::{Consumer, Destination};

/// In the order that an exchange meets them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Who calls?
    Authenticate,
    /// Before the service is contacted.
    Request,
    /// Likewise, once the whole body is there.
    RequestBody,
    /// While the body passes.
    RequestStream,
    /// After it.
    RequestTrailers,
    /// Where to?
    Route,
    /// To which endpoint?
    Balance,
    /// Before the client sees the response's head.
    Response,
    ResponseBody,
    ResponseStream,
    ResponseTrailers,
    /// Once the exchange has ended.
    Log,
    /// From time to time, without an exchange.
    Tick,
}

impl Phase {
    pub const ALL: [Self; 13] = [
        Self::Authenticate,
        Self::Request,
        Self::RequestBody,
        Self::RequestStream,
        Self::RequestTrailers,
        Self::Route,
        Self::Balance,
        Self::Response,
        Self::ResponseBody,
        Self::ResponseStream,
        Self::ResponseTrailers,
        Self::Log,
        Self::Tick,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Request => "request",
            Self::RequestBody => "request-body",
            Self::RequestStream => "request-stream",
            Self::RequestTrailers => "request-trailers",
            Self::Route => "route",
            Self::Balance => "balance",
            Self::Response => "response",
            Self::ResponseBody => "response-body",
            Self::ResponseStream => "response-stream",
            Self::ResponseTrailers => "response-trailers",
            Self::Log => "log",
            Self::Tick => "tick",
        }
    }
}

/// What a phase is given beside the exchange.
#[derive(Debug, Clone, Default)]
pub enum Given {
    #[default]
    Nothing,
    Body(Bytes),
    Trailers(Box<HeaderMap>),
    Candidates(Vec<Candidate>),
    Summary(Box<Summary>),
}

/// An endpoint that may be chosen.
#[derive(Debug, Clone)]
pub struct Candidate {
    pub address: SocketAddr,
    pub weight: u16,
    /// Exchanges under way there.
    pub in_flight: u32,
    /// In microseconds; none before its first answer.
    pub latency: Option<u32>,
}

/// What is told of an exchange that has ended.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    pub status: u16,
    pub route: String,
    pub service: String,
    pub endpoint: Option<String>,
    /// Bytes of bodies, from the client and to it.
    pub received: u64,
    pub sent: u64,
    /// In microseconds, to the head of the answer and to the end.
    pub answered: Option<u64>,
    pub duration: u64,
    pub blame: Option<String>,
    pub cause: Option<String>,
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
    Trailers(Box<HeaderMap>),
    /// It comes from this consumer.
    Known(Box<Consumer>),
    /// Whoever calls must show more, or something else.
    Refuse(Box<Refusal>),
    /// It goes there.
    Send(Destination),
    /// Ask again with the body.
    WithBody,
    /// The endpoint of this number.
    Choose(usize),
    Respond(Box<Answer>),
}

/// Why somebody is not let through.
#[derive(Debug)]
pub struct Refusal {
    /// 400 to 499.
    pub status: StatusCode,
    /// At least one with 401.
    pub challenges: Vec<HeaderValue>,
    /// For the client.
    pub detail: String,
}

/// An answer made by a plugin: a final status, and fields that a plugin may write.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}
