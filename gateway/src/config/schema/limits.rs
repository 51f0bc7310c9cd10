//! Bounds of the gateway as a whole. It has no behaviour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalar::Size;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of request bodies that clients of HTTP/2 may send ahead, over all connections. A connection takes 16448 KiB of it:
    /// a window of 64 KiB for each of its 256 streams, and one more. Once they are used up, or a client address has a quarter of
    /// them, a new connection gets 15 streams with windows of 4 KiB, 64 KiB in all, which do not count.
    pub http2_windows: Size,
    /// Open files that are neither connections of clients nor to services: files, watches, and with at most one half of them the
    /// admin address. Of the rest of what the process may open, connections of clients get one half, and connections to services
    /// the other. The admin address may have 8 connections at least, and further ones while less than half of the places of clients
    /// are taken; for it the number at the start of the process holds.
    pub reserved_descriptors: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { http2_windows: Size::mib(1024), reserved_descriptors: 64 }
    }
}
