//! Whether an endpoint is worth a try, as this gateway has found: one that takes no connection is passed over for a while.
//! What it answers to requests is not judged here.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Pause after the first failure; each pause that ends with another failure doubles it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// What milliseconds count from.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Debug, Default)]
pub(super) struct Health {
    /// End of the pause in milliseconds; 0 while there is none.
    until: AtomicU64,
    /// Pauses in a row.
    failures: AtomicU32,
}

/// One try to connect, and how many failures it began after.
#[derive(Debug)]
pub(super) struct Attempt {
    after: u32,
    /// A try during a pause shows nothing that the pause does not say.
    counts: bool,
}

impl Health {
    /// Whether a request may try it. Costs no look at the clock as long as all is well.
    pub(super) fn is_up(&self) -> bool {
        let until = self.until.load(Relaxed);
        until == 0 || until <= now()
    }

    /// Begins a try. After a pause one request tries alone: the others pass the endpoint over until the try ends, or for `patience`.
    pub(super) fn begin(&self, patience: Duration) -> Attempt {
        let failures = self.failures.load(Relaxed);
        let until = self.until.load(Relaxed);
        let counts = until == 0 || until <= now();
        if counts && until != 0 {
            self.until.store(after(patience), Relaxed);
        }
        Attempt { after: failures, counts }
    }

    /// The endpoint took a connection, or a server has just announced itself there: nothing is held against it.
    pub(super) fn clear(&self) {
        if self.until.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.until.store(0, Relaxed);
        }
    }

    /// The endpoint took no connection. Returns the pause that begins; `None` if a parallel try has begun it, or if this try was
    /// made during one.
    pub(super) fn failed(&self, attempt: &Attempt) -> Option<Duration> {
        let next = attempt.after.saturating_add(1);
        if !attempt.counts || self.failures.compare_exchange(attempt.after, next, Relaxed, Relaxed).is_err() {
            return None;
        }
        let pause = FIRST.saturating_mul(1 << attempt.after.min(16)).min(LONGEST);
        self.until.store(after(pause), Relaxed);
        Some(pause)
    }
}

fn now() -> u64 {
    // Of a clock that a test has stopped the origin may be ahead.
    u64::try_from(Instant::now().saturating_duration_since(*ORIGIN).as_millis()).unwrap_or(u64::MAX)
}

/// Never 0.
fn after(pause: Duration) -> u64 {
    now() + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn fail(health: &Health) -> Option<Duration> {
        health.failed(&health.begin(PATIENCE))
    }

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_up_to_its_bound_and_ends_with_a_connection() {
        let health = Health::default();
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            assert!(health.is_up());
            assert_eq!(fail(&health), Some(Duration::from_secs(expected)));
            advance(Duration::from_secs(expected) - Duration::from_millis(1)).await;
            assert!(!health.is_up(), "{expected} s");
            advance(Duration::from_millis(1)).await;
        }
        assert!(health.is_up());
        health.clear();
        assert_eq!(fail(&health), Some(FIRST));
    }

    #[tokio::test(start_paused = true)]
    async fn parallel_tries_and_tries_during_a_pause_count_once() {
        let health = Health::default();
        let parallel = [(); 8].map(|()| health.begin(PATIENCE));
        let pauses: Vec<_> = parallel.iter().filter_map(|attempt| health.failed(attempt)).collect();
        assert_eq!(pauses, [FIRST], "eight tries at once are one failure");
        // Requests try it all the same where no endpoint is up.
        for _ in 0..8 {
            assert_eq!(fail(&health), None);
        }
        advance(FIRST).await;
        assert!(health.is_up(), "a failure during a pause makes it no longer");
        assert_eq!(fail(&health), Some(FIRST * 2));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_passed_over_is_tried_by_one_at_a_time() {
        let health = Health::default();
        fail(&health);
        advance(FIRST).await;
        health.begin(PATIENCE);
        assert!(!health.is_up(), "somebody tries it");
        advance(PATIENCE).await;
        assert!(health.is_up(), "the try has been forgotten");
        health.begin(PATIENCE);
        health.clear();
        assert!(health.is_up());
        health.begin(PATIENCE);
        assert!(health.is_up(), "one that works is tried by all");
    }
}
