//! Which revision of its plugin a filter calls: the good one, or for a share of exchanges one that is on trial.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::Arc,
    time::Duration,
};

use http::HeaderName;

use super::{Filter, FilterRecord};
use crate::{
    exchange::Exchange,
    plugin::{Budget, Caller, Cause, Failure, Given, Instances, Phase, Verdict, WHOLE},
    worker::WorkerId,
};

/// One revision with the filter's configuration.
#[derive(Debug, Clone)]
pub struct Version {
    pub instances: Arc<Instances>,
    pub record: Arc<FilterRecord>,
}

/// A revision on trial, and for whom.
#[derive(Debug)]
pub struct OnTrial {
    pub version: Version,
    pub percent: u8,
    pub key: ShareKey,
    pub budget: Arc<Budget>,
    /// Failures that it may show, and within what time.
    pub allowed: u32,
    pub within: Duration,
}

/// What exchanges have in common that get the same revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShareKey {
    /// The client's address, as trusted proxies state it.
    Client,
    /// The value of a field; without it the client's address.
    Header(HeaderName),
}

impl OnTrial {
    /// Always the same for the same key, and as good as independent of other plugins and revisions.
    fn takes(&self, exchange: &Exchange) -> bool {
        if self.percent >= WHOLE {
            return true;
        }
        let revision = self.version.instances.revision();
        let mut hasher = DefaultHasher::new();
        hasher.write(revision.plugin.as_bytes());
        hasher.write_u32(revision.number);
        let field = match &self.key {
            ShareKey::Header(name) => exchange.request.headers.get(name),
            ShareKey::Client => None,
        };
        match (field, exchange.client_address()) {
            (Some(value), _) => hasher.write(value.as_bytes()),
            (None, std::net::IpAddr::V4(address)) => hasher.write(&address.octets()),
            (None, std::net::IpAddr::V6(address)) => hasher.write(&address.octets()),
        }
        hasher.finish() % u64::from(WHOLE) < u64::from(self.percent)
    }
}

impl Filter {
    /// The version that an exchange gets from its first phase to its last, and whether it is on trial.
    pub(super) fn version(&self, worker: WorkerId, exchange: &mut Exchange, slot: usize) -> Option<(&Version, bool)> {
        let place = &exchange.filters[slot];
        let on_trial = self.trial.as_ref().filter(|trial| match place.on_trial {
            Some(chosen) => chosen,
            None => !trial.budget.is_exhausted() && trial.takes(exchange),
        });
        let version = on_trial.map(|trial| &trial.version).or(self.version.as_ref())?;
        let place = &mut exchange.filters[slot];
        if place.on_trial.is_none() {
            place.on_trial = Some(on_trial.is_some());
            place.revision = Some(version.instances.presence(worker));
        }
        Some((version, on_trial.is_some()))
    }

    /// Calls a phase, if there is one. What a revision on trial fails at beyond its budget is done again by the good one, as
    /// if it had been that from the beginning.
    pub(super) async fn call(
        &self,
        caller: Caller<'_>,
        phase: Phase,
        given: Given,
        exchange: &mut Exchange,
        slot: usize,
    ) -> Result<Verdict, Failure> {
        let Some((version, on_trial)) = self.version(caller.worker, exchange, slot) else {
            // A plugin that is not there yet counts as having the first phase of each head.
            if !matches!(phase, Phase::Request | Phase::Response | Phase::Balance) {
                return Ok(Verdict::Proceed);
            }
            let failure = Failure::new(Cause::Missing, "it has no revision yet");
            self.missing.count(caller.worker, phase, Err(&failure));
            return Err(failure);
        };
        if !version.instances.has(phase) {
            return Ok(Verdict::Proceed);
        }
        let again = on_trial.then(|| given.clone());
        let result = self.call_version(version, caller, phase, given, exchange, slot).await;
        let (Err(failure), Some(trial), Some(again)) = (&result, &self.trial, again) else { return result };
        if !counts(failure.cause) || trial.budget.spend(trial.allowed, trial.within) {
            return result;
        }
        let Some(version) = &self.version else { return result };
        self.tell(phase, failure, Some(&exchange.id));
        let place = &mut exchange.filters[slot];
        // What the other kept is what there is to know of the phases before.
        place.on_trial = Some(false);
        place.revision = Some(version.instances.presence(caller.worker));
        // That of the one before is not its own.
        place.spent = Duration::ZERO;
        if !version.instances.has(phase) {
            return Ok(Verdict::Proceed);
        }
        self.call_version(version, caller, phase, again, exchange, slot).await
    }

    async fn call_version(
        &self,
        version: &Version,
        caller: Caller<'_>,
        phase: Phase,
        given: Given,
        exchange: &mut Exchange,
        slot: usize,
    ) -> Result<Verdict, Failure> {
        let start = self.times.is_kept(caller.worker).then(tokio::time::Instant::now);
        let outcome = version.instances.call(caller, phase, given, exchange, slot).await;
        if let Some(start) = start {
            self.times.add(caller.worker, phase, start.elapsed());
        }
        version.record.ended(caller.worker, phase, &outcome);
        outcome.result
    }

    /// Counts a failure of a call that the version before cannot make again: in the middle of a body, or at a tick.
    pub(super) fn note(&self, version: &Version, failure: &Failure) {
        let trial = self.trial.as_ref().filter(|trial| Arc::ptr_eq(&trial.version.instances, &version.instances));
        if let Some(trial) = trial.filter(|_| counts(failure.cause)) {
            trial.budget.spend(trial.allowed, trial.within);
        }
    }

    fn versions(&self) -> impl Iterator<Item = &Version> {
        self.version.iter().chain(self.trial.as_ref().map(|trial| &trial.version))
    }

    /// Whether the plugin takes part in a phase, whatever its revision.
    pub fn has(&self, phase: Phase) -> bool {
        self.versions().any(|version| version.instances.has(phase))
    }

    /// The version that most exchanges get.
    pub fn leading(&self) -> Option<&Version> {
        let trial = self.trial.as_ref().filter(|trial| trial.percent >= WHOLE && !trial.budget.is_exhausted());
        trial.map(|trial| &trial.version).or(self.version.as_ref())
    }

    /// How often it failed of this cause, in any phase and revision of now.
    pub fn failures(&self, cause: Cause) -> u64 {
        let missing = if self.version.is_none() { self.missing.failures(cause) } else { 0 };
        missing + self.versions().map(|version| version.record.failures(cause)).sum::<u64>()
    }
}

/// Whether it tells something of the revision.
fn counts(cause: Cause) -> bool {
    !matches!(cause, Cause::Instances | Cause::Missing | Cause::Body)
}
