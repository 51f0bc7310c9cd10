//! The configuration as written: one serde type per resource, each key with its unit and default.
//! No behaviour here; `snapshot::compile` turns these into what runs.

mod api;
mod balance;
mod consumer;
mod forwarding;
mod limits;
mod plugin;
mod progress;
mod registry;
mod source;
mod wasm;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    api::{Api, ApiState, ApiVersion, Grant, Group, Import, Quotas, Select, Validate},
    balance::{Balance, Policy},
    consumer::{Consumer, Credential, CredentialType},
    forwarding::{ProxyHeaders, Underscores, Via},
    limits::Limits,
    plugin::{Filter, Isolation, OnError, Plugin, PluginLimits, Reach, Rollout},
    progress::Progress,
    registry::{Registry, SelfPreservation},
    source::{Consul, Dns, Records, Source},
    wasm::Wasm,
};
use super::scalar::{Address, Duration, Size};

/// A whole configuration: a file and those it includes, or what an Admin API call would make of it.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(title = "Configuration of Stile")]
pub struct Config {
    /// More files, each with `listeners`, `plugins`, `services`, `routes`, `apis`, `consumers` and `groups` of its own, which are
    /// added to those here.
    /// Relative to this file; the last part may have wildcards: `conf.d/*.yaml`.
    pub include: Vec<String>,
    /// Threads that serve traffic; without it, one per core. Fixed while the gateway runs.
    pub workers: Option<std::num::NonZeroU16>,
    /// The addresses that clients connect to.
    pub listeners: Vec<Listener>,
    /// The address of the Admin API and who may use it; without it there is none. Fixed while the gateway runs.
    pub admin: Option<Admin>,
    /// Where what comes through the Admin API is kept; without it, that lasts as long as the process. Fixed while the
    /// gateway runs.
    pub store: Option<Store>,
    /// How long exchanges in flight may take to finish when the gateway stops. Fixed while the gateway runs.
    pub grace: Duration,
    /// Detection of requests that loop through the gateway. Fixed while the gateway runs.
    pub via: Via,
    /// What the gateway as a whole may take up.
    pub limits: Limits,
    /// How long a gateway that stops waits, once exchanges have finished or were cut off, for usage, quotas and logs to be written.
    /// The rest is lost if a disk or a reader hangs. Fixed while the gateway runs.
    pub flush_timeout: Duration,
    /// The gateway's own log, on standard error. Fixed while the gateway runs.
    pub log: Log,
    /// One line per exchange; without it, none.
    pub access_log: Option<AccessLog>,
    /// What `/metrics` counts.
    pub metrics: Metrics,
    /// Endpoints that announce themselves through the Admin API.
    pub registry: Registry,
    /// Bounds of the WebAssembly engine, which all plugins share. Fixed while the gateway runs.
    pub wasm: Wasm,
    /// The WebAssembly modules that routes may use as filters.
    pub plugins: Vec<Plugin>,
    /// The groups of servers that requests are forwarded to.
    pub services: Vec<Service>,
    /// Which requests go where, and through which filters.
    pub routes: Vec<Route>,
    /// What is offered to consumers: versions of routes, each with its life cycle.
    pub apis: Vec<Api>,
    /// Clients that are known by name.
    pub consumers: Vec<Consumer>,
    /// What consumers of a group may use.
    pub groups: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    /// Unique among listeners.
    pub name: String,
    /// Address and port to bind; port 0 takes a free one.
    #[schemars(with = "Address")]
    pub address: SocketAddr,
    /// Networks of proxies whose `Forwarded` and `X-Forwarded-*` are believed and added to; anybody else's are dropped.
    #[serde(default)]
    pub trusted: Vec<String>,
    /// The fields of trusted proxies that count where both families come. The other family is written anew.
    #[serde(default)]
    pub proxy_headers: ProxyHeaders,
    /// Treatment of request fields whose names have `_`, which many servers take for `-`.
    #[serde(default)]
    pub underscores: Underscores,
    /// Run before a route is chosen, and may choose it; in the order they run on a request.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Let services be called by name, without a route: `/call/SERVICE/PATH` asks SERVICE for `/PATH`. No route sees such a path then.
    #[serde(default)]
    pub call: bool,
    /// Show APIs to those who call them, with their descriptions and a form to try them; without it, there are no such pages.
    #[serde(default)]
    pub portal: Option<Portal>,
    /// What its clients may take up.
    #[serde(default)]
    pub limits: ListenerLimits,
}

