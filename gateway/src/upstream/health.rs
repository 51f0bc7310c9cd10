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

/// For how long it is passed over after its first failure; each in a row doubles it.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// What milliseconds count from.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

#[derive(Debug, Default)]
pub(super) struct Health {
    /// In milliseconds; 0 if it is passed over for no reason.
    until: AtomicU64,
    /// In a row.
    failures: AtomicU32,
}

impl Health {
    /// Whether a request may try it. Costs no look at the clock as long as all is well.
    pub(super) fn is_up(&self) -> bool {
        let until = self.until.load(Relaxed);
        until == 0 || until <= now()
    }

    /// A request is about to try it. One that was passed over is tried by one alone until that is told of, or for so long.
    pub(super) fn tried(&self, patience: Duration) {
        if self.until.load(Relaxed) != 0 {
            self.until.store(after(patience), Relaxed);
        }
    }

    /// It took a connection.
    pub(super) fn works(&self) {
        if self.until.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
            self.until.store(0, Relaxed);
        }
    }

    /// It took none. Gives for how long it is passed over.
    pub(super) fn failed(&self) -> Duration {
        let before = self.failures.fetch_add(1, Relaxed).min(16);
        let pause = FIRST.saturating_mul(1 << before).min(LONGEST);
        self.until.store(after(pause), Relaxed);
        pause
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

    #[tokio::test(start_paused = true)]
    async fn the_pause_doubles_up_to_its_bound_and_ends_with_a_connection() {
        let health = Health::default();
        for expected in [1, 2, 4, 8, 16, 30, 30] {
            assert!(health.is_up());
            assert_eq!(health.failed(), Duration::from_secs(expected));
            advance(Duration::from_secs(expected) - Duration::from_millis(1)).await;
            assert!(!health.is_up(), "{expected} s");
            advance(Duration::from_millis(1)).await;
        }
        assert!(health.is_up());
        health.works();
        assert_eq!(health.failed(), FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_passed_over_is_tried_by_one_at_a_time() {
        let health = Health::default();
        health.failed();
        advance(FIRST).await;
        health.tried(Duration::from_secs(5));
        assert!(!health.is_up(), "somebody tries it");
        advance(Duration::from_secs(5)).await;
        assert!(health.is_up(), "nobody has told what came of it");
        health.tried(Duration::from_secs(5));
        health.works();
        assert!(health.is_up());
        health.tried(Duration::from_secs(5));
        assert!(health.is_up(), "one that works is tried by all");
    }
}
