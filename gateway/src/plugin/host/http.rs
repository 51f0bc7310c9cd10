//! Calls out of a plugin: checked and counted here, made by whoever is handed in. It opens no socket.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, uri::PathAndQuery};
use tokio::sync::oneshot;

use super::{EditError, Host, NoExchange, field, shortened};
use crate::plugin::limits::Cause;

/// Bytes of a URL.
const MAX_URL: usize = 8 << 10;

/// Whom a plugin may call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Reach {
    pub services: BTreeSet<String>,
    /// Scheme, host and port, as `Origin` writes them.
    pub hosts: BTreeSet<String>,
}

/// A call that a plugin makes.
#[derive(Debug)]
pub struct CallOut {
    pub to: CallTarget,
    pub method: Method,
    pub path: PathAndQuery,
    pub headers: HeaderMap,
    /// The `Via` of the exchange that the call is made for, if it came with one: the way goes on, so that a plugin that calls its
    /// own route ends as a loop does.
    pub via: Option<HeaderValue>,
    pub body: Bytes,
    /// To the last byte of the answer.
    pub timeout: Duration,
    /// Bytes of the answer's body.
    pub max_body: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallTarget {
    Service(String),
    Host(Origin),
}

/// Scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub tls: bool,
    /// In lower case; an IPv6 address in brackets.
    pub host: String,
    pub port: u16,
}

/// What came of it.
#[derive(Debug)]
pub struct CallAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    Invalid(String),
    NotAllowed(String),
    Limit(String),
    Timeout,
    Failed(String),
}

pub type Called = Result<CallAnswer, CallError>;

/// Makes calls. A receiver that is dropped gives its call up.
pub trait Outbound: fmt::Debug + Send + Sync {
    fn send(&self, call: CallOut) -> oneshot::Receiver<Called>;
}

/// The calls of one phase.
#[derive(Debug, Default)]
pub(in crate::plugin) struct Calls {
    made: u32,
    under_way: HashMap<u32, oneshot::Receiver<Called>>,
}

/// What a guest says of a call.
#[derive(Debug)]
pub(in crate::plugin) struct Asked {
    pub(in crate::plugin) method: String,
    pub(in crate::plugin) url: String,
    pub(in crate::plugin) headers: Vec<(String, Vec<u8>)>,
    pub(in crate::plugin) body: Vec<u8>,
    pub(in crate::plugin) timeout: Option<u32>,
}

impl Calls {
    /// The phase is over: calls that nobody waited for are given up.
    pub(super) fn clear(&mut self) {
        self.made = 0;
        self.under_way.clear();
    }
}

