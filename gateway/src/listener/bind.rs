//! Which addresses are bound: new ones are bound before a generation goes live, dropped ones stop accepting after.

use std::{
    collections::BTreeMap,
    net::{SocketAddr, TcpListener, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::sync::mpsc::UnboundedSender;
use tokio_util::sync::CancellationToken;

use super::Share;
use crate::{connection::Windows, descriptors::Room, monitor::record::Connections, snapshot::Listener, socket::set_up};

/// Connections that the kernel queues per socket.
const BACKLOG: i32 = 1024;

/// The listeners of a gateway, and the workers that serve them.
#[derive(Debug)]
pub struct Listeners {
    workers: Vec<UnboundedSender<Share>>,
    open: Mutex<BTreeMap<Arc<str>, Entry>>,
    windows: Arc<Windows>,
    room: Arc<Room>,
    admin: super::Open,
    admin_address: Option<SocketAddr>,
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

impl Bound {
    fn has(&self, wanted: &Listener) -> bool {
        self.0.iter().any(|(bound, ..)| bound.name == wanted.name && bound.address == wanted.address)
    }
}

impl Listeners {
    /// Each worker gets a share of every listener through its sender. `stop` ends the accepting on all of them.
    pub fn new(
        workers: Vec<UnboundedSender<Share>>,
        admin_address: Option<SocketAddr>,
        stop: CancellationToken,
    ) -> Self {
        let (room, admin) = (Arc::new(Room::measure()), super::Open::new(0));
        Self { workers, open: Mutex::default(), windows: Arc::default(), room, admin, admin_address, stop }
    }

    /// Binds what is wanted, not open yet and not `bound` before.
    ///
    /// # Errors
    ///
    /// One per listener that cannot be bound; those that can are closed again.
    pub fn bind(&self, mut bound: Bound, wanted: &[Arc<Listener>]) -> Result<Bound, Vec<BindError>> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut errors = Vec::new();
        let new: Vec<_> = wanted
            .iter()
            .filter(|listener| open.get(&listener.name).is_none_or(|open| open.wanted != listener.address))
            .filter(|listener| !bound.has(listener))
            .collect();
        for listener in new {
            let is_ours = open.values().any(|entry| entry.address.port() == listener.address.port());
            match self.bind_one(listener, is_ours) {
                Ok((address, sockets)) => {
                    tracing::debug!(listener = &*listener.name, %address, "bound");
                    let stop = self.stop.child_token();
                    let connections = super::Open::new(self.workers.len());
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
                let share = Share {
                    listener: Arc::clone(&listener),
                    socket,
                    connections: entry.connections.clone(),
                    windows: Arc::clone(&self.windows),
                    room: Arc::clone(&self.room),
                    stop: entry.stop.clone(),
                };
                // A worker that is gone is stopping, and so is everything.
                let _ = worker.send(share);
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

    /// Says whether a connection to this address reaches a listener or the admin address.
    pub fn is_own(&self, address: SocketAddr) -> bool {
        let listeners = self.addresses().into_iter().map(|(_, bound)| bound);
        listeners.chain(self.admin_address).any(|bound| reaches(bound, address))
    }

    /// Those of the admin address, which is bound elsewhere.
    pub fn admin(&self) -> &super::Open {
        &self.admin
    }

    /// Room for connections of clients, those of the admin address included.
    pub fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Bytes of windows that HTTP/2 connections have been given.
    pub fn windows(&self) -> u64 {
        self.windows.given()
    }

    /// How the connections of each stand.
    pub fn connections(&self) -> Vec<Connections> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let admin = self.admin.told("admin".into());
        open.iter().map(|(name, entry)| entry.connections.told(Arc::clone(name))).chain([admin]).collect()
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

/// Says whether a connection to `target` reaches a socket that is bound to `bound`.
pub fn reaches(bound: SocketAddr, target: SocketAddr) -> bool {
    let (at, to) = (bound.ip().to_canonical(), target.ip().to_canonical());
    // Connecting to "any address" reaches this machine.
    let is_local = || to.is_loopback() || to.is_unspecified() || UdpSocket::bind((to, 0)).is_ok();
    let is_there = at == to || to.is_unspecified() && at.is_loopback() || at.is_unspecified() && is_local();
    bound.port() == target.port() && bound.port() != 0 && is_there && (at.is_ipv6() || to.is_ipv4())
}

fn socket(address: SocketAddr, shared: bool) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::reaches;

    #[test]
    fn own_addresses_are_known() {
        for (bound, target, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("127.0.0.1:80", "0.0.0.0:80", true),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80", true),
            ("0.0.0.0:80", "127.0.0.9:80", true),
            ("0.0.0.0:80", "192.0.2.1:80", false),
            ("0.0.0.0:80", "[::1]:80", false),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (bound, target) = (bound.parse().expect(bound), target.parse().expect(target));
            assert_eq!(reaches(bound, target), expected, "{target} reaches {bound}");
        }
    }
}
