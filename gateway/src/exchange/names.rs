//! Field names in which a client may not say anything about itself, and names that servers take for one another.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use http::{
    HeaderMap, HeaderName,
    header::{CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, MAX_FORWARDS, TRAILER, VIA},
};

use super::{RequestHead, TRACEPARENT, headers::is_hop_by_hop, id::X_REQUEST_ID};

/// Treatment of fields whose names have `_`. Many servers take `_` for `-` (CGI, WSGI, PHP), so that `X_User` reaches an
/// application as `X-User`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Underscores {
    /// A field is dropped if the gateway or a filter reads, sets or removes the name that has `-` in place of each `_`.
    #[default]
    Reserved,
    Drop,
    Allow,
}

/// Fields of requests that one listener dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Claims of clients that are not trusted.
    pub claims: AtomicU64,
    /// Names with `_`.
    pub underscores: AtomicU64,
}

/// Says whether a field states something about the client that only a proxy can know; strangers may not send it.
/// `gateway/docs/forwarding.md` lists the names.
pub fn is_claim(name: &str) -> bool {
    // Two letters are enough for most names that browsers send.
    match name.as_bytes() {
        [b'x', b'-', ..] => X_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || X_NAMES.contains(&name),
        [b'a', b'l', ..]
        | [b'c', b'd' | b'f' | b'l', ..]
        | [b'd', b'o', ..]
        | [b'f', b'a' | b'l' | b'o' | b'r', ..]
        | [b'h', b't', ..]
        | [b'i', b'n', ..]
        | [b'p', b'r', ..]
        | [b's', b's', ..]
        | [b't', b'r', ..]
        | [b'w', b'l', ..] => PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || NAMES.contains(&name),
        _ => false,
    }
}

const X_PREFIXES: [&str; 5] = ["x-forwarded-", "x-original-", "x-originating-", "x-remote-", "x-ssl-"];
const X_NAMES: [&str; 23] = [
    "x-appengine-remote-addr",
    "x-appengine-user-ip",
    "x-arr-clientcert",
    "x-arr-ssl",
    "x-azure-clientip",
    "x-azure-socketip",
    "x-client-cert",
    "x-client-dn",
    "x-client-ip",
    "x-client-verify",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-host",
    "x-nf-client-connection-ip",
    "x-proxyuser-ip",
    "x-real-ip",
    "x-real-port",
    "x-rewrite-url",
    "x-scheme",
    "x-sucuri-clientip",
    "x-url-scheme",
    "x-vercel-forwarded-for",
];
const PREFIXES: [&str; 4] = ["cf-connecting-ip", "client-cert", "ssl-client-", "wl-proxy-"];
const NAMES: [&str; 15] = [
    "ali-cdn-real-ip",
    "cdn-src-ip",
    "cf-pseudo-ipv4",
    "cf-visitor",
    "client-ip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "front-end-https",
    "http-client-ip",
    "incap-client-ip",
    "proxy-client-ip",
    "true-client-ip",
];

/// Says whether the gateway reads, sets or removes a field by itself.
fn is_of_gateway(name: &HeaderName) -> bool {
    const NAMES: [HeaderName; 9] =
        [CONTENT_LENGTH, CONTENT_TYPE, COOKIE, EXPECT, HOST, MAX_FORWARDS, TRAILER, VIA, TRACEPARENT];
    is_hop_by_hop(name)
        || NAMES.contains(name)
        || *name == X_REQUEST_ID
        || name == "tracestate"
        || is_claim(name.as_str())
}

/// Says whether a name has `_`, a word at a time: each request asks it of each of its names.
pub(super) fn has_underscore(name: &str) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    let (words, rest) = name.as_bytes().as_chunks::<8>();
    let has_match = |word: &[u8; 8]| {
        let matches_are_zero = u64::from_ne_bytes(*word) ^ u64::from_ne_bytes([b'_'; 8]);
        matches_are_zero.wrapping_sub(ONES) & !matches_are_zero & HIGHS != 0
    };
    words.iter().any(has_match) || rest.contains(&b'_')
}

/// Drops the claims of strangers.
pub(super) fn drop_claims(headers: &mut HeaderMap, dropped: &Dropped) {
    dropped.claims.fetch_add(remove(headers, is_claim_name), Relaxed);
}

