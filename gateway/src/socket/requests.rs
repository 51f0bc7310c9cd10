//! Where the requests of an HTTP/1.1 connection are in the bytes that hyper reads. Only chunked requests are followed; of others
//! it keeps a copy of the last read, in case the next request is chunked and arrived with it.

use std::{
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::chunks::{Chunks, Progress};

/// Shared by the socket, which sees the bytes, and the service, which learns how a request is framed.
#[derive(Debug, Default)]
pub struct Requests(Mutex<State>);

/// Framing of a request's body.
#[derive(Debug, Clone, Copy)]
pub enum Framing<'a> {
    /// Content-Length; 0 without a body.
    Length(u64),
    /// The value of the Transfer-Encoding field, as hyper cut it out of its buffer.
    Chunked(&'a [u8]),
}

/// Verdict on the framing of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing wrong so far; if more of it comes, the socket follows it.
    Sound,
    /// A line of the trailer section ends with a bare LF.
    BareLf,
    /// The beginning of the body was not found: the connection must end with this request.
    Unknown,
}

#[derive(Debug, Default)]
struct State {
    /// Copy of the end of what hyper has read.
    recent: Vec<u8>,
    /// Address behind the last of these bytes in hyper's buffer.
    end: usize,
    /// hyper has parsed a head since the last read.
    parsed: bool,
    /// Bytes of a body of known length that are still to come, at least.
    body: u64,
    /// The chunked request that is being read.
    chunks: Option<Chunks>,
    /// A line of its trailer section ended with a bare LF.
    broken: bool,
    /// No request is expected: the connection is not HTTP/1.1, not any more, or about to end.
    off: bool,
}

/// An address that is farther from the last byte read is not in the same buffer.
const FAR: usize = 1 << 20;
/// Larger copies are given back before the next one is made.
const KEPT: usize = 4 << 10;

impl Requests {
    /// Sees what one read has put into hyper's buffer.
    ///
    /// # Errors
    ///
    /// A line of a trailer section ends with a bare LF (RFC 9112 §7.1.2 asks for CRLF).
    pub(super) fn read(&self, bytes: &[u8]) -> io::Result<()> {
        let mut guard = self.state();
        let state = &mut *guard;
        if state.off {
            return Ok(());
        }
        let mut bytes = bytes;
        if let Some(chunks) = &mut state.chunks {
            match chunks.advance(bytes) {
                Progress::Inside => return Ok(()),
                Progress::BareLf => {
                    state.broken = true;
                    return Err(bare_lf());
                }
                Progress::Ended(end) => bytes = &bytes[end..],
            }
            state.chunks = None;
        }
        state.keep(bytes);
        Ok(())
    }

    /// A request's head has been parsed, by the task that reads and before it reads again.
    pub fn began(&self, framing: Framing<'_>) -> Verdict {
        let mut state = self.state();
        if state.chunks.is_some() {
            return Verdict::Unknown;
        }
        state.parsed = true;
        match framing {
            Framing::Length(length) => {
                state.body = length.saturating_sub(state.recent.len() as u64);
                Verdict::Sound
            }
            Framing::Chunked(coding) => state.chunked(coding),
        }
    }

    /// Says whether a read has failed for a bare LF.
    pub fn is_broken(&self) -> bool {
        self.state().broken
    }

    /// The first line of a head that hyper could not parse, if it is known.
    pub fn unparsed_line(&self) -> Option<String> {
        let state = self.state();
        // Otherwise the head came with the request before it.
        if state.parsed {
            return None;
        }
        let start = state.recent.trim_ascii_start();
        let line = start.split(|byte| *byte == b'\n').next()?.trim_ascii_end();
        String::from_utf8(line.to_vec()).ok()
    }

    /// Nothing of the connection is HTTP/1.1 from now on.
    pub fn stop(&self) {
        let mut state = self.state();
        if !state.off {
            *state = State { off: true, ..State::default() };
        }
    }

