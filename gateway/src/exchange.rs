//! One request and its response in flight: what every stage reads and edits.
//! A leaf: it knows no stage, no configuration and no plugin.

pub mod body;
pub mod canonical;
pub mod clients;
mod forwarded;
pub mod framing;
pub mod headers;
pub mod id;
mod names;
/// What filters may write, in one text with the SDK's native tests, and the form of paths that they share.
#[path = "../../plugin-sdk/src/edits.rs"]
pub mod edits;
#[path = "../../plugin-sdk/src/path.rs"]
pub mod path;
pub mod query;
pub mod representation;
pub mod trailers;
pub mod via;

use std::{
    mem,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crossbeam_utils::CachePadded;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    uri::{Authority, PathAndQuery, Scheme},
};

pub use body::{Body, BodyError};
pub use canonical::Refusal;
pub use forwarded::{Family, FieldRules};
pub use id::RequestId;
pub use names::{Dropped, NameGuard, Underscores, is_claim};
pub use via::{Passes, Via};

use crate::progress::{Limits, Peer};

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One request and its response. Bodies are not part of it: they stream past.
#[derive(Debug)]
pub struct Exchange {
    pub id: RequestId,
    pub client: Arc<Client>,
    /// The address of the client as trusted proxies state it; `None` where the peer is the client.
    pub forwarded_for: Option<IpAddr>,
    /// The `Via` that it came with and the gateway's own entry; `None` where that is the only one.
    pub via: Option<HeaderValue>,
    /// The client's `traceparent`, which goes on to the service.
    pub trace: Option<HeaderValue>,
    pub request: RequestHead,
    /// The client asked for the head of the answer alone, whatever a filter has made of the method since.
    pub head_only: bool,
    /// The path came with an encoded slash, backslash or NUL, which only some routes allow.
    pub encoded_slash: bool,
    /// Empty until there is one.
    pub response: ResponseHead,
    /// Whom it comes from, once an authenticator has told.
    pub consumer: Option<Arc<Consumer>>,
    /// Where a filter has sent it, in the place of what the routes' matches say.
    pub destination: Option<Destination>,
    /// One slot per filter, those of the listener before those of the route.
    pub filters: Vec<FilterSlot>,
    /// Fields that the gateway adds to the answer, whoever makes it.
    pub notices: Vec<(HeaderName, HeaderValue)>,
}

/// The peer of a connection, as the listener accepted it: a client, or the trusted proxy nearest to the gateway.
#[derive(Debug)]
pub struct Client {
    /// Address and port of the peer; an IPv4 address that was mapped to IPv6 is IPv4 again.
    pub address: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    pub scheme: Scheme,
    /// Its connection, which it is held to take answers on.
    pub peer: Arc<Peer>,
    /// The peer is a trusted proxy.
    pub trusted: bool,
    /// The rules of the listener.
    rules: Arc<FieldRules>,
    /// Counters of the listener.
    pub dropped: Arc<Dropped>,
    /// Header fields that a request of it may have.
    pub header_count: usize,
    told: headers::Told,
}

#[derive(Debug, Clone)]
pub struct RequestHead {
    pub method: Method,
    /// The path, normalised, and the query as the client wrote it.
    pub target: PathAndQuery,
    /// The host asked for; absent only in HTTP/1.0.
    pub authority: Option<Authority>,
    pub version: Version,
    /// Set if the request asks for a WebSocket. The gateway writes the fields that ask for it, which belong to one connection.
    pub websocket: bool,
    /// Set if a field's name has `_`, or trailers may follow.
    pub guard: Option<Box<NameGuard>>,
    /// Its body may rest for long, by its media type.
    pub streams: bool,
    pub headers: HeaderMap,
}

#[derive(Debug, Clone, Default)]
pub struct ResponseHead {
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// What the client asked for, before the route and filters made something else of it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: Method,
    /// The path, normalised, and the query.
    pub target: PathAndQuery,
}

/// A client that is known by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    pub name: String,
    pub groups: Vec<String>,
    /// The id of the credential that was presented.
    pub credential: String,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// The route of this name.
    Route(String),
    /// The service of this name, without a route.
    Service(String),
    /// The same, by a path that says so: what stands before the service's own path is taken off.
    Call(String),
}

/// Held by an exchange as long as it is on a revision of a plugin. Its count is on cache lines of its own.
pub type Present = Arc<CachePadded<()>>;

