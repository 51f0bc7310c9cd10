//! A TCP connection as hyper drives it. It adds three things: a small message that comes in pieces is sent as one, the bytes of one
//! read are bounded, and a peer that takes no bytes is given up.

mod query;

use std::{
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf, Take},
    net::TcpStream,
};

pub use self::query::{Lenient, Queries};
use crate::progress::{Peer, Stalled, Watch};

/// Up to so many bytes, copying costs less than what the kernel does to gather pieces.
const SMALL: usize = 1024;
/// Bytes of one read. hyper doubles its buffer, to 400 KiB, after each read that fills it: reads that stay below 64 KiB keep the
/// buffer, and what one waiting piece of a body keeps alive, at 64 KiB.
const READ: u64 = (64 << 10) - 1;

/// Bytes that the kernel keeps beyond those that the peer has room for. Without this bound it takes megabytes at once from time to
/// time, and a peer that is slow could not be told from a peer that has stopped.
const UNSENT: u32 = 64 << 10;
/// Time between two probes of a silent peer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer after which a peer is gone.
const PROBES: u32 = 6;

#[derive(Debug)]
pub struct Socket {
    stream: Take<TcpStream>,
    peer: Arc<Peer>,
    /// Made when the peer takes nothing for the first time.
    watch: Option<Watch>,
}

impl Socket {
    pub fn new(stream: TcpStream, peer: Arc<Peer>) -> Self {
        Self { stream: stream.take(READ), peer, watch: None }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.get_mut())
    }

    fn write_pieces(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let stream = self.stream();
        if let [piece] = pieces {
            return stream.poll_write(cx, piece);
        }
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL {
            return stream.poll_write_vectored(cx, pieces);
        }
        let mut whole = [0; SMALL];
        let mut length = 0;
        for piece in pieces {
            whole[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        stream.poll_write(cx, &whole[..length])
    }

    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match &written {
            Poll::Ready(Ok(bytes)) => {
                if let Some(watch) = &mut self.watch
                    && let Err(stalled) = watch.progressed(*bytes, &self.peer.pace())
                {
                    return self.give_up(stalled);
                }
                written
            }
            Poll::Ready(Err(_)) => written,
            Poll::Pending => {
                let pace = self.peer.pace();
                let watch = self.watch.get_or_insert_with(|| Watch::new(&pace));
                let stalled = ready!(watch.poll_stalled(cx, &pace));
                self.give_up(stalled)
            }
        }
    }

    fn give_up(&self, stalled: Stalled) -> Poll<io::Result<usize>> {
        self.peer.set_stalled(true);
        // What the kernel still has for the peer is of no use.
        let _ = self.stream.get_ref().set_zero_linger();
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, stalled)))
    }
}

/// Sets up a socket; what is accepted from one that listens is set up alike. A peer that is silent for `keepalive` is probed.
pub fn set_up(socket: &SockRef<'_>, keepalive: Duration) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(keepalive).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Whether an error of a connection is that of a peer that took no bytes.
pub fn stalled(error: &(dyn std::error::Error + 'static)) -> Option<Stalled> {
    let io = error.downcast_ref::<io::Error>()?;
    io.get_ref()?.downcast_ref::<Stalled>().copied()
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.stream.set_limit(READ);
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, bytes);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.write_pieces(cx, pieces);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