    /// What comes from now on is of no request. What could not be parsed is kept.
    pub(super) fn shut_down(&self) {
        self.state().off = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn keep(&mut self, bytes: &[u8]) {
        let length = bytes.len() as u64;
        if length <= self.body {
            self.body -= length;
            return;
        }
        self.body = 0;
        if self.parsed {
            self.parsed = false;
            self.recent.clear();
            if self.recent.capacity() > KEPT {
                self.recent = Vec::new();
            }
        }
        self.recent.extend_from_slice(bytes);
        self.end = bytes.as_ptr_range().end.addr();
    }

    /// The value of a field is a slice of hyper's buffer, so its address says where in the last reads the head is.
    fn chunked(&mut self, coding: &[u8]) -> Verdict {
        let from_end = self.end.wrapping_sub(coding.as_ptr().addr());
        let inside = match self.recent.len().checked_sub(from_end) {
            Some(inside) => inside,
            // The field came with an earlier read, and this one goes on in the same head. Of a blank line it may have
            // the end only.
            None if from_end <= FAR && !matches!(self.recent.first(), Some(b'\r' | b'\n') | None) => 0,
            None => return Verdict::Unknown,
        };
        let Some(body) = head_end(&self.recent, inside) else { return Verdict::Unknown };
        let mut chunks = Chunks::START;
        match chunks.advance(&self.recent[body..]) {
            Progress::Inside => self.chunks = Some(chunks),
            // What follows in this read stays, for the next request.
            Progress::Ended(_) => {}
            Progress::BareLf => return Verdict::BareLf,
        }
        Verdict::Sound
    }
}

/// The index behind the first blank line from an index within a head. hyper accepts a bare LF there (RFC 9112 §2.2).
fn head_end(bytes: &[u8], inside: usize) -> Option<usize> {
    let mut from = inside;
    loop {
        let next = from + bytes.get(from..)?.iter().position(|byte| *byte == b'\n')? + 1;
        match bytes.get(next..)? {
            [b'\n', ..] => return Some(next + 1),
            [b'\r', b'\n', ..] => return Some(next + 2),
            _ => from = next,
        }
    }
}

fn bare_lf() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a line of the trailer section ends with a bare LF")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\nx: y\r\n\r\n";

    /// hyper's buffer, filled by reads.
    struct Buffer {
        requests: Requests,
        bytes: Vec<u8>,
    }

    impl Buffer {
        fn new() -> Self {
            Self { requests: Requests::default(), bytes: Vec::with_capacity(64 << 10) }
        }

        fn read(&mut self, text: &str) -> io::Result<()> {
            let before = self.bytes.len();
            self.bytes.extend_from_slice(text.as_bytes());
            self.requests.read(&self.bytes[before..])
        }

        /// The last chunked head in the buffer is parsed.
        fn chunked(&self) -> Verdict {
            let text = std::str::from_utf8(&self.bytes).expect("text");
            let at = text.rfind("chunked").expect("a chunked request");
            self.requests.began(Framing::Chunked(&self.bytes[at..at + 7]))
        }
    }

    #[test]
    fn a_chunked_request_is_found_behind_whatever_came_with_it() {
        let get = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let post = "POST / HTTP/1.1\r\ncontent-length: 6\r\n\r\na\n\r\n\r\n";
        for before in [&[][..], &[get], &[post], &[get, post, get], &["\r\n"]] {
            for (body, verdict) in [("0\r\n\r\n", Verdict::Sound), ("1\r\na\r\n0\r\n\n", Verdict::BareLf)] {
                let mut buffer = Buffer::new();
                buffer.read(&format!("{}{HEAD}{body}{get}", before.concat())).expect("nothing is known yet");
                for message in before.iter().filter(|message| message.len() > 2) {
                    let length = if *message == post { 6 } else { 0 };
                    assert_eq!(buffer.requests.began(Framing::Length(length)), Verdict::Sound);
                }
                assert_eq!(buffer.chunked(), verdict, "{before:?} {body:?}");
            }
        }
    }

    #[test]
    fn what_comes_in_later_reads_is_followed() {
        let mut buffer = Buffer::new();
        for round in 0..3 {
            buffer.read("POST / HTTP/1.1\r\ncontent-length: 30000\r\n\r\na").expect("a plain request");
            assert_eq!(buffer.requests.began(Framing::Length(30_000)), Verdict::Sound);
            let body = "b".repeat(29_999);
            buffer.bytes = Vec::with_capacity(64 << 10);
            buffer.read(&body).expect("its body");
            let (start, rest) = HEAD.split_at(10 + 20 * round);
            buffer.read(start).expect("a piece of a head");
            buffer.read(rest).expect("the rest");
            assert_eq!(buffer.chunked(), Verdict::Sound, "{round}");
            buffer.read("5\r\nab\ncd\r\n0\r\n").expect("a chunk");
            buffer.read("\r\n").expect("the end");
        }
        buffer.read(HEAD).expect("a head");
        assert_eq!(buffer.chunked(), Verdict::Sound);
        assert!(buffer.read("0\r\nx: y\r\n\nGET / HTTP/1.1\r\n\r\n").is_err());
    }

    #[test]
    fn a_body_whose_beginning_cannot_be_known_ends_its_connection() {
        let mut buffer = Buffer::new();
        buffer.read(HEAD).expect("a head");
        assert_eq!(buffer.requests.began(Framing::Chunked(b"chunked")), Verdict::Unknown);
        let mut buffer = Buffer::new();
        buffer
            .read("GET / HTTP/1.1\r\n\r\nPOST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n")
            .expect("a head and a half");
        assert_eq!(buffer.requests.began(Framing::Length(0)), Verdict::Sound);
        buffer.read("\r\n0\r\n\r\n").expect("the end of a head");
        assert_eq!(buffer.chunked(), Verdict::Unknown);
    }
}
