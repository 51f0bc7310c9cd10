//! Which header fields belong to one connection, and what a proxy adds on the way up (RFC 9110 §7.6, RFC 7239).

use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, FORWARDED, HOST, UPGRADE, VIA},
    uri::Scheme,
};

use super::{
    Client, RequestHead,
    edits::is_reserved,
    forwarded::{Family, Statement, X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO},
    names::{drop_claims, drop_x_forwarded, has_underscore, is_claim},
};

/// Says whether a field is about the connection it came on and ends with it (RFC 9110 §7.6.1).
pub fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            // Of the client alone: hyper answers 100 as soon as the body is wanted.
            | "expect"
    )
}

/// Says whether a field is the gateway's alone to write: framing, routing and the connection.
pub fn is_gateways_own(name: &HeaderName) -> bool {
    is_reserved(name.as_str())
}

/// What of a request's head is looked for, found in one look at each name: each look-up costs as much as all of that.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub hop_by_hop: bool,
    pub request_id: bool,
    pub trace: bool,
    pub length: bool,
    /// Fields that only a trusted proxy may send.
    pub claims: bool,
    pub via: bool,
    /// Names with `_`.
    pub underscored: bool,
}

impl Seen {
    pub fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            seen.underscored |= has_underscore(name.as_str());
            match name.as_str() {
                "x-request-id" => seen.request_id = true,
                "traceparent" => seen.trace = true,
                "content-length" => seen.length = true,
                "via" => seen.via = true,
                text => {
                    seen.hop_by_hop |= is_hop_by_hop(name);
                    seen.claims |= is_claim(text);
                }
            }
        }
        seen
    }
}

/// Removes what belongs to the connection, and whatever its `Connection` field names.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    // Most heads have none, and looking at each name costs less than looking for each of these.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    // Framing is not the client's to disown: without it the body's end would be lost.
    let disowned = |name: &HeaderName| *name != CONTENT_LENGTH && *name != HOST;
    let named = headers.get_all(CONNECTION).iter().flat_map(named).filter(disowned);
    let gone: Vec<HeaderName> = named.chain(headers.keys().filter(|name| is_hop_by_hop(name)).cloned()).collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Says whether a head asks its connection, or agrees, to become a WebSocket (RFC 6455 §4.1, §4.2.2). Other upgrades are
/// not passed on: what is spoken after them would go past every rule of the gateway.
pub fn names_websocket(headers: &HeaderMap) -> bool {
    let lists = |name: HeaderName, option: &str| {
        headers.get_all(name).iter().flat_map(options).any(|listed| listed.eq_ignore_ascii_case(option.as_bytes()))
    };
    lists(UPGRADE, "websocket") && lists(CONNECTION, "upgrade")
}

/// Says it on the next connection.
pub fn set_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

/// Says the length once and in its plainest form: it may have come as several equal ones (RFC 9112 §6.3).
pub fn set_length(headers: &mut HeaderMap, length: u64) {
    let mut said = headers.get_all(CONTENT_LENGTH).iter();
    let as_it_should_be = said.next().is_some_and(|value| value == itoa::Buffer::new().format(length));
    if !as_it_should_be || said.next().is_some() {
        headers.insert(CONTENT_LENGTH, length.into());
    }
}

/// Fields that a request is given here and with its id.
const ADDED: usize = 6;

