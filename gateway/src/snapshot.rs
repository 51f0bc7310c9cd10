//! One immutable generation of the configuration, compiled: all that the data plane sees of it.
//! It has no serde types and changes nothing; `compile` makes it.

pub mod compile;
mod consumers;

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashMap, HashSet},
    ops::Deref,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use http::{HeaderName, HeaderValue, Method};
use tokio::time::Instant;

use crate::{
    access::{Access, Product},
    exchange::{Destination, Exchange, FieldRules, RequestHead},
    filter::{Chain, Failed, Filter},
    linger::LingerLimits,
    monitor::{access_log::AccessLog, record::RouteRecord, records::Records},
    openapi::Description,
    plugin::{Caller, Candidate, Handles, Instances, Outbound, States},
    portal::{Page, Portal},
    progress::Limits,
    router::{Router, Subject},
    upstream::{Endpoint, HostHeader, Service},
    worker::WorkerId,
};

/// What a path begins with that names a service.
pub const CALL: &str = "/call/";

/// One generation.
///
/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Counts from 1, one more for every configuration or plugin revision that became live.
    pub generation: u64,
    pub since: Instant,
    pub routes: Arc<[Arc<Route>]>,
    /// Finds the index of a route.
    router: Arc<Router<usize>>,
    pub listeners: Vec<Arc<Listener>>,
    /// The admin address, as the configuration has it.
    pub admin: Option<std::net::SocketAddr>,
    pub limits: GatewayLimits,
    /// Who is known by name.
    pub access: Access,
    /// Of requests that no route served.
    pub unrouted: Arc<RouteRecord>,
    pub access_log: Option<Arc<AccessLog>>,
    /// Of all routes, services and filters, those of earlier generations too.
    pub records: Arc<Records>,
    pub services: Arc<HashMap<Arc<str>, Arc<Service>>>,
    /// Filters that run before there is a route, by listener.
    entries: Arc<HashMap<Arc<str>, Arc<Chain>>>,
    /// Pages for developers, by listener.
    portals: Arc<HashMap<Arc<str>, Arc<Portal>>>,
    /// What is called from time to time.
    pub ticks: Arc<[Ticking]>,
    /// Where requests go that name a route or a service.
    named: Arc<Named>,
    /// What plugins keep; it outlives generations.
    pub states: Arc<States>,
    /// Header names that matches, rollouts and descriptions read.
    pub names_read: Arc<HashSet<HeaderName>>,
    /// Shared by every filter with the same plugin, configuration and limits.
    instances: Arc<HashMap<compile::InstancesKey, Arc<Instances>>>,
}

/// Those that descriptions know, as the field `Allow` lists them.
const METHODS: [Method; 8] = [
    Method::GET,
    Method::HEAD,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
    Method::OPTIONS,
    Method::TRACE,
];

/// A match and what follows from it; the match itself is in the router.
#[derive(Debug)]
pub struct Route {
    pub name: Arc<str>,
    pub chain: Chain,
    /// What chooses among the service's endpoints, where that is a plugin.
    pub balancer: Option<Arc<Filter>>,
    pub service: Arc<Service>,
    pub strip_prefix: Option<Box<str>>,
    pub host: HostHeader,
    pub timeout: Duration,
    pub allow_encoded_slash: bool,
    pub record: Arc<RouteRecord>,
    /// The version of an API that it is of.
    pub product: Option<Arc<Product>>,
    /// What its requests are held to.
    pub validation: Option<Arc<Validation>>,
    /// Fields of every answer on it.
    pub notices: Box<[(HeaderName, HeaderValue)]>,
}

/// A description that requests are held to.
#[derive(Debug)]
pub struct Validation {
    pub description: Arc<Description>,
    /// So many segments paths begin with that the description has without.
    pub prefix: usize,
    /// Bytes of a body that is described.
    pub body: usize,
    /// Time such a body may take to come.
    pub body_timeout: Duration,
}

/// A plugin with one configuration that is called from time to time.
#[derive(Debug)]
pub struct Ticking {
    pub filter: Arc<Filter>,
    pub every: Duration,
}

