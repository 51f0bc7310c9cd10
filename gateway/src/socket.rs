//! A TCP connection as hyper drives it. It adds two things: a small message that comes in pieces is sent as one, and what one
//! read brings is bounded.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take},
    net::TcpStream,
};

/// Up to so many bytes, copying costs less than what the kernel does to gather pieces.
const SMALL: usize = 1024;

/// Bytes of one read. hyper doubles its buffer, to 400 KiB, after each read that fills it: reads that stay below 64 KiB keep the
/// buffer, and what one waiting piece of a body keeps alive, at 64 KiB.
const READ: u64 = (64 << 10) - 1;

#[derive(Debug)]
pub struct Socket(Take<TcpStream>);

impl Socket {
    pub fn new(stream: TcpStream) -> Self {
        Self(stream.take(READ))
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.0.get_mut())
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.0.set_limit(READ);
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream();
        if let [piece] = pieces {
            return stream.poll_write(cx, piece);
        }
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL {
            return stream.poll_write_vectored(cx, pieces);
        }
        let (mut whole, mut length) = ([0; SMALL], 0);
        for piece in pieces {
            whole[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        stream.poll_write(cx, &whole[..length])
    }

    fn is_write_vectored(&self) -> bool {
        self.0.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
