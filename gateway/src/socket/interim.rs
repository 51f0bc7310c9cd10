//! Interim responses (RFC 9110 §15.2), which hyper drops without a count. They are followed from status line to status line: of
//! a usual response one byte is read.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The exchanges on one connection to a server. Writes do not show them: parts of a request go out after its answer has begun.
#[derive(Debug, Clone, Default)]
pub struct Exchanges(Arc<AtomicU32>);

/// Position in the bytes that a server sends on one connection.
#[derive(Debug)]
pub(super) struct Interim {
    at: At,
    /// Interim responses of the exchange.
    count: u32,
    limit: u32,
    exchanges: Exchanges,
    /// Number of the last exchange that had its final response.
    answered: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many bytes into a status line.
    Status(u8),
    /// Behind the first digit of an interim response's status; the second digit, 0 before it.
    Second(u8),
    Line,
    LineStart,
    LineCr,
    /// Behind the status of the final response.
    Final,
    /// Behind a switch of protocols: the rest is not HTTP.
    Switched,
}

/// Bytes of a status line before the status: `HTTP/1.1 `.
const BEFORE: u8 = 9;

/// A connection whose server may send so many interim responses in each exchange.
#[derive(Debug)]
pub struct InterimBounded<S> {
    stream: S,
    interim: Interim,
}

impl Exchanges {
    /// From now on, the server's bytes belong to the next exchange.
    pub fn begin(&self) {
        self.0.fetch_add(1, Relaxed);
    }
}

impl Interim {
    pub(super) fn new(limit: u32, exchanges: Exchanges) -> Self {
        Self { at: At::Status(0), count: 0, limit, exchanges, answered: 0 }
    }

    /// # Errors
    ///
    /// There are more interim responses than the limit.
    pub(super) fn read(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.at {
            At::Switched => return Ok(()),
            At::Final => {
                if self.exchanges.0.load(Relaxed) == self.answered {
                    return Ok(());
                }
                (self.at, self.count) = (At::Status(0), 0);
            }
            _ => {}
        }
        if self.at == At::Status(0) && bytes.first() == Some(&b'H') {
            match bytes.get(usize::from(BEFORE)) {
                Some(b'1') | None => {}
                Some(_) => return self.answered(),
            }
        }
        for byte in bytes {
            self.at = match (self.at, *byte) {
                (At::Final | At::Switched, _) => return Ok(()),
                // hyper passes over empty lines before a status line.
                (At::Status(0), b'\r' | b'\n') => At::Status(0),
                (At::Status(BEFORE), b'1') => At::Second(0),
                (At::Status(BEFORE), _) => return self.answered(),
                (At::Status(at), _) => At::Status(at + 1),
                (At::Second(0), digit) => At::Second(digit),
                (At::Second(b'0'), b'1') => At::Switched,
                (At::Second(_), _) => self.another()?,
                (At::LineStart | At::LineCr, b'\n') => At::Status(0),
                (_, b'\n') => At::LineStart,
                (At::LineStart, b'\r') => At::LineCr,
                (At::Line | At::LineStart | At::LineCr, _) => At::Line,
            };
        }
        Ok(())
    }

    /// The final response begins.
    fn answered(&mut self) -> io::Result<()> {
        self.at = At::Final;
        self.answered = self.exchanges.0.load(Relaxed);
        Ok(())
    }

    fn another(&mut self) -> io::Result<At> {
        self.count += 1;
        if self.count > self.limit {
            let message = format!("more than {} interim responses", self.limit);
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(At::Line)
    }
}

impl<S> InterimBounded<S> {
    pub fn new(stream: S, limit: u32) -> Self {
        Self { stream, interim: Interim::new(limit, Exchanges::default()) }
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    pub fn exchanges(&self) -> &Exchanges {
        &self.interim.exchanges
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for InterimBounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.interim.read(&buffer.filled()[before..])),
            polled => polled,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for InterimBounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nlink: <HTTP/1.1 100>\r\n\r\n";
    const FINAL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 200\r\n\r\n";

    fn read(interim: &mut Interim, text: &str, piece: usize) -> io::Result<()> {
        text.as_bytes().chunks(piece).try_for_each(|bytes| interim.read(bytes))
    }

    #[test]
    fn counts_the_interim_responses_of_each_exchange() {
        for piece in [1, 2, 3, 7, 1000] {
            let exchanges = Exchanges::default();
            let mut interim = Interim::new(3, exchanges.clone());
            for count in [3, 0, 1, 3] {
                exchanges.begin();
                let body = HINTS.repeat(9);
                read(&mut interim, &format!("{}\r\n{FINAL}{body}", HINTS.repeat(count)), piece).expect("few");
                read(&mut interim, &body, piece).expect("a body is none");
            }
            for flood in [HINTS, "HTTP/1.0 100 \n\n", "\r\n\nHTTP/1.1 199 X\nlink: x\r\n\n"] {
                exchanges.begin();
                let mut interim = Interim::new(3, exchanges.clone());
                read(&mut interim, &flood.repeat(3), piece).expect("few");
                assert!(read(&mut interim, flood, piece).is_err(), "{flood:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn bytes_behind_a_switch_of_protocols_are_not_read() {
        let exchanges = Exchanges::default();
        let mut interim = Interim::new(1, exchanges.clone());
        let switch = format!("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\n{}", HINTS.repeat(5));
        read(&mut interim, &switch, 5).expect("no interim response");
        exchanges.begin();
        read(&mut interim, &HINTS.repeat(5), 5).expect("no interim response");
    }
}
