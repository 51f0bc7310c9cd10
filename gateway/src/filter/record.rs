//! What is counted of filters and plugins: calls by phase and by what they came to, and how long they took.

use std::time::Duration;

use crate::{
    monitor::{
        count::{Count, Times, Workers},
        record::Record,
    },
    plugin::{Cause, Failure, Outcome, Phase, Verdict},
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
    /// By cause, in the order of `Cause::ALL`: calls that failed of it, or whose guest was told of it.
    over: [Count; Cause::ALL.len()],
    /// Failures in the first call of an instance.
    pub failed_first: Count,
}

/// How long the calls of one plugin took, its waits included.
#[derive(Debug)]
pub struct PluginRecord(Workers<[Times; Phase::ALL.len()]>);

impl PhaseCounts {
    fn count(&self, result: Result<&Verdict, &Failure>) {
        let count = match result {
            Ok(Verdict::Respond(_)) => &self.responded,
            Ok(_) => &self.proceeded,
            Err(failure) => &self.over[failure.cause as usize],
        };
        count.add(1);
    }

    /// How often a limit ended a call, or a guest was told of it.
    pub fn over(&self, cause: Cause) -> u64 {
        self.over[cause as usize].get()
    }

    pub fn all_failed(&self) -> u64 {
        Cause::ALL.into_iter().filter(|cause| !cause.is_told()).map(|cause| self.over(cause)).sum()
    }
}

impl FilterRecord {
    /// One call, and the limits that its guest was told of.
    pub(super) fn ended(&self, worker: WorkerId, phase: Phase, outcome: &Outcome) {
        self.count(worker, phase, outcome.result.as_ref());
        let is_failed_first = outcome.is_first && outcome.result.is_err();
        let is_rare = is_failed_first || !outcome.overruns.is_empty();
        let Some(counts) = self.0.of(worker).filter(|_| is_rare) else { return };
        if is_failed_first {
            counts[phase as usize].failed_first.add(1);
        }
        outcome.overruns.iter().for_each(|cause| counts[phase as usize].over[cause as usize].add(1));
    }

    /// One call, or what kept it from being made.
    pub(super) fn count(&self, worker: WorkerId, phase: Phase, result: Result<&Verdict, &Failure>) {
        if let Some(counts) = self.0.of(worker) {
            counts[phase as usize].count(result);
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
