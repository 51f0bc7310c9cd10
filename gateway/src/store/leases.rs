//! When leases end. Kept in memory alone, so that a heartbeat writes nothing; after a restart each has its whole time.

use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::{Census, LeaseId, StoreError};

#[derive(Debug, Default)]
pub(super) struct Leases(DashMap<LeaseId, Lease>);

#[derive(Debug, Clone, Copy)]
pub(super) struct Lease {
    ttl: Duration,
    end: Instant,
}

impl Leases {
    pub(super) fn begin(&self, id: LeaseId, ttl: Duration, now: Instant) {
        self.0.insert(id, Lease { ttl, end: now + ttl });
    }

    /// One whose time is over goes on as well, until it is taken out.
    pub(super) fn keep_alive(&self, id: LeaseId, now: Instant) -> Result<(), StoreError> {
        let mut lease = self.0.get_mut(&id).ok_or(StoreError::NoLease)?;
        lease.end = now + lease.ttl;
        Ok(())
    }

    pub(super) fn left(&self, id: LeaseId, now: Instant) -> Option<Duration> {
        self.0.get(&id).map(|lease| lease.end.saturating_duration_since(now))
    }

    pub(super) fn census(&self, now: Instant) -> Census {
        let mut census = Census::default();
        for lease in &self.0 {
            census.all += 1;
            if lease.end.saturating_duration_since(now) < lease.ttl / 3 {
                census.late.push(*lease.key());
            }
            if lease.end <= now {
                census.over.push(*lease.key());
            }
        }
        census
    }

    pub(super) fn end(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.0.remove(&id).map(|(_, lease)| lease).ok_or(StoreError::NoLease)
    }

    /// Takes out those of them whose time is over still.
    pub(super) fn over(&self, ids: &[LeaseId], now: Instant) -> Vec<(LeaseId, Lease)> {
        ids.iter().filter_map(|id| self.0.remove_if(id, |_, lease| lease.end <= now)).collect()
    }

    /// Puts back some that were taken out.
    pub(super) fn put_back(&self, over: Vec<(LeaseId, Lease)>) {
        for (id, lease) in over {
            self.0.insert(id, lease);
        }
    }
}
