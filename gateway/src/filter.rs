//! Chains: the ordered filters of a route, their phases, and what a filter's failure means.
//! It names no ABI and sends nothing.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{
    exchange::{Exchange, FilterSlot},
    monitor::record::Counter,
    plugin::{Answer, Cause, Failure, Instances, Phase, Verdict},
    worker::WorkerId,
};

/// The filters of a route: requests meet them in this order, responses in reverse.
#[derive(Debug, Default)]
pub struct Chain {
    filters: Vec<Filter>,
}

/// One plugin with its configuration on a route.
#[derive(Debug)]
pub struct Filter {
    pub plugin: Arc<str>,
    /// None until the plugin has a revision.
    pub instances: Option<Arc<Instances>>,
    pub on_error: OnError,
    pub stats: Arc<FilterStats>,
}

/// What an exchange gets when a filter fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnError {
    /// An answer of the gateway.
    Closed,
    /// The next filter.
    Open,
}

/// Calls of one filter; carried over from generation to generation.
#[derive(Debug)]
pub struct FilterStats {
    /// By phase, in the order of `Phase::ALL`.
    pub calls: [PhaseStats; Phase::ALL.len()],
}

#[derive(Debug)]
pub struct PhaseStats {
    pub proceeded: Counter,
    pub responded: Counter,
    /// By cause, in the order of `Cause::ALL`. Failures are rare: all workers share them.
    pub failed: [AtomicU64; Cause::ALL.len()],
}

/// What a chain puts in the place of the service's answer.
#[derive(Debug)]
pub enum Instead {
    Answer(Answer),
    Failed(Failed),
}

/// A filter failed and its exchange is closed for it.
#[derive(Debug, thiserror::Error)]
#[error("filter \"{plugin}\" failed: {failure}")]
pub struct Failed {
    pub plugin: Arc<str>,
    pub failure: Failure,
}

impl Chain {
    pub fn new(filters: Vec<Filter>) -> Self {
        Self { filters }
    }

    pub fn filters(&self) -> &[Filter] {
        &self.filters
    }

    /// Runs the request phases in order, up to the first that answers or fails closed.
    pub async fn request(&self, worker: WorkerId, exchange: &mut Exchange) -> Option<Instead> {
        exchange.filters.resize_with(self.filters.len(), FilterSlot::default);
        for (slot, filter) in self.filters.iter().enumerate() {
            match filter.call(worker, Phase::Request, exchange, slot).await {
                Ok(verdict) => {
                    exchange.filters[slot].passed = true;
                    if let Verdict::Respond(answer) = verdict {
                        return Some(Instead::Answer(answer));
                    }
                }
                Err(failure) => {
                    if let Some(instead) = filter.on_failure(failure, exchange) {
                        return Some(instead);
                    }
                }
            }
        }
        None
    }

    /// Runs the response phases that are due, the last filter's first, up to the first that answers instead or fails
    /// closed. `left` counts the filters still to go: start it with their number and call again until `None`.
    pub async fn response(&self, worker: WorkerId, exchange: &mut Exchange, left: &mut usize) -> Option<Instead> {
        while let Some(slot) = left.checked_sub(1) {
            *left = slot;
            let filter = &self.filters[slot];
            if !exchange.filters[slot].passed {
                continue;
            }
            match filter.call(worker, Phase::Response, exchange, slot).await {
                Ok(Verdict::Proceed) => {}
                Ok(Verdict::Respond(answer)) => return Some(Instead::Answer(answer)),
                Err(failure) => {
                    if let Some(instead) = filter.on_failure(failure, exchange) {
                        return Some(instead);
                    }
                }
            }
        }
        None
    }
}

impl Filter {
    async fn call(
        &self,
        worker: WorkerId,
        phase: Phase,
        exchange: &mut Exchange,
        slot: usize,
    ) -> Result<Verdict, Failure> {
        let stats = self.stats.of(phase);
        let result = match &self.instances {
            Some(instances) if !instances.has(phase) => return Ok(Verdict::Proceed),
            Some(instances) => instances.call(worker, phase, exchange, slot).await,
            None => Err(Failure::new(Cause::Missing, "it has no revision yet")),
        };
        match &result {
            Ok(Verdict::Proceed) => stats.proceeded.add_one(worker),
            Ok(Verdict::Respond(_)) => stats.responded.add_one(worker),
            Err(failure) => stats.count_failure(failure.cause),
        }
        result
    }

    /// Nothing if the exchange goes on as if this filter were not there.
    fn on_failure(&self, failure: Failure, exchange: &Exchange) -> Option<Instead> {
        tracing::warn!(
            plugin = &*self.plugin,
            request = exchange.id.as_str(),
            cause = failure.cause.as_str(),
            "filter failed: {}",
            failure.message
        );
        match self.on_error {
            OnError::Open => None,
            OnError::Closed => Some(Instead::Failed(Failed { plugin: Arc::clone(&self.plugin), failure })),
        }
    }
}

impl FilterStats {
    pub fn new(workers: usize) -> Self {
        Self { calls: Phase::ALL.map(|_| PhaseStats::new(workers)) }
    }

    pub fn of(&self, phase: Phase) -> &PhaseStats {
        &self.calls[phase as usize]
    }
}

impl PhaseStats {
    fn new(workers: usize) -> Self {
        Self {
            proceeded: Counter::new(workers),
            responded: Counter::new(workers),
            failed: Cause::ALL.map(|_| AtomicU64::new(0)),
        }
    }

    /// How many calls failed of this cause.
    pub fn failures(&self, cause: Cause) -> u64 {
        self.failed[cause as usize].load(Relaxed)
    }

    fn count_failure(&self, cause: Cause) {
        self.failed[cause as usize].fetch_add(1, Relaxed);
    }
}
