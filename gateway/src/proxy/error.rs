//! Everything that can end an exchange other than its service's answer: one cause each, and ONE match to a status.

use http::StatusCode;

use super::ending::SLOW_CLIENT;
use crate::{
    access::Denied,
    exchange::{
        self, Destination,
        body::{Cut, RequestError},
    },
    filter::{Failed, Unread},
    monitor::record::Fault,
    openapi::Invalid,
    plugin::{Cause, Phase, Refusal},
    upstream,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] exchange::Refusal),
    /// hyper has answered it with this status.
    #[error("the request cannot be parsed: {1}")]
    Unparsed(StatusCode, &'static str),
    #[error("the path has an encoded slash, backslash or NUL")]
    EncodedSlash,
    #[error("no route matches")]
    NoRoute,
    #[error("there is no service \"{}\"", .0.escape_debug())]
    NoService(String),
    #[error(transparent)]
    Filter(#[from] Failed),
    #[error(transparent)]
    Unread(#[from] Unread),
    #[error("whoever calls is refused: {}", .0.detail)]
    Denied(Refusal),
    /// Who calls may not use this version of the API.
    #[error("{}", not_admitted(.0))]
    NotAdmitted(Denied),
    #[error("this version of the API is retired")]
    Retired,
    /// It is not what the description of its version says.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    #[error("the body of the request has more than {0} bytes")]
    TooLarge(usize),
    /// A plugin has sent it where there is nothing.
    #[error("a plugin has sent it to {}", named(.0))]
    Astray(Destination),
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    #[error("the gateway failed")]
    Panic,
}

/// Causes of those that may not use a version of an API.
pub(super) const REFUSALS: [&str; 6] = ["denied", "retired", "unknown", "no-grant", "scopes", "quota"];

/// The cause of an exchange that found no descriptor for its connection; the service's log says so, once a second.
pub(super) const DESCRIPTORS: &str = "descriptors";

/// Whose doing an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Plugin,
    Upstream,
    Gateway,
}

/// What an error means for the client, and what it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    pub status: StatusCode,
    pub blame: Blame,
    /// One of few words, for metrics and logs.
    pub cause: &'static str,
    /// The same request may well succeed a moment later.
    pub retryable: bool,
}

impl Meaning {
    pub fn fault(&self) -> Fault {
        Fault { blame: self.blame.as_str(), cause: self.cause }
    }
}

