//! Services: named groups of endpoints, and sending one request to one of them.
//! It decides nothing about routes or filters, and turns no error into a status.

mod connect;
mod health;
mod pool;
mod table;

use std::{
    mem,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use http_body::Body as _;
use hyper::{body::Incoming, client::conn::http1::SendRequest};
use tokio::time::{Instant, timeout_at};

use crate::{
    balance::Cursor,
    exchange::{
        Body, BodyError, RequestHead,
        body::{Cut, is_malformed},
        framing::{Unsound, check_response},
        headers::{set_length, set_websocket},
        trailers::Guarded,
    },
    monitor::record::{Outcome, ServiceRecord},
    worker::{PerWorker, WorkerId},
};

pub use pool::PoolLimits;
pub use table::{Listed, Member, Metadata, Roster, Table};

/// Endpoints that one request tries to reach.
const ENDPOINTS: u8 = 3;

/// A named group of interchangeable servers.
#[derive(Debug)]
pub struct Service {
    pub name: Arc<str>,
    pub connect_timeout: Duration,
    /// Interim responses that an endpoint may send to one request.
    pub interim_responses: u16,
    pub listed: Listed,
    /// Swapped whole when an endpoint comes or goes.
    pub table: ArcSwap<Table>,
    /// Where each worker's balancing stands; outlives this service's configuration.
    pub cursors: Arc<PerWorker<Cursor>>,
    pub record: Arc<ServiceRecord>,
}

/// One server of a service.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The address, which is told of with every request.
    text: Arc<str>,
    pool: pool::Pool,
    health: health::Health,
    in_flight: AtomicUsize,
    /// How long its answers took to begin of late, in microseconds; 0 before the first.
    latency: AtomicU32,
}

/// What the endpoint sees as `Host`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostHeader {
    Client,
    Endpoint,
}

/// An endpoint and the connection in use; back to the pool when dropped, once the response's body is through.
#[derive(Debug)]
pub struct Lease {
    endpoint: Arc<Endpoint>,
    connection: Option<SendRequest<Body>>,
    worker: WorkerId,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("service \"{0}\" has no usable endpoint")]
    NoEndpoint(Arc<str>),
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, std::io::Error),
    #[error("{0} took no connection within {1:?}")]
    ConnectTimeout(SocketAddr, Duration),
    #[error("{0} broke off before it answered: {1}")]
    Reset(SocketAddr, hyper::Error),
    #[error("{0} sent an answer that is not HTTP: {1}")]
    Malformed(SocketAddr, hyper::Error),
    #[error("{0} sent a response that cannot be passed on: {1}")]
    Unsound(SocketAddr, Unsound),
    #[error("the client broke off in the middle of its request")]
    RequestBody,
    #[error("the body of the request is not in valid chunks")]
    RequestFraming,
    #[error("{0} gave no answer within {1:?}")]
    Timeout(SocketAddr, Duration),
    #[error("the request cannot be put in HTTP/1.1 form: {0}")]
    Unsendable(http::Error),
    #[error(transparent)]
    Cut(Cut),
}

impl Service {
    /// A service with what the one of this name had that may go on: connections, its roster, each worker's place in the turn.
    pub fn new(
        name: Arc<str>,
        listed: Listed,
        connect_timeout: Duration,
        interim_responses: u16,
        record: Arc<ServiceRecord>,
        before: Option<&Self>,
    ) -> Self {
        let table = before.map(|before| before.table.load_full());
        let roster = table.as_ref().map_or_else(Arc::default, |table| Arc::clone(&table.roster));
        let table = Table::new(&listed, roster, table.as_deref());
        let cursors = before.map_or_else(
            || Arc::new(PerWorker::new(listed.workers, |worker| Cursor::new(worker as u64))),
            |before| Arc::clone(&before.cursors),
        );
        let table = ArcSwap::from_pointee(table);
        Self { name, connect_timeout, interim_responses, listed, table, cursors, record }
    }

    /// Makes this its roster, for requests that come from now on. Endpoints of `before`, too, keep their connections.
    pub fn enroll(&self, roster: Arc<Roster>, before: Option<&Self>) {
        let tables = [Some(self), before].map(|service| service.map(|it| it.table.load_full()));
        let table = Table::new(&self.listed, roster, tables.iter().flatten().map(|table| &**table));
        self.table.store(Arc::new(table));
    }

