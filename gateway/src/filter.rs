//! Chains: the ordered filters of a route, their phases, and what a filter's failure means.
//! It names no ABI and sends nothing.

mod body;
mod record;

use std::sync::Arc;

use tokio::time::Instant;

pub use self::{
    body::Unread,
    record::{FilterRecord, PhaseCounts, PluginRecord},
};
use crate::{
    exchange::{Body, Exchange, FilterSlot, RequestId},
    plugin::{Answer, Caller, Cause, Failure, Given, Instances, Phase, Verdict},
};

/// The filters of a route: requests meet them in this order, responses in reverse.
#[derive(Debug, Default)]
pub struct Chain {
    filters: Vec<Arc<Filter>>,
}

/// One plugin with its configuration on a route.
#[derive(Debug)]
pub struct Filter {
    pub plugin: Arc<str>,
    /// None until the plugin has a revision.
    pub instances: Option<Arc<Instances>>,
    pub on_error: OnError,
    pub record: Arc<FilterRecord>,
    pub times: Arc<PluginRecord>,
}

/// What an exchange gets when a filter fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// An answer of the gateway.
    Closed,
    /// The next filter.
    Open,
}

/// What a chain puts in the place of the service's answer.
#[derive(Debug)]
pub enum Instead {
    Answer(Answer),
    Failed(Failed),
    Unread(Unread),
}

/// A filter failed and its exchange is closed for it.
#[derive(Debug, thiserror::Error)]
#[error("filter \"{plugin}\" failed: {failure}")]
pub struct Failed {
    pub plugin: Arc<str>,
    pub phase: Phase,
    pub failure: Failure,
}

impl Chain {
    pub fn new(filters: Vec<Filter>) -> Self {
        Self { filters: filters.into_iter().map(Arc::new).collect() }
    }

    pub fn filters(&self) -> &[Arc<Filter>] {
        &self.filters
    }

    /// Runs the request phases in order, up to the first that answers or fails closed. Each filter sees the head, then the
    /// body as the filters before it have left it.
    pub async fn request(&self, caller: Caller<'_>, exchange: &mut Exchange, body: &mut Body) -> Option<Instead> {
        exchange.filters.resize_with(self.filters.len(), FilterSlot::default);
        for (slot, filter) in self.filters.iter().enumerate() {
            let instead = match filter.call(caller, Phase::Request, Given::Nothing, exchange, slot).await {
                Ok(Verdict::Done) => None,
                Ok(verdict) => {
                    exchange.filters[slot].passed = true;
                    match verdict {
                        Verdict::Respond(answer) => Some(Instead::Answer(answer)),
                        Verdict::PassBody => None,
                        _ => filter.body(caller, body::REQUEST, exchange, slot, body).await,
                    }
                }
                Err(failure) => filter.on_failure(Phase::Request, failure, &exchange.id),
            };
            if instead.is_some() {
                return instead;
            }
        }
        None
    }

    /// Runs the response phases that are due, the last filter's first, up to the first that answers instead or fails
    /// closed. `left` counts the filters still to go: start it with their number and call again until `None`.
    pub async fn response(
        &self,
        caller: Caller<'_>,
        exchange: &mut Exchange,
        body: &mut Body,
        left: &mut usize,
    ) -> Option<Instead> {
        while let Some(slot) = left.checked_sub(1) {
            *left = slot;
            let filter = &self.filters[slot];
            if !exchange.filters[slot].passed {
                continue;
            }
            let instead = match filter.call(caller, Phase::Response, Given::Nothing, exchange, slot).await {
                Ok(Verdict::Respond(answer)) => Some(Instead::Answer(answer)),
                Ok(Verdict::Done | Verdict::PassBody) => None,
                Ok(_) => filter.body(caller, body::RESPONSE, exchange, slot, body).await,
                Err(failure) => filter.on_failure(Phase::Response, failure, &exchange.id),
            };
            if instead.is_some() {
                return instead;
            }
        }
        None
    }
}

impl Filter {
    /// The pool that has this phase; a plugin that is not there yet counts as having the first of each head.
    fn with(&self, phase: Phase) -> Option<Result<&Arc<Instances>, Failure>> {
        match &self.instances {
            Some(instances) => instances.has(phase).then_some(Ok(instances)),
            None if matches!(phase, Phase::Request | Phase::Response) => {
                Some(Err(Failure::new(Cause::Missing, "it has no revision yet")))
            }
            None => None,
        }
    }

    async fn call(
        &self,
        caller: Caller<'_>,
        phase: Phase,
        given: Given,
        exchange: &mut Exchange,
        slot: usize,
    ) -> Result<Verdict, Failure> {
        let result = match self.with(phase) {
            None => return Ok(Verdict::Proceed),
            Some(Ok(instances)) => {
                let start = self.times.is_kept(caller.worker).then(Instant::now);
                let result = instances.call(caller, phase, given, exchange, slot).await;
                if let Some(start) = start {
                    self.times.add(caller.worker, phase, start.elapsed());
                }
                result
            }
            Some(Err(failure)) => Err(failure),
        };
        self.record.count(caller.worker, phase, result.as_ref());
        result
    }

    /// Nothing if the exchange goes on as if this filter were not there.
    fn on_failure(&self, phase: Phase, failure: Failure, request: &RequestId) -> Option<Instead> {
        self.tell(phase, &failure, request);
        match self.on_error {
            OnError::Open => None,
            OnError::Closed => Some(Instead::Failed(Failed { plugin: Arc::clone(&self.plugin), phase, failure })),
        }
    }

    fn tell(&self, phase: Phase, failure: &Failure, request: &RequestId) {
        tracing::warn!(
            plugin = &*self.plugin,
            request = request.as_str(),
            phase = phase.as_str(),
            cause = failure.cause.as_str(),
            "filter failed: {}",
            failure.message
        );
    }
}
