//! A worker's number, and values of which each worker has its own. A leaf: it starts no thread.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_utils::CachePadded;

/// Which of the gateway's workers, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerId(pub usize);

/// One value per worker in a shared record, each on cache lines of its own.
///
/// A worker locks only its own value and never across an await, so on the request path the lock is never
/// waited for; others take it to sum up or to sweep.
#[derive(Debug)]
pub struct PerWorker<T>(Box<[CachePadded<Mutex<T>>]>);

impl<T> PerWorker<T> {
    pub fn new(workers: usize, mut value: impl FnMut(usize) -> T) -> Self {
        Self((0..workers).map(|n| CachePadded::new(Mutex::new(value(n)))).collect())
    }

    /// The value of this worker. A number past the last worker (the control plane asks with it) wraps around.
    pub fn of(&self, worker: WorkerId) -> MutexGuard<'_, T> {
        lock(&self.0[worker.0 % self.0.len()])
    }

    pub fn all(&self) -> impl Iterator<Item = MutexGuard<'_, T>> {
        self.0.iter().map(|value| lock(value))
    }
}

/// A panic while holding the lock leaves a value that is still whole: every use is a single push, pop or step.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