impl Error {
    pub fn meaning(&self) -> Meaning {
        use upstream::Error as Up;
        let (status, blame, cause, retryable) = match self {
            Self::Refused(refusal) => {
                let (blame, cause) = match refusal {
                    exchange::Refusal::BadRequest(_) => (Blame::Client, "bad-request"),
                    exchange::Refusal::NotImplemented(_) => (Blame::Client, "not-implemented"),
                    exchange::Refusal::Loop(_) => (Blame::Gateway, "loop"),
                    exchange::Refusal::TooManyFields(_) => (Blame::Client, "header-count"),
                };
                (refusal.status(), blame, cause, false)
            }
            Self::Unparsed(status, _) => (*status, Blame::Client, "unparsed", false),
            Self::EncodedSlash => (StatusCode::BAD_REQUEST, Blame::Client, "encoded-slash", false),
            Self::NoRoute => (StatusCode::NOT_FOUND, Blame::Client, "no-route", false),
            Self::NoService(_) => (StatusCode::NOT_FOUND, Blame::Client, "no-service", false),
            Self::Retired => (StatusCode::GONE, Blame::Client, "retired", false),
            Self::Invalid(invalid) => (status_of(invalid), Blame::Client, "invalid", false),
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, Blame::Client, "body", false),
            Self::NotAdmitted(Denied::Unknown) => (StatusCode::UNAUTHORIZED, Blame::Client, "unknown", false),
            Self::NotAdmitted(Denied::NoGrant) => (StatusCode::FORBIDDEN, Blame::Client, "no-grant", false),
            Self::NotAdmitted(Denied::Scopes(_)) => (StatusCode::FORBIDDEN, Blame::Client, "scopes", false),
            Self::NotAdmitted(Denied::Exceeded(_)) => (StatusCode::TOO_MANY_REQUESTS, Blame::Client, "quota", true),
            Self::Filter(failed) => of_filter(failed),
            Self::Denied(refusal) => (refusal.status, Blame::Client, "denied", false),
            Self::Astray(_) => (StatusCode::SERVICE_UNAVAILABLE, Blame::Plugin, "astray", false),
            Self::Unread(unread) => match unread {
                Unread::SlowRequest => (StatusCode::REQUEST_TIMEOUT, Blame::Client, "request-body-timeout", true),
                Unread::BrokenRequest(error) => of_request(error),
                Unread::SlowResponse => (StatusCode::GATEWAY_TIMEOUT, Blame::Upstream, "body-timeout", true),
                Unread::BrokenResponse(_) => (StatusCode::BAD_GATEWAY, Blame::Upstream, "reset", true),
                Unread::CutResponse(cut) => of_cut(cut),
            },
            Self::Upstream(error) => match error {
                Up::NoEndpoint(_) => (StatusCode::SERVICE_UNAVAILABLE, Blame::Upstream, "no-endpoint", true),
                Up::Connect(..) if error.is_exhausted() => {
                    (StatusCode::SERVICE_UNAVAILABLE, Blame::Gateway, DESCRIPTORS, true)
                }
                Up::Connect(..) => (StatusCode::BAD_GATEWAY, Blame::Upstream, "connect", true),
                Up::ConnectTimeout(..) => (StatusCode::GATEWAY_TIMEOUT, Blame::Upstream, "connect-timeout", true),
                Up::Timeout(..) => (StatusCode::GATEWAY_TIMEOUT, Blame::Upstream, "timeout", true),
                Up::Stalled(..) => (StatusCode::GATEWAY_TIMEOUT, Blame::Upstream, "stalled", true),
                Up::TooLargeHead { .. } => (StatusCode::BAD_GATEWAY, Blame::Upstream, "header-size", false),
                Up::Reset(..) => (StatusCode::BAD_GATEWAY, Blame::Upstream, "reset", true),
                Up::Malformed(..) | Up::Unsound(..) => (StatusCode::BAD_GATEWAY, Blame::Upstream, "malformed", false),
                Up::Request(error) => of_request(error),
                Up::Unsendable(_) => (StatusCode::BAD_REQUEST, Blame::Client, "unsendable", false),
            },
            Self::Panic => (StatusCode::INTERNAL_SERVER_ERROR, Blame::Gateway, "panic", false),
        };
        Meaning { status, blame, cause, retryable }
    }

    /// What the client is told. Names and addresses behind the gateway stay in its log.
    pub fn detail(&self) -> String {
        use upstream::Error as Up;
        match self {
            Self::Refused(_)
            | Self::Unparsed(..)
            | Self::EncodedSlash
            | Self::NoRoute
            | Self::NoService(_)
            | Self::NotAdmitted(_)
            | Self::Retired
            | Self::TooLarge(_)
            | Self::Invalid(Invalid::NoPath | Invalid::NoMethod { .. } | Invalid::MediaType(_))
            | Self::Panic => self.to_string(),
            // Each is told by itself.
            Self::Invalid(Invalid::Findings(_)) => "the request is not as the API describes it".into(),
            Self::Filter(failed) => match failed.failure.cause {
                Cause::Instances => "a filter is overloaded".into(),
                Cause::Missing => "a filter is not loaded yet".into(),
                Cause::Body if failed.phase != Phase::ResponseBody => "the body of the request is too large".into(),
                Cause::Body => "the body of the response is too large".into(),
                _ => "a filter failed".into(),
            },
            Self::Denied(refusal) => refusal.detail.clone(),
            Self::Astray(_)
            | Self::Unread(Unread::CutResponse(_) | Unread::BrokenRequest(RequestError::Cut(_)))
            | Self::Upstream(Up::Request(RequestError::Cut(_))) => "a filter failed".into(),
            Self::Unread(Unread::BrokenResponse(_)) => "the service broke off".into(),
            Self::Unread(unread) => unread.to_string(),
            Self::Upstream(error) => match error {
                Up::NoEndpoint(_) => "the service has no usable endpoint".into(),
                Up::Connect(..) if error.is_exhausted() => "the gateway has no room for another connection".into(),
                Up::Connect(..) | Up::ConnectTimeout(..) => "the service cannot be reached".into(),
                Up::Reset(..) => "the service broke off".into(),
                Up::Malformed(..) => "the service sent an answer that is not HTTP".into(),
                Up::Unsound(..) => "the service sent a response that cannot be passed on".into(),
                Up::Timeout(..) => "the service did not answer in time".into(),
                Up::Stalled(..) => "the service stopped reading the request".into(),
                Up::TooLargeHead { .. } => "the head of the service's answer is too large".into(),
                Up::Request(_) | Up::Unsendable(_) => error.to_string(),
            },
        }
    }
}

