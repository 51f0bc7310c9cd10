//! Opens one connection to one endpoint.

use std::{net::SocketAddr, time::Duration};

use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::spawn_local, time::timeout};

use super::Error;
use crate::{exchange::Body, socket::Socket};

/// Must run on a worker: the task that drives the connection stays on this thread, and ends when nobody can send
/// on it any more.
pub(super) async fn open(
    address: SocketAddr,
    limit: Duration,
    interim_responses: u16,
) -> Result<SendRequest<Body>, Error> {
    let stream = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(Error::Connect(address, error)),
        Err(_) => return Err(Error::ConnectTimeout(address, limit)),
    };
    stream.set_nodelay(true).map_err(|error| Error::Connect(address, error))?;
    let socket = Socket::to_service(stream, interim_responses.into());
    let (sender, connection) =
        http1::handshake(TokioIo::new(socket)).await.map_err(|error| Error::Reset(address, error))?;
    spawn_local(async move {
        // Whoever waits for an answer on it is told; nobody else needs to know.
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%address, %error, "upstream connection ended");
        }
    });
    Ok(sender)
}
