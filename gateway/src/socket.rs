//! A TCP connection as hyper drives it. A small message that comes in pieces is sent as one, the bytes of one read are bounded,
//! a peer that takes no bytes is given up, one that always has bytes lets others have their turn, and the socket follows the
//! parts of messages that hyper does not report.

mod chunks;
mod follow;
mod frames;
mod interim;
mod query;
mod requests;
mod unparsed;

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

use self::follow::Followed;
use crate::{
    monitor::record::WireErrors,
    progress::{Peer, Stalled, Watch},
};

pub use self::{
    interim::{Exchanges, InterimBounded},
    requests::{Framing, Requests, Verdict},
    unparsed::Unparsed,
};

/// Up to so many bytes, copying costs less than what the kernel does to gather pieces.
const SMALL: usize = 1024;
/// The first read of a connection takes fewer bytes than this.
const FIRST_READ: usize = 4 << 10;
/// Reads that reach their limit before it doubles: a body that the client does not take holds so many reads in memory, its last two
/// pieces and the one that hyper reads ahead, and on a new connection all of them are small.
const SMALL_READS: u32 = 3;
/// Every read takes fewer bytes than this. hyper doubles its buffer, to 400 KiB, after each read that fills it: smaller reads keep the
/// buffer, and what one waiting piece of a body keeps alive, at 64 KiB.
const MAX_READ: usize = 64 << 10;
/// Bytes that are read before other tasks have their turn: a peer that is always ready must not keep the worker to itself.
const TURN: usize = 64 << 10;

/// Bytes that the kernel keeps beyond those that the peer has room for. Without this bound it takes megabytes at once from time
/// to time, and a peer that is slow could not be told from a peer that has stopped.
const UNSENT: u32 = 64 << 10;
/// Time between two probes of a silent peer.
const PROBE_INTERVAL: Duration = Duration::from_secs(10);
/// Probes without an answer after which a peer is gone.
const PROBES: u32 = 6;

#[derive(Debug)]
pub struct Socket {
    stream: Take<TcpStream>,
    /// Reads that reached their limit.
    filled: u32,
    peer: Arc<Peer>,
    /// Made when the peer takes nothing for the first time.
    watch: Option<Watch>,
    /// Bytes read since the socket had none, or since others had their turn.
    turn: usize,
    followed: Followed,
    /// How the first write failed, where the peer is a server that has closed. What it sent before that is still to be read: it
    /// may answer, and close with the rest of the request unread (RFC 9112 §9.5).
    closed: Option<ErrorKind>,
    /// All that the peer has sent was read.
    is_read: bool,
}

impl Socket {
    /// A connection of a client.
    pub fn of_client(stream: TcpStream, peer: Arc<Peer>, requests: Arc<Requests>, errors: Arc<WireErrors>) -> Self {
        Self::new(stream, peer, Followed::of_client(requests, errors))
    }

    /// A connection to a service, which may send so many interim responses in each of the exchanges.
    pub fn to_service(stream: TcpStream, peer: Arc<Peer>, interim_responses: u32, exchanges: Exchanges) -> Self {
        Self::new(stream, peer, Followed::to_service(interim_responses, exchanges))
    }

    /// A connection to a host that is no service, perhaps under TLS: `InterimBounded` counts the interim responses above that.
    pub fn to_host(stream: TcpStream, peer: Arc<Peer>) -> Self {
        Self::new(stream, peer, Followed::Nothing)
    }

