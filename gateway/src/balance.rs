//! Which endpoint of a service is next. A balancer is immutable and shared; what changes from pick to pick is the
//! `Cursor` that each worker keeps for itself. No I/O, no clock; whether an endpoint is usable is the caller's to know.

mod random;
mod round_robin;
mod weighted;

use fastrand::Rng;

use self::{random::Random, round_robin::RoundRobin, weighted::Weighted};

/// How endpoints share the traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Each in turn.
    RoundRobin,
    /// Each with the same chance.
    Random,
    /// Each as often as its weight says, evenly spread; 0 takes none.
    Weighted,
}

/// A policy over one table of endpoints.
#[derive(Debug)]
pub struct Balancer(Kind);

#[derive(Debug)]
enum Kind {
    RoundRobin(RoundRobin),
    Random(Random),
    Weighted(Weighted),
}

/// Where one worker is with one service. It outlives tables: one that was used with another table is as good as new.
#[derive(Debug, Clone)]
pub struct Cursor {
    turn: u64,
    rng: Rng,
}

impl Balancer {
    /// `weights` has one entry per endpoint, in the table's order; only `Policy::Weighted` looks at the values.
    pub fn new(policy: Policy, weights: &[u16]) -> Self {
        Self(match policy {
            Policy::RoundRobin => Kind::RoundRobin(RoundRobin::new(weights.len())),
            Policy::Random => Kind::Random(Random::new(weights.len())),
            Policy::Weighted => Kind::Weighted(Weighted::new(weights)),
        })
    }

    /// The index of the next endpoint, always one that `usable` has just said yes to; none if there is none.
    pub fn pick(&self, cursor: &mut Cursor, usable: impl Fn(usize) -> bool) -> Option<usize> {
        match &self.0 {
            Kind::RoundRobin(policy) => policy.pick(cursor, usable),
            Kind::Random(policy) => policy.pick(cursor, usable),
            Kind::Weighted(policy) => policy.pick(cursor, usable),
        }
    }
}

impl Cursor {
    /// Workers with different seeds start at different endpoints; their index is a good seed.
    pub fn new(seed: u64) -> Self {
        Self { turn: seed, rng: Rng::with_seed(seed) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const POLICIES: [Policy; 3] = [Policy::RoundRobin, Policy::Random, Policy::Weighted];

    #[test]
    fn nothing_usable_is_none() {
        for policy in POLICIES {
            for weights in [&[][..], &[1, 2, 3]] {
                assert_eq!(Balancer::new(policy, weights).pick(&mut Cursor::new(7), |_| false), None, "{policy:?}");
            }
        }
    }

    #[test]
    fn the_only_usable_one_is_found() {
        let weights = [1; 1000];
        for policy in POLICIES {
            let balancer = Balancer::new(policy, &weights);
            assert_eq!(balancer.pick(&mut Cursor::new(7), |index| index == 613), Some(613), "{policy:?}");
        }
    }

    proptest! {
        #[test]
        fn picks_are_usable_whatever_the_cursor_has_seen(
            tables in prop::collection::vec(prop::collection::vec((0..4_u16, any::<bool>()), 0..9), 1..9),
            seed: u64,
        ) {
            for policy in POLICIES {
                let mut cursor = Cursor::new(seed);
                for table in &tables {
                    let weights: Vec<_> = table.iter().map(|(weight, _)| *weight).collect();
                    let takes = |index: usize| table[index].1 && (policy != Policy::Weighted || weights[index] > 0);
                    let balancer = Balancer::new(policy, &weights);
                    for _ in 0..9 {
                        let pick = balancer.pick(&mut cursor, |index| table[index].1);
                        prop_assert_eq!(pick.is_some(), (0..table.len()).any(takes));
                        prop_assert!(pick.is_none_or(takes));
                    }
                }
            }
        }
    }
}
