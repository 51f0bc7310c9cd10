//! Wrong tokens, by the address they came from: a bound on guessing. It knows no token.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use dashmap::DashMap;
use tokio::time::Instant;

/// Wrong tokens that an address may send in one span of time.
const MOST: u32 = 20;
const SPAN: Duration = Duration::from_secs(60);
/// Addresses that are remembered; beyond that, those whose time is over are forgotten.
const ADDRESSES: usize = 10_000;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

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
        let failed = *self.0.get(&network(address)).or_else(|| self.0.get(&OTHERS))?;
        let left = SPAN.checked_sub(now.duration_since(failed.since))?;
        (failed.count >= MOST && !left.is_zero()).then_some(left)
    }

    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        let is_over = |failed: &Failed| now.duration_since(failed.since) >= SPAN;
        if self.0.len() >= ADDRESSES {
            self.0.retain(|_, failed| !is_over(failed));
        }
        // What there is no room for shares one count.
        let is_known = self.0.len() < ADDRESSES || self.0.contains_key(&network(address));
        let network = if is_known { network(address) } else { OTHERS };
        let mut failed = self.0.entry(network).or_insert(Failed { since: now, count: 0 });
        if is_over(&failed) {
            *failed = Failed { since: now, count: 0 };
        }
        failed.count += 1;
    }
}

/// An IPv6 address stands for its /64: whoever has one of these has all of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
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
        let in_one_network: [IpAddr; 2] =
            ["2001:db8::1", "2001:db8::ffff"].map(|address| address.parse().expect("an address"));
        (0..MOST).for_each(|_| attempts.failed(in_one_network[0], start));
        assert!(attempts.wait(in_one_network[1], start).is_some(), "who has one address has its network");
    }
}
