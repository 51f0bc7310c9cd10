//! One request and its response in flight: what every stage reads and edits.
//! A leaf: it knows no stage, no configuration and no plugin.

pub mod body;
pub mod canonical;
pub mod framing;
pub mod headers;
pub mod id;
pub mod path;
pub mod query;
pub mod trailers;

use std::{mem, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version,
    uri::{Authority, PathAndQuery, Scheme},
};

pub use body::{Body, BodyError};
pub use canonical::Refusal;
pub use id::RequestId;

pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One request and its response. Bodies are not part of it: they stream past.
#[derive(Debug)]
pub struct Exchange {
    pub id: RequestId,
    pub client: Arc<Client>,
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

/// The other side of a connection, as the listener saw it.
#[derive(Debug)]
pub struct Client {
    pub address: SocketAddr,
    /// The listener's name.
    pub listener: Arc<str>,
    pub scheme: Scheme,
    /// Its `Forwarded`, `X-Forwarded-*` and `Via` are believed and added to.
    pub trusted: bool,
    told: headers::Told,
    text: Box<str>,
}

#[derive(Debug, Clone)]
pub struct RequestHead {
    pub method: Method,
    /// The path, normalised, and the query as the client wrote it.
    pub target: PathAndQuery,
    /// The host asked for; absent only in HTTP/1.0.
    pub authority: Option<Authority>,
    pub version: Version,
    /// It asks for a WebSocket. The fields that say so belong to each connection and are made anew.
    pub websocket: bool,
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

/// What one filter leaves behind on one exchange.
#[derive(Debug, Clone, Default)]
pub struct FilterSlot {
    /// Its request phase ended well and asked for more, so its response phase is due.
    pub passed: bool,
    /// Bytes from its earlier phases for its later ones.
    pub kept: Bytes,
    /// Guest execution so far.
    pub spent: Duration,
    /// It gets the revision that is on trial, or the good one; none before its first phase.
    pub on_trial: Option<bool>,
    /// As long as this is here, it counts as being on that revision.
    pub revision: Option<Arc<()>>,
}

impl Client {
    pub fn new(address: SocketAddr, listener: Arc<str>, scheme: Scheme, trusted: bool) -> Self {
        let told = headers::Told::new(address.ip(), &scheme);
        Self { address, listener, scheme, trusted, told, text: address.to_string().into() }
    }

    /// Its address, which is asked for with every request.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl Exchange {
    /// What is known of it, for later; its heads and slots are gone from here.
    #[must_use]
    pub fn take(&mut self) -> Self {
        Self {
            id: self.id.clone(),
            client: Arc::clone(&self.client),
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
            headers: HeaderMap::new(),
        }
    }
}
