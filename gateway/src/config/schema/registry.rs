//! What a gateway keeps of endpoints that announce themselves. It has no behaviour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Registry {
    /// Registrations that one service may have.
    pub endpoints_per_service: u32,
    /// When registrations stay although no heartbeat comes.
    pub self_preservation: SelfPreservation,
}

/// A network that is cut between the servers and the gateway looks like all of them dying at once. While so many are silent,
/// none is taken out of service for it; one that takes no connection is passed over all the same. When the others' heartbeats
/// have come through, those that are silent have their whole ttl once more.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SelfPreservation {
    /// More than this many percent of all registrations have had no heartbeat for two thirds of their ttl; 100 turns it off.
    #[schemars(range(max = 100))]
    pub above_percent: u8,
    /// With fewer registrations than this, each ends when its ttl is over.
    pub least: u32,
}

impl Default for Registry {
    fn default() -> Self {
        Self { endpoints_per_service: 10_000, self_preservation: SelfPreservation::default() }
    }
}

impl Default for SelfPreservation {
    fn default() -> Self {
        Self { above_percent: 50, least: 10 }
    }
}