    /// Sends one request to one endpoint and waits for the head of the response.
    ///
    /// An endpoint that takes no connection has had nothing of the request: another is tried, of at most `ENDPOINTS`, and the
    /// first is passed over for a while.
    ///
    /// A pooled connection that turns out to be closed is replaced by another where nothing can have reached the
    /// endpoint twice: the request was never written, or it is idempotent and has no body (RFC 9110 §9.2.2).
    pub async fn send(
        &self,
        worker: WorkerId,
        head: &RequestHead,
        body: Body,
        host: HostHeader,
        limit: Duration,
        chosen: Option<Arc<Endpoint>>,
    ) -> Result<(Response<Incoming>, Lease), Error> {
        let mut endpoint = chosen.map_or_else(|| self.choose(worker), Ok)?;
        let (mut body, mut left) = (body, ENDPOINTS);
        let mut start = Instant::now();
        let deadline = start + limit;
        loop {
            let sent = {
                let sending = pin!(self.send_to(&endpoint, worker, head, &mut body, host));
                timeout_at(deadline, sending).await.unwrap_or(Err(Error::Timeout(endpoint.address, limit)))
            };
            let took = start.elapsed();
            self.record.attempt(worker, sent.as_ref().map_or_else(Error::outcome, |_| Outcome::Answered), took);
            left -= 1;
            match sent {
                Ok(sent) => {
                    endpoint.answered_after(took);
                    return Ok(sent);
                }
                Err(error) if error.is_unreached() && left > 0 => match self.other(worker, &endpoint) {
                    Some(other) => (endpoint, start) = (other, Instant::now()),
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        }
    }

    async fn connect(&self, endpoint: &Endpoint, worker: WorkerId) -> Result<SendRequest<Body>, Error> {
        endpoint.health.tried(self.connect_timeout);
        match connect::open(endpoint.address, self.connect_timeout, self.interim_responses).await {
            Ok(opened) => {
                endpoint.health.works();
                self.record.connected(worker);
                Ok(opened)
            }
            Err(error) => {
                let pause = endpoint.health.failed();
                tracing::warn!(service = &*self.name, pause = ?pause, "an endpoint is passed over: {error}");
                Err(error)
            }
        }
    }

    fn choose(&self, worker: WorkerId) -> Result<Arc<Endpoint>, Error> {
        let table = self.table.load();
        let mut cursor = self.cursors.of(worker);
        let up = table.balancer.pick(&mut cursor, |index| table.endpoints[index].is_up());
        // Where none is known to be up, a try may find that one is.
        let chosen = up.or_else(|| table.balancer.pick(&mut cursor, |_| true));
        let endpoint = chosen.and_then(|index| table.endpoints.get(index));
        endpoint.cloned().ok_or_else(|| Error::NoEndpoint(Arc::clone(&self.name)))
    }

    /// One that is up, in the place of one that just was not.
    fn other(&self, worker: WorkerId, than: &Arc<Endpoint>) -> Option<Arc<Endpoint>> {
        let table = self.table.load();
        let usable = |index: usize| {
            let endpoint = &table.endpoints[index];
            !Arc::ptr_eq(endpoint, than) && endpoint.is_up()
        };
        table.balancer.pick(&mut self.cursors.of(worker), usable).and_then(|index| table.endpoints.get(index)).cloned()
    }

    async fn send_to(
        &self,
        endpoint: &Arc<Endpoint>,
        worker: WorkerId,
        head: &RequestHead,
        body: &mut Body,
        host: HostHeader,
    ) -> Result<(Response<Incoming>, Lease), Error> {
        let replayable = body.is_empty() && is_idempotent(&head.method);
        let mut idle = true;
        loop {
            let (mut connection, reused) = match idle.then(|| endpoint.pool.take(worker)).flatten() {
                Some(connection) => (connection, true),
                // Boxed, or every request would be as large as what few of them do.
                None => (Box::pin(self.connect(endpoint, worker)).await?, false),
            };
            let request = endpoint.request(head, mem::take(body), host)?;
            let flight = Lease::new(endpoint, worker);
            let response = connection.try_send_request(request).await.map(|mut response| {
                let sound = check_response(&mut response, &head.method, head.asks_websocket());
                sound.map(|()| response)
            });
            let mut refused = match response {
                Ok(Err(unsound)) => return Err(Error::Unsound(endpoint.address, unsound)),
                // hyper speaks the version of the last answer from then on, and HTTP/1.0 has no chunks to send.
                Ok(Ok(response)) if response.version() == Version::HTTP_10 => return Ok((response, flight)),
                Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    return Ok((response, flight));
                }
                Ok(Ok(response)) => return Ok((response, flight.with(connection))),
                Err(refused) => refused,
            };
            let again = match refused.take_message() {
                // Never written: any number of times.
                Some(request) => {
                    *body = request.into_body();
                    true
                }
                // Perhaps carried out: once more, and on a connection that cannot be stale.
                None => {
                    idle = false;
                    replayable && broke_off(refused.error())
                }
            };
            // Ends: every turn uses up an idle connection, and a fresh one gets no second turn.
            if !(again && reused) {
                return Err(classify(endpoint.address, refused.into_error()));
            }
        }
    }
}

impl Endpoint {
    pub fn new(address: SocketAddr, limits: PoolLimits, workers: usize) -> Self {
        Self {
            address,
            text: address.to_string().into(),
            pool: pool::Pool::new(limits, workers),
            health: health::Health::default(),
            in_flight: AtomicUsize::new(0),
            latency: AtomicU32::new(0),
        }
    }

    /// Whether a request may try it, as far as is known here.
    pub fn is_up(&self) -> bool {
        self.health.is_up()
    }

    pub fn limits(&self) -> PoolLimits {
        self.pool.limits()
    }

