//! Which host a request is for: host patterns, and a map that answers with the most specific one first.
//! Knows nothing of what lies behind a host.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

use rustc_hash::FxHashMap;
use thiserror::Error;

/// A host pattern, in the one form of its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Host {
    Exact(String),
    /// `*.example.com`: every name below, at any depth, without the name itself.
    Below(String),
    Any,
}

/// Why a text is not a host pattern.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostError {
    #[error("host \"{0}\" has a port, which is not part of a match")]
    Port(String),
    #[error("host \"{0}\" is not a name such as api.example.com, *.example.com or [::1]")]
    Invalid(String),
}

/// One value per host pattern.
#[derive(Debug)]
pub(super) struct Hosts<V> {
    exact: FxHashMap<String, V>,
    below: FxHashMap<String, V>,
    any: Option<V>,
}

/// Bytes of the longest name (RFC 1035 §2.3.4). It bounds the suffixes that a client can have us look up.
const MAX_NAME: usize = 253;
const MAX_LABEL: usize = 63;

impl Host {
    pub(super) fn parse(text: &str) -> Result<Self, HostError> {
        let (below, host) = text.strip_prefix("*.").map_or((false, text), |parent| (true, parent));
        let name = without_port(host);
        if name.len() < host.len() {
            return Err(HostError::Port(text.to_owned()));
        }
        let name = canonical(name).into_owned();
        match (is_name(&name), below) {
            (true, true) => Ok(Self::Below(name)),
            (true, false) => Ok(Self::Exact(name)),
            (false, false) if address(&name).is_some() => Ok(Self::Exact(name)),
            (false, _) => Err(HostError::Invalid(text.to_owned())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Below(name) => write!(f, "*.{name}"),
            Self::Any => f.write_str("*"),
        }
    }
}

impl<V: Default> Hosts<V> {
    pub(super) fn entry(&mut self, host: &Host) -> &mut V {
        match host {
            Host::Exact(name) => self.exact.entry(name.clone()).or_default(),
            Host::Below(name) => self.below.entry(name.clone()).or_default(),
            Host::Any => self.any.get_or_insert_default(),
        }
    }
}

impl<V> Hosts<V> {
    /// Asks the patterns that `host` (of a request, with or without a port) matches, the most specific first, until one
    /// answers.
    pub(super) fn search<'a, R>(&'a self, host: &str, answer: impl FnMut(&'a V) -> Option<R>) -> Option<R> {
        if self.exact.is_empty() && self.below.is_empty() {
            return self.any.as_ref().and_then(answer);
        }
        let name = Some(canonical(without_port(host))).filter(|name| name.len() <= MAX_NAME).unwrap_or_default();
        let parents = name.match_indices('.').map(|(dot, _)| &name[dot + 1..]);
        let below = parents.filter_map(|parent| self.below.get(parent));
        self.exact.get(&*name).into_iter().chain(below).chain(&self.any).find_map(answer)
    }
}

impl<V> Default for Hosts<V> {
    fn default() -> Self {
        Self { exact: FxHashMap::default(), below: FxHashMap::default(), any: None }
    }
}

fn without_port(host: &str) -> &str {
    let after_address = if host.starts_with('[') { host.find(']').unwrap_or(host.len()) } else { 0 };
    host[after_address..].find(':').map_or(host, |colon| &host[..after_address + colon])
}

/// The one form of a name without port: lower case, no trailing dot, an address as RFC 5952 writes it.
fn canonical(name: &str) -> Cow<'_, str> {
    if let Some(address) = address(name) {
        return Cow::Owned(format!("[{address}]"));
    }
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

fn address(name: &str) -> Option<Ipv6Addr> {
    name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=MAX_LABEL).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    name.len() <= MAX_NAME && name.split('.').all(is_label)
}
