//! Facts of the connection that an exchange came on. The plugin's entry in the configuration must allow `connection`.

use crate::backend;

/// The connection of the exchange in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's address: as trusted proxies state it, or the peer's.
    pub address: String,
    /// Address of the peer: the client, or the trusted proxy nearest to the gateway.
    pub peer: String,
    /// Port of the peer.
    pub peer_port: u16,
    /// The listener's name.
    pub listener: String,
    /// `http` or `https`.
    pub scheme: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: String,
    /// The peer is a proxy that the listener trusts.
    pub trusted: bool,
}

/// The connection of the exchange in hand: to be asked for in a phase that sees a head, never while configuring.
#[must_use]
pub fn current() -> Connection {
    backend::connection()
}