    /// How long its answers took to begin of late; none before the first.
    pub fn latency(&self) -> Option<Duration> {
        let micros = self.latency.load(Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros.into()))
    }

    /// An eighth of each new time counts. Two workers at once may lose one of theirs, which tells nobody anything.
    fn answered_after(&self, time: Duration) {
        let new = u32::try_from(time.as_micros()).unwrap_or(u32::MAX).max(1);
        let old = self.latency.load(Relaxed);
        let now = if old == 0 { new } else { old - old / 8 + new / 8 };
        self.latency.store(now.max(1), Relaxed);
    }

    /// Exchanges whose response has not been passed on whole.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Closes the connections of a worker that have been idle for too long.
    pub fn sweep(&self, worker: WorkerId) {
        self.pool.sweep(worker);
    }

    /// The one canonical message that the endpoint gets, whatever form the client used.
    fn request(&self, head: &RequestHead, mut body: Body, host: HostHeader) -> Result<Request<Body>, Error> {
        let (length, ends) = (body.size_hint().exact(), body.is_empty());
        if length.is_none() && !ends {
            body = Body::changed(Guarded::new(body, &head.headers));
        }
        let mut request = Request::new(body);
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = Uri::from(head.target.clone());
        let headers = request.headers_mut();
        headers.clone_from(&head.headers);
        match (host, &head.authority) {
            (HostHeader::Client, Some(authority)) => {
                if headers.get(HOST).is_none_or(|field| field != authority.as_str()) {
                    let host = HeaderValue::from_str(authority.as_str());
                    headers.insert(HOST, host.map_err(|error| Error::Unsendable(error.into()))?);
                }
            }
            _ => {
                let host = HeaderValue::from_str(&self.text);
                headers.insert(HOST, host.map_err(|error| Error::Unsendable(error.into()))?);
            }
        }
        if head.asks_websocket() {
            set_websocket(headers);
        }
        // One framing, said out loud: left to itself hyper sends no body with a GET whose length it does not know.
        match length {
            None if !ends => {
                headers.remove(CONTENT_LENGTH);
                headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
            }
            Some(length) if length > 0 || expects_body(&head.method) => set_length(headers, length),
            _ => {}
        }
        Ok(request)
    }
}

impl Error {
    fn outcome(&self) -> Outcome {
        match self {
            Self::Connect(..) => Outcome::Refused,
            Self::ConnectTimeout(..) => Outcome::ConnectTimeout,
            Self::Reset(..) => Outcome::Reset,
            Self::Malformed(..) | Self::Unsound(..) => Outcome::Malformed,
            Self::Timeout(..) => Outcome::Timeout,
            // The last ends before there is an attempt.
            Self::RequestBody | Self::RequestFraming | Self::Unsendable(_) | Self::Cut(_) | Self::NoEndpoint(_) => {
                Outcome::Client
            }
        }
    }

    /// The endpoint has had nothing of the request, and its body is still there.
    fn is_unreached(&self) -> bool {
        matches!(self, Self::Connect(..) | Self::ConnectTimeout(..))
    }

    /// Who it was tried with.
    pub fn endpoint(&self) -> Option<SocketAddr> {
        match self {
            Self::Connect(address, _)
            | Self::ConnectTimeout(address, _)
            | Self::Reset(address, _)
            | Self::Malformed(address, _)
            | Self::Unsound(address, _)
            | Self::Timeout(address, _) => Some(*address),
            Self::RequestBody | Self::RequestFraming | Self::Unsendable(_) | Self::Cut(_) | Self::NoEndpoint(_) => None,
        }
    }
}

impl Lease {
    fn new(endpoint: &Arc<Endpoint>, worker: WorkerId) -> Self {
        endpoint.in_flight.fetch_add(1, Relaxed);
        Self { endpoint: Arc::clone(endpoint), connection: None, worker }
    }

    fn with(mut self, connection: SendRequest<Body>) -> Self {
        self.connection = Some(connection);
        self
    }

    pub fn endpoint(&self) -> &Arc<str> {
        &self.endpoint.text
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
        if let Some(connection) = self.connection.take() {
            self.endpoint.pool.put(self.worker, connection);
        }
    }
}

/// RFC 9110 §9.2.2.
fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// RFC 9110 §8.6: a request with such a method says that its body is empty.
fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// The endpoint closed or reset the connection without a byte of an answer.
fn broke_off(error: &hyper::Error) -> bool {
    let is_io = || std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
    !is_malformed(error) && (error.is_incomplete_message() || error.is_closed() || error.is_canceled() || is_io())
}

fn classify(address: SocketAddr, error: hyper::Error) -> Error {
    if error.is_user() {
        return match std::error::Error::source(&error).and_then(|source| source.downcast_ref()) {
            Some(BodyError::Cut(cut)) => Error::Cut(cut.clone()),
            Some(error) if error.is_malformed() => Error::RequestFraming,
            _ => Error::RequestBody,
        };
    }
    if error.is_parse() || is_malformed(&error) {
        Error::Malformed(address, error)
    } else {
        Error::Reset(address, error)
    }
}
