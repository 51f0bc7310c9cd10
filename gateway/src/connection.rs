//! One accepted socket: HTTP/1.1 or HTTP/2 by prior knowledge, its time-outs, its end. It reads no request itself.

mod stream;
mod unparsed;

use std::{
    cell::Cell, convert::Infallible, future::poll_fn, panic::AssertUnwindSafe, pin::pin, rc::Rc, sync::Arc, task::Poll,
    time::Duration,
};

use futures_util::FutureExt;
use http::{HeaderValue, StatusCode, Version, header};
use http_body::Body as _;
use hyper::{Request, body::Incoming, rt::Executor, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::TcpStream,
    task::spawn_local,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use self::{
    stream::{Report, Reported},
    unparsed::Unparsed,
};
use crate::{
    exchange::{Client, Refusal},
    monitor::record::{WireError, WireErrors},
    progress::Peer,
    proxy::{self, Proxy, Tunnel},
    snapshot::ListenerLimits,
    socket::{Framing, Requests, Socket, Verdict},
};

/// Streams that an HTTP/2 client may have open on one connection.
const MAX_STREAMS: u32 = 256;
/// How long a connection that has not spoken may still do so once it is drained.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// How long an HTTP/2 client may be silent before it is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Serves a connection until its client leaves, or until it is drained: then the requests in flight are its last.
pub async fn serve(
    stream: TcpStream,
    client: Arc<Client>,
    limits: ListenerLimits,
    proxy: Rc<Proxy>,
    errors: Arc<WireErrors>,
    drain: CancellationToken,
) {
    // Whatever hyper held of the connection is dropped before: of an upgrade that failed it would tell nobody.
    if let Some(tunnel) = requests(stream, client, limits, proxy, errors, drain).await {
        tunnel.run().await;
    }
}

/// Serves its requests; gives the tunnel that it became with the last, if it did.
async fn requests(
    stream: TcpStream,
    client: Arc<Client>,
    limits: ListenerLimits,
    proxy: Rc<Proxy>,
    errors: Arc<WireErrors>,
    drain: CancellationToken,
) -> Option<Box<Tunnel>> {
    let spoke = Rc::new(Cell::new(false));
    let tunnel = Rc::new(Cell::new(None));
    let report = Report::default();
    let followed = Arc::new(Requests::default());
    let service = service_fn(|mut request: Request<Incoming>| {
        spoke.set(true);
        let is_last = follow(&followed, &mut request);
        let (proxy, client, tunnel) = (Rc::clone(&proxy), Arc::clone(&client), Rc::clone(&tunnel));
        let (report, followed) = (report.clone(), Arc::clone(&followed));
        async move {
            // A panic is that exchange's end, not the worker's.
            let answer = AssertUnwindSafe(proxy.handle(client, request)).catch_unwind().await;
            let mut answer = answer.unwrap_or_else(|_| proxy::panicked());
            tunnel.set(answer.body_mut().tunnel());
            if is_last || (answer.status() == StatusCode::BAD_REQUEST && followed.is_broken()) {
                answer.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer.map(|body| {
                let streams = body.streams();
                Reported::new(body, streams, report)
            }))
        }
    });
    let peer = Arc::clone(&client.peer);
    let builder = builder(&limits, OnThisWorker { report: report.clone(), peer: Arc::clone(&peer) });
    let socket = Socket::of_client(stream, peer, Arc::clone(&followed), Arc::clone(&errors));
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(socket), service));
    let mut silence = pin!(sleep(limits.header_timeout));
    let mut phase = Phase::Open;
    loop {
        // Looked at after the connection was polled, which is what sets it.
        let heard = poll_fn(|_| if spoke.get() { Poll::Ready(()) } else { Poll::Pending });
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(client = %client.address, listener = &*client.listener, "connection ended: {error}");
                    if let Some(unparsed) = Unparsed::of(&*error) {
                        errors.add(WireError::Unparsed(unparsed.reason));
                        let line = followed.unparsed_line();
                        proxy.unparsed(Arc::clone(&client), line.as_deref(), unparsed.status, unparsed.reason);
                    }
                }
                return tunnel.take();
            }
            () = heard, if phase == Phase::LastChance => {
                phase = Phase::Closing;
                connection.as_mut().graceful_shutdown();
            }
            // hyper's own time-out starts once it knows which protocol is spoken.
            () = silence.as_mut(), if !silence.is_elapsed() => {
                if !spoke.get() {
                    return None;
                }
            }
            () = drain.cancelled(), if phase == Phase::Open => {
                if spoke.get() {
                    phase = Phase::Closing;
                    connection.as_mut().graceful_shutdown();
                } else {
                    phase = Phase::LastChance;
                    let end = silence.deadline().min(Instant::now() + FIRST_REQUEST);
                    silence.as_mut().reset(end);
                }
            }
        }
    }
}

/// Where a connection is on its way to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    /// Draining, but nothing has been heard: what the client has sent may still be on its way through the kernel, and
    /// hyper would drop it.
    LastChance,
    /// The requests in flight are the last.
    Closing,
}

/// Lets the socket follow a request's framing, and says whether the connection must end with it.
fn follow(requests: &Requests, request: &mut Request<Incoming>) -> bool {
    if request.version() >= Version::HTTP_2 {
        requests.stop();
        return false;
    }
    let framing = match (request.body().size_hint().exact(), request.headers().get(header::TRANSFER_ENCODING)) {
        (None, Some(coding)) => Framing::Chunked(coding.as_bytes()),
        (length, _) => Framing::Length(length.unwrap_or(0)),
    };
    match requests.began(framing) {
        Verdict::Sound => false,
        Verdict::Unknown => true,
        Verdict::BareLf => {
            let reason = "a line of the trailer section ends with a bare LF".to_owned();
            request.extensions_mut().insert(Refusal::BadRequest(reason));
            true
        }
    }
}

fn builder(limits: &ListenerLimits, executor: OnThisWorker) -> Builder<OnThisWorker> {
    let mut builder = Builder::new(executor);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.header_count);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(MAX_STREAMS)
        .keep_alive_interval(PING_INTERVAL);
    builder
}

/// Runs the streams of an HTTP/2 connection on the worker that accepted it. They end with their connection.
#[derive(Debug, Clone)]
struct OnThisWorker {
    report: Report,
    peer: Arc<Peer>,
}

impl<F: Future<Output = ()> + 'static> Executor<F> for OnThisWorker {
    fn execute(&self, stream: F) {
        spawn_local(stream::run(stream, self.report.clone(), Arc::clone(&self.peer)));
    }
}
