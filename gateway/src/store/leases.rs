//! When leases end. Kept in memory alone, so that a heartbeat writes nothing; after a restart each has its whole time.

use std::time::Duration;

use dashmap::DashMap;
use tokio::time::Instant;

use super::{LeaseId, StoreError};

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

    pub(super) fn keep_alive(&self, id: LeaseId, now: Instant) -> Result<(), StoreError> {
        let mut lease = self.0.get_mut(&id).filter(|lease| lease.end > now).ok_or(StoreError::NoLease)?;
        lease.end = now + lease.ttl;
        Ok(())
    }

    pub(super) fn end(&self, id: LeaseId) -> Result<Lease, StoreError> {
        self.0.remove(&id).map(|(_, lease)| lease).ok_or(StoreError::NoLease)
    }

    /// Takes out those whose time is over.
    pub(super) fn over(&self, now: Instant) -> Vec<(LeaseId, Lease)> {
        let over: Vec<_> = self.0.iter().filter(|lease| lease.end <= now).map(|lease| *lease.key()).collect();
        over.into_iter().filter_map(|id| self.0.remove_if(&id, |_, lease| lease.end <= now)).collect()
    }

    /// Puts back some that were taken out.
    pub(super) fn put_back(&self, over: Vec<(LeaseId, Lease)>) {
        for (id, lease) in over {
            self.0.insert(id, lease);
        }
    }
}
