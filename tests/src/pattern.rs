//! Bytes of any length that are made and checked piece by piece, so that a huge body is never held.

use bytes::Bytes;

/// Its length is prime, so that a piece lost or repeated shows whatever the sizes of buffers.
const PERIOD: usize = 251;
/// A whole number of periods, and so the same block again and again.
const BLOCK: usize = PERIOD * 256;

/// Makes the body.
#[derive(Debug)]
pub struct Source {
    block: Bytes,
    left: u64,
}

/// Checks it.
#[derive(Debug)]
pub struct Check {
    /// Two blocks, so that any piece up to one block long is found in one place.
    blocks: Vec<u8>,
    seen: u64,
    right: bool,
}

impl Source {
    pub fn new(length: u64) -> Self {
        Self { block: block().into(), left: length }
    }
}

impl Iterator for Source {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        let size = self.left.min(BLOCK as u64);
        self.left -= size;
        (size > 0).then(|| self.block.slice(..usize::try_from(size).unwrap_or(BLOCK)))
    }
}

impl Check {
    pub fn new() -> Self {
        Self { blocks: block().repeat(2), seen: 0, right: true }
    }

    pub fn add(&mut self, bytes: &[u8]) {
        for piece in bytes.chunks(BLOCK) {
            let start = usize::try_from(self.seen % BLOCK as u64).unwrap_or(0);
            self.right &= self.blocks[start..start + piece.len()] == *piece;
            self.seen += piece.len() as u64;
        }
    }

    /// How many bytes came, or None if one of them was wrong.
    pub fn right(&self) -> Option<u64> {
        self.right.then_some(self.seen)
    }
}

impl Default for Check {
    fn default() -> Self {
        Self::new()
    }
}

fn block() -> Vec<u8> {
    (0..=250).cycle().take(BLOCK).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_right_in_other_pieces_too_and_a_lost_byte_is_not() {
        let body: Vec<u8> = Source::new(200_000).flatten().collect();
        let mut check = Check::new();
        body.chunks(7777).for_each(|piece| check.add(piece));
        assert_eq!(check.right(), Some(200_000));
        let mut check = Check::new();
        check.add(&body[..100]);
        check.add(&body[101..]);
        assert_eq!(check.right(), None);
    }
}
