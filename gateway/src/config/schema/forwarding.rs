//! Keys about fields in which clients and proxies describe themselves, and about requests that loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ProxyHeaders {
    /// `X-Forwarded-For`, `X-Forwarded-Host` and `X-Forwarded-Proto`.
    #[default]
    XForwarded,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Underscores {
    /// A field is dropped if the gateway or a filter reads, sets or removes the name with `-` in place of each `_`.
    #[default]
    Reserved,
    /// All are dropped.
    Drop,
    /// All pass.
    Allow,
}

/// The name of the gateway in the field `Via` of requests, and the bound beyond which a request is taken for a loop.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Via {
    /// The name of the gateway, a token such as `edge-1`. Replicas of one gateway have the same name; without it, each start draws
    /// one at random.
    pub pseudonym: Option<String>,
    /// Passes of one request through the gateway, calls of its plugins included; one more is answered 508.
    #[schemars(range(min = 1))]
    pub max_passes: u16,
}

impl Default for Via {
    fn default() -> Self {
        Self { pseudonym: None, max_passes: 8 }
    }
}
