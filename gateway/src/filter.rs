//! Chains: the ordered filters of a route, their phases, and what a filter's failure means.
//! It names no ABI and sends nothing.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    exchange::{Exchange, FilterSlot},
    monitor::{
        count::{Count, Times, Workers},
        record::Record,
    },
    plugin::{Answer, Cause, Consumers, Failure, Instances, Phase, Verdict},
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

/// Calls of one plugin's revision on one route.
#[derive(Debug)]
pub struct FilterRecord(Workers<[PhaseCounts; Phase::ALL.len()]>);

/// What calls in one phase came to.
#[derive(Debug, Default)]
pub struct PhaseCounts {
    pub proceeded: Count,
    pub responded: Count,
    /// By cause, in the order of `Cause::ALL`.
    failed: [Count; Cause::ALL.len()],
}

/// How long the calls of one plugin took, its waits included.
#[derive(Debug)]
pub struct PluginRecord(Workers<[Times; Phase::ALL.len()]>);

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
    pub async fn request(
        &self,
        worker: WorkerId,
        exchange: &mut Exchange,
        consumers: &Arc<dyn Consumers>,
    ) -> Option<Instead> {
        exchange.filters.resize_with(self.filters.len(), FilterSlot::default);
        for (slot, filter) in self.filters.iter().enumerate() {
            match filter.call(worker, Phase::Request, exchange, slot, consumers).await {
                Ok(Verdict::Done) => {}
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
    pub async fn response(
        &self,
        worker: WorkerId,
        exchange: &mut Exchange,
        consumers: &Arc<dyn Consumers>,
        left: &mut usize,
    ) -> Option<Instead> {
        while let Some(slot) = left.checked_sub(1) {
            *left = slot;
            let filter = &self.filters[slot];
            if !exchange.filters[slot].passed {
                continue;
            }
            match filter.call(worker, Phase::Response, exchange, slot, consumers).await {
                Ok(Verdict::Proceed | Verdict::Done) => {}
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
        consumers: &Arc<dyn Consumers>,
    ) -> Result<Verdict, Failure> {
        let result = match &self.instances {
            Some(instances) if !instances.has(phase) => return Ok(Verdict::Proceed),
            Some(instances) => {
                let timed = self.times.0.of(worker).map(|times| (&times[phase as usize], Instant::now()));
                let result = instances.call(worker, phase, exchange, slot, consumers).await;
                if let Some((times, start)) = timed {
                    times.add(start.elapsed());
                }
                result
            }
            None => Err(Failure::new(Cause::Missing, "it has no revision yet")),
        };
        if let Some(counts) = self.record.0.of(worker) {
            counts[phase as usize].count(&result);
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

impl PhaseCounts {
    fn count(&self, result: &Result<Verdict, Failure>) {
        let count = match result {
            Ok(Verdict::Proceed | Verdict::Done) => &self.proceeded,
            Ok(Verdict::Respond(_)) => &self.responded,
            Err(failure) => &self.failed[failure.cause as usize],
        };
        count.add(1);
    }

    pub fn failed(&self, cause: Cause) -> u64 {
        self.failed[cause as usize].get()
    }

    pub fn all_failed(&self) -> u64 {
        self.failed.iter().map(Count::get).sum()
    }
}

impl FilterRecord {
    /// Adds up over workers.
    pub fn sum(&self, phase: Phase, part: impl Fn(&PhaseCounts) -> u64) -> u64 {
        self.0.sum(|phases| part(&phases[phase as usize]))
    }

    /// Failures of one cause, in any phase.
    pub fn failures(&self, cause: Cause) -> u64 {
        Phase::ALL.into_iter().map(|phase| self.sum(phase, |counts| counts.failed(cause))).sum()
    }
}

impl PluginRecord {
    pub fn times(&self, phase: Phase) -> impl Iterator<Item = &Times> {
        self.0.all().map(move |phases| &phases[phase as usize])
    }
}

impl Record for FilterRecord {
    fn new(workers: usize) -> Self {
        Self(Workers::new(workers))
    }
}

impl Record for PluginRecord {
    fn new(workers: usize) -> Self {
        Self(Workers::new(workers))
    }
}
