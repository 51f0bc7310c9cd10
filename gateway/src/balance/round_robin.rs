//! Each endpoint in turn: over any stretch of picks the usable ones differ by one at most.

use super::Cursor;

#[derive(Debug)]
pub(super) struct RoundRobin {
    endpoints: usize,
}

impl RoundRobin {
    pub(super) fn new(endpoints: usize) -> Self {
        Self { endpoints }
    }

    pub(super) fn pick(&self, cursor: &mut Cursor, usable: impl Fn(usize) -> bool) -> Option<usize> {
        let start = cursor.turn.checked_rem(self.endpoints as u64)? as usize;
        let pick = (start..self.endpoints).chain(0..start).find(|index| usable(*index))?;
        cursor.turn = pick as u64 + 1;
        Some(pick)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picks(cursor: &mut Cursor, endpoints: usize, usable: impl Fn(usize) -> bool) -> Vec<usize> {
        let policy = RoundRobin::new(endpoints);
        (0..6).map(|_| policy.pick(cursor, &usable).expect("usable endpoint")).collect()
    }

    #[test]
    fn takes_turns() {
        assert_eq!(picks(&mut Cursor::new(0), 3, |_| true), [0, 1, 2, 0, 1, 2]);
        assert_eq!(picks(&mut Cursor::new(1), 3, |_| true), [1, 2, 0, 1, 2, 0]);
    }

    #[test]
    fn the_rest_take_turns_when_one_is_out() {
        assert_eq!(picks(&mut Cursor::new(0), 4, |index| index != 1), [0, 2, 3, 0, 2, 3]);
    }

    #[test]
    fn goes_on_in_another_table() {
        let mut cursor = Cursor::new(u64::MAX);
        picks(&mut cursor, 100, |index| index > 90);
        assert_eq!(picks(&mut cursor, 2, |_| true).iter().filter(|pick| **pick == 0).count(), 3);
    }
}
