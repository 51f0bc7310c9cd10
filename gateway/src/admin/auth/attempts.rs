//! Wrong tokens, by the address they came from: a bound on guessing. It knows digests, no token.

use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

use dashmap::DashMap;
use tokio::time::Instant;

use crate::{exchange::clients::client, plugin::Digest256};

/// Wrong tokens that an address may send in one span of time. One that is sent again is no other guess.
const MOST: usize = 20;
const SPAN: Duration = Duration::from_secs(60);
/// How long a token that was right is not refused for what others send from its address.
const TRUST: Duration = Duration::from_secs(3600);
/// Addresses that are remembered, and tokens that were right; beyond that, those whose time is over are forgotten.
const ADDRESSES: usize = 10_000;
const TRUSTED: usize = 1_000_000;
const OTHERS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

#[derive(Debug, Default)]
pub(super) struct Attempts {
    failed: DashMap<IpAddr, Failed>,
    trusted: DashMap<(IpAddr, Digest256), Instant>,
}

#[derive(Debug)]
struct Failed {
    since: Instant,
    guesses: Vec<Digest256>,
}

impl Attempts {
    /// How long an address has to wait with this token; none if it need not.
    pub(super) fn wait(&self, address: IpAddr, token: Option<Digest256>, now: Instant) -> Option<Duration> {
        let failed = self.failed.get(&client(address)).or_else(|| self.failed.get(&OTHERS))?;
        let left = SPAN.checked_sub(now.duration_since(failed.since))?;
        let is_over = failed.guesses.len() < MOST || left.is_zero();
        drop(failed);
        let was_right = |token| self.trusted.get(&(client(address), token)).is_some_and(|at| is_fresh(&at, now));
        (!is_over && !token.is_some_and(was_right)).then_some(left)
    }

    pub(super) fn right(&self, address: IpAddr, token: Digest256, now: Instant) {
        if self.trusted.len() >= TRUSTED {
            self.trusted.retain(|_, at| is_fresh(at, now));
        }
        if self.trusted.len() < TRUSTED {
            self.trusted.insert((client(address), token), now);
        }
    }

    pub(super) fn wrong(&self, address: IpAddr, token: Digest256, now: Instant) {
        let is_over = |failed: &Failed| now.duration_since(failed.since) >= SPAN;
        if self.failed.len() >= ADDRESSES {
            self.failed.retain(|_, failed| !is_over(failed));
        }
        // Addresses for which there is no room share one count.
        let is_known = self.failed.len() < ADDRESSES || self.failed.contains_key(&client(address));
        let client = if is_known { client(address) } else { OTHERS };
        let begun = || Failed { since: now, guesses: Vec::new() };
        let mut failed = self.failed.entry(client).or_insert_with(begun);
        if is_over(&failed) {
            *failed = begun();
        }
        if failed.guesses.len() < MOST && !failed.guesses.contains(&token) {
            failed.guesses.push(token);
        }
    }
}

fn is_fresh(at: &Instant, now: Instant) -> bool {
    now.duration_since(*at) < TRUST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> Digest256 {
        Digest256::of(&number.to_be_bytes())
    }

    #[test]
    fn an_address_that_guesses_waits_and_no_other() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let [guesser, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().expect("an address"));
        let wait = |address, at| attempts.wait(address, Some(token(MOST)), at);
        for number in 0..MOST {
            assert_eq!(wait(guesser, start), None);
            attempts.wrong(guesser, token(number), start);
        }
        assert_eq!(wait(guesser, start + SPAN / 4), Some(SPAN * 3 / 4));
        assert_eq!(attempts.wait(guesser, None, start), Some(SPAN));
        assert_eq!(wait(other, start), None);
        assert_eq!(wait(guesser, start + SPAN), None);
        attempts.wrong(guesser, token(0), start + SPAN);
        assert_eq!(wait(guesser, start + SPAN), None, "it is counted anew");
        let in_one_network: [IpAddr; 2] =
            ["2001:db8::1", "2001:db8::ffff"].map(|address| address.parse().expect("an address"));
        (0..MOST).for_each(|number| attempts.wrong(in_one_network[0], token(number), start));
        assert!(wait(in_one_network[1], start).is_some(), "who has one address has its network");
    }

    #[test]
    fn who_sends_one_wrong_token_again_and_again_guesses_once() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let address = "192.0.2.1".parse().expect("an address");
        (0..100).for_each(|_| attempts.wrong(address, token(0), start));
        assert_eq!(attempts.wait(address, Some(token(1)), start), None);
    }

    #[test]
    fn a_token_that_was_right_does_not_wait_for_what_others_send_from_its_address() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let [address, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().expect("an address"));
        attempts.right(address, token(MOST), start);
        for number in 0..MOST {
            attempts.wrong(address, token(number), start + TRUST - SPAN / 2);
            attempts.wrong(other, token(number), start);
        }
        assert_eq!(attempts.wait(address, Some(token(MOST)), start + TRUST - SPAN / 2), None);
        assert!(attempts.wait(address, Some(token(MOST)), start + TRUST).is_some(), "that was long ago");
        assert!(attempts.wait(address, Some(token(MOST + 1)), start + TRUST - SPAN / 2).is_some());
        assert!(attempts.wait(other, Some(token(MOST)), start).is_some(), "it was right at another address");
    }
}
