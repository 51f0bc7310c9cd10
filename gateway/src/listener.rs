//! Listeners: bound sockets, one per worker and address, and their accept loops. What a connection says is not read here.

mod bind;

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use http::uri::Scheme;
use tokio::{
    net::{TcpListener, TcpStream},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use bind::{BindError, Bound, Listeners, reaches};

use crate::{
    connection::{self, Terms, Windows},
    descriptors::Room,
    exchange::{
        Client, Dropped,
        clients::{Clients, Counted},
    },
    monitor::{
        count::{Count, Workers},
        record::{Connections, WireErrors},
    },
    proxy::Proxy,
    seldom::Seldom,
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
    pub windows: Arc<Windows>,
    pub room: Arc<Room>,
    /// Ends the accepting; its connections are drained.
    pub stop: CancellationToken,
}

/// The open connections of a listener.
#[derive(Debug, Clone)]
pub struct Open {
    all: Arc<AtomicUsize>,
    clients: Clients,
    accepted: Arc<AtomicU64>,
    turned_away: Arc<AtomicU64>,
    dropped_fields: Arc<Dropped>,
    /// Bytes of response bodies that HTTP/2 connections hold.
    buffered: Arc<Workers<Count>>,
    log: Arc<Seldom>,
    errors: Arc<WireErrors>,
}

/// Accepts until stopped, each connection a task of its own. What the kernel had queued by then is still served.
pub async fn accept(share: Share, proxy: Rc<Proxy>, tasks: TaskTracker) {
    let socket = match TcpListener::from_std(share.socket) {
        Ok(socket) => socket,
        Err(error) => return tracing::error!(listener = &*share.listener.name, "cannot be served: {error}"),
    };
    let Share { listener, connections, windows, room, stop, .. } = share;
    let door = Door { listener, connections, windows, room, stop, proxy, tasks };
    let admit = |stream, peer| door.admit(stream, peer);
    accept_until(&door.stop, &socket, &door.listener.name, &door.connections, admit).await;
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

/// Hands each connection that a socket accepts to `admit`, until stopped.
pub(crate) async fn accept_until(
    stop: &CancellationToken,
    socket: &TcpListener,
    listener: &str,
    connections: &Open,
    admit: impl Fn(TcpStream, SocketAddr),
) {
    loop {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer),
            Err(error) => {
                connections.cannot_accept(listener, &error);
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

struct Door {
    /// As it was when it was bound.
    listener: Arc<Listener>,
    connections: Open,
    windows: Arc<Windows>,
    room: Arc<Room>,
    stop: CancellationToken,
    proxy: Rc<Proxy>,
    tasks: TaskTracker,
}

/// One open connection, counted until dropped.
#[derive(Debug)]
pub struct Admitted {
    all: Arc<AtomicUsize>,
    /// `None` for a trusted proxy.
    _of_client: Option<Counted>,
}

impl Door {
    fn admit(&self, stream: TcpStream, peer: SocketAddr) {
        let snapshot = self.proxy.snapshot();
        // A listener that is being drained is in no snapshot any more.
        let listener = snapshot.listener(&self.listener.name).unwrap_or(&self.listener);
        let Some(place) = self.room.take(snapshot.limits.reserved_descriptors) else {
            return self.connections.no_room(&listener.name, peer);
        };
        let is_proxy = listener.fields.trust(peer.ip().to_canonical());
        let Some(admitted) = self.connections.admit(&listener.name, peer, is_proxy, &listener.limits) else { return };
        // A peer that is gone already; reading will tell.
        let _ = stream.set_nodelay(true);
        let limits = listener.limits;
        let (name, rules) = (Arc::clone(&listener.name), Arc::clone(&listener.fields));
        let dropped = Arc::clone(&self.connections.dropped_fields);
        let client = Client::new(peer, name, Scheme::HTTP, rules, dropped);
        let client = Arc::new(client.with_limits(limits.progress, limits.header_count));
        let terms = Terms {
            limits,
            buffered: Arc::clone(&self.connections.buffered),
            windows: Arc::clone(&self.windows),
            errors: Arc::clone(&self.connections.errors),
            drain: self.stop.child_token(),
        };
        let served = connection::serve(stream, client, terms, Rc::clone(&self.proxy));
        self.tasks.spawn_local(async move {
            served.await;
            drop((admitted, place));
        });
    }
}

impl Open {
    /// Counts of so many workers.
    pub fn new(workers: usize) -> Self {
        Self {
            all: Arc::default(),
            clients: Clients::default(),
            accepted: Arc::default(),
            turned_away: Arc::default(),
            errors: Arc::default(),
            dropped_fields: Arc::default(),
            buffered: Arc::new(Workers::new(workers)),
            log: Arc::default(),
        }
    }

    /// Counts a connection to `listener`, of a trusted proxy or of a client; `None` if it is over a limit, which is logged.
    pub(crate) fn admit(
        &self,
        listener: &str,
        peer: SocketAddr,
        is_proxy: bool,
        limits: &ListenerLimits,
    ) -> Option<Admitted> {
        let admitted = self.count(peer, is_proxy, limits);
        if admitted.is_some() {
            self.accepted.fetch_add(1, Relaxed);
        } else {
            self.turned_away.fetch_add(1, Relaxed);
            if let Some(left_out) = self.log.due() {
                tracing::warn!(listener, %peer, left_out, "over the limit of connections");
            }
        }
        admitted
    }

    /// Logs a connection that the limit of open files has no room for.
    pub(crate) fn no_room(&self, listener: &str, peer: SocketAddr) {
        self.turned_away.fetch_add(1, Relaxed);
        if let Some(left_out) = self.log.due() {
            tracing::warn!(listener, %peer, left_out, "no other connection: the limit of open files is near");
        }
    }

    /// Errors on the wire that its connections were sent.
    pub(crate) fn errors(&self) -> &Arc<WireErrors> {
        &self.errors
    }

    /// Logs a failure of `listener` to accept.
    fn cannot_accept(&self, listener: &str, error: &std::io::Error) {
        if let Some(left_out) = self.log.due() {
            tracing::warn!(listener, left_out, "cannot accept: {error}");
        }
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
        let Dropped { claims, underscores } = &*self.dropped_fields;
        let [dropped_claims, dropped_underscores] = [claims, underscores].map(|count| count.load(Relaxed));
        let (open, buffered) = (self.all.load(Relaxed) as u64, self.buffered.sum(Count::get));
        let errors = self.errors.all();
        Connections { name, open, accepted, turned_away, dropped_claims, dropped_underscores, buffered, errors }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Relaxed);
    }
}
