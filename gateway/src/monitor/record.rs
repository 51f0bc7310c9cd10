//! Counting on the request path: one cache line per worker, summed up when somebody asks. A leaf.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crossbeam_utils::CachePadded;
use http::StatusCode;

use crate::worker::{PerWorker, WorkerId};

/// A number that every worker raises on its own.
#[derive(Debug)]
pub struct Counter(Box<[CachePadded<AtomicU64>]>);

/// How many exchanges ended with which status.
#[derive(Debug)]
pub struct Statuses(PerWorker<Vec<(StatusCode, u64)>>);

impl Counter {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| CachePadded::new(AtomicU64::new(0))).collect())
    }

    pub fn add_one(&self, worker: WorkerId) {
        self.0[worker.0 % self.0.len()].fetch_add(1, Relaxed);
    }

    pub fn sum(&self) -> u64 {
        self.0.iter().map(|n| n.load(Relaxed)).sum()
    }
}

impl Statuses {
    pub fn new(workers: usize) -> Self {
        Self(PerWorker::new(workers, |_| Vec::new()))
    }

    pub fn add_one(&self, worker: WorkerId, status: StatusCode) {
        let mut counts = self.0.of(worker);
        match counts.iter_mut().find(|(seen, _)| *seen == status) {
            Some((_, n)) => *n += 1,
            None => counts.push((status, 1)),
        }
    }

    /// Each status that occurred, in order.
    pub fn sum(&self) -> Vec<(StatusCode, u64)> {
        let mut sums: Vec<(StatusCode, u64)> = Vec::new();
        for counts in self.0.all() {
            for (status, n) in counts.iter() {
                match sums.iter_mut().find(|(seen, _)| seen == status) {
                    Some((_, sum)) => *sum += n,
                    None => sums.push((*status, *n)),
                }
            }
        }
        sums.sort_unstable_by_key(|(status, _)| *status);
        sums
    }
}
