//! Opens one connection to one endpoint.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use socket2::SockRef;
use tokio::{
    net::TcpSocket,
    task::{JoinHandle, spawn_local},
    time::{Instant, timeout_at},
};

use super::{Endpoint, Error, Sending, Service};
use crate::{
    descriptors,
    exchange::Body,
    progress::{Limits, Peer, Timer},
    socket::{self, Exchanges, Socket},
    worker::WorkerId,
};

/// Fields of a response head that hyper has room for without an allocation.
const USUAL_HEADERS: usize = 100;

/// What holds for the connections to a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transport {
    pub connect_timeout: Duration,
    /// Silence after which an endpoint is probed.
    pub tcp_keepalive: Duration,
    pub progress: Limits,
    /// Fields of a response head.
    pub header_count: usize,
    /// Bytes of a response head.
    pub header_bytes: usize,
    /// Interim responses to one request.
    pub interim_responses: u16,
}

/// A connection that requests can be sent on.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) sender: SendRequest<Body>,
    pub(super) peer: Arc<Peer>,
    pub(super) exchanges: Exchanges,
    /// Bounds the time until the head of the response.
    pub(super) timer: Timer,
    /// Ends once the socket is closed.
    driver: JoinHandle<()>,
}

/// A connection without an exchange, which is to be closed.
#[derive(Debug)]
pub struct Idle(pub(super) Connection);

/// Where a request may find a descriptor when there is none left: gives the connection of the worker that has been idle
/// longest, to whichever service.
pub type LongestIdle<'a> = &'a dyn Fn() -> Option<Idle>;

/// One of several tries to send a request.
#[derive(Clone, Copy)]
pub(super) struct Try<'a> {
    /// The begin of the request, from which the time-out of its route runs.
    pub(super) begin: Instant,
    pub(super) start: Instant,
    /// Endpoints that may be tried behind this one.
    pub(super) left: u8,
    pub(super) longest_idle: LongestIdle<'a>,
}

impl Idle {
    /// Closes it and waits until its descriptor is free.
    async fn close(self) {
        let Connection { sender, driver, .. } = self.0;
        drop(sender);
        // A driver that panicked has closed its socket, too.
        let _ = driver.await;
    }
}

impl Service {
    /// Opens a connection and judges by it whether the endpoint is up.
    pub(super) async fn connect(
        &self,
        endpoint: &Endpoint,
        sending: &Sending<'_>,
        current: Try<'_>,
    ) -> Result<Connection, Error> {
        // Before the endpoint is judged: descriptors are the gateway's.
        let socket =
            self.socket(endpoint.address, current.longest_idle).await.inspect_err(|error| self.exhausted(error))?;
        let now = Instant::now();
        let limit = self.connect_limit(endpoint, sending, current, now);
        let attempt = endpoint.health.begin(limit);
        match open(socket, endpoint.address, (now, limit), &self.transport).await {
            Ok(opened) => {
                endpoint.health.clear();
                self.record.connected(sending.worker);
                Ok(opened)
            }
            Err(error) if error.is_exhausted() => {
                self.exhausted(&error);
                Err(error)
            }
            Err(error) => {
                if let Some(pause) = endpoint.health.failed(&attempt) {
                    tracing::warn!(service = &*self.name, pause = ?pause, "an endpoint is passed over: {error}");
                }
                Err(error)
            }
        }
    }

    fn exhausted(&self, error: &Error) {
        if let Some(left_out) = self.log.due() {
            tracing::warn!(service = &*self.name, left_out, "no connection can be opened: {error}");
        }
    }

    /// Time that a connection may take from `now`. The time-out of the route, where it runs, must not end first: the endpoint
    /// would never be found to be down. Half of the time is left for another endpoint, if one is up.
    fn connect_limit(&self, endpoint: &Endpoint, sending: &Sending<'_>, current: Try<'_>, now: Instant) -> Duration {
        let limit = self.transport.connect_timeout;
        let Some(deadline) = sending.deadline(current.begin) else { return limit };
        let rest = deadline.saturating_duration_since(now);
        if rest / 2 >= limit {
            return limit;
        }
        let table = self.table.load();
        let others = || table.endpoints.iter().any(|other| other.address != endpoint.address && other.is_up());
        limit.min(if current.left > 0 && others() { rest / 2 } else { rest })
    }

    async fn socket(&self, address: SocketAddr, longest_idle: LongestIdle<'_>) -> Result<TcpSocket, Error> {
        let reserved = self.listed.reserved_descriptors;
        let mut made = new_socket(address, reserved);
        // Another task may take the descriptor of the one that was closed.
        while made.as_ref().is_err_and(is_exhausted)
            && let Some(idle) = longest_idle()
        {
            idle.close().await;
            made = new_socket(address, reserved);
        }
        made.map_err(|error| Error::Connect(address, error))
    }
}

