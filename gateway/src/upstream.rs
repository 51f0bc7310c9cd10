//! Services: named groups of endpoints, and sending one request to one of them.
//! It decides nothing about routes or filters, and turns no error into a status.

mod connect;
mod error;
mod health;
mod pool;
mod table;

use std::{
    future::poll_fn,
    mem,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    task::{Poll, ready},
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{
    HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::Instant;

use crate::{
    balance::Cursor,
    exchange::{
        Body, RequestHead,
        body::Transfer,
        framing::check_response,
        headers::{set_length, set_websocket},
        trailers::Guarded,
    },
    monitor::record::{Outcome, ServiceRecord},
    progress::{Limits, Timer},
    seldom::Seldom,
    worker::{PerWorker, WorkerId},
};

use connect::{Connection, Try};
pub use connect::{Idle, LongestIdle, Transport, longest_idle};
pub use error::Error;
pub use pool::PoolLimits;
pub use table::{Listed, Member, Metadata, Roster, Table};

/// Endpoints that one request tries to reach.
const ENDPOINTS: u8 = 3;

/// A named group of interchangeable servers.
#[derive(Debug)]
pub struct Service {
    pub name: Arc<str>,
    pub transport: Transport,
    pub listed: Listed,
    /// Swapped whole when an endpoint comes or goes.
    pub table: ArcSwap<Table>,
    /// Where each worker's balancing stands; outlives this service's configuration.
    pub cursors: Arc<PerWorker<Cursor>>,
    pub record: Arc<ServiceRecord>,
    /// Of connections that the gateway has no descriptor for.
    log: Seldom,
}

/// One server of a service.
#[derive(Debug)]
pub struct Endpoint {
    pub address: SocketAddr,
    /// The address, which is told of with every request.
    text: Arc<str>,
    /// The configuration of its connections; with another one, the endpoint is made anew.
    settings: (PoolLimits, Transport),
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
    connection: Option<Connection>,
    worker: WorkerId,
}

/// A request that is to be sent.
#[derive(Debug)]
pub struct Sending<'a> {
    pub worker: WorkerId,
    pub head: &'a RequestHead,
    pub host: HostHeader,
    /// From the end of the request to the head of the answer.
    pub timeout: Duration,
    /// Where the body is the client's.
    pub transfer: Option<Arc<Transfer>>,
}

impl Service {
    /// A service with what the one of this name had that may go on: connections, its roster, each worker's place in the turn.
    pub fn new(
        name: Arc<str>,
        listed: Listed,
        transport: Transport,
        record: Arc<ServiceRecord>,
        before: Option<&Self>,
    ) -> Self {
        let table = before.map(|before| before.table.load_full());
        let roster = table.as_ref().map_or_else(Arc::default, |table| Arc::clone(&table.roster));
        let table = Table::new(&listed, &transport, roster, table.as_deref());
        let cursors = before.map_or_else(
            || Arc::new(PerWorker::new(listed.workers, |worker| Cursor::new(worker as u64))),
            |before| Arc::clone(&before.cursors),
        );
        Self { name, transport, listed, table: ArcSwap::from_pointee(table), cursors, record, log: Seldom::default() }
    }

    /// Makes this its roster, for requests that come from now on. Endpoints of `before`, too, keep their connections.
    pub fn enroll(&self, roster: Arc<Roster>, before: Option<&Self>) {
        let tables = [Some(self), before].map(|service| service.map(|it| it.table.load_full()));
        let before = tables.iter().flatten().map(|table| &**table);
        let table = Table::new(&self.listed, &self.transport, roster, before);
        self.table.store(Arc::new(table));
    }

    /// Sends one request to one endpoint and waits for the head of the response.
    ///
    /// An endpoint that takes no connection has had nothing of the request: another is tried, of at most `ENDPOINTS`, and the
    /// first is passed over for a while. Without a descriptor for a connection, the one that `longest_idle` gives is closed
    /// first.
    ///
    /// A pooled connection that turns out to be closed is replaced by another where nothing can have reached the
    /// endpoint twice: the request was never written, or it is idempotent and has no body (RFC 9110 §9.2.2).
    pub async fn send(
        &self,
        sending: &Sending<'_>,
        mut body: Body,
        chosen: Option<Arc<Endpoint>>,
        longest_idle: LongestIdle<'_>,
    ) -> Result<(Response<Incoming>, Lease), Error> {
        let worker = sending.worker;
        let mut endpoint = chosen.map_or_else(|| self.choose(worker), Ok)?;
        let begin = Instant::now();
        let mut current = Try { begin, start: begin, left: ENDPOINTS - 1, longest_idle };
        loop {
            let sent = self.send_to(&endpoint, sending, &mut body, current).await;
            // The time that a client took for its request is not the endpoint's.
            let from = sending.ended().map_or(current.start, |ended| ended.max(current.start));
            let took = from.elapsed();
            self.record.attempt(worker, sent.as_ref().map_or_else(Error::outcome, |_| Outcome::Answered), took);
            match sent {
                Ok(sent) => {
                    endpoint.answered_after(took);
                    return Ok(sent);
                }
                Err(error) if error.is_unreached() && current.left > 0 => match self.other(worker, &endpoint) {
                    Some(other) => {
                        endpoint = other;
                        current = Try { start: Instant::now(), left: current.left - 1, ..current };
                    }
                    None => return Err(error),
                },
                Err(error) => return Err(error),
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
        sending: &Sending<'_>,
        body: &mut Body,
        current: Try<'_>,
    ) -> Result<(Response<Incoming>, Lease), Error> {
        let Sending { worker, head, host, .. } = *sending;
        let replayable = body.is_empty() && is_idempotent(&head.method);
        let mut idle = true;
        loop {
            let (mut connection, reused) = match idle.then(|| endpoint.pool.take(worker, current.start)).flatten() {
                Some(connection) => (connection, true),
                // Boxed, or every request would be as large as what few of them do.
                None => (Box::pin(self.connect(endpoint, sending, current)).await?, false),
            };
            let request = endpoint.request(head, mem::take(body), host)?;
            let flight = Lease::new(endpoint, worker);
            connection.peer.set_streams(head.streams);
            connection.exchanges.begin();
            let mut response = pin!(connection.sender.try_send_request(request));
            let answered = sending.within_timeout(current.begin, &mut connection.timer, response.as_mut()).await;
            let Some(response) = answered else {
                return Err(Error::Timeout(endpoint.address, sending.timeout));
            };
            let response = response.map(|mut response| {
                let sound = check_response(&mut response, &head.method, head.asks_websocket());
                sound.map(|()| response)
            });
            let mut refused = match response {
                Ok(Err(unsound)) => return Err(Error::Unsound(endpoint.address, unsound)),
                // hyper speaks the version of the last answer from then on, and HTTP/1.0 has no chunks to send.
                Ok(Ok(response)) if response.version() == Version::HTTP_10 => return Ok((response, flight)),
                Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                    connection.peer.set_streams(true);
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
                    replayable && error::broke_off(refused.error())
                }
            };
            // Ends: every turn uses up an idle connection, and a fresh one gets no second turn.
            if !(again && reused) {
                return Err(Error::of(endpoint.address, refused.into_error(), &self.transport));
            }
        }
    }
}

impl Sending<'_> {
    /// When the request had been read to its end; `None` while its body is under way, and where it has none of a client.
    fn ended(&self) -> Option<Instant> {
        self.transfer.as_ref()?.ended()
    }

    /// The end of the time-out, which began at `begin` or with the end of the request; `None` while that is under way.
    fn deadline(&self, begin: Instant) -> Option<Instant> {
        let from = self.transfer.as_ref().map_or(Some(begin), |transfer| transfer.ended())?;
        Some(from.max(begin) + self.timeout)
    }

    /// Waits for the head of an answer. The time-out runs from the end of the request: while that is under way, its progress
    /// alone is bounded.
    async fn within_timeout<T>(
        &self,
        begin: Instant,
        timer: &mut Timer,
        mut sent: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        let mut deadline = begin + self.timeout;
        poll_fn(|cx| {
            if let Poll::Ready(sent) = sent.as_mut().poll(cx) {
                return Poll::Ready(Some(sent));
            }
            loop {
                ready!(timer.poll_until(deadline, cx));
                let Some(transfer) = &self.transfer else { return Poll::Ready(None) };
                let later = transfer.ended().unwrap_or_else(Instant::now) + self.timeout;
                if later <= deadline {
                    return Poll::Ready(None);
                }
                deadline = later;
            }
        })
        .await
    }
}

impl Endpoint {
    pub fn new(address: SocketAddr, limits: PoolLimits, transport: Transport, workers: usize) -> Self {
        Self {
            address,
            text: address.to_string().into(),
            settings: (limits, transport),
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

    /// Forgets that it took no connections, since a server has announced itself there.
    pub fn announced(&self) {
        self.health.clear();
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

    /// Closes the connections of a worker that are idle for longer than `idle_timeout`, so that they take up nothing; none of
    /// them is used again in any case.
    pub fn sweep(&self, worker: WorkerId) {
        self.pool.sweep(worker);
    }

    /// The one canonical message that the endpoint gets, whatever form the client used.
    fn request(&self, head: &RequestHead, mut body: Body, host: HostHeader) -> Result<Request<Body>, Error> {
        let (length, ends) = (body.size_hint().exact(), body.is_empty());
        if length.is_none() && !ends {
            body = Body::changed(Guarded::new(body, head));
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

impl Lease {
    fn new(endpoint: &Arc<Endpoint>, worker: WorkerId) -> Self {
        endpoint.in_flight.fetch_add(1, Relaxed);
        Self { endpoint: Arc::clone(endpoint), connection: None, worker }
    }

    fn with(mut self, connection: Connection) -> Self {
        self.connection = Some(connection);
        self
    }

    pub fn endpoint(&self) -> &Arc<str> {
        &self.endpoint.text
    }

    /// The bounds that the endpoint is held to.
    pub fn progress(&self) -> &Limits {
        &self.endpoint.settings.1.progress
    }

    /// Ends the use of its connection, at `now`.
    pub fn end(mut self, now: Instant) {
        if let Some(connection) = self.connection.take() {
            self.endpoint.pool.put(self.worker, connection, now);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.endpoint.in_flight.fetch_sub(1, Relaxed);
        if let Some(connection) = self.connection.take() {
            self.endpoint.pool.put(self.worker, connection, Instant::now());
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
