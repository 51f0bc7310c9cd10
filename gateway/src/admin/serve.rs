//! The connections of the admin address: counted, bounded and timed as those of any listener. It knows no operation.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{Router, extract::ConnectInfo};
use hyper::{
    Request,
    body::{Body as _, Incoming},
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    exchange::Body,
    linger::Lingering,
    listener::Open,
    progress::Peer,
    snapshot::ListenerLimits,
    socket::{Socket, set_up},
};

/// Pause after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// The admin address, bound.
#[derive(Debug)]
pub struct Address {
    pub socket: TcpListener,
    pub limits: ListenerLimits,
    pub connections: Open,
}

/// Serves until stopped; requests in flight are then finished.
pub async fn serve(address: Address, router: Router, stop: CancellationToken) {
    let Address { socket, limits, connections } = address;
    if let Err(error) = set_up(&SockRef::from(&socket), limits.tcp_keepalive) {
        tracing::warn!(listener = "admin", "silent peers are not probed: {error}");
    }
    let router = TowerToHyperService::new(router);
    let tasks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(admitted) = connections.admit("admin", peer, false, &limits) else { continue };
                let served = connection(stream, peer, limits, router.clone(), stop.clone());
                tasks.spawn(async move {
                    served.await;
                    drop(admitted);
                });
            }
            Err(error) => {
                connections.cannot_accept("admin", &error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    limits: ListenerLimits,
    router: TowerToHyperService<Router>,
    stop: CancellationToken,
) {
    // A peer that is gone already; reading shows it.
    let _ = stream.set_nodelay(true);
    let client = Arc::new(Peer::new(limits.progress));
    let stream = Lingering::new(Socket::of_admin(stream, Arc::clone(&client)), limits.linger);
    let phase = stream.phase();
    let service = service_fn(|mut request: Request<Incoming>| {
        phase.request(!request.body().is_end_stream());
        request.extensions_mut().insert(ConnectInfo(peer));
        router.call(request.map(|body| Body::of_client(body, client.limits().pace(false))))
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_buf_size(limits.header_bytes)
            .max_headers(limits.header_count)
            .serve_connection(TokioIo::new(stream), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(client = %peer, listener = "admin", "connection ended: {error}");
    }
}
