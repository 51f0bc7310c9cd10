//! Whether the gateway is alive: the event loop of each worker turns, and its log finds readers.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use crossbeam_utils::CachePadded;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::log::Log;
use crate::worker::WorkerId;

/// How often a worker says that its loop turns, at least.
const TURN: Duration = Duration::from_secs(1);
/// In the place of a time: the worker has ended, as it should.
const ENDED: u64 = u64::MAX;

#[derive(Debug)]
pub struct Health {
    began: Instant,
    /// When the loop of each worker last turned, in milliseconds since the beginning.
    turned: Box<[CachePadded<AtomicU64>]>,
    /// How long a loop may not turn.
    timeout: Duration,
    log: Option<Log>,
}

impl Health {
    pub fn new(workers: usize, timeout: Duration, log: Option<Log>) -> Self {
        let turned = (0..workers).map(|_| CachePadded::default()).collect();
        Self { began: Instant::now(), turned, timeout, log }
    }

    /// Records again and again that the loop turns that runs this.
    pub async fn attend(&self, worker: WorkerId) {
        let mut turn = interval(TURN.min(self.timeout / 4).max(Duration::from_millis(1)));
        turn.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            turn.tick().await;
            self.turned[worker.0].store(self.now(), Relaxed);
        }
    }

    /// Records that a worker has ended.
    pub fn ended(&self, worker: WorkerId) {
        self.turned[worker.0].store(ENDED, Relaxed);
    }

    /// Returns the workers whose loop has not turned for too long, each with the time since it did.
    pub fn stalled(&self) -> impl Iterator<Item = (WorkerId, Duration)> {
        let now = self.now();
        let since =
            move |turned: &CachePadded<AtomicU64>| Duration::from_millis(now.saturating_sub(turned.load(Relaxed)));
        let workers = self.turned.iter().enumerate();
        workers
            .map(move |(number, turned)| (WorkerId(number), since(turned)))
            .filter(|(_, since)| *since >= self.timeout)
    }

    /// Returns the number of lines of the log that were dropped.
    pub fn dropped(&self) -> u64 {
        self.log.as_ref().map_or(0, Log::dropped)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(ENDED)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_whose_loop_does_not_turn_is_named_until_it_does() {
        let health = Health::new(2, Duration::from_secs(10), None);
        let stalled = || health.stalled().map(|(worker, _)| worker.0).collect::<Vec<_>>();
        let turns = |worker| timeout(Duration::from_secs(11), health.attend(WorkerId(worker)));
        let _ = turns(0).await;
        assert_eq!(stalled(), [1], "the first has turned a moment ago");
        let _ = turns(1).await;
        assert_eq!(stalled(), [0]);
        health.ended(WorkerId(0));
        assert_eq!(stalled(), [0; 0]);
        advance(Duration::from_secs(10)).await;
        assert_eq!(stalled(), [1]);
    }
}
