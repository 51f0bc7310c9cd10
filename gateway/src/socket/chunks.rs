//! The chunked coding of a request (RFC 9112 §7.1), followed beside hyper, which accepts a bare LF as the end of a trailer
//! section or of a line in it and so reads the next request as trailers (`gateway/docs/upstream/hyper-trailer-bare-lf.md`).
//! It keeps no byte of a body.

/// Position in one chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chunks {
    /// In the digits of a chunk's size; the number of digits so far.
    Size(u64, u8),
    /// Behind the digits, up to the CR.
    Extension(u64),
    SizeLf(u64),
    /// Bytes of the chunk that are still to come.
    Data(u64),
    DataCr,
    DataLf,
    /// At the beginning of a line of the trailer section.
    LineStart,
    Line,
    LineLf,
    EndLf,
    /// hyper refuses the body for another reason, and with it the connection.
    Invalid,
}

/// State of a chunked body after some bytes of its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// All bytes belong to the body, and more follow.
    Inside,
    /// The body ends before the byte with this index.
    Ended(usize),
    /// A line of the trailer section ends with a bare LF.
    BareLf,
}

impl Chunks {
    pub(super) const START: Self = Self::Size(0, 0);

    pub(super) fn advance(&mut self, bytes: &[u8]) -> Progress {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if let Self::Data(left) = *self {
                let here = left.min((bytes.len() - at) as u64);
                // At most the length of `bytes`.
                at += usize::try_from(here).unwrap_or(bytes.len());
                *self = if left == here { Self::DataCr } else { Self::Data(left - here) };
                continue;
            }
            at += 1;
            *self = match (*self, byte) {
                (Self::EndLf, b'\n') => return Progress::Ended(at),
                (Self::LineStart | Self::Line, b'\n') => return Progress::BareLf,
                (state, byte) => state.after(byte),
            };
        }
        Progress::Inside
    }

    /// The next state outside of a chunk's data; accepts what hyper accepts.
    fn after(self, byte: u8) -> Self {
        match (self, byte) {
            (Self::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                let size = size.checked_mul(16).map(|size| size | u64::from(digit));
                size.map_or(Self::Invalid, |size| Self::Size(size, digits.saturating_add(1)))
            }
            (Self::Size(size, 1..), b' ' | b'\t' | b';') => Self::Extension(size),
            (Self::Size(size, 1..) | Self::Extension(size), b'\r') => Self::SizeLf(size),
            (Self::Extension(_), b'\n') => Self::Invalid,
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeLf(0), b'\n') => Self::LineStart,
            (Self::SizeLf(size), b'\n') => Self::Data(size),
            (Self::DataCr, b'\r') => Self::DataLf,
            (Self::DataLf, b'\n') => Self::START,
            (Self::LineStart, b'\r') => Self::EndLf,
            (Self::Line, b'\r') => Self::LineLf,
            (Self::LineStart | Self::Line, _) => Self::Line,
            (Self::LineLf, b'\n') => Self::LineStart,
            _ => Self::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on bytes that arrive in pieces of this length.
    fn verdict(text: &str, piece: usize) -> Progress {
        let mut chunks = Chunks::START;
        let mut before = 0;
        for bytes in text.as_bytes().chunks(piece) {
            match chunks.advance(bytes) {
                Progress::Inside => before += bytes.len(),
                Progress::Ended(at) => return Progress::Ended(before + at),
                Progress::BareLf => return Progress::BareLf,
            }
        }
        Progress::Inside
    }

    #[test]
    fn finds_the_end_and_every_bare_line_feed_of_a_trailer_section() {
        for piece in [1, 2, 3, 7, 100] {
            for text in [
                "0\r\n\r\n",
                "5\r\na\nb\n\n\r\n0\r\n\r\n",
                "A;x=y\r\n0123456789\r\n1 \r\nx\r\n00\r\nX: y\r\nZ: \r\n\r\n",
            ] {
                let next = format!("{text}GET / HTTP/1.1\r\n");
                assert_eq!(verdict(&next, piece), Progress::Ended(text.len()), "{text:?}");
            }
            for text in ["0\r\n\n", "1\r\na\r\n0\r\nX: y\n\n", "0\r\nX: y\n\r\n", "0\r\nX: y\r\n\n"] {
                assert_eq!(verdict(text, piece), Progress::BareLf, "{text:?}");
            }
            for text in ["0\n\n", "\r\n", "g\r\n", "1\r\nab\r\n", "10000000000000000\r\n", "0;a\nb\r\n\n"] {
                assert_eq!(verdict(text, piece), Progress::Inside, "{text:?}");
            }
        }
    }
}
