//! Chains: the ordered filters of a route, their phases, and what a filter's failure means.
//! It names no ABI and sends nothing.

mod body;
mod record;
mod version;

use std::sync::Arc;

use tokio::time::Instant;

pub use self::{
    body::Unread,
    record::{FilterRecord, PhaseCounts, PluginRecord},
    version::{OnTrial, ShareKey, Version},
};
use crate::{
    exchange::{Body, Exchange, FilterSlot, RequestId},
    plugin::{Answer, Caller, Candidate, Cause, Failure, Given, Phase, Refusal, Summary, Verdict},
    seldom::Seldom,
    worker::WorkerId,
};

/// The filters of a route: requests meet them in this order, responses in reverse.
#[derive(Debug, Default)]
pub struct Chain {
    filters: Vec<Arc<Filter>>,
    /// Some want to know of the end.
    pub logs: bool,
    /// Who calls is known once so many have run: the last of them is an authenticator.
    known: usize,
}

/// Some of a chain's filters, by whether it is known behind them who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    All,
    /// Up to the last that may tell.
    UntilKnown,
    /// Those after that one.
    OnceKnown,
}

/// One plugin with its configuration on a route.
#[derive(Debug)]
pub struct Filter {
    pub plugin: Arc<str>,
    /// None until the plugin has a revision.
    pub version: Option<Version>,
    pub trial: Option<OnTrial>,
    pub on_error: OnError,
    /// Of calls while there is no revision.
    pub missing: Arc<FilterRecord>,
    pub missing_logged: Seldom,
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
    Answer(Box<Answer>),
    /// Whoever calls is not let through.
    Refused(Box<Refusal>),
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
    pub fn new(filters: Vec<Arc<Filter>>) -> Self {
        let logs = filters.iter().any(|filter| filter.has(Phase::Log));
        let known = filters.iter().rposition(|filter| filter.has(Phase::Authenticate)).map_or(0, |last| last + 1);
        Self { filters, logs, known }
    }

    pub fn filters(&self) -> &[Arc<Filter>] {
        &self.filters
    }

    /// Whether one of its filters tells who calls.
    pub fn authenticates(&self) -> bool {
        self.known > 0
    }

    /// Makes room for what its filters leave on an exchange, which may meet several chains. Gives where that begins.
    pub fn enter(&self, exchange: &mut Exchange) -> usize {
        let first = exchange.filters.len();
        exchange.filters.resize_with(first + self.filters.len(), FilterSlot::default);
        first
    }