/// The meaning of a request whose body did not come whole.
fn of_request(error: &RequestError) -> (StatusCode, Blame, &'static str, bool) {
    match error {
        RequestError::Stalled(_) => (StatusCode::REQUEST_TIMEOUT, Blame::Client, SLOW_CLIENT.cause, true),
        RequestError::BrokenOff => (StatusCode::BAD_REQUEST, Blame::Client, "request-body", true),
        RequestError::Malformed => (StatusCode::BAD_REQUEST, Blame::Client, "request-framing", false),
        RequestError::Cut(cut) => of_cut(cut),
    }
}

/// The meaning of a filter's failure in the middle of a body.
fn of_cut(cut: &Cut) -> (StatusCode, Blame, &'static str, bool) {
    (StatusCode::SERVICE_UNAVAILABLE, Blame::Plugin, cut.cause, false)
}

/// The meaning of a filter's failure.
fn of_filter(failed: &Failed) -> (StatusCode, Blame, &'static str, bool) {
    let cause = failed.failure.cause;
    match cause {
        Cause::Instances => (StatusCode::SERVICE_UNAVAILABLE, Blame::Gateway, cause.as_str(), true),
        Cause::Missing => (StatusCode::SERVICE_UNAVAILABLE, Blame::Gateway, cause.as_str(), false),
        Cause::Body if failed.phase != Phase::ResponseBody => {
            (StatusCode::PAYLOAD_TOO_LARGE, Blame::Client, cause.as_str(), false)
        }
        Cause::Body => (StatusCode::BAD_GATEWAY, Blame::Upstream, cause.as_str(), false),
        Cause::Trap
        | Cause::Deadline
        | Cause::Timeout
        | Cause::Memory
        | Cause::Table
        | Cause::Copies
        | Cause::Handles
        | Cause::Configure
        | Cause::KeyValue
        | Cause::Metrics
        | Cause::Calls
        | Cause::Error => (StatusCode::SERVICE_UNAVAILABLE, Blame::Plugin, cause.as_str(), false),
    }
}

fn status_of(invalid: &Invalid) -> StatusCode {
    match invalid {
        Invalid::NoPath => StatusCode::NOT_FOUND,
        Invalid::NoMethod { .. } => StatusCode::METHOD_NOT_ALLOWED,
        Invalid::MediaType(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Invalid::Findings(_) => StatusCode::BAD_REQUEST,
    }
}

fn not_admitted(denied: &Denied) -> String {
    match denied {
        Denied::Unknown => "this API is for known consumers".to_owned(),
        Denied::NoGrant => "this consumer has no grant for this API".to_owned(),
        Denied::Scopes(lacking) => format!("the grant of this consumer lacks the scopes {}", lacking.join(", ")),
        Denied::Exceeded(exceeded) => {
            let full = &exceeded.full;
            format!("the quota of {} requests in a {} is used up", full.quota, full.window.as_str())
        }
    }
}

fn named(destination: &Destination) -> String {
    match destination {
        Destination::Route(name) => format!("route \"{}\", which there is not", name.escape_debug()),
        Destination::Service(name) | Destination::Call(name) => {
            format!("service \"{}\", which there is not", name.escape_debug())
        }
    }
}

impl Blame {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Plugin => "plugin",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}
