//! Where a service's endpoints are known from beside its list. It has no behaviour.

use std::{net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalar::{Address, Url};

/// One of `file`, `dns` and `consul`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Source {
    /// A file with a list of endpoints in YAML or JSON, each with `address` and, if it likes, `id`, `weight` and `metadata`; looked at
    /// every second. Relative to the file that names it.
    pub file: Option<PathBuf>,
    /// Records of a name, asked for again when their TTL is over.
    pub dns: Option<Dns>,
    /// The instances of a service that pass their checks, as Consul's HTTP API tells them.
    pub consul: Option<Consul>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dns {
    /// The name, such as `users.internal`; for `srv` one such as `_users._tcp.internal`.
    pub name: String,
    /// Which records.
    #[serde(default)]
    pub records: Records,
    /// The port of each address; `srv` records have their own.
    #[serde(default)]
    pub port: Option<u16>,
    /// Who is asked; without it, those of the machine.
    #[serde(default)]
    #[schemars(with = "Vec<Address>")]
    pub servers: Vec<SocketAddr>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Records {
    /// A and AAAA.
    #[default]
    Addresses,
    /// SRV, of the lowest priority that has addresses, with their weights.
    Srv,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Consul {
    /// The agent, such as `http://127.0.0.1:8500`.
    #[schemars(with = "Url")]
    pub url: String,
    /// The name of the service there.
    pub service: String,
    /// Instances with this tag alone.
    #[serde(default)]
    pub tag: Option<String>,
    /// Sent as `X-Consul-Token`: `${NAME}` keeps it out of the file.
    #[serde(default)]
    pub token: Option<String>,
}