    fn new(stream: TcpStream, peer: Arc<Peer>, followed: Followed) -> Self {
        Self { stream: stream.take(0), filled: 0, peer, watch: None, turn: 0, followed, closed: None, is_read: false }
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.get_mut())
    }

    fn write_bytes(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.stream().poll_write(cx, bytes);
        if let Poll::Ready(Ok(length)) = written {
            self.followed.written(&bytes[..length]);
        }
        written
    }

    fn write_pieces(&mut self, cx: &mut Context<'_>, pieces: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        if let [piece] = pieces {
            return self.write_bytes(cx, piece);
        }
        if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL {
            let written = self.stream().poll_write_vectored(cx, pieces);
            if let Poll::Ready(Ok(length)) = written {
                let mut left = length;
                for piece in pieces {
                    let here = left.min(piece.len());
                    self.followed.written(&piece[..here]);
                    left -= here;
                }
            }
            return written;
        }
        let mut whole = [0; SMALL];
        let mut length = 0;
        for piece in pieces {
            whole[length..length + piece.len()].copy_from_slice(piece);
            length += piece.len();
        }
        self.write_bytes(cx, &whole[..length])
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
            Poll::Ready(Err(error)) => {
                self.closed = Some(error.kind()).filter(|kind| self.followed.is_of_server() && is_close(*kind));
                written
            }
            Poll::Pending => {
                let pace = self.peer.pace();
                let watch = self.watch.get_or_insert_with(|| Watch::new(&pace));
                let stalled = ready!(watch.poll_stalled(cx, &pace));
                self.give_up(stalled)
            }
        }
    }

    /// A write to a server that has closed goes nowhere, and succeeds until all that the server sent before is read.
    fn write_to_closed(&self, bytes: impl FnOnce() -> usize) -> Poll<io::Result<usize>> {
        match self.closed.filter(|_| self.is_read) {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(bytes())),
        }
    }

    fn give_up(&self, stalled: Stalled) -> Poll<io::Result<usize>> {
        self.peer.set_stalled(true);
        // What the kernel still has for the peer is of no use.
        let _ = self.stream.get_ref().set_zero_linger();
        Poll::Ready(Err(io::Error::new(ErrorKind::TimedOut, stalled)))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if self.peer.is_reset() {
            let _ = self.stream.get_ref().set_zero_linger();
        }
    }
}

/// Sets up a socket; what is accepted from one that listens is set up alike. A peer that is silent for `keepalive` is probed.
pub fn set_up(socket: &SockRef<'_>, keepalive: Duration) -> io::Result<()> {
    let probes = TcpKeepalive::new().with_time(keepalive).with_interval(PROBE_INTERVAL).with_retries(PROBES);
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_notsent_lowat(UNSENT)
}

/// Whether a write that fails so shows that the peer has closed the connection.
fn is_close(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// Whether an error of a connection is that of a peer that took no bytes.
pub fn stalled(error: &(dyn std::error::Error + 'static)) -> Option<Stalled> {
    let io = error.downcast_ref::<io::Error>()?;
    io.get_ref()?.downcast_ref::<Stalled>().copied()
}

impl AsyncRead for Socket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let most = (FIRST_READ << (self.filled / SMALL_READS)).min(MAX_READ) - 1;
        self.stream.set_limit(most as u64);
        match Pin::new(&mut self.stream).poll_read(cx, buffer) {
            Poll::Ready(Ok(())) => {
                let bytes = &mut buffer.filled_mut()[before..];
                self.is_read = bytes.is_empty();
                // The write that failed has taken the error of the connection with it.
                if self.is_read && self.closed == Some(ErrorKind::ConnectionReset) {
                    return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
                }
                self.turn += bytes.len();
                if bytes.len() == most && most < MAX_READ - 1 {
                    self.filled += 1;
                }
                Poll::Ready(self.followed.read(bytes))
            }
            Poll::Pending => {
                self.turn = 0;
                Poll::Pending
            }
            failed => {
                self.is_read = true;
                failed
            }
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.closed.is_none() {
            let written = self.write_bytes(cx, bytes);
            let written = self.wrote(cx, written);
            if self.closed.is_none() {
                return written;
            }
        }
        self.write_to_closed(|| bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.closed.is_none() {
            let written = self.write_pieces(cx, pieces);
            let written = self.wrote(cx, written);
            if self.closed.is_none() {
                return written;
            }
        }
        self.write_to_closed(|| pieces.iter().map(|piece| piece.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A connection that lingers would take a turn that is given to others for silence of the peer.
        self.turn = 0;
        self.followed.shut_down();
        if self.closed.is_some() {
            return Poll::Ready(Ok(()));
        }
        self.stream().poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;
    use crate::progress::Limits;

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the runtime ends with the test")]
    async fn one_poll_reads_a_bounded_number_of_bytes() {
        const ALL: usize = 1 << 20;
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it accepts");
        let (stream, _) = listener.accept().await.expect("a connection");
        let writer = tokio::spawn(async move { peer.write_all(&[b'x'; ALL]).await });
        let mut socket = Socket::to_host(stream, Arc::new(Peer::new(Limits::default())));
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

    #[tokio::test]
    async fn reads_of_a_connection_begin_small() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let mut peer = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("it accepts");
        let (stream, _) = listener.accept().await.expect("a connection");
        let mut socket = Socket::to_host(stream, Arc::new(Peer::new(Limits::default())));
        let mut bytes = vec![0; 64 << 10];
        peer.write_all(&[b'x'; 52 << 10]).await.expect("it is there");
        for expected in [4095, 4095, 4095, 8191, 8191, 8191, 16383, 7] {
            assert_eq!(socket.read(&mut bytes).await.expect("it is there"), expected);
        }
    }
}
