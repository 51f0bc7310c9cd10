//! How fast peers are to send and to take bytes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalar::{Duration, Size};

/// Bounds on a peer while bytes pass: a client that has to send its request or to take its answer, or an endpoint that has to take a
/// request or to send its answer. Time counts only while the peer has to do something: not while a client waits for a slow endpoint, nor
/// the other way round.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Progress {
    /// Time without a byte; then the exchange ends.
    pub idle_timeout: Duration,
    /// The same for WebSockets, gRPC, and bodies of the media types `text/event-stream`, `application/x-ndjson` and
    /// `multipart/x-mixed-replace`, which have no minimum rate.
    pub stream_idle_timeout: Duration,
    /// Bytes in a second, `0B` for no minimum. Of one silence no more than `min_rate_grace` counts.
    pub min_rate: Size,
    /// Time that a peer may be behind the minimum rate; then the exchange ends.
    pub min_rate_grace: Duration,
    /// Silence of a connection after which the kernel probes the peer, at least 1s; it ends after 6 probes in a minute without an
    /// answer. For a listener, as it was when its address was bound.
    pub tcp_keepalive: Duration,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(60),
            stream_idle_timeout: Duration::from_secs(3600),
            min_rate: Size(240),
            min_rate_grace: Duration::from_secs(10),
            tcp_keepalive: Duration::from_secs(60),
        }
    }
}
