//! What the gateway does for a guest, whatever its ABI: the state behind one instance and neutral operations on it.
//! It decodes nothing, opens no sockets and decides no policy.

mod consumers;
mod edit;
mod log;
mod stream;
mod wasi;

use std::sync::Arc;

use bytes::Bytes;

pub use consumers::{Consumers, Presented, Verified};
pub(super) use edit::{EditError, Head, Write, field, final_status};
pub(super) use log::Level;
pub use stream::{Output, Passing};

use super::{
    limits::{Limits, Meter},
    ticker::Ticker,
};
use crate::{
    exchange::{Consumer, Draft, RequestHead, RequestId, ResponseHead},
    worker::WorkerId,
};

/// Whose instance this is, as log lines name it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) plugin: Arc<str>,
    pub(super) revision: u32,
}

/// What a gateway offers to guests beside their exchange, as one worker does in one generation.
#[derive(Debug)]
pub struct Handles {
    pub consumers: Arc<dyn Consumers>,
}

/// Who calls a plugin.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    pub worker: WorkerId,
    pub handles: &'a Arc<Handles>,
}

/// The state behind one instance.
pub(super) struct Host {
    pub(super) identity: Arc<Identity>,
    pub(super) meter: Meter,
    /// The exchange that the current call is about.
    pub(super) request: Option<RequestId>,
    pub(super) lent: Option<Lent>,
    /// A body that the current call passes on.
    pub(super) passing: Option<Passing>,
    /// In a phase, for a plugin that may use them.
    pub(super) handles: Option<Arc<Handles>>,
    wasi: Option<Box<wasi::Wasi>>,
}

/// The part of an exchange that a guest has for the length of a call.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) request: Draft<RequestHead>,
    pub(super) response: Draft<ResponseHead>,
    pub(super) kept: Bytes,
    /// Whom it comes from, as an authenticator told.
    pub(super) consumer: Option<Arc<Consumer>>,
    /// Header fields and bytes that this call has written.
    pub(super) written: edit::Written,
}

#[derive(Debug, thiserror::Error)]
#[error("called outside of an exchange")]
pub(super) struct NoExchange;

impl Host {
    pub(super) fn new(identity: Arc<Identity>, limits: Limits, ticker: Arc<Ticker>) -> Self {
        let meter = Meter::new(limits, ticker);
        Self { identity, meter, request: None, lent: None, passing: None, handles: None, wasi: None }
    }

    /// Whose it is that a client presented.
    pub(super) async fn verify(&mut self, presented: Presented) -> Result<Option<Consumer>, NoExchange> {
        let handles = self.handles.clone().ok_or(NoExchange)?;
        Ok(handles.consumers.verify(presented).await)
    }

    pub(super) fn lent(&mut self) -> Result<&mut Lent, NoExchange> {
        self.lent.as_mut().ok_or(NoExchange)
    }

    /// A call is over: nothing of its exchange stays.
    pub(super) fn clear(&mut self) {
        self.request = None;
        self.lent = None;
        self.passing = None;
        self.handles = None;
    }
}
