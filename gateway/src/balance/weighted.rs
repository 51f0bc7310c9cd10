//! Each endpoint exactly as often as its weight says, evenly spread, in memory that does not grow with the weights:
//! each owns as many slots of a circle as its weight. A step that has no divisor in common with the number of slots
//! visits each once per cycle, and one near the golden section spreads any stretch of visits over the circle.

use super::{Cursor, random::draw};

#[derive(Debug)]
pub(super) struct Weighted {
    /// The slot after the last one of each endpoint.
    ends: Box<[u64]>,
    slots: u64,
    step: u64,
}

/// Slots visited before looking at each endpoint: almost always the first is usable.
const VISITS: usize = 16;

impl Weighted {
    pub(super) fn new(weights: &[u16]) -> Self {
        let unit = weights.iter().fold(0, |unit, weight| gcd(unit, u64::from(*weight))).max(1);
        let mut slots = 0;
        let ends = weights.iter().map(|weight| {
            slots += u64::from(*weight) / unit;
            slots
        });
        let ends = ends.collect();
        Self { ends, slots, step: step(slots) }
    }

    /// Usable endpoints keep their proportions when others are out.
    pub(super) fn pick(&self, cursor: &mut Cursor, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let mut slot = cursor.turn.checked_rem(self.slots)?;
        let visited = (0..VISITS).find_map(|_| {
            let owner = self.ends.partition_point(|end| *end <= slot);
            slot = (slot + self.step) % self.slots;
            usable(owner).then_some(owner)
        });
        cursor.turn = slot;
        visited.or_else(|| draw(&mut cursor.rng, self.shares().filter(|(index, weight)| *weight > 0 && usable(*index))))
    }

    fn shares(&self) -> impl Iterator<Item = (usize, u64)> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        self.ends.iter().zip(starts).map(|(end, start)| end - start).enumerate()
    }
}

/// Of the steps around the golden section of the circle, the one that spreads best.
fn step(slots: u64) -> u64 {
    const GOLDEN: f64 = 0.618_033_988_749_894_8;
    // 46 neighbours hold a number without common divisor for any `slots` below 2 * 10^11.
    const AROUND: u64 = 32;
    let golden = (slots as f64 * GOLDEN) as u64;
    let steps = golden.saturating_sub(AROUND).max(1)..golden.saturating_add(AROUND).min(slots);
    steps.filter(|step| gcd(*step, slots) == 1).min_by_key(|step| roughness(*step, slots)).unwrap_or(1)
}

/// The largest partial quotient of `step / slots`: the smaller, the more even are the visits.
fn roughness(step: u64, slots: u64) -> u64 {
    slots.checked_div(step).map_or(0, |quotient| quotient.max(roughness(slots % step, step)))
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(weights: &[u16], usable: impl Fn(usize) -> bool, count: usize) -> Vec<usize> {
        let (policy, mut cursor) = (Weighted::new(weights), Cursor::new(3));
        (0..count).map(|_| policy.pick(&mut cursor, &usable).expect("usable endpoint")).collect()
    }

    fn counts(weights: &[u16], picks: &[usize]) -> Vec<usize> {
        (0..weights.len()).map(|index| picks.iter().filter(|pick| **pick == index).count()).collect()
    }

    /// How far the picks of an endpoint, over any stretch of them, are from its share.
    fn deviation(weights: &[u16], picks: &[usize]) -> f64 {
        let total: f64 = weights.iter().copied().map(f64::from).sum();
        let of_endpoint = |index: usize| {
            let (mut ahead, mut least, mut most) = (0.0, 0.0_f64, 0.0_f64);
            for pick in picks {
                ahead += f64::from(u8::from(*pick == index)) - f64::from(weights[index]) / total;
                (least, most) = (least.min(ahead), most.max(ahead));
            }
            most - least
        };
        (0..weights.len()).map(of_endpoint).fold(0.0, f64::max)
    }

    #[test]
    fn is_exact_over_each_cycle() {
        for (weights, cycle) in
            [(&[5, 1, 1][..], 7), (&[200, 100, 0, 300], 6), (&[1, 1], 2), (&[7], 1), (&[65_535, 1], 65_536)]
        {
            let unit = weights.iter().map(|weight| usize::from(*weight)).sum::<usize>() / cycle;
            let picks = picks(weights, |_| true, 2 * cycle);
            for cycle in picks.chunks(cycle) {
                let counts = counts(weights, cycle);
                assert!(
                    counts.iter().zip(weights).all(|(n, weight)| n * unit == usize::from(*weight)),
                    "{weights:?}: {counts:?}"
                );
            }
        }
    }

    #[test]
    fn is_even_over_any_stretch() {
        let mut rng = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let weights: Vec<_> = (0..rng.usize(2..8)).map(|_| rng.u16(1..400)).collect();
            let picks = picks(&weights, |_| true, 4000);
            let deviation = deviation(&weights, &picks);
            assert!(deviation < 5.0, "{weights:?}: {deviation}");
        }
    }

    #[test]
    fn the_rest_keep_their_proportions_when_one_is_out() {
        let weights = [4, 2, 1, 1];
        assert_eq!(counts(&weights, &picks(&weights, |index| index != 1, 6 * 10)), [40, 0, 10, 10]);
    }

    #[test]
    fn the_few_usable_keep_their_proportions() {
        let weights = [1000, 3, 1];
        let counts = counts(&weights, &picks(&weights, |index| index != 0, 4000));
        assert!(counts[1].abs_diff(3000) < 150, "{counts:?}");
    }

    #[test]
    fn weight_zero_takes_none() {
        assert_eq!(Weighted::new(&[0, 0]).pick(&mut Cursor::new(0), |_| true), None);
        assert_eq!(Weighted::new(&[0, 2]).pick(&mut Cursor::new(0), |index| index == 0), None);
    }

    #[test]
    fn a_large_table_visits_every_slot() {
        let weights: Vec<u16> = [51_050; 9].into_iter().chain([51_049, 11]).collect();
        let slots = weights.iter().map(|weight| usize::from(*weight)).sum();
        assert_eq!(slots, 2 * 3 * 5 * 7 * 11 * 13 * 17);
        let counts = counts(&weights, &picks(&weights, |_| true, slots));
        assert!(counts.iter().zip(&weights).all(|(n, weight)| *n == usize::from(*weight)), "{counts:?}");
    }
}
