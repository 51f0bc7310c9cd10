//! Bounds of the gateway as a whole. It has no behaviour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalar::Size;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of request bodies that clients of HTTP/2 may send ahead, over all connections. A connection takes 16448 KiB of it:
    /// a window of 64 KiB for each of its 256 streams, and one more. Once they are used up, a new connection gets 15 streams
    /// with windows of 4 KiB, 64 KiB in all, which do not count.
    pub http2_windows: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self { http2_windows: Size::mib(1024) }
    }
}
