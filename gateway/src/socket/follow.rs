//! The part of a connection's bytes that the gateway follows beside hyper, by the kind of the peer.

use std::{io, sync::Arc};

use super::{
    Requests,
    frames::Frames,
    interim::{Exchanges, Interim},
};
use crate::monitor::record::WireErrors;

/// The bytes of one connection, as they are read and written.
#[derive(Debug)]
pub(super) enum Followed {
    /// Those of a client: where its requests end, and the errors that it is sent.
    Client { requests: Arc<Requests>, frames: Frames, errors: Arc<WireErrors> },
    /// Those of a service: its interim responses.
    Service(Interim),
    /// Those of another peer, which pass as they are.
    Nothing,
}

impl Followed {
    pub(super) fn of_client(requests: Arc<Requests>, errors: Arc<WireErrors>) -> Self {
        Self::Client { requests, frames: Frames::Unknown, errors }
    }

    pub(super) fn to_service(interim_responses: u32, exchanges: Exchanges) -> Self {
        Self::Service(Interim::new(interim_responses, exchanges))
    }

    /// # Errors
    ///
    /// The connection cannot go on: what the peer has sent is not valid, or too much.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        match self {
            Self::Client { requests, .. } => requests.read(bytes),
            Self::Service(interim) => interim.read(bytes),
            Self::Nothing => Ok(()),
        }
    }

    /// Whether the peer is one that answers, not one that asks.
    pub(super) fn is_of_server(&self) -> bool {
        !matches!(self, Self::Client { .. })
    }

    /// Nothing more is sent.
    pub(super) fn shut_down(&mut self) {
        if let Self::Client { requests, .. } = self {
            requests.shut_down();
        }
    }

    pub(super) fn written(&mut self, bytes: &[u8]) {
        match self {
            Self::Client { frames, errors, .. } => frames.written(bytes, errors),
            Self::Service(_) | Self::Nothing => {}
        }
    }
}