    /// Runs the request phases of some of its filters in order, up to the first that answers or fails closed. Each filter is asked
    /// who calls, sees the head, then the body as the filters before it have left it, and says where it goes.
    pub async fn request(
        &self,
        caller: Caller<'_>,
        exchange: &mut Exchange,
        body: &mut Body,
        first: usize,
        span: Span,
    ) -> Option<Instead> {
        let which = match span {
            Span::All => 0..self.filters.len(),
            Span::UntilKnown => 0..self.known,
            Span::OnceKnown => self.known..self.filters.len(),
        };
        for (slot, filter) in (first + which.start..).zip(&self.filters[which]) {
            // Boxed, or every exchange would be as large as what its filters need.
            let instead = match Box::pin(filter.request(caller, exchange, slot, body)).await {
                Ok(instead) => instead,
                Err((phase, failure)) => filter.on_failure(phase, failure, &exchange.id),
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
        first: usize,
        left: &mut usize,
    ) -> Option<Instead> {
        while let Some(number) = left.checked_sub(1) {
            *left = number;
            let (filter, slot) = (&self.filters[number], first + number);
            if !exchange.filters.get(slot).is_some_and(|slot| slot.passed) {
                continue;
            }
            let instead = Box::pin(filter.response(caller, exchange, slot, body)).await;
            if instead.is_some() {
                return instead;
            }
        }
        None
    }
}

impl Filter {
    /// Its phases on a request, in their order.
    async fn request(
        self: &Arc<Self>,
        caller: Caller<'_>,
        exchange: &mut Exchange,
        slot: usize,
        body: &mut Body,
    ) -> Result<Option<Instead>, (Phase, Failure)> {
        // Who has been told of by another filter is not asked again.
        if self.has(Phase::Authenticate) && exchange.consumer.is_none() {
            match self.call(caller, Phase::Authenticate, Given::Nothing, exchange, slot).await {
                Ok(Verdict::Known(consumer)) => exchange.consumer = Some(consumer.into()),
                Ok(Verdict::Refuse(refusal)) => return Ok(Some(Instead::Refused(refusal))),
                Ok(_) => {}
                // Nobody has told; what its request phase takes off the request is taken off all the same.
                Err(failure) if self.on_error == OnError::Open => {
                    self.tell(Phase::Authenticate, &failure, Some(&exchange.id));
                }
                Err(failure) => return Err((Phase::Authenticate, failure)),
            }
        }
        let head = self.call(caller, Phase::Request, Given::Nothing, exchange, slot).await;
        match head.map_err(|failure| (Phase::Request, failure))? {
            Verdict::Done => {
                exchange.filters[slot].done = true;
                return Ok(None);
            }
            Verdict::PassBody => exchange.filters[slot].passed = true,
            Verdict::Respond(answer) => {
                exchange.filters[slot].passed = true;
                return Ok(Some(Instead::Answer(answer)));
            }
            _ => {
                exchange.filters[slot].passed = true;
                // A handshake has no body, and a body that a filter puts there would be read as frames of the WebSocket.
                if !exchange.request.websocket
                    && let Some(instead) = self.body(caller, body::REQUEST, exchange, slot, body).await
                {
                    return Ok(Some(instead));
                }
            }
        }
        if self.has(Phase::Route) { self.route(caller, exchange, slot, body).await } else { Ok(None) }
    }

    /// Its phases on a response, in their order.
    async fn response(
        self: &Arc<Self>,
        caller: Caller<'_>,
        exchange: &mut Exchange,
        slot: usize,
        body: &mut Body,
    ) -> Option<Instead> {
        exchange.filters[slot].described.clear();
        match self.call(caller, Phase::Response, Given::Nothing, exchange, slot).await {
            Ok(Verdict::Respond(answer)) => Some(Instead::Answer(answer)),
            Ok(Verdict::PassBody) => None,
            Ok(Verdict::Done) => {
                exchange.filters[slot].done = true;
                None
            }
            Ok(_) => self.body(caller, body::RESPONSE, exchange, slot, body).await,
            Err(failure) => self.on_failure(Phase::Response, failure, &exchange.id),
        }
    }

    /// Asks where it goes.
    async fn route(
        &self,
        caller: Caller<'_>,
        exchange: &mut Exchange,
        slot: usize,
        body: &mut Body,
    ) -> Result<Option<Instead>, (Phase, Failure)> {
        let failed = |failure| (Phase::Route, failure);
        let mut to = self.call(caller, Phase::Route, Given::Nothing, exchange, slot).await.map_err(failed)?;
        if matches!(to, Verdict::WithBody) {
            let whole = match self.collect(caller, Phase::Route, exchange, slot, body).await {
                Ok(whole) => whole,
                Err(instead) => return Ok(instead),
            };
            let given = Given::Body(whole.bytes.clone());
            *body = whole.into();
            to = self.call(caller, Phase::Route, given, exchange, slot).await.map_err(failed)?;
        }
        match to {
            Verdict::Send(destination) => exchange.destination = Some(destination),
            Verdict::Respond(answer) => return Ok(Some(Instead::Answer(answer))),
            _ => {}
        }
        Ok(None)
    }

    /// Chooses among endpoints; none if that is left to the service.
    pub async fn choose(
        &self,
        caller: Caller<'_>,
        exchange: &mut Exchange,
        candidates: Vec<Candidate>,
    ) -> Result<Option<usize>, Failed> {
        let slot = exchange.filters.len();
        exchange.filters.push(FilterSlot::default());
        let chosen = self.call(caller, Phase::Balance, Given::Candidates(candidates), exchange, slot).await;
        exchange.filters.truncate(slot);
        match chosen {
            Ok(Verdict::Choose(number)) => Ok(Some(number)),
            Ok(_) => Ok(None),
            Err(failure) => self.closed(Phase::Balance, failure, &exchange.id).map_or(Ok(None), Err),
        }
    }

    /// Runs the log phase on an exchange that has ended, unless an earlier phase of this filter said that it is done with it.
    pub async fn log(&self, caller: Caller<'_>, exchange: &mut Exchange, slot: usize, summary: Summary) {
        if exchange.filters.len() <= slot {
            exchange.filters.resize_with(slot + 1, FilterSlot::default);
        }
        if exchange.filters[slot].done {
            return;
        }
        let logged = self.call(caller, Phase::Log, Given::Summary(Box::new(summary)), exchange, slot).await;
        if let Err(failure) = logged {
            self.tell(Phase::Log, &failure, Some(&exchange.id));
        }
    }

    /// There was no room to tell it of one.
    pub fn not_told(&self, worker: WorkerId) {
        let failure = Failure::new(Cause::Instances, "too many exchanges have ended");
        self.version.iter().for_each(|version| version.record.count(worker, Phase::Log, Err(&failure)));
    }

    /// Whether it is the same plugin with the same configuration in the same state.
    pub fn is_same(&self, other: &Self) -> bool {
        match (&self.version, &other.version) {
            (Some(one), Some(other)) => Arc::ptr_eq(&one.instances, &other.instances),
            _ => false,
        }
    }

    /// Has its time come.
    pub async fn tick(&self, caller: Caller<'_>) {
        let Some(version) = &self.version else { return };
        // A trial that has failed too often gets nothing any more, also while that is not stored yet.
        if self.trial.as_ref().is_some_and(|trial| trial.budget.is_exhausted()) {
            return;
        }
        let start = self.times.is_kept(caller.worker).then(Instant::now);
        let outcome = version.instances.alone(caller, Phase::Tick, Given::Nothing, None, None).await;
        if let Some(start) = start {
            self.times.add(caller.worker, Phase::Tick, start.elapsed());
        }
        version.record.ended(caller.worker, Phase::Tick, &outcome);
        if let Err(failure) = outcome.result {
            self.note(version, &failure);
            self.tell(Phase::Tick, &failure, None);
        }
    }

    /// Nothing if the exchange goes on as if this filter were not there.
    fn on_failure(&self, phase: Phase, failure: Failure, request: &RequestId) -> Option<Instead> {
        self.closed(phase, failure, request).map(Instead::Failed)
    }

    fn closed(&self, phase: Phase, failure: Failure, request: &RequestId) -> Option<Failed> {
        self.tell(phase, &failure, Some(request));
        match self.on_error {
            OnError::Open => None,
            OnError::Closed => Some(Failed { plugin: Arc::clone(&self.plugin), phase, failure }),
        }
    }

    fn tell(&self, phase: Phase, failure: &Failure, request: Option<&RequestId>) {
        let may_log = match self.leading() {
            Some(version) => version.instances.may_log(),
            None => self.missing_logged.due().is_some(),
        };
        if !may_log {
            return;
        }
        tracing::warn!(
            plugin = &*self.plugin,
            request = request.map(RequestId::as_str),
            phase = phase.as_str(),
            cause = failure.cause.as_str(),
            "filter failed: {}",
            failure.message
        );
    }
}
