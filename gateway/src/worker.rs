//! A worker's number, values of which each worker has its own, and how long work on a worker is divided. A leaf: it starts no thread.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Release},
        },
    },
    task::{Context, Poll, Wake, Waker},
};

use crossbeam_utils::CachePadded;
use tokio::task::yield_now;

/// Bytes that a worker copies, hashes or compares before it gives way.
pub const SLICE: usize = 64 << 10;

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

/// Returns after the runtime has polled its sockets and timers, and so after the tasks that were ready meanwhile.
///
/// tokio wakes a deferred task only then, but `yield_now` alone returns at any poll: a connection's task is polled for other
/// reasons, too, and hyper polls a body several times in one turn.
pub async fn give_way() {
    let turn = Arc::new(Turn::default());
    let waker = Waker::from(Arc::clone(&turn));
    // Polled once, to hand over the waker.
    let mut deferral = pin!(Some(yield_now()));
    poll_fn(|cx| {
        *lock(&turn.task) = Some(cx.waker().clone());
        if let Some(yielding) = deferral.as_mut().as_pin_mut() {
            let _ = yielding.poll(&mut Context::from_waker(&waker));
            deferral.set(None);
        }
        if turn.polled.load(Acquire) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// A task that waits until the runtime has polled its sockets.
#[derive(Debug, Default)]
struct Turn {
    polled: AtomicBool,
    task: Mutex<Option<Waker>>,
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.polled.store(true, Release);
        let task = lock(&self.task).take();
        if let Some(task) = task {
            task.wake();
        }
    }
}

/// A panic while holding the lock leaves a value that is still whole: every use is a single push, pop or step.
fn lock<T>(value: &Mutex<T>) -> MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
