//! What can become of a request on its way to an endpoint, other than an answer.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::{Transport, connect};
use crate::{
    exchange::{
        body::{RequestError, is_malformed},
        framing::Unsound,
    },
    monitor::record::Outcome,
    progress::Stalled,
    socket,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service \"{0}\" has no usable endpoint")]
    NoEndpoint(Arc<str>),
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("{0} took no connection within {1:?}")]
    ConnectTimeout(SocketAddr, Duration),
    #[error("{0} broke off before it answered: {1}")]
    Reset(SocketAddr, hyper::Error),
    #[error("{0} sent an answer that is not HTTP: {1}")]
    Malformed(SocketAddr, hyper::Error),
    #[error("{address} sent an answer whose head has more than {header_count} fields or {header_bytes} bytes")]
    TooLargeHead { address: SocketAddr, header_count: usize, header_bytes: usize },
    #[error("{0} sent a response that cannot be passed on: {1}")]
    Unsound(SocketAddr, Unsound),
    #[error("{0} stopped reading the request: {1}")]
    Stalled(SocketAddr, Stalled),
    #[error(transparent)]
    Request(RequestError),
    #[error("{0} gave no answer within {1:?}")]
    Timeout(SocketAddr, Duration),
    #[error("the request cannot be put in HTTP/1.1 form: {0}")]
    Unsendable(http::Error),
}

impl Error {
    /// The error of an endpoint that hyper reports.
    pub(super) fn of(address: SocketAddr, error: hyper::Error, transport: &Transport) -> Self {
        let source = std::error::Error::source(&error);
        if error.is_user() {
            let body = source.and_then(|source| source.downcast_ref());
            return Self::Request(body.map_or(RequestError::BrokenOff, RequestError::of));
        }
        if let Some(stalled) = source.and_then(socket::stalled) {
            return Self::Stalled(address, stalled);
        }
        if error.is_parse_too_large() {
            let Transport { header_count, header_bytes, .. } = *transport;
            return Self::TooLargeHead { address, header_count, header_bytes };
        }
        if error.is_parse() || is_malformed(&error) {
            Self::Malformed(address, error)
        } else {
            Self::Reset(address, error)
        }
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(..) if self.is_exhausted() => Outcome::Gateway,
            Self::Connect(..) => Outcome::Refused,
            Self::ConnectTimeout(..) => Outcome::ConnectTimeout,
            Self::Reset(..) => Outcome::Reset,
            Self::Malformed(..) | Self::Unsound(..) | Self::TooLargeHead { .. } => Outcome::Malformed,
            Self::Timeout(..) | Self::Stalled(..) => Outcome::Timeout,
            // The last ends before there is an attempt.
            Self::Request(_) | Self::Unsendable(_) | Self::NoEndpoint(_) => Outcome::Client,
        }
    }

    /// The endpoint has had nothing of the request, and its body is still there.
    pub(super) fn is_unreached(&self) -> bool {
        matches!(self, Self::Connect(..) | Self::ConnectTimeout(..)) && !self.is_exhausted()
    }

    /// The gateway has no descriptor for the connection: no endpoint is at fault.
    pub fn is_exhausted(&self) -> bool {
        matches!(self, Self::Connect(_, error) if connect::is_exhausted(error))
    }

    /// Who it was tried with.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        match self {
            Self::Connect(..) if self.is_exhausted() => None,
            Self::Connect(address, _)
            | Self::ConnectTimeout(address, _)
            | Self::Reset(address, _)
            | Self::Malformed(address, _)
            | Self::Unsound(address, _)
            | Self::TooLargeHead { address, .. }
            | Self::Stalled(address, _)
            | Self::Timeout(address, _) => Some(*address),
            Self::Request(_) | Self::Unsendable(_) | Self::NoEndpoint(_) => None,
        }
    }
}

/// The endpoint closed or reset the connection without a byte of an answer.
pub(super) fn broke_off(error: &hyper::Error) -> bool {
    let is_io = || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    !is_malformed(error) && (error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_io())
}
