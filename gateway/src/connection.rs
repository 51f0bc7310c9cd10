//! One accepted socket: HTTP/1.1 or HTTP/2 by prior knowledge, its time-outs, its end. It reads no request itself.

mod body;
mod budget;
mod preface;
mod resets;
mod stream;
mod windows;

use std::{
    cell::Cell,
    convert::Infallible,
    future::poll_fn,
    mem,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderValue, Response, StatusCode, header};
use hyper::{
    Request,
    body::{Body as _, Incoming},
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
    upgrade::OnUpgrade,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    task::spawn_local,
    time::{Instant, sleep, sleep_until, timeout_at},
};
use tokio_util::sync::CancellationToken;

pub use self::windows::Windows;
use self::{
    body::Budgeted,
    budget::{Budget, Clock},
    preface::{Opened, Protocol},
};
use crate::{
    exchange::{Client, Refusal, headers::detach_values},
    linger::{Lingering, Upgradable, Upgrade},
    monitor::{
        count::{Count, Workers},
        record::{WireError, WireErrors},
    },
    proxy::{self, Outgoing, Proxy, Tunnel},
    snapshot::ListenerLimits,
    socket::{Framing, Requests, Socket, Unparsed, Verdict},
};

/// Streams that an HTTP/2 client may have open on one connection.
const MAX_STREAMS: u32 = 256;
/// How long a connection that has not spoken may still do so once it is drained, and how long an HTTP/2 client without open
/// streams has to take its leave.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// How often within a time-out an HTTP/2 connection is checked for silence: requests need not read the clock for it.
const CHECKS: u32 = 4;

/// The listener's part in a connection.
#[derive(Debug)]
pub struct Terms {
    pub limits: ListenerLimits,
    /// Bytes of response bodies that HTTP/2 connections hold.
    pub buffered: Arc<Workers<Count>>,
    /// Of all HTTP/2 connections of the gateway.
    pub windows: Arc<Windows>,
    /// Of all connections of the listener.
    pub errors: Arc<WireErrors>,
    /// Drains the connection.
    pub drain: CancellationToken,
}

/// Serves a connection until its client leaves, or until it is drained: then the requests in flight are its last.
pub async fn serve(stream: TcpStream, client: Arc<Client>, terms: Terms, proxy: Rc<Proxy>) {
    // hyper's part of the connection is dropped before the tunnel runs: hyper reports no end of a failed upgrade.
    if let Some(tunnel) = requests(stream, client, terms, proxy).await {
        tunnel.run().await;
    }
}

/// Serves the requests of a connection; returns the tunnel that the last request made of it, if any.
async fn requests(stream: TcpStream, client: Arc<Client>, terms: Terms, proxy: Rc<Proxy>) -> Option<Box<Tunnel>> {
    let followed = Arc::new(Requests::default());
    let socket = Socket::of_client(stream, Arc::clone(&client.peer), Arc::clone(&followed), Arc::clone(&terms.errors));
    let mut opened = Opened::new(socket, Arc::clone(&client.peer));
    let first = Instant::now() + terms.limits.header_timeout;
    let protocol = tokio::select! {
        biased;
        protocol = timeout_at(first, opened.protocol()) => protocol.ok()?.ok()?,
        () = async { terms.drain.cancelled().await; sleep(FIRST_REQUEST).await } => return None,
    };
    let connection = Connection { client, terms, proxy, followed, first, requests: Cell::new(0) };
    match protocol {
        Protocol::Http1 => connection.http1(opened).await,
        Protocol::Http2 => {
            connection.http2(opened).await;
            None
        }
    }
}

/// A connection whose protocol is known.
struct Connection {
    client: Arc<Client>,
    terms: Terms,
    proxy: Rc<Proxy>,
    /// The requests of HTTP/1.1 among the bytes of the socket.
    followed: Arc<Requests>,
    /// By then the first request must have come.
    first: Instant,
    /// Requests so far.
    requests: Cell<u64>,
}