/// Routes by name, and a route to each service by its name alone; empty where no plugin chooses and no listener is for calls.
#[derive(Debug, Default)]
struct Named {
    routes: HashMap<Arc<str>, Arc<Route>>,
    services: HashMap<Arc<str>, Arc<Route>>,
    /// The same for paths that name the service, which is taken off.
    calls: HashMap<Arc<str>, Arc<Route>>,
    /// Listeners on which such paths are for services.
    listeners: HashSet<Arc<str>>,
}

/// A bound address and what holds for its connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub name: Arc<str>,
    pub address: std::net::SocketAddr,
    pub fields: Arc<FieldRules>,
    pub limits: ListenerLimits,
}

/// Bounds of the gateway as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GatewayLimits {
    /// Bytes of windows of HTTP/2 connections.
    pub http2_windows: u64,
    /// Descriptors that are not for connections of clients and to services.
    pub reserved_descriptors: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenerLimits {
    pub connections: usize,
    pub connections_per_client: usize,
    pub header_bytes: usize,
    pub header_count: usize,
    pub header_timeout: Duration,
    pub progress: Limits,
    /// Silence after which a client is probed.
    pub tcp_keepalive: Duration,
    /// Bytes of response bodies that an HTTP/2 connection may hold.
    pub response_buffer: usize,
    /// Streams of an HTTP/2 connection that may be reset before they are answered, in 10 s.
    pub stream_resets: u32,
    pub linger: LingerLimits,
}

/// The generation that is live, for one worker. Its clones are counted without touching memory that other workers write.
#[derive(Debug)]
pub struct Reader {
    live: Arc<ArcSwap<Snapshot>>,
    outbound: Option<Arc<dyn Outbound>>,
    latest: RefCell<Pinned>,
}

/// A generation pinned for one request: it stays the same to the request's end.
pub type Pinned = Rc<OfWorker>;

/// A generation, and what of it only one worker counts the uses of.
#[derive(Debug)]
pub struct OfWorker {
    snapshot: Arc<Snapshot>,
    handles: Arc<Handles>,
}

impl Snapshot {
    /// The next generation, in which only consumers or their credentials are others.
    #[must_use]
    pub fn with_access(&self, access: Access, generation: u64) -> Self {
        Self { access, generation, since: Instant::now(), ..self.clone() }
    }

    /// Connections that the limits of all listeners allow together.
    pub fn promised_connections(&self) -> u64 {
        self.listeners.iter().map(|listener| listener.limits.connections as u64).sum()
    }

    /// The filters that run before there is a route.
    pub fn entry(&self, exchange: &Exchange) -> Option<&Arc<Chain>> {
        if self.entries.is_empty() {
            return None;
        }
        self.entries.get(&exchange.client.listener)
    }

    /// The service that the path names, on a listener where it may.
    pub fn called(&self, exchange: &Exchange) -> Option<Destination> {
        if self.named.listeners.is_empty() || !self.named.listeners.contains(&exchange.client.listener) {
            return None;
        }
        let called = exchange.request.target.path().strip_prefix(CALL)?;
        let name = called.split_once('/').map_or(called, |(name, _)| name);
        Some(Destination::Call(name.to_owned()))
    }

    /// The page for developers that the path names, on a listener that has some.
    pub fn page(&self, exchange: &Exchange) -> Option<&Page> {
        if self.portals.is_empty() || ![Method::GET, Method::HEAD].contains(&exchange.request.method) {
            return None;
        }
        self.portals.get(&exchange.client.listener)?.page(exchange.request.target.path())
    }

    pub fn route(&self, exchange: &Exchange) -> Option<&Arc<Route>> {
        match &exchange.destination {
            None => self.router.find(&subject(&exchange.request)).map(|index| &self.routes[*index]),
            Some(Destination::Route(name)) => self.named.routes.get(name.as_str()),
            Some(Destination::Service(name)) => self.named.services.get(name.as_str()),
            Some(Destination::Call(name)) => self.named.calls.get(name.as_str()),
        }
    }

    /// Those that an API has for this path where it has not this one. A route of no API is a way, and does not say what there is.
    pub fn methods(&self, exchange: &Exchange) -> Vec<Method> {
        let is_of_api = |method: &Method| {
            let subject = Subject { method, ..subject(&exchange.request) };
            let found = self.router.find(&subject).and_then(|index| self.routes[*index].product.as_ref());
            found.is_some_and(|product| !product.retired)
        };
        METHODS.into_iter().filter(is_of_api).collect()
    }

