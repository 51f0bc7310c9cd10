//! A TCP connection as hyper drives it. It sends a small message that comes in pieces as one, and follows where chunked requests
//! end.

mod chunks;
mod requests;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

pub use self::requests::{Framing, Requests, Verdict};

/// Up to so many bytes, copying costs less than what the kernel does to gather pieces.
const SMALL: usize = 1024;

#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Those of the client, if the other side is one.
    requests: Option<Arc<Requests>>,
}

impl Socket {
    /// A connection to a service.
    pub fn to_service(stream: TcpStream) -> Self {
        Self { stream, requests: None }
    }

    /// A connection of a client, whose requests are followed.
    pub fn of_client(stream: TcpStream, requests: Arc<Requests>) -> Self {
        Self { stream, requests: Some(requests) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match (&polled, &self.requests) {
            (Poll::Ready(Ok(())), Some(requests)) => Poll::Ready(requests.read(&buffer.filled()[before..])),
            _ => polled,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(&mut self.stream);
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
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