/// Takes the connection of a worker that has been idle longest, of all endpoints of these services.
pub fn longest_idle<'a>(services: impl Iterator<Item = &'a Arc<Service>>, worker: WorkerId) -> Option<Idle> {
    let mut longest: Option<(Instant, Arc<Endpoint>)> = None;
    for service in services {
        for (_, endpoint) in service.table.load().all() {
            let Some(since) = endpoint.pool.idle_since(worker) else { continue };
            if longest.as_ref().is_none_or(|(other, _)| since < *other) {
                longest = Some((since, Arc::clone(endpoint)));
            }
        }
    }
    longest?.1.pool.take_longest_idle(worker).map(Idle)
}

/// Whether a connection failed for want of the gateway's own resources: descriptors, or memory of the kernel.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno))
}

/// Makes a socket that leaves `reserved` descriptors to others.
fn new_socket(address: SocketAddr, reserved: u64) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if descriptors::is_reserved(&socket, reserved) {
        return Err(Errno::MFILE.into());
    }
    Ok(socket)
}

/// Must run on a worker: the task that drives the connection stays on this thread, and ends when nobody can send
/// on it any more.
async fn open(
    socket: TcpSocket,
    address: SocketAddr,
    (start, limit): (Instant, Duration),
    transport: &Transport,
) -> Result<Connection, Error> {
    let failed = |error| Error::Connect(address, error);
    let stream = match timeout_at(start + limit, socket.connect(address)).await {
        Ok(connected) => connected.map_err(failed)?,
        Err(_) => return Err(Error::ConnectTimeout(address, limit)),
    };
    stream.set_nodelay(true).map_err(failed)?;
    socket::set_up(&SockRef::from(&stream), transport.tcp_keepalive).map_err(failed)?;
    let peer = Arc::new(Peer::new(transport.progress));
    let exchanges = Exchanges::default();
    let interim = transport.interim_responses.into();
    let io = TokioIo::new(Socket::to_service(stream, Arc::clone(&peer), interim, exchanges.clone()));
    let mut builder = http1::Builder::new();
    builder.max_header_size(transport.header_bytes).max_buf_size(transport.header_bytes);
    if transport.header_count != USUAL_HEADERS {
        builder.max_headers(transport.header_count);
    }
    let (sender, connection) = builder.handshake(io).await.map_err(|error| Error::Reset(address, error))?;
    let driver = spawn_local(async move {
        // The exchange that waits for an answer on it gets the error.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%address, %error, "upstream connection ended");
        }
    });
    Ok(Connection { sender, peer, exchanges, timer: Timer::new(start + limit), driver })
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::advance;

    use super::*;
    use crate::{
        balance::Policy,
        exchange::RequestHead,
        monitor::record::{Record as _, ServiceRecord},
        upstream::{HostHeader, Listed, Member, PoolLimits},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn service(reserved_descriptors: u64) -> Service {
        let limits = PoolLimits { idle_connections: 1, idle_timeout: SECOND };
        let fixed = vec![Arc::new(Member::of(SocketAddr::from(([127, 0, 0, 1], 1)), 1))];
        let listed = Listed { fixed, policy: Policy::RoundRobin, limits, workers: 1, reserved_descriptors };
        let transport = Transport {
            connect_timeout: SECOND,
            tcp_keepalive: SECOND,
            progress: Limits::default(),
            header_count: 100,
            header_bytes: 64 << 10,
            interim_responses: 32,
        };
        Service::new("echo".into(), listed, transport, Arc::new(ServiceRecord::new(0)), None)
    }

    #[tokio::test(start_paused = true)]
    async fn an_endpoint_is_not_judged_by_descriptors_that_the_gateway_lacks() {
        let service = service(u64::MAX);
        let endpoint = Arc::clone(&service.table.load().endpoints[0]);
        assert!(endpoint.health.failed(&endpoint.health.begin(SECOND)).is_some());
        advance(SECOND).await;
        let head = RequestHead::default();
        let host = HostHeader::Endpoint;
        let sending = Sending { worker: WorkerId(0), head: &head, host, timeout: 9 * SECOND, transfer: None };
        let asked = Cell::new(0);
        let longest_idle = || {
            asked.set(asked.get() + 1);
            None
        };
        let error = service.send(&sending, Body::Empty, None, &longest_idle).await.expect_err("all are reserved");
        assert!(error.is_exhausted(), "{error}");
        assert_eq!((endpoint.is_up(), asked.get()), (true, 1), "the pause that was over is not prolonged");
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_takes_no_longer_than_the_route_waits() {
        let service = service(0);
        let endpoint = Arc::clone(&service.table.load().endpoints[0]);
        let head = RequestHead::default();
        let begin = Instant::now();
        let current = Try { begin, start: begin, left: 2, longest_idle: &|| None };
        for (timeout, has_body, expected) in [
            (9 * SECOND, false, SECOND),
            (SECOND, false, SECOND),
            (SECOND / 2, false, SECOND / 2),
            // The time-out does not run while a request is under way.
            (SECOND / 2, true, SECOND),
        ] {
            let (host, transfer) = (HostHeader::Endpoint, has_body.then(Arc::default));
            let sending = Sending { worker: WorkerId(0), head: &head, host, timeout, transfer };
            assert_eq!(service.connect_limit(&endpoint, &sending, current, begin), expected, "{timeout:?} {has_body}");
        }
    }
}