/// What one filter leaves behind on one exchange.
#[derive(Debug, Clone, Default)]
pub struct FilterSlot {
    /// Its request phase ended well and asked for more, so its response phase is due.
    pub passed: bool,
    /// Its verdict was `done`: no later phase of it is due, the log's included.
    pub done: bool,
    /// Bytes from its earlier phases for its later ones.
    pub kept: Bytes,
    /// Fields that describe the content and that it has written itself, in the head whose phases run.
    pub described: Vec<HeaderName>,
    /// Guest execution so far.
    pub spent: Duration,
    /// It gets the revision that is on trial, or the good one; none before its first phase.
    pub on_trial: Option<bool>,
    /// As long as this is here, it counts as being on that revision.
    pub revision: Option<Present>,
}

impl Client {
    pub fn new(
        peer: SocketAddr,
        listener: Arc<str>,
        scheme: Scheme,
        rules: Arc<FieldRules>,
        dropped: Arc<Dropped>,
    ) -> Self {
        let address = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let told = headers::Told::new(address.ip(), &scheme);
        let peer = Arc::new(Peer::new(Limits::default()));
        let trusted = rules.trust(address.ip());
        Self { address, listener, scheme, peer, trusted, rules, dropped, header_count: usize::MAX, told }
    }

    /// A client with other bounds than the default ones: of its progress, and of the header fields of a request.
    #[must_use]
    pub fn with_limits(self, progress: Limits, header_count: usize) -> Self {
        Self { peer: Arc::new(Peer::new(progress)), header_count, ..self }
    }

    /// Drops fields of a request whose names have `_`, as the listener wants it, and guards the names that filters decide by.
    /// `is_read` says whether the configuration reads a name, `has_trailers` whether trailers may follow.
    pub fn guard_names(&self, head: &mut RequestHead, has_trailers: bool, is_read: impl Fn(&HeaderName) -> bool) {
        head.drop_underscored(self.rules.underscores, &self.dropped, is_read);
        head.guard_names(self.rules.underscores, &self.dropped, has_trailers);
    }

    /// The address of the peer as text, made once per connection.
    pub fn peer_text(&self) -> &[u8] {
        self.told.address()
    }
}

impl Exchange {
    /// What is known of it, for later; its heads and slots are gone from here.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            id: self.id.clone(),
            client: Arc::clone(&self.client),
            forwarded_for: self.forwarded_for,
            via: self.via.clone(),
            trace: self.trace.clone(),
            request: mem::take(&mut self.request),
            head_only: self.head_only,
            encoded_slash: self.encoded_slash,
            response: mem::take(&mut self.response),
            consumer: self.consumer.clone(),
            destination: self.destination.clone(),
            filters: mem::take(&mut self.filters),
            notices: mem::take(&mut self.notices),
        }
    }

    /// The address of the client: as the chain of trusted proxies states it, or the peer's.
    pub fn client_address(&self) -> IpAddr {
        self.forwarded_for.unwrap_or_else(|| self.client.address.ip())
    }

    /// The address of the client, unless it is that of a proxy that many clients may share.
    pub fn single_client(&self) -> Option<IpAddr> {
        let is_shared = self.client.trusted && self.forwarded_for.is_none();
        (!is_shared).then(|| self.client_address())
    }

    /// The trace that it is part of, if its `traceparent` is one (W3C Trace Context §3.2).
    pub fn trace_id(&self) -> Option<&str> {
        let mut parts = self.trace.as_ref()?.to_str().ok()?.split('-');
        let (version, id) = (parts.next()?, parts.next()?);
        let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let holds = version.len() == 2 && version != "ff" && id.len() == 32 && is_hex(version) && is_hex(id);
        (holds && id.bytes().any(|byte| byte != b'0')).then_some(id)
    }
}

impl RequestHead {
    /// The host that was asked for, without its port.
    pub fn host(&self) -> &str {
        self.authority.as_ref().map_or("", Authority::host)
    }

    /// It asks the service for a WebSocket, too: a filter may have changed the method.
    pub fn asks_websocket(&self) -> bool {
        self.websocket && self.method == Method::GET
    }
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            method: Method::GET,
            target: PathAndQuery::from_static("/"),
            authority: None,
            version: Version::HTTP_11,
            websocket: false,
            guard: None,
            streams: false,
            headers: HeaderMap::new(),
        }
    }
}