/// Adds who asked for what and through whom; what an untrusted client claims of that is dropped. Returns the address of the
/// client, if a trusted proxy states one.
pub fn set_forwarded(head: &mut RequestHead, client: &Client, seen: Seen, via: HeaderValue) -> Option<IpAddr> {
    let host = head.authority.as_ref().map_or("", |authority| authority.as_str());
    let known = head.headers.get(HOST).filter(|field| *field == host).cloned();
    let host = known.or_else(|| HeaderValue::from_str(host).ok()).unwrap_or(HeaderValue::from_static(""));
    let Told { address, scheme, .. } = &client.told;
    let headers = &mut head.headers;
    headers.reserve(ADDED);
    headers.insert(VIA, via);
    if client.trusted && seen.claims {
        let statement = Statement::read(headers, &client.rules);
        if statement.family == Family::Forwarded {
            drop_x_forwarded(headers);
        }
        // The first proxy knows what the client asked for; a later one only what that proxy asked.
        let host = statement.host.clone().unwrap_or(host);
        let scheme = statement.scheme.clone().unwrap_or_else(|| scheme.clone());
        statement.write(headers, client.address.ip(), host, scheme);
        return statement.client;
    }
    if seen.claims {
        drop_claims(headers, &client.dropped);
    }
    headers.insert(FORWARDED, client.told.forwarded(&host));
    headers.insert(X_FORWARDED_FOR, address.clone());
    headers.insert(X_FORWARDED_HOST, host);
    headers.insert(X_FORWARDED_PROTO, scheme.clone());
    None
}

/// What every request of one client is told with, made once for its connection.
#[derive(Debug)]
pub struct Told {
    address: HeaderValue,
    scheme: HeaderValue,
    /// Of an element of `Forwarded`, what stands before the host and after it.
    before: Box<[u8]>,
    after: Box<[u8]>,
}

impl Told {
    pub fn new(address: IpAddr, scheme: &Scheme) -> Self {
        let value = |text: &str| HeaderValue::from_str(text).expect("an address or a scheme is a field value");
        // RFC 7239 §6: an IPv6 address is bracketed, and so quoted; a host with a port is quoted too.
        let node = if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() };
        Self {
            address: value(&address.to_string()),
            scheme: value(scheme.as_str()),
            before: format!("for={node};host=\"").into_bytes().into(),
            after: format!("\";proto={scheme}").into_bytes().into(),
        }
    }

    pub(super) fn address(&self) -> &[u8] {
        self.address.as_bytes()
    }

    fn forwarded(&self, host: &HeaderValue) -> HeaderValue {
        let element = [&self.before, host.as_bytes(), &self.after].concat();
        HeaderValue::from_maybe_shared(Bytes::from(element)).unwrap_or(HeaderValue::from_static(""))
    }
}

