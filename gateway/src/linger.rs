//! Closing a connection whose peer may still be sending (RFC 9112 §9.6). A socket that is closed with unread bytes is reset, and
//! the reset may overtake the answer: so the gateway ends its own side first, and reads on for a bounded while. A leaf.

mod upgradable;

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

pub use self::upgradable::{Upgradable, Upgrade};

/// Time without a byte after which the peer is no longer waited for.
const PAUSE: Duration = Duration::from_secs(2);
/// Bytes of one read.
const READ: usize = 16 << 10;

/// How much of what nobody wants is read after the end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LingerLimits {
    pub bytes: u64,
    pub timeout: Duration,
}

/// A connection that closes this way.
#[derive(Debug)]
pub struct Lingering<T> {
    socket: T,
    limits: LingerLimits,
    phase: Phase,
    /// The peer has ended its side.
    ended: bool,
    closing: Option<Box<Closing>>,
}

/// What the peer may be sending. Every byte that comes begins a message; on HTTP/2 nobody says where one ends.
#[derive(Debug, Clone, Default)]
pub struct Phase(Arc<AtomicU8>);

/// Nothing: it waits for an answer, or has not begun.
const QUIET: u8 = 0;
/// The head or the body of a request.
const MESSAGE: u8 = 1;
/// Bytes of a tunnel, whose reader outlives the end of the gateway's side.
const TUNNEL: u8 = 2;

#[derive(Debug)]
struct Closing {
    /// Bytes that may still be read.
    left: u64,
    end: Instant,
    /// Until the peer is given up.
    pause: Pin<Box<Sleep>>,
    /// The peer has sent something that nobody read.
    is_late: bool,
}

impl<T> Lingering<T> {
    pub fn new(socket: T, limits: LingerLimits) -> Self {
        Self { socket, limits, phase: Phase::default(), ended: false, closing: None }
    }

    pub fn phase(&self) -> Phase {
        self.phase.clone()
    }
}

impl Phase {
    /// The head of a request has come, and perhaps a body follows.
    pub fn request(&self, has_body: bool) {
        self.0.store(if has_body { MESSAGE } else { QUIET }, Relaxed);
    }

    fn message(&self) {
        if self.get() == QUIET {
            self.0.store(MESSAGE, Relaxed);
        }
    }

    /// The connection becomes a tunnel.
    pub fn tunnel(&self) {
        self.0.store(TUNNEL, Relaxed);
    }

    fn get(&self) -> u8 {
        self.0.load(Relaxed)
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Lingering<T> {
    /// Reads until the peer ends its side or a bound is reached.
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let limits = self.limits;
        let closing = self.closing.get_or_insert_with(|| {
            let end = Instant::now() + limits.timeout;
            Box::new(Closing {
                left: limits.bytes,
                end,
                pause: Box::pin(sleep(PAUSE.min(limits.timeout))),
                is_late: false,
            })
        });
        let mut bytes = [0; READ];
        while closing.left > 0 {
            let mut buffer = ReadBuf::new(&mut bytes);
            match Pin::new(&mut self.socket).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    closing.is_late = true;
                    closing.left = closing.left.saturating_sub(buffer.filled().len() as u64);
                    let pause = (Instant::now() + PAUSE).min(closing.end);
                    closing.pause.as_mut().reset(pause);
                }
                Poll::Ready(_) => break,
                Poll::Pending if closing.is_late || self.phase.get() == MESSAGE => {
                    return closing.pause.as_mut().poll(cx);
                }
                Poll::Pending => break,
            }
        }
        Poll::Ready(())
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Lingering<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.phase.message();
        } else {
            self.ended |= polled.is_ready();
        }
        polled
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Lingering<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.closing.is_none() {
            ready!(Pin::new(&mut this.socket).poll_shutdown(cx))?;
        }
        if !this.ended && this.phase.get() != TUNNEL {
            ready!(this.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt, duplex},
        time::timeout,
    };

    use super::*;

    const LIMITS: LingerLimits = LingerLimits { bytes: 100 << 10, timeout: Duration::from_secs(5) };

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_first_reads_the_answer_afterwards() {
        let (socket, mut peer) = duplex(1 << 10);
        let mut socket = Lingering::new(socket, LIMITS);
        socket.phase().request(true);
        let closing = async {
            socket.write_all(b"413").await.expect("room");
            socket.shutdown().await.expect("an end");
            drop(socket);
        };
        let sending = async {
            peer.write_all(&[0; 50 << 10]).await.expect("the gateway reads on");
            peer.shutdown().await.expect("an end");
            let mut answer = Vec::new();
            peer.read_to_end(&mut answer).await.expect("an answer");
            assert_eq!(answer, b"413");
        };
        tokio::join!(closing, sending);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_read_after_the_end_is_bounded_in_bytes_and_in_time() {
        let (socket, _silent) = duplex(1 << 10);
        let mut socket = Lingering::new(socket, LIMITS);
        socket.phase().request(true);
        let started = Instant::now();
        // The peer neither sends nor ends.
        socket.shutdown().await.expect("an end");
        assert_eq!(started.elapsed(), PAUSE);

        let (socket, mut slow) = duplex(1 << 10);
        let mut socket = Lingering::new(socket, LIMITS);
        let sending = async {
            while slow.write_all(b"x").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        };
        let closing = async {
            socket.phase().request(true);
            socket.shutdown().await.expect("an end");
            assert!(started.elapsed() <= PAUSE + LIMITS.timeout);
            drop(socket);
        };
        tokio::join!(closing, sending);

        let (socket, mut fast) = duplex(1 << 10);
        let mut socket = Lingering::new(socket, LIMITS);
        socket.phase().request(true);
        let closing = async {
            socket.shutdown().await.expect("an end");
            drop(socket);
        };
        let sending = async {
            let mut sent = 0;
            while fast.write_all(&[0; 1 << 10]).await.is_ok() {
                sent += 1 << 10;
            }
            assert!((LIMITS.bytes..LIMITS.bytes + (40 << 10)).contains(&sent), "{sent}");
        };
        tokio::join!(closing, sending);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_sends_nothing_is_not_waited_for() {
        let (socket, _peer) = duplex(1 << 10);
        let mut socket = Lingering::new(socket, LIMITS);
        timeout(Duration::from_millis(1), socket.shutdown()).await.expect("at once").expect("an end");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_in_the_middle_of_a_head_is_waited_for() {
        let (socket, mut peer) = duplex(1 << 10);
        let mut socket = Lingering::new(socket, LIMITS);
        socket.phase().request(false);
        peer.write_all(b"GET /").await.expect("room");
        socket.read_exact(&mut [0; 5]).await.expect("a piece of a head");
        let closing = async {
            socket.shutdown().await.expect("an end");
            drop(socket);
        };
        let sending = async {
            assert_eq!(peer.read(&mut [0; 1]).await.expect("an end"), 0);
            peer.write_all(b"late").await.expect("the gateway reads on");
            peer.shutdown().await.expect("an end");
        };
        tokio::join!(closing, sending);
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_of_a_tunnel_are_left_to_its_reader() {
        let (socket, mut peer) = duplex(1 << 10);
        let mut socket = Lingering::new(socket, LIMITS);
        socket.phase().tunnel();
        peer.write_all(b"late").await.expect("room");
        socket.shutdown().await.expect("an end");
        let mut late = [0; 4];
        socket.read_exact(&mut late).await.expect("they are there");
        assert_eq!(&late, b"late");
    }
}
