//! Everything that can end an exchange other than its service's answer: one cause each, and ONE match to a status.

use http::StatusCode;

use crate::{exchange::Refusal, filter::Failed, plugin::Cause, upstream};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the path has an encoded slash, backslash or NUL")]
    EncodedSlash,
    #[error("no route matches")]
    NoRoute,
    #[error(transparent)]
    Filter(#[from] Failed),
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
    #[error("the gateway failed")]
    Panic,
}

/// Whose doing an error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    Client,
    Plugin,
    Upstream,
    Gateway,
}

/// What an error means for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meaning {
    pub status: StatusCode,
    pub blame: Blame,
    /// The same request may well succeed a moment later.
    pub retryable: bool,
}

impl Error {
    pub fn meaning(&self) -> Meaning {
        use upstream::Error as Up;
        let (status, blame, retryable) = match self {
            Self::Refused(Refusal::BadRequest(_)) => (StatusCode::BAD_REQUEST, Blame::Client, false),
            Self::Refused(Refusal::NotImplemented(_)) => (StatusCode::NOT_IMPLEMENTED, Blame::Client, false),
            Self::EncodedSlash => (StatusCode::BAD_REQUEST, Blame::Client, false),
            Self::NoRoute => (StatusCode::NOT_FOUND, Blame::Client, false),
            Self::Filter(failed) => match failed.failure.cause {
                Cause::Instances => (StatusCode::SERVICE_UNAVAILABLE, Blame::Gateway, true),
                Cause::Missing => (StatusCode::SERVICE_UNAVAILABLE, Blame::Gateway, false),
                Cause::Trap
                | Cause::Deadline
                | Cause::Timeout
                | Cause::Memory
                | Cause::Table
                | Cause::Configure
                | Cause::Error => (StatusCode::SERVICE_UNAVAILABLE, Blame::Plugin, false),
            },
            Self::Upstream(error) => match error {
                Up::NoEndpoint(_) => (StatusCode::SERVICE_UNAVAILABLE, Blame::Upstream, true),
                Up::Connect(..) => (StatusCode::BAD_GATEWAY, Blame::Upstream, true),
                Up::ConnectTimeout(..) | Up::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, Blame::Upstream, true),
                Up::Reset(..) => (StatusCode::BAD_GATEWAY, Blame::Upstream, true),
                Up::Malformed(..) => (StatusCode::BAD_GATEWAY, Blame::Upstream, false),
                Up::RequestBody => (StatusCode::BAD_REQUEST, Blame::Client, true),
                Up::Unsendable(_) => (StatusCode::BAD_REQUEST, Blame::Client, false),
            },
            Self::Panic => (StatusCode::INTERNAL_SERVER_ERROR, Blame::Gateway, false),
        };
        Meaning { status, blame, retryable }
    }

    /// What the client is told. Names and addresses behind the gateway stay in its log.
    pub fn detail(&self) -> String {
        use upstream::Error as Up;
        match self {
            Self::Refused(_) | Self::EncodedSlash | Self::NoRoute | Self::Panic => self.to_string(),
            Self::Filter(failed) => match failed.failure.cause {
                Cause::Instances => "a filter is overloaded".into(),
                Cause::Missing => "a filter is not loaded yet".into(),
                _ => "a filter failed".into(),
            },
            Self::Upstream(error) => match error {
                Up::NoEndpoint(_) => "the service has no usable endpoint".into(),
                Up::Connect(..) | Up::ConnectTimeout(..) => "the service cannot be reached".into(),
                Up::Reset(..) => "the service broke off".into(),
                Up::Malformed(..) => "the service sent an answer that is not HTTP".into(),
                Up::Timeout(_) => "the service did not answer in time".into(),
                Up::RequestBody | Up::Unsendable(_) => error.to_string(),
            },
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
