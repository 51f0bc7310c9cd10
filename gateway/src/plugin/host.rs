//! What the gateway does for a guest, whatever its ABI: the state behind one instance and neutral operations on it.
//! It decodes nothing, opens no sockets and decides no policy.

mod ambient;
mod consumers;
mod crypto;
mod edit;
mod http;
mod key_value;
mod log;
mod metrics;
mod stream;
mod wasi;

use std::{mem, net::IpAddr, sync::Arc};

use ::http::HeaderValue;
use bytes::Bytes;

pub(super) use ambient::{monotonic, random};
pub use consumers::{Consumers, Presented, Verified};
pub(super) use crypto::{Algorithm, Hash, PublicKey, Signed, equal, verify as verify_signature};
pub(super) use edit::{EditError, Head, Write, field, final_status};
pub(super) use http::{Asked, Calls};
pub use http::{CallAnswer, CallError, CallOut, CallTarget, Called, Origin, Outbound, Reach};
pub(super) use key_value::{ValueError, Values};
pub(super) use log::{Level, Lines};
pub(super) use metrics::{MetricError, Series, Step};
pub use metrics::{OwnMetric, OwnValue};
pub use stream::{Output, Passing};

use super::{
    State,
    limits::{Cause, Meter, Overruns},
};
use crate::{
    exchange::{Client, Consumer, Exchange, RequestHead, RequestId, ResponseHead},
    worker::WorkerId,
};

/// Whose instance this is, as log lines name it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) plugin: Arc<str>,
    pub(super) revision: u32,
    /// The log lines of the plugin, and how many of them a second may have.
    pub(super) lines: Arc<Lines>,
    pub(super) lines_per_second: u32,
}

/// What a gateway offers to guests beside their exchange, as one worker does in one generation.
#[derive(Debug)]
pub struct Handles {
    pub consumers: Arc<dyn Consumers>,
    /// Who makes calls; without it nobody can be called.
    pub outbound: Option<Arc<dyn Outbound>>,
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
    /// What all instances of the plugin share.
    pub(super) state: Arc<State>,
    /// Whom it may call.
    pub(super) reach: Arc<Reach>,
    pub(super) calls: Calls,
    /// What the current call is about.
    pub(super) about: About,
    /// Stays where it is: only the heads come and go.
    lent: Lent,
    /// A body that the current call passes on.
    pub(super) passing: Option<Passing>,
    /// Those whom the gateway has told of in this call.
    pub(super) verified: Vec<Consumer>,
    /// Limits that the guest was told of in this call.
    pub(super) overruns: Overruns,
    /// Why the guest says that it is about to trap.
    pub(super) panic: Option<Box<str>>,
    wasi: Option<Box<wasi::Wasi>>,
}

/// What a call is about, beside the heads of its exchange.
#[derive(Debug, Default)]
pub(super) struct About {
    /// The exchange; a tick has none.
    pub(super) request: Option<RequestId>,
    /// Its `Via`, which calls on its behalf go on with.
    pub(super) via: Option<HeaderValue>,
    /// For a plugin that may use them.
    pub(super) handles: Option<Arc<Handles>>,
}

/// The part of an exchange that a guest has for the length of a call.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// There is one.
    is_lent: bool,
    pub(super) request: RequestHead,
    pub(super) response: ResponseHead,
    pub(super) kept: Bytes,
    /// The peer and the address of the client, for a plugin that may know.
    pub(super) client: Option<(Arc<Client>, IpAddr)>,
    /// Whom it comes from, as an authenticator told.
    pub(super) consumer: Option<Arc<Consumer>>,
    /// What this call has written.
    pub(super) written: edit::Written,
}

#[derive(Debug, thiserror::Error)]
#[error("called outside of an exchange")]
pub(super) struct NoExchange;

impl Lent {
    fn swap(&mut self, exchange: &mut Exchange) {
        mem::swap(&mut self.request, &mut exchange.request);
        mem::swap(&mut self.response, &mut exchange.response);
    }
}

impl Host {
    pub(super) fn new(identity: Arc<Identity>, state: Arc<State>, reach: Arc<Reach>, meter: Meter) -> Self {
        Self {
            identity,
            meter,
            state,
            reach,
            calls: Calls::default(),
            about: About::default(),
            lent: Lent::default(),
            passing: None,
            verified: Vec::new(),
            overruns: Overruns::default(),
            panic: None,
            wasi: None,
        }
    }

    /// Whose it is that a client presented.
    pub(super) async fn verify(&mut self, presented: Presented) -> Result<Option<Consumer>, NoExchange> {
        let handles = self.about.handles.clone().ok_or(NoExchange)?;
        let known = handles.consumers.verify(presented).await;
        let is_new = |known: &&Consumer| !self.verified.iter().any(|before| before.name == known.name);
        let new = known.as_ref().filter(is_new).cloned();
        self.verified.extend(new);
        Ok(known)
    }

    pub(super) fn lent(&mut self) -> Result<&mut Lent, NoExchange> {
        if self.lent.is_lent { Ok(&mut self.lent) } else { Err(NoExchange) }
    }

    /// Takes the heads of an exchange, and what else the filter of this slot may see of it.
    pub(super) fn lend(&mut self, exchange: &mut Exchange, slot: usize, knows_client: bool) {
        let lent = &mut self.lent;
        lent.is_lent = true;
        lent.swap(exchange);
        lent.kept = exchange.filters[slot].kept.clone();
        lent.client = knows_client.then(|| (Arc::clone(&exchange.client), exchange.client_address()));
        lent.consumer = exchange.consumer.clone();
    }

    /// Gives them back, edited or as they were; nothing if there are none.
    pub(super) fn give_back(&mut self, exchange: &mut Exchange, slot: usize, accept: bool) {
        let lent = &mut self.lent;
        if !mem::take(&mut lent.is_lent) {
            return;
        }
        if accept {
            exchange.filters[slot].kept = mem::take(&mut lent.kept);
            exchange.filters[slot].described.extend(lent.written.described());
        } else {
            lent.undo();
        }
        lent.swap(exchange);
        (lent.kept, lent.client, lent.consumer) = Default::default();
        lent.written.clear();
    }

    /// The guest is over a limit, and is told.
    pub(super) fn over(&mut self, cause: Cause) {
        self.overruns.add(cause);
    }

    /// A call is over: nothing of its exchange stays. Gives what the guest was told of.
    pub(super) fn clear(&mut self) -> Overruns {
        self.about = About::default();
        self.passing = None;
        self.verified.clear();
        self.panic = None;
        self.calls.clear();
        mem::take(&mut self.overruns)
    }
}

/// The beginning of a guest's text, escaped, for a message: the whole of it may be as long as what one call may copy.
fn shortened(text: &str) -> String {
    text.chars().take(100).flat_map(char::escape_debug).collect()
}
