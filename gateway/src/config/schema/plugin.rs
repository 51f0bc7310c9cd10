//! Plugins and their use: where a module comes from, what it may do, what it may take up. No behaviour here.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::scalar::{Duration, PublicKey, Sha256, Size, Url};

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plugin {
    /// Unique among plugins.
    pub name: String,
    /// The module, relative to the file that names it, watched for changes. Without it and `url` the plugin is pushed.
    pub file: Option<PathBuf>,
    /// Where the module is fetched from when it is not known yet.
    #[schemars(with = "Option<Url>")]
    pub url: Option<String>,
    /// Digest of the module at `url`: 64 hexadecimal digits.
    #[schemars(with = "Option<Sha256>")]
    pub sha256: Option<String>,
    /// Ed25519 keys, 32 bytes in base64: with some, a module runs only if it came with a signature by one of them.
    #[serde(default)]
    #[schemars(with = "Vec<PublicKey>")]
    pub signed_by: Vec<String>,
    /// Capabilities beyond `log`, `clock` and `random`, which need no grant.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Whom it may call through `http-client`.
    #[serde(default)]
    pub http: Reach,
    /// What one call, or one instance, may take up.
    #[serde(default)]
    pub limits: PluginLimits,
    /// What an exchange gets when a filter fails.
    #[serde(default)]
    pub on_error: OnError,
    /// How long an instance lives.
    #[serde(default)]
    pub isolation: Isolation,
    /// How a new revision comes to all exchanges, or is taken back.
    #[serde(default)]
    pub rollout: Rollout,
    /// How often a plugin with the phase `tick` is called, for each of its configurations.
    #[serde(default = "ten_seconds")]
    pub tick: Duration,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// What exchanges have in common that get the same revision: `client`, its address as trusted proxies state it, or `header:NAME`.
    pub key: String,
    /// Failures that a new revision may show before the one before it is live again by itself.
    pub failures: u32,
    /// The time within which they count, and after which a revision that all exchanges get is known to be good.
    pub within: Duration,
    /// Revisions that are kept; at least 2.
    #[schemars(range(min = 2))]
    pub keep: u16,
}

/// Whom a plugin may call.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Reach {
    /// Names of services.
    pub services: Vec<String>,
    /// Such as `https://idp.example.com` or `http://10.0.0.1:8080`.
    pub hosts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginLimits {
    /// CPU time of the guest per filter and exchange, waits excluded.
    pub deadline: Duration,
    /// Wall time of one call, waits included. In a stream phase it begins anew after each wait for the body.
    pub timeout: Duration,
    /// Linear memory of one instance.
    pub memory: Size,
    /// Elements in the tables of one instance.
    pub table_elements: u32,
    /// Instances of one filter over all workers.
    #[schemars(range(min = 1))]
    pub instances: u32,
    /// Bodies that may pass through one filter at a time (`request-stream` and `response-stream`), each with an instance of
    /// its own for as long as it passes; without it, half of `instances`.
    #[schemars(range(min = 1))]
    pub streams: Option<u32>,
    /// Percent of the bodies that may pass through one filter at a time which one client may have; at least one body. A client is an
    /// IPv4 address, or the /64 network of an IPv6 address.
    #[schemars(range(min = 1, max = 100))]
    pub streams_per_client: u8,
    /// How long a call waits for an instance when all are busy, and a body for its turn when `streams` bodies pass.
    pub instance_wait: Duration,
    /// A body that the plugin wants as a whole; a larger one of a request is answered 413.
    pub body: Size,
    /// Time such a body may take to come.
    pub body_timeout: Duration,
    /// What the plugin remembers through `key-value`, all of it.
    pub key_value: Size,
    /// Sets of labels of the plugin's own metrics.
    pub metrics: u32,
    /// Log lines a second, of all instances together and of failures of the plugin; the rest is dropped and counted.
    pub log_lines: u32,
    /// Calls that one phase may make.
    pub calls: u32,
    /// Time that each may take, to the last byte of its answer. Below `timeout`, or the plugin is ended before it sees that a call
    /// took too long.
    pub call_timeout: Duration,
    /// A body of a call, or of its answer.
    pub call_body: Size,
    /// What one call from or to the plugin may copy out of it beside a body: fields, texts, values.
    pub copies: Size,
    /// Handles, such as calls that are under way, that one instance may hold at a time.
    pub handles: u32,
}

/// What an exchange gets when a filter fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnError {
    /// A 503.
    #[default]
    Closed,
    /// The next filter, as if this one were not there.
    Open,
}

/// How long an instance lives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// For many exchanges, one at a time.
    #[default]
    Pooled,
    /// For one call.
    Request,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Name of a plugin.
    pub plugin: String,
    /// Handed to the plugin as it is; the plugin says what it takes.
    #[serde(default)]
    pub config: Value,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { key: "client".to_owned(), failures: 10, within: Duration::from_secs(600), keep: 20 }
    }
}

impl Default for PluginLimits {
    fn default() -> Self {
        Self {
            deadline: Duration::from_millis(5),
            timeout: Duration::from_secs(1),
            memory: Size::mib(16),
            table_elements: 10_000,
            instances: 1024,
            streams: None,
            streams_per_client: 25,
            instance_wait: Duration::from_millis(100),
            body: Size::mib(1),
            body_timeout: Duration::from_secs(30),
            key_value: Size::mib(16),
            metrics: 100,
            log_lines: 100,
            calls: 16,
            call_timeout: Duration::from_millis(500),
            call_body: Size::mib(1),
            copies: Size::mib(2),
            handles: 1000,
        }
    }
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}