impl Connection {
    async fn http1(self, opened: Opened) -> Option<Box<Tunnel>> {
        let tunnel = Rc::new(Cell::new(None));
        let socket = Lingering::new(opened, self.terms.limits.linger);
        let phase = socket.phase();
        let upgrade = Upgrade::default();
        let service = service_fn(|mut request: Request<Incoming>| {
            phase.request(!request.body().is_end_stream());
            if request.extensions().get::<OnUpgrade>().is_some() {
                upgrade.asked();
            }
            let is_last = follow(&self.followed, &mut request);
            let (answer, tunnel, phase) = (self.answer(request), Rc::clone(&tunnel), phase.clone());
            let (followed, upgrade) = (Arc::clone(&self.followed), upgrade.clone());
            async move {
                let mut answer = answer.await;
                if let Some(agreed) = answer.body_mut().tunnel() {
                    upgrade.agree().await;
                    phase.tunnel();
                    followed.stop();
                    tunnel.set(Some(agreed));
                }
                if is_last || (answer.status() == StatusCode::BAD_REQUEST && followed.is_broken()) {
                    answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let ListenerLimits { header_timeout, header_bytes, header_count, .. } = self.terms.limits;
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(header_bytes)
            .max_headers(header_count)
            .serve_connection(TokioIo::new(socket), service);
        let connection = pin!(Upgradable::new(connection, http1::Connection::with_upgrades, upgrade.clone()));
        let shut_down = |connection: Pin<&mut Upgradable<http1::Connection<_, _>, _>>| {
            if let Some(connection) = connection.get_mut().connection() {
                connection.graceful_shutdown();
            }
        };
        let ended = self.drive(connection, shut_down, None).await;
        if let Some(unparsed) = ended.err().as_ref().and_then(Unparsed::of) {
            self.unparsed(&unparsed);
        }
        tunnel.take()
    }

    /// Counts and logs a request that hyper could not parse.
    fn unparsed(&self, unparsed: &Unparsed) {
        self.terms.errors.add(WireError::Unparsed(unparsed.reason));
        let line = self.followed.unparsed_line();
        self.proxy.unparsed(Arc::clone(&self.client), line.as_deref(), unparsed.status, unparsed.reason);
    }

    async fn http2(self, opened: Opened) {
        self.followed.stop();
        let ListenerLimits { header_bytes, response_buffer, stream_resets, .. } = self.terms.limits;
        let buffered = Arc::clone(&self.terms.buffered);
        let budget = Rc::new(Budget::new(response_buffer, stream_resets, buffered, self.proxy.worker()));
        let service = service_fn(|request: Request<Incoming>| {
            let (answer, stream, peer) = (self.answer(request), budget.open(), Arc::clone(&self.client.peer));
            async move {
                turn().await;
                let mut answer = answer.await;
                detach_values(answer.headers_mut());
                Ok::<_, Infallible>(answer.map(|body| {
                    let streams = body.streams();
                    Budgeted::new(body, streams, stream, peer)
                }))
            }
        });
        let bound = self.proxy.snapshot().limits.http2_windows;
        let share = (!self.client.trusted).then(|| self.client.address.ip());
        let windows = self.terms.windows.grant(bound, share);
        let connection = http2::Builder::new(OnThisWorker(Rc::clone(&budget)))
            .max_header_list_size(u32::try_from(header_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(windows.streams)
            .initial_stream_window_size(windows.stream)
            .initial_connection_window_size(windows.connection)
            .max_send_buf_size(response_buffer)
            .serve_connection(TokioIo::new(Lingering::new(opened, self.terms.limits.linger)), service);
        let _ = self.drive(pin!(connection), http2::Connection::graceful_shutdown, Some(&budget)).await;
    }

    /// Answers one request. In a box of its own: hyper moves it about, and keeps the room that it takes for the response's body.
    fn answer(&self, request: Request<Incoming>) -> Pin<Box<impl Future<Output = Response<Outgoing>> + use<>>> {
        self.requests.set(self.requests.get() + 1);
        let answer = Rc::clone(&self.proxy).handle(Arc::clone(&self.client), request);
        // A panic ends its exchange, not the worker.
        let answer = AssertUnwindSafe(answer).catch_unwind();
        Box::pin(answer.map(|answer| answer.unwrap_or_else(|_| proxy::panicked())))
    }

    /// Polls hyper's connection until it ends or has to be dropped. An HTTP/2 connection whose budget nobody uses is idle.
    async fn drive<C>(
        &self,
        mut connection: Pin<&mut C>,
        shut_down: impl Fn(Pin<&mut C>),
        http2: Option<&Budget>,
    ) -> hyper::Result<()>
    where
        C: Future<Output = hyper::Result<()>>,
    {
        let Self { client, terms, requests, .. } = self;
        let mut check = pin!(sleep_until(self.first));
        let mut drained = pin!(cancelled(&terms.drain));
        let (mut silence, mut clock) = (Silence::default(), Clock::default());
        let mut phase = Phase::Open;
        loop {
            // Checked after the connection was polled, which is what counts them.
            let heard = poll_fn(|_| if requests.get() > 0 { Poll::Ready(()) } else { Poll::Pending });
            let excess =
                poll_fn(|cx| http2.map_or(Poll::Pending, |budget| budget.poll_excess(&mut clock, &client.peer, cx)));
            // On HTTP/1.1 hyper's own time-out holds from the first request on.
            let due = poll_fn(|cx| match http2 {
                None if requests.get() > 0 => Poll::Pending,
                _ => check.as_mut().poll(cx),
            });
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = &ended {
                        tracing::debug!(client = %client.address, listener = &*client.listener, "connection ended: {error}");
                    }
                    return ended;
                }
                excess = excess => {
                    tracing::debug!(client = %client.address, listener = &*client.listener, "connection ends: {excess}");
                    if mem::replace(&mut phase, Phase::Excess) == Phase::Excess {
                        return Ok(());
                    }
                    shut_down(connection.as_mut());
                    check.as_mut().reset(Instant::now() + FIRST_REQUEST / CHECKS);
                }
                () = heard, if phase == Phase::LastChance => {
                    phase = Phase::Closing;
                    shut_down(connection.as_mut());
                }
                () = due => {
                    let Some(budget) = http2.filter(|_| requests.get() > 0) else { return Ok(()) };
                    if silence.lasts(requests.get(), budget.is_in_use() || client.peer.is_blocked()) {
                        if phase.is_last() {
                            return Ok(());
                        }
                        phase = Phase::Closing;
                        shut_down(connection.as_mut());
                    }
                    let limit = if phase.is_last() { FIRST_REQUEST } else { terms.limits.header_timeout };
                    check.as_mut().reset(Instant::now() + limit / CHECKS);
                }
                () = drained.as_mut(), if phase == Phase::Open => {
                    silence.checks = 0;
                    if requests.get() > 0 {
                        phase = Phase::Closing;
                        shut_down(connection.as_mut());
                        check.as_mut().reset(Instant::now() + FIRST_REQUEST / CHECKS);
                    } else {
                        phase = Phase::LastChance;
                        check.as_mut().reset(self.first.min(Instant::now() + FIRST_REQUEST));
                    }
                }
            }
        }
    }
}

/// Waits until the token is cancelled. Only one task may poll this: the first poll registers it, and the next ones cost a look.
fn cancelled(token: &CancellationToken) -> impl Future<Output = ()> {
    let (mut cancelled, mut is_registered) = (Box::pin(token.cancelled()), false);
    poll_fn(move |cx| match mem::replace(&mut is_registered, true) && !token.is_cancelled() {
        true => Poll::Pending,
        false => cancelled.as_mut().poll(cx),
    })
}

/// For how long an HTTP/2 connection has had neither a stream nor bytes for its client.
#[derive(Default)]
struct Silence {
    /// Requests at the last check.
    requests: u64,
    /// Checks in a row that found nothing.
    checks: u32,
}

impl Silence {
    /// Whether a whole time-out has passed in silence, which is then counted anew.
    fn lasts(&mut self, requests: u64, is_in_use: bool) -> bool {
        let is_silent = requests == self.requests && !is_in_use;
        self.requests = requests;
        self.checks = if is_silent { (self.checks + 1) % CHECKS } else { 0 };
        is_silent && self.checks == 0
    }
}

/// Compares a request with the one that the socket has followed, and restores its query. Returns whether the connection must end
/// with it.
fn follow(requests: &Requests, request: &mut Request<Incoming>) -> bool {
    let framing = request.body().size_hint().exact().map_or(Framing::Chunked, Framing::Length);
    let verdict = requests.began(framing, request.uri_mut());
    if let Some(reason) = verdict.refusal() {
        request.extensions_mut().insert(Refusal::BadRequest(reason.to_owned()));
    }
    verdict != Verdict::Sound
}

/// The way of a connection to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Draining before the first request: its bytes may still be on their way through the kernel, and hyper would drop them.
    LastChance,
    /// The requests in flight are the last.
    Closing,
    /// The same, since the client has exceeded a limit; once more, and the connection is dropped.
    Excess,
}

impl Phase {
    fn is_last(self) -> bool {
        matches!(self, Self::Closing | Self::Excess)
    }
}

/// Gives hyper a turn before a request is served: it drops a request whose stream was reset by then.
async fn turn() {
    let mut is_over = false;
    poll_fn(|cx| {
        if is_over {
            return Poll::Ready(());
        }
        is_over = true;
        // Not tokio's `yield_now`, which would poll the sockets first.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs the streams of an HTTP/2 connection on the worker that accepted it. They end with their connection.
#[derive(Debug, Clone)]
struct OnThisWorker(Rc<Budget>);

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisWorker {
    /// hyper calls this right after the service that answers the stream, which opens it.
    fn execute(&self, stream: F) {
        self.0.served_by(spawn_local(stream).abort_handle());
    }
}
