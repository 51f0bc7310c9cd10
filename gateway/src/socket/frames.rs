//! Errors that an HTTP/2 connection sends to its client (RFC 9113 §5.4): the frames that go out are followed by their heads. h2 sends
//! most of them itself and reports none.

use std::sync::Arc;

use crate::monitor::record::{WireError, WireErrors};

/// Position in the frames that are written to a client.
#[derive(Debug)]
pub(super) enum Frames {
    /// Nothing was written yet.
    Unknown,
    Http1,
    Http2(Box<Frame>),
}

/// The frame that is being written.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// Its first bytes: the head, and of an error's frame as much as has the code.
    bytes: [u8; GOAWAY_BYTES],
    known: usize,
    /// Bytes of the payload that are passed over.
    skipped: usize,
}

const HEAD_BYTES: usize = 9;
const RST_STREAM: u8 = 3;
const RST_STREAM_BYTES: usize = HEAD_BYTES + 4;
const GOAWAY: u8 = 7;
/// Up to the end of the error code, which is behind the last stream's id.
const GOAWAY_BYTES: usize = HEAD_BYTES + 8;

impl Frames {
    pub(super) fn written(&mut self, bytes: &[u8], errors: &Arc<WireErrors>) {
        if let Self::Unknown = self {
            // A server begins with SETTINGS (RFC 9113 §3.4).
            *self = if bytes.starts_with(b"H") { Self::Http1 } else { Self::Http2(Box::default()) };
        }
        if let Self::Http2(frame) = self {
            frame.written(bytes, errors);
        }
    }
}

impl Frame {
    fn written(&mut self, mut bytes: &[u8], errors: &WireErrors) {
        while !bytes.is_empty() {
            if self.skipped > 0 {
                let here = self.skipped.min(bytes.len());
                self.skipped -= here;
                bytes = &bytes[here..];
                continue;
            }
            let here = (self.wanted() - self.known).min(bytes.len());
            let (now, rest) = bytes.split_at(here);
            self.bytes[self.known..self.known + here].copy_from_slice(now);
            self.known += here;
            bytes = rest;
            if self.known == self.wanted() {
                self.count(errors);
                self.skipped = (HEAD_BYTES + self.length()).saturating_sub(self.known);
                self.known = 0;
            }
        }
    }

    /// First bytes of the frame that are of use.
    fn wanted(&self) -> usize {
        if self.known < HEAD_BYTES {
            return HEAD_BYTES;
        }
        match self.bytes[3] {
            RST_STREAM => RST_STREAM_BYTES.min(HEAD_BYTES + self.length()),
            GOAWAY => GOAWAY_BYTES.min(HEAD_BYTES + self.length()),
            _ => HEAD_BYTES,
        }
    }

    fn length(&self) -> usize {
        let [high, middle, low, ..] = self.bytes.map(usize::from);
        high << 16 | middle << 8 | low
    }

    fn count(&self, errors: &WireErrors) {
        let code = |at: usize| self.bytes[at..at + 4].iter().fold(0, |code, byte| code << 8 | u32::from(*byte));
        match (self.bytes[3], self.known) {
            (RST_STREAM, RST_STREAM_BYTES) => errors.add(WireError::StreamReset(name(code(HEAD_BYTES)))),
            // Without an error the connection is drained.
            (GOAWAY, GOAWAY_BYTES) if code(HEAD_BYTES + 4) != 0 => {
                errors.add(WireError::Connection(name(code(HEAD_BYTES + 4))));
            }
            _ => {}
        }
    }
}

/// RFC 9113 §7.
fn name(code: u32) -> &'static str {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    usize::try_from(code).ok().and_then(|code| NAMES.get(code)).copied().unwrap_or("UNKNOWN")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
        [&length[1..], &[kind, 0, 0, 0, 0, 1], payload].concat()
    }

    #[test]
    fn counts_errors_among_other_frames_however_they_are_written() {
        let all = [
            frame(4, &[]),
            frame(0, &[3; 300]),
            frame(RST_STREAM, &[0, 0, 0, 7]),
            frame(1, b"head"),
            frame(RST_STREAM, &[0, 0, 0, 99]),
            frame(GOAWAY, &[0, 0, 0, 1, 0, 0, 0, 0]),
            frame(GOAWAY, b"\0\0\0\x01\0\0\0\x0bwhy"),
        ];
        for piece in [1, 2, 5, 9, 1000] {
            let (mut frames, errors) = (Frames::Unknown, Arc::default());
            all.concat().chunks(piece).for_each(|bytes| frames.written(bytes, &errors));
            let expected = [
                (WireError::StreamReset("REFUSED_STREAM"), 1),
                (WireError::StreamReset("UNKNOWN"), 1),
                (WireError::Connection("ENHANCE_YOUR_CALM"), 1),
            ];
            let mut counted = errors.all();
            counted.sort();
            let mut expected = Vec::from(expected);
            expected.sort();
            assert_eq!(counted, expected, "{piece}");
        }
    }
}
