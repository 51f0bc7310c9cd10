//! Wrong tokens, by the address they came from: a bound on guessing. It knows no token.

use std::{net::IpAddr, time::Duration};

use dashmap::DashMap;
use tokio::time::Instant;

/// Wrong tokens that an address may send in one span of time.
const MOST: u32 = 20;
const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond that, those whose time is over are forgotten.
const ADDRESSES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Attempts(DashMap<IpAddr, Failed>);

#[derive(Debug, Clone, Copy)]
struct Failed {
    since: Instant,
    count: u32,
}

impl Attempts {
    /// How long an address has to wait; none if it need not.
    pub(super) fn wait(&self, address: IpAddr, now: Instant) -> Option<Duration> {
        let failed = *self.0.get(&address)?;
        let left = SPAN.checked_sub(now.duration_since(failed.since))?;
        (failed.count >= MOST && !left.is_zero()).then_some(left)
    }

    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let is_over = |failed: &Failed| now.duration_since(failed.since) >= SPAN;
        if self.0.len() >= ADDRESSES {
            self.0.retain(|_, failed| !is_over(failed));
            if self.0.len() >= ADDRESSES {
                return;
            }
        }
        let mut failed = self.0.entry(address).or_insert(Failed { since: now, count: 0 });
        if is_over(&failed) {
            *failed = Failed { since: now, count: 0 };
        }
        failed.count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_waits_and_no_other() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let [guesser, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().expect("an address"));
        for _ in 0..MOST {
            assert_eq!(attempts.wait(guesser, start), None);
            attempts.failed(guesser, start);
        }
        assert_eq!(attempts.wait(guesser, start + SPAN / 4), Some(SPAN * 3 / 4));
        assert_eq!(attempts.wait(other, start), None);
        assert_eq!(attempts.wait(guesser, start + SPAN), None);
        attempts.failed(guesser, start + SPAN);
        assert_eq!(attempts.wait(guesser, start + SPAN), None, "it is counted anew");
    }
}