/// Copies the values of a response into a buffer of their own. Each value of HTTP/1.1 keeps alive the whole buffer that its head was
/// read into, and HPACK keeps values in its table for as long as the connection lasts (RFC 7541 §2.3.2).
pub fn detach_values(headers: &mut HeaderMap) {
    let mut values = BytesMut::with_capacity(headers.values().map(HeaderValue::len).sum());
    for value in headers.values() {
        values.extend_from_slice(value.as_bytes());
    }
    let mut values = values.freeze();
    for value in headers.values_mut() {
        let copy = values.split_to(value.len());
        if let Ok(mut copy) = HeaderValue::from_maybe_shared(copy) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
}

/// The fields that a `Connection` field names, but for the two options that everybody knows and that name no other.
pub(super) fn named(value: &HeaderValue) -> impl Iterator<Item = HeaderName> {
    let is_known = |option: &&[u8]| option.eq_ignore_ascii_case(b"keep-alive") || option.eq_ignore_ascii_case(b"close");
    options(value).filter(move |option| !is_known(option)).filter_map(|option| HeaderName::from_bytes(option).ok())
}

/// The items of a list. An odd byte in one of them does not hide the others.
pub(super) fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc};

    use super::*;
    use crate::exchange::FieldRules;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn client(address: &str, trusted: bool) -> Client {
        let address: SocketAddr = address.parse().expect("address");
        let trusted = if trusted { vec![address.ip().into()] } else { Vec::new() };
        let rules = Arc::new(FieldRules { trusted, ..FieldRules::default() });
        Client::new(address, Arc::from("test"), Scheme::HTTP, rules, Arc::default())
    }

    #[test]
    fn sees_what_there_is() {
        assert_eq!(Seen::of(&map(&[("accept", "*/*"), ("x-request", "1")])), Seen::default());
        for (name, seen) in [
            ("te", Seen { hop_by_hop: true, ..Seen::default() }),
            ("x-request-id", Seen { request_id: true, ..Seen::default() }),
            ("traceparent", Seen { trace: true, ..Seen::default() }),
            ("content-length", Seen { length: true, ..Seen::default() }),
            ("expect", Seen { hop_by_hop: true, ..Seen::default() }),
            ("true-client-ip", Seen { claims: true, ..Seen::default() }),
            ("api_key", Seen { underscored: true, ..Seen::default() }),
        ] {
            assert_eq!(Seen::of(&map(&[("accept", "*/*"), (name, "1"), ("host", "a")])), seen);
        }
    }

    #[test]
    fn values_are_detached_from_the_buffer_that_they_were_read_into() {
        let read = Bytes::from(b"onetwo".repeat(1000));
        let mut headers = HeaderMap::new();
        let value = |range| HeaderValue::from_maybe_shared(read.slice(range)).expect("a value");
        headers.append("a", value(0..3));
        headers.append("a", value(3..6));
        headers.append("b", value(3..6));
        headers.get_mut("b").expect("it is there").set_sensitive(true);
        let before = headers.clone();
        detach_values(&mut headers);
        assert_eq!(headers, before);
        assert_eq!([headers["a"].is_sensitive(), headers["b"].is_sensitive()], [false, true]);
        drop(before);
        assert!(read.is_unique(), "no value keeps it");
    }

    #[test]
    fn removes_what_is_of_the_connection_and_what_it_names() {
        let mut headers = map(&[
            ("connection", "close, X-Mine"),
            ("connection", "x-other, content-length"),
            ("x-mine", "1"),
            ("x-other", "2"),
            ("x-kept", "3"),
            ("content-length", "5"),
            ("keep-alive", "timeout=5"),
            ("te", "trailers"),
            ("upgrade", "websocket"),
            ("proxy-connection", "keep-alive"),
        ]);
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "x-kept"]);
    }

    #[test]
    fn drops_the_claims_of_an_untrusted_client() {
        let mut head =
            RequestHead { authority: Some("api.example:8080".parse().expect("authority")), ..Default::default() };
        head.headers = map(&[("x-forwarded-for", "6.6.6.6"), ("forwarded", "for=6.6.6.6"), ("via", "1.0 lie")]);
        let seen = Seen::of(&head.headers);
        set_forwarded(
            &mut head,
            &client("192.0.2.7:1234", false),
            seen,
            HeaderValue::from_static("1.0 lie, 1.1 stile-1"),
        );
        assert_eq!(head.headers["x-forwarded-for"], "192.0.2.7");
        assert_eq!(head.headers["forwarded"], "for=192.0.2.7;host=\"api.example:8080\";proto=http");
        assert_eq!(head.headers["x-forwarded-host"], "api.example:8080");
        assert_eq!(head.headers["via"], "1.0 lie, 1.1 stile-1");
    }

    #[test]
    fn adds_to_the_claims_of_a_trusted_one() {
        let mut head = RequestHead { authority: Some("inner".parse().expect("authority")), ..Default::default() };
        head.headers =
            map(&[("x-forwarded-for", "6.6.6.6"), ("x-forwarded-host", "outer"), ("x-forwarded-proto", "https")]);
        let seen = Seen::of(&head.headers);
        set_forwarded(
            &mut head,
            &client("[2001:db8::1]:1234", true),
            seen,
            HeaderValue::from_static("1.0 lie, 1.1 stile-1"),
        );
        assert_eq!(head.headers["x-forwarded-for"], "6.6.6.6, 2001:db8::1");
        let forwarded = "for=6.6.6.6;host=\"outer\";proto=https, for=\"[2001:db8::1]\"";
        assert_eq!(head.headers["forwarded"], forwarded);
        assert_eq!(head.headers["x-forwarded-host"], "outer");
        assert_eq!(head.headers["x-forwarded-proto"], "https");
    }
}
