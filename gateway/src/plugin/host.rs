//! What the gateway does for a guest, whatever its ABI: the state behind one instance and neutral operations on it.
//! It decodes nothing, opens no sockets and decides no policy.

mod consumers;
mod edit;
mod log;
mod wasi;

use std::sync::Arc;

use bytes::Bytes;

pub use consumers::{Consumers, Known, Presented, Verified};
pub(super) use edit::{EditError, Head, Write, field, final_status};
pub(super) use log::Level;

use super::{
    limits::{Limits, Meter},
    ticker::Ticker,
};
use crate::exchange::{Draft, RequestHead, RequestId, ResponseHead};

/// Whose instance this is, as log lines name it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) plugin: Arc<str>,
    pub(super) revision: u32,
}

/// The state behind one instance.
pub(super) struct Host {
    pub(super) identity: Arc<Identity>,
    pub(super) meter: Meter,
    pub(super) lent: Option<Lent>,
    wasi: Option<Box<wasi::Wasi>>,
}

/// The part of an exchange that a guest has for the length of a call.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) id: RequestId,
    pub(super) request: Draft<RequestHead>,
    pub(super) response: Draft<ResponseHead>,
    pub(super) kept: Bytes,
    /// For a plugin that imports them.
    pub(super) consumers: Option<Arc<dyn Consumers>>,
    /// Header fields and bytes that this call has written.
    pub(super) written: edit::Written,
}

#[derive(Debug, thiserror::Error)]
#[error("called outside of an exchange")]
pub(super) struct NoExchange;

impl Host {
    pub(super) fn new(identity: Arc<Identity>, limits: Limits, ticker: Arc<Ticker>) -> Self {
        Self { identity, meter: Meter::new(limits, ticker), lent: None, wasi: None }
    }

    /// Whose it is that a client presented.
    pub(super) async fn verify(&mut self, presented: Presented) -> Result<Option<Known>, NoExchange> {
        let consumers = self.lent()?.consumers.clone().ok_or(NoExchange)?;
        Ok(consumers.verify(presented).await)
    }

    pub(super) fn lent(&mut self) -> Result<&mut Lent, NoExchange> {
        self.lent.as_mut().ok_or(NoExchange)
    }
}
