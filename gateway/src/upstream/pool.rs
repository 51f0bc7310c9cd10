//! Idle connections to one endpoint, kept per worker, the last used first.

use std::{sync::OnceLock, time::Duration};

use tokio::time::Instant;

use super::connect::Connection;
use crate::worker::{PerWorker, WorkerId};

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
    shelves: OnceLock<PerWorker<Shelf>>,
}

/// The connections of one worker, the last used on top. `idle_connections` bounds each list.
#[derive(Debug, Default)]
struct Shelf {
    ready: Vec<Kept>,
    /// The exchange on each is over, the transfer is not: an upload that was answered early, a download that its client gave up.
    busy: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    connection: Connection,
    /// End of the last exchange.
    since: Instant,
}

impl Pool {
    pub(super) fn new(limits: PoolLimits, workers: usize) -> Self {
        Self { limits, workers, shelves: OnceLock::new() }
    }

    /// Returns the last used connection that is ready and has been idle for less than `idle_timeout`.
    pub(super) fn take(&self, worker: WorkerId, now: Instant) -> Option<Connection> {
        let mut shelf = self.shelves.get()?.of(worker);
        while let Some(kept) = shelf.ready.pop() {
            if self.is_stale(&kept, now) {
                // The ones below have been idle for longer.
                shelf.ready.clear();
                break;
            }
            if kept.connection.sender.is_ready() {
                return Some(kept.connection);
            }
        }
        if shelf.busy.is_empty() {
            return None;
        }
        shelf.busy.retain(|kept| !self.is_stale(kept, now) && !kept.connection.sender.is_closed());
        let ready = shelf.busy.iter().rposition(|kept| kept.connection.sender.is_ready());
        ready.map(|index| shelf.busy.remove(index).connection)
    }

    /// Keeps a connection whose exchange ended at `now`. One that is still busy comes back if it becomes ready within
    /// `idle_timeout`; where too many are busy, the oldest is let go.
    pub(super) fn put(&self, worker: WorkerId, connection: Connection, now: Instant) {
        let most = self.limits.idle_connections;
        if connection.sender.is_closed() || most == 0 {
            return;
        }
        let kept = Kept { connection, since: now };
        let mut shelf = self.shelves.get_or_init(|| PerWorker::new(self.workers, |_| Shelf::default())).of(worker);
        if kept.connection.sender.is_ready() {
            if shelf.ready.len() < most {
                shelf.ready.push(kept);
            }
            return;
        }
        if shelf.busy.len() >= most {
            shelf.busy.retain(|kept| !kept.connection.sender.is_closed());
        }
        if shelf.busy.len() >= most {
            shelf.busy.remove(0);
        }
        shelf.busy.push(kept);
    }

    /// Returns when the connection became idle that has been so for longest.
    pub(super) fn idle_since(&self, worker: WorkerId) -> Option<Instant> {
        let shelf = self.shelves.get()?.of(worker);
        shelf.ready.iter().find(|kept| !kept.connection.sender.is_closed()).map(|kept| kept.since)
    }

    /// Takes that connection.
    pub(super) fn take_longest_idle(&self, worker: WorkerId) -> Option<Connection> {
        let mut shelf = self.shelves.get()?.of(worker);
        let index = shelf.ready.iter().position(|kept| !kept.connection.sender.is_closed())?;
        Some(shelf.ready.remove(index).connection)
    }

    pub(super) fn sweep(&self, worker: WorkerId) {
        let Some(shelves) = self.shelves.get() else { return };
        let now = Instant::now();
        let mut shelf = shelves.of(worker);
        let Shelf { ready, busy } = &mut *shelf;
        for list in [ready, busy] {
            list.retain(|kept| !self.is_stale(kept, now) && !kept.connection.sender.is_closed());
        }
    }

    fn is_stale(&self, kept: &Kept, now: Instant) -> bool {
        now.saturating_duration_since(kept.since) >= self.limits.idle_timeout
    }
}
