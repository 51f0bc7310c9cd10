//! A body as it passes, read and written piece by piece.

use std::io::{self, Read, Write};

use serde::de::DeserializeOwned;

use crate::{Result, backend};

/// A body as it passes: what is read of it is the filter's to write on, changed or not.
///
/// It is a [`Read`] and a [`Write`], so that what works on those, such as a decompressor, works on bodies. Reading waits for
/// the sender, writing for the receiver; neither counts against the plugin's `deadline`. If either of them breaks off, the
/// call ends there.
///
/// ```
/// use std::io::Write;
/// use stile_sdk::prelude::*;
///
/// fn upper_case(body: &mut Stream) -> Result<()> {
///     while let Some(piece) = body.next_piece() {
///         body.write_all(&piece.to_ascii_uppercase())?;
///     }
///     Ok(())
/// }
/// ```
#[derive(Debug)]
pub struct Stream {
    body: backend::Stream,
    /// Of a piece that was read in part, from this place on.
    piece: Vec<u8>,
    at: usize,
}

impl Stream {
    pub(crate) fn new(body: backend::Stream) -> Self {
        Self { body, piece: Vec::new(), at: 0 }
    }

    /// The next piece, as it came; none at the end.
    pub fn next_piece(&mut self) -> Option<Vec<u8>> {
        if self.at < self.piece.len() {
            let at = std::mem::take(&mut self.at);
            return Some(std::mem::take(&mut self.piece).split_off(at));
        }
        self.body.read()
    }

    /// What an earlier phase of this filter [kept](crate::Request::keep), if anything.
    pub fn kept<T: DeserializeOwned>(&self) -> Result<Option<T>> {
        match self.body.kept() {
            state if state.is_empty() => Ok(None),
            state => Ok(Some(serde_json::from_slice(&state)?)),
        }
    }

    /// Sends on what was read of a piece and not used: it is not the filter's to drop.
    pub(crate) fn finish(&mut self) {
        let at = std::mem::take(&mut self.at);
        let rest = std::mem::take(&mut self.piece);
        if at < rest.len() {
            self.body.write(&rest[at..]);
        }
    }

    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn into_backend(self) -> backend::Stream {
        self.body
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            (self.piece, self.at) = (self.body.read().unwrap_or_default(), 0);
        }
        let length = buffer.len().min(self.piece.len() - self.at);
        buffer[..length].copy_from_slice(&self.piece[self.at..self.at + length]);
        self.at += length;
        Ok(length)
    }
}

impl Write for Stream {
    /// Takes all of it, which becomes one piece.
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.body.write(piece);
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(pieces: &[&str]) -> Stream {
        let pieces = pieces.iter().map(|piece| piece.as_bytes().to_vec()).collect();
        Stream::new(backend::Stream { pieces, ..Default::default() })
    }

    #[test]
    fn reads_across_pieces_whatever_the_buffer() {
        for size in 1..9 {
            let (mut stream, mut all) = (stream(&["ab", "cdef", "g"]), Vec::new());
            let mut buffer = vec![0; size];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                all.extend_from_slice(&buffer[..length]);
            }
            assert_eq!(all, b"abcdefg", "{size}");
        }
    }

    #[test]
    fn a_piece_that_was_read_in_part_goes_on_where_that_ended() {
        let mut stream = stream(&["abc", "d"]);
        stream.read_exact(&mut [0]).unwrap();
        assert_eq!(stream.next_piece().as_deref(), Some(&b"bc"[..]));
        assert_eq!(stream.next_piece().as_deref(), Some(&b"d"[..]));
        assert_eq!(stream.next_piece(), None);
    }

    #[test]
    fn what_was_read_of_a_piece_and_not_used_goes_on() {
        let mut stream = stream(&["abc", "d"]);
        stream.read_exact(&mut [0]).unwrap();
        stream.finish();
        assert_eq!(stream.into_backend().written, b"bc", "and the next piece passes unread");
    }
}
