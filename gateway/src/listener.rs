//! Listeners: bound sockets, one per worker and address, and their accept loops. What a connection says is not read here.

mod bind;
mod clients;

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::uri::Scheme;
use ipnet::IpNet;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::clients::{Clients, Counted};
pub use bind::{BindError, Bound, Listeners};

use crate::{
    connection,
    exchange::Client,
    monitor::record::{Connections, WireErrors},
    proxy::Proxy,
    snapshot::{Listener, ListenerLimits},
};

/// Pause after a failed accept: what fails is the process (no more files) or a peer that is gone already.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// A worker's share of a listener, to be served by it.
#[derive(Debug)]
pub struct Share {
    pub listener: Arc<Listener>,
    pub socket: std::net::TcpListener,
    /// Open connections of all workers.
    pub connections: Open,
    /// Ends the accepting; its connections are drained.
    pub stop: CancellationToken,
}

/// The open connections of a listener.
#[derive(Debug, Clone, Default)]
pub struct Open {
    all: Arc<AtomicUsize>,
    clients: Clients,
    accepted: Arc<AtomicU64>,
    turned_away: Arc<AtomicU64>,
    errors: Arc<WireErrors>,
}

/// Accepts until stopped, each connection a task of its own. What the kernel had queued by then is still served.
pub async fn accept(share: Share, proxy: Rc<Proxy>, tasks: TaskTracker) {
    let socket = match TcpListener::from_std(share.socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(listener = &*share.listener.name, "cannot be served: {error}"),
    };
    let door = Door { listener: share.listener, connections: share.connections, stop: share.stop, proxy, tasks };
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = door.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => door.admit(stream, peer),
            Err(error) => {
                tracing::warn!(listener = &*door.listener.name, "cannot accept: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Past tokio, whose idea of what is ready may be older than the last connection.
    let Ok(socket) = socket.into_std() else { return };
    while let Ok((stream, peer)) = socket.accept() {
        if stream.set_nonblocking(true).is_ok()
            && let Ok(stream) = TcpStream::from_std(stream)
        {
            door.admit(stream, peer);
        }
    }
}

struct Door {
    /// As it was when it was bound.
    listener: Arc<Listener>,
    connections: Open,
    stop: CancellationToken,
    proxy: Rc<Proxy>,
    tasks: TaskTracker,
}

/// One open connection, counted until dropped.
struct Admitted {
    all: Arc<AtomicUsize>,
    /// `None` for a trusted proxy.
    _of_client: Option<Counted>,
}

impl Door {
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let snapshot = self.proxy.snapshot();
        // A listener that is being drained is in no snapshot any more.
        let listener = snapshot.listener(&self.listener.name).unwrap_or(&self.listener);
        let proxies = proxies(listener, peer.ip().to_canonical());
        let Some(admitted) = self.connections.admit(peer, proxies.is_some(), &listener.limits) else {
            return tracing::warn!(listener = &*listener.name, %peer, "over the limit of connections");
        };
        // A peer that is gone already; reading will tell.
        let _ = stream.set_nodelay(true);
        let client = Client::new(peer, Arc::clone(&listener.name), Scheme::HTTP, proxies);
        let client = Arc::new(client.with_limits(listener.limits.progress));
        let (proxy, errors) = (Rc::clone(&self.proxy), Arc::clone(&self.connections.errors));
        let served = connection::serve(stream, client, listener.limits, proxy, errors, self.stop.child_token());
        self.tasks.spawn_local(async move {
            served.await;
            drop(admitted);
        });
    }
}

impl Open {
    fn admit(&self, peer: SocketAddr, is_proxy: bool, limits: &ListenerLimits) -> Option<Admitted> {
        let admitted = self.count(peer, is_proxy, limits);
        let counter = if admitted.is_some() { &self.accepted } else { &self.turned_away };
        counter.fetch_add(1, Relaxed);
        admitted
    }

    /// The connections of a trusted proxy are those of many clients: only the limit of all connections holds for them.
    fn count(&self, peer: SocketAddr, is_proxy: bool, limits: &ListenerLimits) -> Option<Admitted> {
        let of_client = match is_proxy {
            true => None,
            false => Some(self.clients.admit(peer.ip().to_canonical(), limits.connections_per_client)?),
        };
        if self.all.fetch_add(1, Relaxed) >= limits.connections {
            self.all.fetch_sub(1, Relaxed);
            return None;
        }
        Some(Admitted { all: Arc::clone(&self.all), _of_client: of_client })
    }
}

impl Open {
    fn told(&self, name: Arc<str>) -> Connections {
        let [accepted, turned_away] = [&self.accepted, &self.turned_away].map(|count| count.load(Relaxed));
        Connections { name, open: self.all.load(Relaxed) as u64, accepted, turned_away, errors: self.errors.all() }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
    }
}

/// The trusted networks of a listener, if the peer is in one of them.
fn proxies(listener: &Listener, peer: IpAddr) -> Option<Arc<[IpNet]>> {
    let trusted = listener.trusted.iter().any(|network| network.contains(&peer));
    trusted.then(|| Arc::clone(&listener.trusted))
}
