//! A scripted HTTP/1.1 server: what it answers to which request is a function that the test gives it.

mod answer;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    task::JoinSet,
    time::Instant,
};

pub use answer::{Answer, Gate};

use crate::{
    pattern::Check,
    wait::until,
    wire::{Framing, Head, Wire},
};

/// Connections that the kernel accepts before the upstream does: tests open a thousand at once, and a lost SYN takes a second.
const BACKLOG: u32 = 4096;

/// A request as the upstream got it.
#[derive(Debug, Clone)]
pub struct Received {
    pub head: Head,
    pub framing: Framing,
    pub body_length: u64,
    /// The first 4 KiB of the body.
    pub body: Vec<u8>,
    /// The body is that of `pattern`.
    pub body_is_pattern: bool,
    /// From the first piece of the body to the last.
    pub body_took: Duration,
    /// Lines of the trailer section.
    pub trailers: Vec<String>,
    /// Counts connections from 1.
    pub connection: usize,
    /// The upstream's name.
    pub name: Arc<str>,
}

/// A running upstream; it ends, and its connections with it, when dropped.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    open: AtomicUsize,
    requests: Mutex<Vec<Received>>,
    count: AtomicUsize,
}

/// How many of the last requests are remembered.
const REMEMBERED: usize = 1000;
/// How much of the body of each.
const REMEMBERED_BYTES: usize = 4 << 10;

impl Upstream {
    /// One that answers every request with the request itself, as JSON.
    pub async fn echo() -> Self {
        Self::start(|_| Answer::Echo).await
    }

    /// The same, and tells this name.
    pub async fn named(name: &str) -> Self {
        Self::named_on(name, anywhere())
    }

    /// The same on this socket.
    pub fn named_on(name: &str, listener: TcpListener) -> Self {
        Self::serve(name, listener, Arc::new(|_: &Received| Answer::Echo))
    }

    pub async fn start(script: impl Fn(&Received) -> Answer + Send + Sync + 'static) -> Self {
        Self::serve("", anywhere(), Arc::new(script))
    }

    fn serve(name: &str, listener: TcpListener, script: Arc<dyn Fn(&Received) -> Answer + Send + Sync>) -> Self {
        let address = listener.local_addr().expect("a bound address");
        let (seen, name) = (Arc::<Seen>::default(), Arc::<str>::from(name));
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&seen);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let number = shared.connections.fetch_add(1, SeqCst) + 1;
                let (script, seen, name) = (Arc::clone(&script), Arc::clone(&shared), Arc::clone(&name));
                connections.spawn(async move {
                    seen.open.fetch_add(1, SeqCst);
                    // A client that breaks off is a test's business, not an error.
                    let _ = converse(stream, number, &name, &*script, &seen).await;
                    seen.open.fetch_sub(1, SeqCst);
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(SeqCst)
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.seen.open.load(SeqCst)
    }

    /// Requests received so far, with their bodies.
    pub fn count(&self) -> usize {
        self.seen.count.load(SeqCst)
    }

    /// The last requests, the oldest first.
    pub fn requests(&self) -> Vec<Received> {
        self.seen.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The last request.
    pub fn last(&self) -> Received {
        self.requests().pop().expect("there was a request")
    }

    /// Waits for this many requests in all.
    pub async fn received(&self, count: usize) {
        until("the upstream has got the requests", async || (self.count() >= count).then_some(())).await;
    }
}

async fn converse(
    stream: TcpStream,
    connection: usize,
    name: &Arc<str>,
    script: &(dyn Fn(&Received) -> Answer + Send + Sync),
    seen: &Seen,
) -> io::Result<()> {
    let mut wire = Wire::new(stream);
    while let Some(head) = wire.head().await? {
        let (framing, mut check) = (head.framing_of_request(), Check::new());
        let (mut body_length, mut body, mut body_took, mut first) = (0, Vec::new(), Duration::ZERO, None);
        wire.body(framing, |piece| {
            body_length += piece.len() as u64;
            body.extend_from_slice(&piece[..piece.len().min(REMEMBERED_BYTES - body.len())]);
            body_took = first.get_or_insert_with(Instant::now).elapsed();
            check.add(piece);
        })
        .await?;
        let (body_is_pattern, name) = (check.right().is_some(), Arc::clone(name));
        let trailers = std::mem::take(&mut wire.trailers);
        let received =
            Received { head, framing, body_length, body, body_is_pattern, body_took, trailers, connection, name };
        let answer = script(&received);
        seen.note(received.clone());
        match answer.give(&received, wire).await? {
            Some(again) => wire = again,
            None => return Ok(()),
        }
    }
    Ok(())
}

impl Seen {
    fn note(&self, received: Received) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() == REMEMBERED {
            requests.remove(0);
        }
        requests.push(received);
        self.count.fetch_add(1, SeqCst);
    }
}

impl Received {
    pub fn method(&self) -> &str {
        self.head.word(0)
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.head.word(1)
    }
}

fn anywhere() -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    socket.listen(BACKLOG).expect("it listens")
}
