//! Opens one connection to one endpoint.

use std::{io, net::SocketAddr, time::Duration};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::{net::TcpSocket, task::spawn_local, time::timeout};

use super::Error;
use crate::{descriptors, exchange::Body, socket::Socket};

/// Whether a connection failed for want of the gateway's own resources: descriptors, or memory of the kernel.
pub(super) fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_io_error(error);
    errno.is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno))
}

/// A socket that leaves `reserved` descriptors to others.
fn socket(address: SocketAddr, reserved: u64) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if descriptors::is_reserved(&socket, reserved) {
        return Err(Errno::MFILE.into());
    }
    Ok(socket)
}

/// Must run on a worker: the task that drives the connection stays on this thread, and ends when nobody can send
/// on it any more.
pub(super) async fn open(address: SocketAddr, limit: Duration, reserved: u64) -> Result<SendRequest<Body>, Error> {
    let socket = socket(address, reserved).map_err(|error| Error::Connect(address, error))?;
    let stream = match timeout(limit, socket.connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Error::Connect(address, error)),
        Err(_) => return Err(Error::ConnectTimeout(address, limit)),
    };
    stream.set_nodelay(true).map_err(|error| Error::Connect(address, error))?;
    let (sender, connection) =
        http1::handshake(TokioIo::new(Socket::new(stream))).await.map_err(|error| Error::Reset(address, error))?;
    spawn_local(async move {
        // Whoever waits for an answer on it is told; nobody else needs to know.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%address, %error, "upstream connection ended");
        }
    });
    Ok(sender)
}
