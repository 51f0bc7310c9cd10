//! Opens one connection to one endpoint.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use socket2::SockRef;
use tokio::{net::TcpSocket, task::spawn_local, time::timeout};

use super::Error;
use crate::{
    descriptors,
    exchange::Body,
    progress::{Limits, Peer},
    socket::{self, Socket},
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
pub(super) async fn open(address: SocketAddr, transport: &Transport, reserved: u64) -> Result<Connection, Error> {
    let limit = transport.connect_timeout;
    let socket = new_socket(address, reserved).map_err(|error| Error::Connect(address, error))?;
    let stream = match timeout(limit, socket.connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Error::Connect(address, error)),
        Err(_) => return Err(Error::ConnectTimeout(address, limit)),
    };
    stream.set_nodelay(true).map_err(|error| Error::Connect(address, error))?;
    socket::set_up(&SockRef::from(&stream), transport.tcp_keepalive).map_err(|error| Error::Connect(address, error))?;
    let peer = Arc::new(Peer::new(transport.progress));
    let io = TokioIo::new(Socket::to_service(stream, Arc::clone(&peer), transport.interim_responses.into()));
    let mut builder = http1::Builder::new();
    builder.max_header_size(transport.header_bytes).max_buf_size(transport.header_bytes);
    if transport.header_count != USUAL_HEADERS {
        builder.max_headers(transport.header_count);
    }
    let (sender, connection) = builder.handshake(io).await.map_err(|error| Error::Reset(address, error))?;
    spawn_local(async move {
        // The exchange that waits for an answer on it gets the error.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%address, %error, "upstream connection ended");
        }
    });
    Ok(Connection { sender, peer })
}
