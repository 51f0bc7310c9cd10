//! What is counted of filters and plugins: calls by phase and by what they came to, and how long they took.

use std::time::Duration;

use crate::{
    monitor::{
        count::{Count, Times, Workers},
        record::Record,
    },
    plugin::{Cause, Failure, Phase, Verdict},
    worker::WorkerId,
};

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
    /// Limits that guests were told of, in the order of `Cause::TOLD`.
    told: [Count; Cause::TOLD.len()],
}

/// How long the calls of one plugin took, its waits included.
#[derive(Debug)]
pub struct PluginRecord(Workers<[Times; Phase::ALL.len()]>);

impl PhaseCounts {
    fn count(&self, result: Result<&Verdict, &Failure>) {
        let count = match result {
            Ok(Verdict::Respond(_)) => &self.responded,
            Ok(_) => &self.proceeded,
            Err(failure) => &self.failed[failure.cause as usize],
        };
        count.add(1);
    }

    /// How often a limit ended a call, or a guest was told of it.
    pub fn over(&self, cause: Cause) -> u64 {
        let told = Cause::TOLD.iter().position(|told| *told == cause).map_or(0, |at| self.told[at].get());
        self.failed[cause as usize].get() + told
    }

    pub fn all_failed(&self) -> u64 {
        self.failed.iter().map(Count::get).sum()
    }
}

impl FilterRecord {
    /// One call.
    pub(super) fn count(&self, worker: WorkerId, phase: Phase, result: Result<&Verdict, &Failure>) {
        if let Some(counts) = self.0.of(worker) {
            counts[phase as usize].count(result);
        }
    }

    /// Limits that a guest was told of in one call.
    pub(super) fn told(&self, worker: WorkerId, phase: Phase, overruns: u8) {
        let Some(counts) = self.0.of(worker).filter(|_| overruns != 0) else { return };
        for (at, _) in Cause::TOLD.iter().enumerate().filter(|(at, _)| overruns & (1 << at) != 0) {
            counts[phase as usize].told[at].add(1);
        }
    }

    /// Adds up over workers.
    pub fn sum(&self, phase: Phase, part: impl Fn(&PhaseCounts) -> u64) -> u64 {
        self.0.sum(|phases| part(&phases[phase as usize]))
    }

    /// Failures of one cause, in any phase.
    pub fn failures(&self, cause: Cause) -> u64 {
        Phase::ALL.into_iter().map(|phase| self.sum(phase, |counts| counts.over(cause))).sum()
    }
}

impl PluginRecord {
    /// Whether times are recorded; where nothing is, no clock need be read.
    pub(super) fn is_kept(&self, worker: WorkerId) -> bool {
        self.0.of(worker).is_some()
    }

    pub(super) fn add(&self, worker: WorkerId, phase: Phase, time: Duration) {
        if let Some(times) = self.0.of(worker) {
            times[phase as usize].add(time);
        }
    }

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