/// Pages for developers.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Portal {
    /// Where they are: a plain path. What is asked for there and is no page is for routes.
    pub path: String,
    /// What people see above them.
    pub title: String,
    /// Which APIs they are of, those versions that are published or deprecated; without any, all APIs.
    pub apis: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Open connections; one more is closed at once.
    pub connections: u32,
    /// Open connections from one client, which is an IPv4 address or the /64 network of an IPv6 address; one more is closed at once.
    /// Trusted proxies are exempt: their connections are those of many clients.
    pub connections_per_client: u32,
    /// Bytes of a request head, at least 8KiB.
    pub header_bytes: Size,
    /// Fields in a request head, at most 10000.
    #[schemars(range(min = 1, max = 10000))]
    pub header_count: u16,
    /// Time a client may take to send a request head, the wait of an idle connection included.
    pub header_timeout: Duration,
    /// How fast clients send their requests and take their answers.
    pub progress: Progress,
    /// Bytes of response bodies that one HTTP/2 connection may hold until its client has taken them, at least 512KiB. Each of
    /// its 256 streams has 1 KiB of them for itself; one stream alone may hold all the rest.
    pub response_buffer: Size,
    /// Streams of one HTTP/2 connection that may be reset before their answer begins, in 10 s: by the client, or for an error of
    /// it. More end the connection if they are more than half of its streams in that time.
    pub stream_resets: u32,
    /// Bytes that are read on, and not used, after a connection has ended while its client was still sending: a client that
    /// sends a large body before it reads gets its answer that way. 0 reads nothing.
    pub linger_bytes: Size,
    /// For how long such bytes are read, as long as no 2 s pass without any.
    pub linger_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Admin {
    /// Address and port to bind; port 0 takes a free one.
    #[schemars(with = "Address")]
    pub address: SocketAddr,
    /// Who may use it; `/healthz`, `/readyz` and `/metrics` need none.
    #[serde(default)]
    pub tokens: Vec<Token>,
    /// What its clients may take up; keys of HTTP/2 mean nothing here.
    #[serde(default)]
    pub limits: ListenerLimits,
    /// Time for which the event loop of a worker may not turn before `/healthz` fails and names the worker.
    #[serde(default = "ten_seconds")]
    pub worker_timeout: Duration,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// Who uses it, as logs name them.
    pub name: String,
    /// What its bearer may do.
    pub role: Role,
    /// The bearer token itself, at least 8 characters: `${NAME}` keeps it out of the file.
    #[schemars(length(min = 8))]
    pub secret: String,
    /// Of the role `service`: the services whose endpoints it may announce and drain; `*` is all.
    #[serde(default)]
    pub services: Vec<String>,
    /// Of the role `service`: the services that it may find beside those; `*` is all.
    #[serde(default)]
    pub discover: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything.
    Admin,
    /// Plugins, routes and consumers, beside reading.
    Publisher,
    /// Reading only.
    Viewer,
    /// Nothing but announcing endpoints of its services, and finding those of others.
    Service,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// A folder, made if it is missing; relative to the file.
    pub path: PathBuf,
    /// Seals secrets that must be stored (those of `hmac` credentials), at least 16 characters: `${NAME}` keeps it out of the
    /// file. Without it there can be none.
    #[schemars(length(min = 16))]
    pub key: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// Bytes of lines that may wait for standard error to take them; a line more is dropped and counted.
    pub buffer: Size,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AccessLog {
    /// Appended to, made if it is missing, and opened anew once it is renamed or removed; relative to the file that names
    /// it. Without it, standard output.
    pub file: Option<PathBuf>,
    /// `json`, or a text with fields in braces: `{client} "{method} {path}" {status}`.
    pub format: String,
    /// Fields of JSON lines, `header:NAME` is one of the request's; empty is all but those: time, request_id, trace_id,
    /// client, peer, peer_port, listener, protocol, method, host, path, query, status, route, service, endpoint, received_bytes,
    /// sent_bytes, answered_ms, duration_ms, blame, cause. What an exchange does not have is left out, and `-` in a text.
    pub fields: Vec<String>,
    /// Query parameters and header fields whose values are not written.
    pub redact: Vec<String>,
    /// Bytes of lines that each worker may have waiting for the disk; a line more is dropped and counted.
    pub buffer: Size,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Whether requests are counted; what is counted begins anew whenever this changes.
    pub enabled: bool,
    /// Sets of label values, such as a route with its service, of each metric; more are counted together as `other`.
    pub label_sets: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// How an endpoint is chosen.
    #[serde(default)]
    pub balance: Balance,
    /// Its servers; more may announce themselves through the Admin API.
    #[serde(default)]
    pub endpoints: Vec<Endpoint>,
    /// Where more endpoints of it are known from.
    #[serde(default)]
    pub sources: Vec<Source>,
    /// Run on every request to it, after those of the route if there is one.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// Time to open a connection to an endpoint; the default leaves time for one lost SYN, which is sent again after 1 s. An endpoint
    /// that takes no connection is passed over for 1 s, twice as long each time it fails after such a pause, 30 s at most; the
    /// request, of which it has had nothing, goes to another endpoint, three in all.
    #[serde(default = "two_seconds")]
    pub connect_timeout: Duration,
    /// Unused connections kept per endpoint and worker.
    #[serde(default = "sixty_four")]
    pub idle_connections: u16,
    /// Idle time after which a connection is not used again.
    #[serde(default = "sixty_seconds")]
    pub idle_timeout: Duration,
    /// Fields in the head of an answer, at most 10000; more are a 502.
    #[serde(default = "one_hundred")]
    #[schemars(range(min = 1, max = 10000))]
    pub header_count: u16,
    /// Bytes of the head of an answer, at least 8KiB; more are a 502.
    #[serde(default = "four_hundred_kib")]
    pub header_bytes: Size,
    /// Interim responses (1xx) that an endpoint may send before it answers a request; more are a 502.
    #[serde(default = "thirty_two")]
    pub interim_responses: u16,
    /// How fast endpoints take requests and send their answers.
    #[serde(default)]
    pub progress: Progress,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Address and port of the server.
    #[schemars(with = "Address")]
    pub address: SocketAddr,
    /// Share of the traffic under `weighted`, 0 to 65535; 0 takes none.
    #[serde(default = "one")]
    pub weight: u16,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Unique among routes.
    pub name: String,
    /// Which requests it is for; without it, every one.
    #[serde(rename = "match", default)]
    pub matches: Match,
    /// In the order they run on a request; responses meet them in reverse.
    #[serde(default)]
    pub filters: Vec<Filter>,
    /// The service that answers.
    pub service: String,
    /// What changes before the request goes on to the service.
    #[serde(default)]
    pub rewrite: Rewrite,
    /// What the service sees as host.
    #[serde(default)]
    pub host: HostHeader,
    /// From the end of the request to the head of the answer, filters excluded. While the body of a request is under way, only
    /// `progress` bounds it.
    #[serde(default = "thirty_seconds")]
    pub timeout: Duration,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// `api.example.com`, or `*.example.com` for any name below it; empty is every host.
    pub hosts: Vec<String>,
    /// `/users`, `/users/*`, `/users/{id}` or `~REGEX`; absent is every path, tried last.
    pub path: Option<String>,
    /// Such as `GET`, in upper case; empty is every method.
    pub methods: Vec<String>,
    /// Header names, compared without case, each with a value or `~REGEX`; any field line of the name may match.
    pub headers: BTreeMap<String, String>,
    /// Names of query parameters, each with a value or `~REGEX`, both decoded; any parameter of the name may match.
    pub query: BTreeMap<String, String>,
    /// Names of cookies, each with a value or `~REGEX`; any cookie of the name may match.
    pub cookies: BTreeMap<String, String>,
    /// Which of several matching regexes is tried first: the larger.
    pub priority: i32,
    /// Let an encoded slash or NUL in the path pass instead of answering 400.
    pub allow_encoded_slash: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// Taken off the front of the path, whole segments only.
    pub strip_prefix: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HostHeader {
    /// The client's.
    #[default]
    Client,
    /// The endpoint's address.
    Upstream,
}

impl Default for Portal {
    fn default() -> Self {
        Self { path: "/developers".to_owned(), title: "APIs".to_owned(), apis: Vec::new() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            workers: None,
            listeners: Vec::new(),
            admin: None,
            store: None,
            grace: thirty_seconds(),
            via: Via::default(),
            limits: Limits::default(),
            flush_timeout: five_seconds(),
            log: Log::default(),
            access_log: None,
            metrics: Metrics::default(),
            registry: Registry::default(),
            wasm: Wasm::default(),
            plugins: Vec::new(),
            services: Vec::new(),
            routes: Vec::new(),
            apis: Vec::new(),
            consumers: Vec::new(),
            groups: Vec::new(),
        }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 65536,
            connections_per_client: 4096,
            header_bytes: Size::kib(64),
            header_count: 100,
            header_timeout: sixty_seconds(),
            progress: Progress::default(),
            response_buffer: Size::mib(1),
            stream_resets: 100,
            linger_bytes: Size::mib(256),
            linger_timeout: thirty_seconds(),
        }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { buffer: Size::mib(1) }
    }
}

impl Default for AccessLog {
    fn default() -> Self {
        const SECRETS: [&str; 9] = [
            "authorization",
            "proxy-authorization",
            "cookie",
            "x-api-key",
            "api_key",
            "access_token",
            "token",
            "password",
            "secret",
        ];
        Self {
            file: None,
            format: "json".to_owned(),
            fields: Vec::new(),
            redact: SECRETS.map(str::to_owned).to_vec(),
            buffer: Size::mib(1),
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self { enabled: true, label_sets: 1000 }
    }
}

fn one() -> u16 {
    1
}

fn thirty_two() -> u16 {
    32
}

fn sixty_four() -> u16 {
    64
}

fn one_hundred() -> u16 {
    100
}

fn four_hundred_kib() -> Size {
    Size::kib(400)
}

fn two_seconds() -> Duration {
    Duration::from_secs(2)
}

/// That of a route.
pub fn default_timeout() -> Duration {
    thirty_seconds()
}

fn five_seconds() -> Duration {
    Duration::from_secs(5)
}

fn ten_seconds() -> Duration {
    Duration::from_secs(10)
}

fn thirty_seconds() -> Duration {
    Duration::from_secs(30)
}

fn sixty_seconds() -> Duration {
    Duration::from_secs(60)
}
