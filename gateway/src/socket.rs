//! A TCP connection as hyper drives it. It sends a small message that comes in pieces as one, and follows where chunked requests
//! end.

mod chunks;
mod follow;
mod frames;
mod interim;
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

use self::follow::Followed;
use crate::monitor::record::WireErrors;

pub use self::requests::{Framing, Requests, Verdict};

/// Up to so many bytes, copying costs less than what the kernel does to gather pieces.
const SMALL: usize = 1024;

/// Bytes that are read before other tasks have their turn: a peer that is always ready must not keep the worker to itself.
const TURN: usize = 64 << 10;

#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    /// Bytes read since the socket had none, or since others had their turn.
    turn: usize,
    followed: Followed,
}

impl Socket {
    /// A connection of a client.
    pub fn of_client(stream: TcpStream, requests: Arc<Requests>, errors: Arc<WireErrors>) -> Self {
        Self { stream, turn: 0, followed: Followed::of_client(requests, errors) }
    }

    /// A connection to a service, which may send so many interim responses to a request.
    pub fn to_service(stream: TcpStream, interim_responses: u32) -> Self {
        Self { stream, turn: 0, followed: Followed::to_service(interim_responses) }
    }
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = &buffer.filled()[before..];
                self.turn += bytes.len();
                Poll::Ready(self.followed.read(bytes))
            }
            Poll::Pending => {
                self.turn = 0;
                Poll::Pending
            }
            failed => failed,
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = polled {
            self.followed.written(&bytes[..length]);
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return self.poll_write(cx, piece);
        }
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL {
            let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
            if let Poll::Ready(Ok(length)) = polled {
                let mut left = length;
                for piece in pieces {
                    let here = left.min(piece.len());
                    self.followed.written(&piece[..here]);
                    left -= here;
                }
            }
            return polled;
        }
        let (mut whole, mut length) = ([0; SMALL], 0);
        for piece in pieces {
            whole[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        self.poll_write(cx, &whole[..length])
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
    use std::future::poll_fn;

    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn one_poll_reads_a_bounded_number_of_bytes() {
        const ALL: usize = 1 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it accepts");
        let (stream, _) = listener.accept().await.expect("a connection");
        let writer = tokio::spawn(async move { peer.write_all(&[b'x'; ALL]).await });
        let mut socket = Socket::to_service(stream, 0);
        let (mut bytes, mut all) = (vec![0; 16 << 10], 0);
        while all < ALL {
            let here = poll_fn(|cx| {
                let mut here = 0;
                loop {
                    let mut buffer = ReadBuf::new(&mut bytes);
                    match Pin::new(&mut socket).poll_read(cx, &mut buffer) {
                        Poll::Ready(read) => read.expect("the peer is there"),
                        Poll::Pending if here == 0 => return Poll::Pending,
                        Poll::Pending => return Poll::Ready(here),
                    }
                    here += buffer.filled().len();
                    if all + here == ALL {
                        return Poll::Ready(here);
                    }
                }
            })
            .await;
            assert!(here <= TURN + (16 << 10), "{here} bytes in one poll");
            all += here;
        }
        writer.await.expect("no panic").expect("all is written");
    }
}
