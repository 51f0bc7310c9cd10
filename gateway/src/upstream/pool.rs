//! Idle connections to one endpoint, kept per worker, the last used first.

use std::{sync::OnceLock, time::Duration};

use hyper::client::conn::http1::SendRequest;
use tokio::time::Instant;

use crate::{
    exchange::Body,
    worker::{PerWorker, WorkerId},
};

/// How many idle connections each worker keeps to an endpoint, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PoolLimits {
    pub idle_connections: usize,
    pub idle_timeout: Duration,
}

#[derive(Debug)]
pub(super) struct Pool {
    limits: PoolLimits,
    workers: usize,
    /// Made with the first connection: many endpoints may never have one.
    idle: OnceLock<PerWorker<Vec<Idle>>>,
}

#[derive(Debug)]
struct Idle {
    connection: SendRequest<Body>,
    /// The first sweep that found it here: a clock that no request has to look at.
    since: Option<Instant>,
}

impl Pool {
    pub(super) fn new(limits: PoolLimits, workers: usize) -> Self {
        Self { limits, workers, idle: OnceLock::new() }
    }

    pub(super) fn limits(&self) -> PoolLimits {
        self.limits
    }

    /// The last used connection that is ready. One that is still busy with a body its client gave up stays: it is
    /// ready or closed soon.
    pub(super) fn take(&self, worker: WorkerId) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.get()?.of(worker);
        let ready = idle.iter().rposition(|idle| idle.connection.is_ready());
        match ready {
            Some(index) => Some(idle.remove(index).connection),
            None => {
                idle.retain(|idle| !idle.connection.is_closed());
                None
            }
        }
    }

    pub(super) fn put(&self, worker: WorkerId, connection: SendRequest<Body>) {
        let mut idle = self.idle.get_or_init(|| PerWorker::new(self.workers, |_| Vec::new())).of(worker);
        if !connection.is_closed() && idle.len() < self.limits.idle_connections {
            idle.push(Idle { connection, since: None });
        }
    }

    pub(super) fn sweep(&self, worker: WorkerId) {
        let Some(idle) = self.idle.get() else { return };
        let now = Instant::now();
        idle.of(worker).retain_mut(|idle| {
            let since = *idle.since.get_or_insert(now);
            !idle.connection.is_closed() && now - since < self.limits.idle_timeout
        });
    }
}