    /// Versions of APIs that ask for a consumer where no filter tells of one: each request of theirs is refused.
    pub fn unusable(&self) -> BTreeSet<(&str, &str)> {
        if self.entries.values().any(|chain| chain.authenticates()) {
            return BTreeSet::new();
        }
        let routes =
            self.routes.iter().filter_map(|route| Some((route.chain.authenticates(), route.product.as_deref()?)));
        let (known, unknown): (Vec<_>, Vec<_>) = routes.partition(|(authenticates, _)| *authenticates);
        let known: BTreeSet<_> = known.iter().map(|(_, product)| (&*product.api, &*product.version)).collect();
        let closed =
            unknown.iter().map(|(_, product)| product).filter(|product| !product.anonymous && !product.retired);
        closed.map(|product| (&*product.api, &*product.version)).filter(|version| !known.contains(version)).collect()
    }

    /// Plugins whose calls end before they can see that a call of theirs took too long.
    pub fn hidden_call_timeouts(&self) -> BTreeSet<&str> {
        let hidden = self.instances().filter(|instances| instances.hides_call_timeouts());
        hidden.map(|instances| &*instances.revision().plugin).collect()
    }

    pub fn listener(&self, name: &str) -> Option<&Arc<Listener>> {
        self.listeners.iter().find(|listener| &*listener.name == name)
    }

    /// Lets go of what this worker has kept idle for too long.
    pub fn sweep(&self, worker: WorkerId) {
        for service in self.services.values() {
            for (_, endpoint) in service.table.load().all() {
                endpoint.sweep(worker);
            }
        }
    }

    /// Every pool of instances, each once.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instances>> {
        self.instances.values()
    }
}

impl Route {
    /// The endpoint that a plugin chooses, where the service has one that does.
    pub async fn endpoint(&self, caller: Caller<'_>, exchange: &mut Exchange) -> Result<Option<Arc<Endpoint>>, Failed> {
        let Some(balancer) = &self.balancer else { return Ok(None) };
        let table = self.service.table.load_full();
        if table.endpoints.is_empty() {
            return Ok(None);
        }
        let tell = |(endpoint, weight): &(&Arc<Endpoint>, &u16)| Candidate {
            address: endpoint.address,
            weight: **weight,
            in_flight: u32::try_from(endpoint.in_flight()).unwrap_or(u32::MAX),
            latency: endpoint.latency().map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX)),
        };
        let all = || table.endpoints.iter().zip(&table.weights);
        let mut up: Vec<_> = all().filter(|(endpoint, _)| endpoint.is_up()).collect();
        if up.is_empty() {
            up = all().collect();
        }
        // Boxed, or every exchange would be as large as a plugin's call.
        let chosen = Box::pin(balancer.choose(caller, exchange, up.iter().map(tell).collect())).await?;
        Ok(chosen.and_then(|number| up.get(number)).map(|(endpoint, _)| Arc::clone(endpoint)))
    }
}

impl OfWorker {
    fn new(snapshot: Arc<Snapshot>, outbound: Option<Arc<dyn Outbound>>) -> Self {
        let handles = Arc::new(Handles { consumers: Arc::new(snapshot.access.clone()), outbound });
        Self { snapshot, handles }
    }

    /// What plugins may use.
    pub fn handles(&self) -> &Arc<Handles> {
        &self.handles
    }
}

impl Deref for OfWorker {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.snapshot
    }
}

impl Reader {
    /// `outbound` makes the calls of plugins.
    pub fn new(live: Arc<ArcSwap<Snapshot>>, outbound: Option<Arc<dyn Outbound>>) -> Self {
        let latest = RefCell::new(Rc::new(OfWorker::new(live.load_full(), outbound.clone())));
        Self { live, outbound, latest }
    }

    pub fn latest(&self) -> Pinned {
        let live = self.live.load();
        let mut latest = self.latest.borrow_mut();
        if !Arc::ptr_eq(&live, &latest.snapshot) {
            *latest = Rc::new(OfWorker::new(Arc::clone(&live), self.outbound.clone()));
        }
        Rc::clone(&latest)
    }
}

fn subject(head: &RequestHead) -> Subject<'_> {
    let (path, query) = (head.target.path(), head.target.query());
    Subject { host: head.host(), path, method: &head.method, query, headers: &head.headers }
}