/// Drops the fields of one family of a trusted proxy, where the other counts.
pub(super) fn drop_x_forwarded(headers: &mut HeaderMap) {
    remove(headers, |name| name.as_str().starts_with("x-forwarded-"));
}

fn is_claim_name(name: &HeaderName) -> bool {
    is_claim(name.as_str())
}

/// Guards the names that filters decide by against other fields of the client that servers take for them: fields with `_`, and
/// trailers, which servers may merge into the head. Only a request that has the one or may have the other needs it.
#[derive(Debug, Clone)]
pub struct NameGuard {
    policy: Underscores,
    dropped: Arc<Dropped>,
    /// The name of a field of the head has `_`.
    has_underscores: bool,
    /// Names that filters have read, set or removed, with `-` in place of each `_`; `None` if no trailers can follow.
    touched: Option<Vec<HeaderName>>,
}

/// Names from which on no trailer passes: a guest may read as many as it has time for.
const MOST_TOUCHED: usize = 256;

impl NameGuard {
    /// Says whether a trailer must not pass, by its name and the one with `-` in place of each `_`.
    pub(super) fn forbids(&self, trailer: &HeaderName, plain: &HeaderName) -> bool {
        let is_touched = |names: &Vec<HeaderName>| names.len() >= MOST_TOUCHED || names.contains(plain);
        (self.policy == Underscores::Drop && has_underscore(trailer.as_str()))
            || self.touched.as_ref().is_some_and(is_touched)
    }
}

impl RequestHead {
    /// Guards the names of this request, whose body may end with trailers or not.
    pub(super) fn guard_names(&mut self, policy: Underscores, dropped: &Arc<Dropped>, has_trailers: bool) {
        let has_underscores =
            policy != Underscores::Allow && self.headers.keys().any(|name| has_underscore(name.as_str()));
        if has_underscores || has_trailers {
            let dropped = Arc::clone(dropped);
            self.guard =
                Some(Box::new(NameGuard { policy, dropped, has_underscores, touched: has_trailers.then(Vec::new) }));
        }
    }

    /// Drops fields with `_` as the listener wants it; `is_read` says whether the configuration reads a name.
    pub(super) fn drop_underscored(
        &mut self,
        policy: Underscores,
        dropped: &Arc<Dropped>,
        is_read: impl Fn(&HeaderName) -> bool,
    ) {
        let underscored = |name: &HeaderName| has_underscore(name.as_str());
        let count = match policy {
            Underscores::Allow => return,
            Underscores::Drop => remove(&mut self.headers, underscored),
            Underscores::Reserved => {
                remove(&mut self.headers, |name| twin(name).is_some_and(|twin| is_of_gateway(&twin) || is_read(&twin)))
            }
        };
        dropped.underscores.fetch_add(count, Relaxed);
    }

    /// Drops fields that servers take for the one of this name, which a filter reads, sets or removes, and keeps trailers of this
    /// name from passing.
    pub fn touch(&mut self, name: &str) {
        let Some(NameGuard { dropped, has_underscores, touched, .. }) = self.guard.as_deref_mut() else { return };
        if let Some(touched) = touched.as_mut().filter(|touched| touched.len() < MOST_TOUCHED)
            && let Ok(name) = name.parse::<HeaderName>()
        {
            let name = twin(&name).unwrap_or(name);
            if !touched.contains(&name) {
                touched.push(name);
            }
        }
        if !*has_underscores {
            return;
        }
        let is_twin = |other: &HeaderName| twin(other).is_some_and(|twin| twin.as_str().eq_ignore_ascii_case(name));
        dropped.underscores.fetch_add(remove(&mut self.headers, is_twin), Relaxed);
    }
}

/// The name that servers take a name with `_` for.
pub(super) fn twin(name: &HeaderName) -> Option<HeaderName> {
    has_underscore(name.as_str()).then(|| name.as_str().replace('_', "-").parse().ok()).flatten()
}

/// Removes fields by their names; returns the number of names.
fn remove(headers: &mut HeaderMap, is_unwanted: impl Fn(&HeaderName) -> bool) -> u64 {
    let unwanted: Vec<HeaderName> = headers.keys().filter(|name| is_unwanted(name)).cloned().collect();
    for name in &unwanted {
        headers.remove(name);
    }
    unwanted.len() as u64
}
