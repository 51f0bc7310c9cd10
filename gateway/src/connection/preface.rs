//! The first bytes of a connection, which show the protocol that the client speaks. They are read again before all others.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::{progress::Peer, socket::Socket};

/// The first bytes of every HTTP/2 client (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// A socket whose first bytes may have been read already. It records where the client takes no bytes.
#[derive(Debug)]
pub(super) struct Opened {
    socket: Socket,
    peer: Arc<Peer>,
    first: [u8; PREFACE.len()],
    /// The part of `first` that was read from the socket and that no reader has taken yet.
    unread: std::ops::Range<usize>,
}

impl Opened {
    pub(super) fn new(socket: Socket, peer: Arc<Peer>) -> Self {
        Self { socket, peer, first: [0; PREFACE.len()], unread: 0..0 }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.peer.set_blocked(written.is_pending());
        written
    }

    /// Reads until the bytes are the preface of HTTP/2, or cannot become it.
    pub(super) async fn protocol(&mut self) -> io::Result<Protocol> {
        while self.unread.end < PREFACE.len() {
            let before = self.unread.end;
            self.unread.end += self.socket.read(&mut self.first[before..]).await?;
            if self.unread.end == before || self.first[..self.unread.end] != PREFACE[..self.unread.end] {
                return Ok(Protocol::Http1);
            }
        }
        Ok(Protocol::Http2)
    }
}

impl AsyncRead for Opened {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.socket).poll_read(cx, buffer);
        }
        let length = self.unread.len().min(buffer.remaining());
        let start = self.unread.start;
        buffer.put_slice(&self.first[start..start + length]);
        self.unread.start += length;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Opened {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, pieces);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