impl Origin {
    /// Reads `http://HOST` or `https://HOST`, with a port or without.
    pub fn of(uri: &Uri) -> Option<Self> {
        let tls = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let authority = uri.authority().filter(|authority| !authority.as_str().contains('@'))?;
        let port =
            match authority.as_str().rsplit_once(']').map_or(authority.as_str(), |(_, rest)| rest).rsplit_once(':') {
                Some((_, port)) => port.parse().ok().filter(|port| *port > 0)?,
                None if tls => 443,
                None => 80,
            };
        Some(Self { tls, host: authority.host().to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", if self.tls { "https" } else { "http" }, self.host, self.port)
    }
}

impl Host {
    /// Begins a call; its number is good until it is waited for or dropped, and no longer than this phase.
    pub(in crate::plugin) fn start_call(&mut self, asked: Asked) -> Result<Result<u32, CallError>, NoExchange> {
        let handles = self.about.handles.clone().ok_or(NoExchange)?;
        let limits = self.meter.limits;
        if self.calls.made >= limits.calls {
            let error = CallError::Limit(format!("{} calls in one phase (limits.calls)", limits.calls));
            self.over(Cause::Calls);
            return Ok(Err(error));
        }
        let call = match checked(asked, &self.reach, limits.call_timeout, limits.call_body) {
            Ok(mut call) => {
                // Whoever is called can tell on whose behalf.
                if let Some(id) = self.about.request.as_ref().filter(|_| !call.headers.contains_key("x-request-id")) {
                    call.headers.insert("x-request-id", id.to_value());
                }
                call.via = self.about.via.clone();
                call
            }
            Err(error) => {
                if matches!(error, CallError::Limit(_)) {
                    self.over(Cause::Calls);
                }
                return Ok(Err(error));
            }
        };
        let Some(outbound) = &handles.outbound else {
            return Ok(Err(CallError::Failed("nobody can be called from here".to_owned())));
        };
        self.calls.made += 1;
        let number = self.calls.made;
        self.calls.under_way.insert(number, outbound.send(call));
        Ok(Ok(number))
    }

    /// Waits for a call, once.
    pub(in crate::plugin) async fn finish_call(&mut self, number: u32) -> Called {
        let under_way = self.calls.under_way.remove(&number);
        let Some(answer) = under_way else { return Err(CallError::Invalid("it was waited for before".to_owned())) };
        let called = answer.await.unwrap_or_else(|_| Err(CallError::Failed("the gateway ends".to_owned())));
        if matches!(called, Err(CallError::Limit(_) | CallError::Timeout)) {
            self.over(Cause::Calls);
        }
        called
    }

    pub(in crate::plugin) fn give_up_call(&mut self, number: u32) {
        self.calls.under_way.remove(&number);
    }
}

fn checked(asked: Asked, reach: &Arc<Reach>, timeout: Duration, max_body: usize) -> Result<CallOut, CallError> {
    let Asked { method, url, headers: fields, body, timeout: wanted } = asked;
    let (to, path) = target(&url)?;
    match &to {
        CallTarget::Service(name) if !reach.services.contains(name) => {
            return Err(CallError::NotAllowed(format!("the plugin may not call service \"{name}\"")));
        }
        CallTarget::Host(origin) if !reach.hosts.contains(&origin.to_string()) => {
            return Err(CallError::NotAllowed(format!("the plugin may not call {origin}")));
        }
        _ => {}
    }
    let method = Method::from_bytes(method.as_bytes())
        .ok()
        .filter(|method| *method != Method::CONNECT)
        .ok_or_else(|| CallError::Invalid(format!("\"{}\" is no method to call with", shortened(&method))))?;
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        let (name, value) = field(&name, value).map_err(|error| match error {
            EditError::Invalid(_) | EditError::Forbidden(_) => CallError::Invalid(error.to_string()),
            EditError::Limit(name) => CallError::Limit(name.to_owned()),
        })?;
        headers.try_append(name, value).map_err(|_| CallError::Limit("header fields of a message".to_owned()))?;
    }
    if body.len() > max_body {
        return Err(CallError::Limit(format!("a body of {max_body} bytes (limits.call_body)")));
    }
    let timeout = wanted.map_or(timeout, |wanted| timeout.min(Duration::from_millis(wanted.into())));
    Ok(CallOut { to, method, path, headers, via: None, body: body.into(), timeout, max_body })
}

fn target(url: &str) -> Result<(CallTarget, PathAndQuery), CallError> {
    let invalid = || CallError::Invalid(format!("\"{}\" is no URL to call", shortened(url)));
    if url.len() > MAX_URL || url.contains('#') {
        return Err(invalid());
    }
    // A service's name may have characters that a host may not.
    if let Some(rest) = url.strip_prefix("service://") {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (name, path) = rest.split_at(end);
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let path = PathAndQuery::from_maybe_shared(Bytes::from(path)).map_err(|_| invalid())?;
        return if name.is_empty() { Err(invalid()) } else { Ok((CallTarget::Service(name.to_owned()), path)) };
    }
    let uri: Uri = url.parse().map_err(|_| invalid())?;
    let origin = Origin::of(&uri).ok_or_else(invalid)?;
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    Ok((CallTarget::Host(origin), path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(url: &str) -> String {
        match target(url) {
            Ok((CallTarget::Service(name), path)) => format!("{name} {path}"),
            Ok((CallTarget::Host(origin), path)) => format!("{origin} {path}"),
            Err(_) => "none".to_owned(),
        }
    }

    #[test]
    fn urls_name_services_or_hosts() {
        for (url, told) in [
            ("service://users", "users /"),
            ("service://users/1?a=b", "users /1?a=b"),
            ("service://users_v1.2?a=b", "users_v1.2 /?a=b"),
            ("http://Example.com", "http://example.com:80 /"),
            ("https://example.com/keys", "https://example.com:443 /keys"),
            ("https://example.com:8443/keys?x", "https://example.com:8443 /keys?x"),
            ("http://[::1]/", "http://[::1]:80 /"),
            ("http://[::1]:81/", "http://[::1]:81 /"),
            ("service:///x", "none"),
            ("http://a@b/", "none"),
            ("http://b:0/", "none"),
            ("http://b:x/", "none"),
            ("ftp://b/", "none"),
            ("/x", "none"),
            ("http://b/#x", "none"),
            ("http://b/\r\nx: y", "none"),
            ("", "none"),
        ] {
            assert_eq!(to(url), told, "{url}");
        }
        assert_eq!(to(&format!("http://b/{}", "x".repeat(MAX_URL))), "none");
    }

    #[test]
    fn only_what_is_within_reach_is_called() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let reach = Arc::new(Reach { services: names(&["users"]), hosts: names(&["https://idp:443"]) });
        let call = |method: &str, url: &str, fields: &[(&str, &str)], body: usize| {
            let headers = fields.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
            let asked =
                Asked { method: method.to_owned(), url: url.to_owned(), headers, body: vec![0; body], timeout: None };
            checked(asked, &reach, Duration::from_secs(1), 10).map(|call| call.to)
        };
        for url in ["service://users/", "https://idp/keys", "https://IDP:443"] {
            assert!(call("GET", url, &[], 0).is_ok(), "{url}");
        }
        for url in ["service://orders/", "http://idp/", "https://idp:444/", "https://idp.evil/", "https://xidp/"] {
            assert!(matches!(call("GET", url, &[], 0), Err(CallError::NotAllowed(_))), "{url}");
        }
        let users = "service://users/";
        assert!(matches!(call("CONNECT", users, &[], 0), Err(CallError::Invalid(_))));
        assert!(matches!(call("G T", users, &[], 0), Err(CallError::Invalid(_))));
        assert!(matches!(call("GET", users, &[("host", "a")], 0), Err(CallError::Invalid(_))));
        assert!(matches!(call("GET", users, &[("x", "a\r\nb: c")], 0), Err(CallError::Invalid(_))));
        assert!(matches!(call("POST", users, &[], 11), Err(CallError::Limit(_))));
        assert!(call("POST", users, &[("x", "a")], 10).is_ok());
    }
}
