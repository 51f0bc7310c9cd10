//! Which addresses are bound: new ones are bound before a generation goes live, dropped ones stop accepting after.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, PoisonError},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::Share;
use crate::{monitor::record::Connections, snapshot::Listener, socket::set_up};

/// Connections that the kernel queues per socket.
const BACKLOG: i32 = 1024;

/// The listeners of a gateway, and the workers that serve them.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<UnboundedSender<Share>>,
    open: Mutex<BTreeMap<Arc<str>, Entry>>,
    stop: CancellationToken,
}

/// Sockets bound for a generation that is not live yet.
#[derive(Debug, Default)]
pub struct Bound(Vec<(Arc<Listener>, Entry, Vec<TcpListener>)>);

#[derive(Debug)]
struct Entry {
    wanted: SocketAddr,
    address: SocketAddr,
    stop: CancellationToken,
    connections: super::Open,
}

/// Why a listener cannot be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {error}")]
pub struct BindError {
    pub listener: Arc<str>,
    address: SocketAddr,
    error: std::io::Error,
}

impl Listeners {
    /// Each worker gets a share of every listener through its sender. `stop` ends the accepting on all of them.
    pub fn new(workers: Vec<UnboundedSender<Share>>, stop: CancellationToken) -> Self {
        Self { workers, open: Mutex::default(), stop }
    }

    /// Binds what is wanted and not open yet.
    ///
    /// # Errors
    ///
    /// One per listener that cannot be bound; those that can are closed again.
    pub fn bind(&self, wanted: &[Arc<Listener>]) -> Result<Bound, Vec<BindError>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let new = wanted
            .iter()
            .filter(|listener| open.get(&listener.name).is_none_or(|open| open.wanted != listener.address));
        let (mut bound, mut errors) = (Bound::default(), Vec::new());
        for listener in new {
            let is_ours = open.values().any(|entry| entry.address.port() == listener.address.port());
            match self.bind_one(listener, is_ours) {
                Ok((address, sockets)) => {
                    let stop = self.stop.child_token();
                    let connections = super::Open::default();
                    let entry = Entry { wanted: listener.address, address, stop, connections };
                    bound.0.push((Arc::clone(listener), entry, sockets));
                }
                Err(error) => {
                    let (listener, address) = (Arc::clone(&listener.name), listener.address);
                    errors.push(BindError { listener, address, error });
                }
            }
        }
        if errors.is_empty() { Ok(bound) } else { Err(errors) }
    }

    /// Hands what was bound to the workers and stops what is no longer wanted.
    pub fn open(&self, bound: Bound, wanted: &[Arc<Listener>]) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (listener, entry, sockets) in bound.0 {
            tracing::info!(listener = &*listener.name, address = %entry.address, "listening");
            for (worker, socket) in self.workers.iter().zip(sockets) {
                let (listener, connections, stop) =
                    (Arc::clone(&listener), entry.connections.clone(), entry.stop.clone());
                // A worker that is gone is stopping, and so is everything.
                let _ = worker.send(Share { listener, socket, connections, stop });
            }
            if let Some(replaced) = open.insert(Arc::clone(&listener.name), entry) {
                replaced.stop.cancel();
            }
        }
        open.retain(|name, entry| {
            let keep = wanted.iter().any(|listener| listener.name == *name);
            if !keep {
                entry.stop.cancel();
            }
            keep
        });
    }

    /// The address of each open listener, with the port that was given to it.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(name, entry)| (Arc::clone(name), entry.address)).collect()
    }

    /// How the connections of each stand.
    pub fn connections(&self) -> Vec<Connections> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.iter().map(|(name, entry)| entry.connections.told(Arc::clone(name))).collect()
    }

    /// One socket per worker, so that the kernel spreads the connections and no worker wakes another.
    ///
    /// With SO_REUSEPORT alone a second gateway would silently share the port with the first, so it is tried without,
    /// unless the port `is_ours` under another name or address.
    fn bind_one(&self, listener: &Listener, is_ours: bool) -> std::io::Result<(SocketAddr, Vec<TcpListener>)> {
        let wanted = listener.address;
        if wanted.port() != 0 && !is_ours {
            drop(socket(wanted, false)?);
        }
        let first = socket(wanted, true)?;
        let address = first.local_addr()?;
        let mut sockets = vec![first];
        for _ in 1..self.workers.len() {
            sockets.push(socket(address, true)?);
        }
        for socket in &sockets {
            let socket = SockRef::from(socket);
            set_up(&socket, listener.limits.tcp_keepalive)?;
            socket.listen(BACKLOG)?;
        }
        Ok((address, sockets))
    }
}

fn socket(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}
