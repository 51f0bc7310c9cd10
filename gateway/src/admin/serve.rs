//! The connections of the admin address: counted, bounded and timed as those of any listener. It knows no operation.

use std::{
    convert::{Infallible, identity},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
};

use axum::{Router, extract::ConnectInfo, response::IntoResponse};
use hyper::{
    Request,
    body::{Body as _, Incoming},
    header::{CONNECTION, HeaderValue},
    server::conn::http1,
    service::{Service, service_fn},
    upgrade::OnUpgrade,
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::Problem;
use crate::{
    descriptors::Room,
    exchange::{Body, Refusal, canonical},
    linger::{Lingering, Upgradable, Upgrade},
    listener::{Open, accept_until},
    monitor::record::{WireError, WireErrors},
    progress::Peer,
    snapshot::ListenerLimits,
    socket::{Framing, Requests, Socket, Unparsed, Verdict, set_up},
};

/// The admin address, bound.
#[derive(Debug)]
pub struct Address {
    pub socket: TcpListener,
    pub limits: ListenerLimits,
    pub connections: Open,
    pub room: Arc<Room>,
    /// Open files that are for other uses than connections.
    pub reserved_descriptors: u64,
}

/// Serves until stopped; requests in flight are then finished.
pub async fn serve(address: Address, router: Router, stop: CancellationToken) {
    let Address { socket, limits, connections, room, reserved_descriptors } = address;
    if let Err(error) = set_up(&SockRef::from(&socket), limits.tcp_keepalive) {
        tracing::warn!(listener = "admin", "silent peers are not probed: {error}");
    }
    let router = TowerToHyperService::new(router);
    let tasks = TaskTracker::new();
    let admit = |stream, peer| {
        let Some(place) = room.take_for_admin(reserved_descriptors) else { return connections.no_room("admin", peer) };
        let Some(admitted) = connections.admit("admin", peer, false, &limits) else { return };
        let errors = Arc::clone(connections.errors());
        let served = connection(stream, peer, limits, errors, router.clone(), stop.clone());
        tasks.spawn(async move {
            served.await;
            drop((admitted, place));
        });
    };
    accept_until(&stop, &socket, "admin", &connections, admit).await;
    tasks.close();
    tasks.wait().await;
}

async fn connection(
    stream: TcpStream,
    peer: SocketAddr,
    limits: ListenerLimits,
    errors: Arc<WireErrors>,
    router: TowerToHyperService<Router>,
    stop: CancellationToken,
) {
    // A peer that is gone already; reading shows it.
    let _ = stream.set_nodelay(true);
    let client = Arc::new(Peer::new(limits.progress));
    let requests = Arc::new(Requests::default());
    let socket = Socket::of_client(stream, Arc::clone(&client), Arc::clone(&requests), Arc::clone(&errors));
    let stream = Lingering::new(socket, limits.linger);
    let (phase, upgrade) = (stream.phase(), Upgrade::default());
    let service = service_fn(|mut request: Request<Incoming>| {
        phase.request(!request.body().is_end_stream());
        if request.extensions().get::<OnUpgrade>().is_some() {
            upgrade.asked();
        }
        let framing = request.body().size_hint().exact().map_or(Framing::Chunked, Framing::Length);
        let verdict = requests.began(framing, request.uri_mut());
        let refused = canonical::check_unforwarded(&request).err();
        request.extensions_mut().insert(ConnectInfo(peer));
        let pace = client.limits().pace(false);
        let answer = router.call(request.map(|body| Body::of_client(body, pace, &Arc::default())));
        let requests = Arc::clone(&requests);
        async move {
            let of_framing = verdict.refusal().map(|reason| Refusal::BadRequest(reason.to_owned()));
            let mut answer = match of_framing.or(refused) {
                None => answer.await?,
                Some(refusal) => Problem::from(refusal).into_response(),
            };
            if verdict != Verdict::Sound || requests.is_broken() {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok::<_, Infallible>(answer)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .max_buf_size(limits.header_bytes)
        .max_headers(limits.header_count)
        .serve_connection(TokioIo::new(stream), service);
    // Nothing here agrees to an upgrade.
    let mut connection = pin!(Upgradable::new(connection, identity, upgrade.clone()));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            if let Some(connection) = connection.as_mut().get_mut().connection() {
                connection.graceful_shutdown();
            }
            connection.await
        }
    };
    if let Err(error) = ended {
        if let Some(unparsed) = Unparsed::of(&error) {
            errors.add(WireError::Unparsed(unparsed.reason));
        }
        tracing::debug!(client = %peer, listener = "admin", "connection ended: {error}");
    }
}
