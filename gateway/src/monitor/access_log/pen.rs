//! What a line is written with: into room that is there, short texts and numbers without a call.

use std::{
    fmt::{self, Write},
    time::Duration,
};

const BLOCK: usize = 32;

/// A text that is often short: its last bytes lie in a block of a fixed size, which is copied without a call.
#[derive(Debug)]
pub(super) struct Fixed {
    before: Box<[u8]>,
    block: [u8; BLOCK],
    /// Bytes of the block that are of the text.
    length: usize,
}

impl From<String> for Fixed {
    fn from(text: String) -> Self {
        let (before, last) = text.as_bytes().split_at(text.len().saturating_sub(BLOCK));
        let mut block = [0; BLOCK];
        block[..last.len()].copy_from_slice(last);
        Self { before: before.into(), block, length: last.len() }
    }
}

/// Writes into room that is there. What finds none is not written, and told of by `full`.
#[derive(Debug)]
pub(super) struct Pen<'a> {
    room: &'a mut [u8],
    at: usize,
    full: bool,
}

impl<'a> Pen<'a> {
    pub(super) fn new(room: &'a mut [u8]) -> Self {
        Self { room, at: 0, full: false }
    }

    /// Bytes that were written, if there was room for all.
    pub(super) fn written(self) -> Option<usize> {
        (!self.full).then_some(self.at)
    }

    /// Where the next byte goes.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// Takes back what was written from there on.
    pub(super) fn back_to(&mut self, at: usize) {
        self.at = at;
    }

    /// Takes back the last byte if it is this one.
    pub(super) fn back_over(&mut self, byte: u8) {
        if let Some(last) = self.at.checked_sub(1).filter(|last| self.room.get(*last) == Some(&byte)) {
            self.at = last;
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        match self.room.get_mut(self.at..self.at + bytes.len()) {
            Some(room) => {
                copy(room, bytes);
                self.at += bytes.len();
            }
            None => self.full = true,
        }
    }

    pub(super) fn fixed(&mut self, fixed: &Fixed) {
        if !fixed.before.is_empty() {
            self.bytes(&fixed.before);
        }
        match self.room.get_mut(self.at..self.at + BLOCK) {
            Some(room) => {
                room.copy_from_slice(&fixed.block);
                self.at += fixed.length;
            }
            None => self.full = true,
        }
    }

    pub(super) fn number(&mut self, n: u64) {
        match u8::try_from(n) {
            Ok(digit @ 0..=9) => self.bytes(&[b'0' + digit]),
            _ => self.text(itoa::Buffer::new().format(n)),
        }
    }

    /// Milliseconds with three decimals.
    pub(super) fn millis(&mut self, time: Duration) {
        let micros = time.subsec_micros();
        self.number(time.as_secs() * 1000 + u64::from(micros / 1000));
        self.bytes(b".");
        self.three_digits(micros % 1000);
    }

    pub(super) fn three_digits(&mut self, n: u32) {
        self.bytes(&[100, 10, 1].map(|place| b'0' + (n / place % 10) as u8));
    }
}

impl Write for Pen<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text);
        Ok(())
    }
}

/// Most values are so short that two blocks, which may overlap, copy them in less than it takes to call for it.
fn copy(to: &mut [u8], from: &[u8]) {
    fn ends<const N: usize>(to: &mut [u8], from: &[u8]) {
        if let (Some(first), Some(last)) = (from.first_chunk::<N>(), from.last_chunk::<N>()) {
            to[..N].copy_from_slice(first);
            let at = to.len() - N;
            to[at..].copy_from_slice(last);
        }
    }
    match from.len() {
        0 => {}
        1 => ends::<1>(to, from),
        2..4 => ends::<2>(to, from),
        4..8 => ends::<4>(to, from),
        8..16 => ends::<8>(to, from),
        16..=32 => ends::<16>(to, from),
        _ => to.copy_from_slice(from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_are_written_whole_and_what_finds_no_room_is_told() {
        let text: String = ('a'..='z').cycle().take(70).collect();
        for length in 0..text.len() {
            let mut room = vec![0; 200];
            let mut pen = Pen::new(&mut room);
            pen.fixed(&text[..length].to_owned().into());
            pen.text(&text[..length]);
            pen.text(".");
            let written = pen.written().expect("there is room");
            assert_eq!(room[..written], *format!("{0}{0}.", &text[..length]).as_bytes());
            let mut pen = Pen::new(&mut room[..length]);
            pen.text(&text[..=length]);
            assert_eq!(pen.written(), None);
        }
    }

    #[test]
    fn times_have_three_decimals() {
        let mut room = [0; 64];
        let mut pen = Pen::new(&mut room);
        for micros in [0, 7, 1_234_567, 60_000_010] {
            pen.millis(Duration::from_micros(micros));
            pen.text(" ");
        }
        let written = pen.written().expect("there is room");
        assert_eq!(room[..written], *b"0.000 0.007 1234.567 60000.010 ");
    }
}
