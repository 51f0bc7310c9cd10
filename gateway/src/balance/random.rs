//! Each usable endpoint with the same chance; and the draw by weight that `weighted` falls back on.

use fastrand::Rng;

use super::Cursor;

#[derive(Debug)]
pub(super) struct Random {
    endpoints: usize,
}

/// Draws among all before looking at each: almost always the first is usable.
const DRAWS: usize = 16;

impl Random {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { endpoints }
    }

    pub(super) fn pick(&self, cursor: &mut Cursor, usable: impl Fn(usize) -> bool) -> Option<usize> {
        if self.endpoints == 0 {
            return None;
        }
        (0..DRAWS).map(|_| cursor.rng.usize(..self.endpoints)).find(|index| usable(*index)).or_else(|| {
            draw(&mut cursor.rng, (0..self.endpoints).filter(|index| usable(*index)).map(|index| (index, 1)))
        })
    }
}

/// One of the candidates, with a chance as its weight says. In one pass, since a second one might find others:
/// the n-th replaces the choice so far with its weight over that of the first n.
pub(super) fn draw(rng: &mut Rng, candidates: impl Iterator<Item = (usize, u64)>) -> Option<usize> {
    let mut total = 0;
    candidates.fold(None, |choice, (index, weight)| {
        total += weight;
        if rng.u64(..total) < weight { Some(index) } else { choice }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICKS: usize = 60_000;

    /// How often each index comes up, in thousandths.
    fn shares(pick: impl FnMut() -> Option<usize>) -> [usize; 4] {
        let mut shares = [0; 4];
        for pick in std::iter::repeat_with(pick).take(PICKS) {
            shares[pick.expect("usable endpoint")] += 1;
        }
        shares.map(|count| count * 1000 / PICKS)
    }

    /// Four standard deviations of a share at `PICKS` are at most 8 thousandths.
    fn assert_near(shares: [usize; 4], expected: [usize; 4]) {
        assert!(shares.iter().zip(&expected).all(|(a, b)| a.abs_diff(*b) <= 8), "{shares:?}");
    }

    #[test]
    fn is_uniform() {
        let (policy, mut cursor) = (Random::new(4), Cursor::new(1));
        assert_near(shares(|| policy.pick(&mut cursor, |_| true)), [250; 4]);
    }

    #[test]
    fn is_uniform_among_the_few_usable() {
        let (policy, mut cursor) = (Random::new(100), Cursor::new(2));
        assert_near(shares(|| policy.pick(&mut cursor, |index| (1..4).contains(&index))), [0, 333, 333, 333]);
    }

    #[test]
    fn draws_by_weight() {
        let mut rng = Rng::with_seed(3);
        assert_near(shares(|| draw(&mut rng, [(0, 5), (2, 3), (3, 2)].into_iter())), [500, 0, 300, 200]);
    }
}
