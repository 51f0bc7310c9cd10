//! Facts of the connection that an exchange came on. The plugin's entry in the configuration must allow `connection`.

use crate::backend;

/// The connection of the exchange in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The client's address, as the listener saw it.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// The listener's name.
    pub listener: String,
    /// `http` or `https`.
    pub scheme: String,
    /// `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    pub protocol: String,
    /// The listener believes what the client says of those before it.
    pub trusted: bool,
}

/// The connection of the exchange in hand: to be asked for in a phase that sees a head, never while configuring.
#[must_use]
pub fn current() -> Connection {
    backend::connection()
}
