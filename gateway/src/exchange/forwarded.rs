//! Statements of trusted proxies about a request: `X-Forwarded-*`, and `Forwarded` (RFC 7239). It reads fields and writes
//! both families anew, so that they agree; it knows no connection.

use std::{fmt::Write, iter, net::IpAddr, str::FromStr};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::FORWARDED,
    uri::{Authority, Scheme},
};
use ipnet::IpNet;

use super::names::Underscores;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
pub(super) const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
pub(super) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED: [HeaderName; 3] = [X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO];

/// Which fields a proxy states the client in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Family {
    #[default]
    XForwarded,
    Forwarded,
}

/// Rules of a listener for fields in which clients and proxies describe themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldRules {
    /// Networks of trusted proxies.
    pub trusted: Vec<IpNet>,
    /// The family that counts where a trusted proxy sends both.
    pub family: Family,
    pub underscores: Underscores,
}

/// The statements of trusted proxies about one request.
#[derive(Debug)]
pub(super) struct Statement {
    /// The fields that were read.
    pub(super) family: Family,
    /// The address of the client; `None` if no proxy states one.
    pub(super) client: Option<IpAddr>,
    /// The host that the client asked for.
    pub(super) host: Option<HeaderValue>,
    /// The scheme that the client used.
    pub(super) scheme: Option<HeaderValue>,
    /// Senders of the request before the peer, the nearest first.
    hops: Vec<Hop>,
}

/// One sender of a request, as the next proxy stated it.
#[derive(Debug)]
struct Hop {
    /// As an entry of `X-Forwarded-For`.
    node: String,
    /// As an element of `Forwarded`.
    element: String,
}

/// An address of a node, with the port that came with it.
#[derive(Debug, Clone, Copy)]
struct Node<'a> {
    address: IpAddr,
    port: Option<&'a str>,
}

impl FieldRules {
    /// Says whether this is the address of a trusted proxy.
    pub fn trust(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl Statement {
    /// Reads the family that is there, of both the one that counts.
    ///
    /// The peer is trusted and states the last entry; each entry with the address of a trusted proxy vouches for the one
    /// before it. The client is the first address from the end that is not trusted. Entries to its left are the client's own
    /// claims and are dropped.
    pub(super) fn read(headers: &HeaderMap, rules: &FieldRules) -> Self {
        let is_there = [X_FORWARDED.iter().any(|name| headers.contains_key(name)), headers.contains_key(FORWARDED)];
        let family = match is_there {
            [true, true] => rules.family,
            [false, true] => Family::Forwarded,
            [_, false] => Family::XForwarded,
        };
        let mut statement = Self { family, client: None, host: None, scheme: None, hops: Vec::new() };
        let name = match family {
            Family::XForwarded => {
                statement.host = first(headers, &X_FORWARDED_HOST).and_then(host);
                statement.scheme = first(headers, &X_FORWARDED_PROTO).and_then(scheme);
                X_FORWARDED_FOR
            }
            Family::Forwarded => FORWARDED,
        };
        for entry in entries(headers, &name) {
            let stated = match family {
                Family::XForwarded => statement.entry(entry),
                Family::Forwarded => statement.element(entry),
            };
            // A hidden address may be a stranger's, so the entries before it are not trusted.
            let Some(address) = stated else { break };
            statement.client = Some(address);
            if !rules.trust(address) {
                break;
            }
        }
        statement
    }

    fn entry(&mut self, entry: &str) -> Option<IpAddr> {
        let node = Node::read(entry);
        let element = match node {
            Some(node) => format!("for={}", node.quoted()),
            None if is_obfuscated(entry) => format!("for={entry}"),
            None => "for=unknown".to_owned(),
        };
        let is_known = node.is_some() || is_obfuscated(entry);
        self.hops.push(Hop { node: if is_known { entry } else { "unknown" }.to_owned(), element });
        node.map(|node| node.address)
    }

    fn element(&mut self, element: &str) -> Option<IpAddr> {
        let stated = parameter(element, "for");
        let node = stated.as_deref().and_then(Node::read);
        let text =
            node.map(|node| node.address.to_string()).or_else(|| stated.clone().filter(|text| is_obfuscated(text)));
        let text = text.unwrap_or_else(|| "unknown".to_owned());
        self.hops.push(Hop { node: text, element: element.to_owned() });
        // The element of the client comes last; a parameter that it lacks is taken from the nearest element.
        self.host = parameter(element, "host").as_deref().and_then(host).or(self.host.take());
        self.scheme = parameter(element, "proto").as_deref().and_then(scheme).or(self.scheme.take());
        node.map(|node| node.address)
    }

    /// Writes both families: the hops, then the peer. The first element of `Forwarded` has the host and the scheme.
    pub(super) fn write(&self, headers: &mut HeaderMap, peer: IpAddr, host: HeaderValue, scheme: HeaderValue) {
        let mut nodes = String::new();
        let mut elements = String::new();
        for hop in self.hops.iter().rev() {
            nodes.push_str(&hop.node);
            nodes.push_str(", ");
            elements.push_str(&hop.element);
            if elements.len() == hop.element.len() {
                state(&mut elements, "host", &host);
                state(&mut elements, "proto", &scheme);
            }
            elements.push_str(", ");
        }
        let node = Node { address: peer, port: None };
        let _ = write!(nodes, "{peer}");
        let _ = write!(elements, "for={}", node.quoted());
        if self.hops.is_empty() {
            state(&mut elements, "host", &host);
            state(&mut elements, "proto", &scheme);
        }
        let value = |text: String| HeaderValue::from_maybe_shared(Bytes::from(text));
        if let (Ok(nodes), Ok(elements)) = (value(nodes), value(elements)) {
            headers.insert(X_FORWARDED_FOR, nodes);
            headers.insert(FORWARDED, elements);
        }
        headers.insert(X_FORWARDED_HOST, host);
        headers.insert(X_FORWARDED_PROTO, scheme);
    }
}

impl<'a> Node<'a> {
    /// Reads `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`, with a port or without (RFC 7239 §6).
    fn read(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => match rest.split_once(']')? {
                (host, "") => (host, None),
                (host, port) => (host, Some(port.strip_prefix(':')?)),
            },
            None => match text.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                _ => (text, None),
            },
        };
        let is_port = |port: &str| {
            is_obfuscated(port) || (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit())
        };
        let address = host.parse::<IpAddr>().ok().filter(|_| port.is_none_or(is_port))?;
        Some(Self { address: address.to_canonical(), port })
    }

    /// As `Forwarded` has it: an IPv6 address is in brackets, and only an IPv4 address without a port is a token.
    fn quoted(self) -> String {
        match (self.address, self.port) {
            (IpAddr::V4(address), None) => address.to_string(),
            (IpAddr::V4(address), Some(port)) => format!("\"{address}:{port}\""),
            (IpAddr::V6(address), None) => format!("\"[{address}]\""),
            (IpAddr::V6(address), Some(port)) => format!("\"[{address}]:{port}\""),
        }
    }
}

/// Adds a parameter to an element that does not have it.
fn state(element: &mut String, name: &str, value: &HeaderValue) {
    if let Some(value) = value.to_str().ok().filter(|_| parameter(element, name).is_none()) {
        let quote = if name == "host" { "\"" } else { "" };
        let _ = write!(element, ";{name}={quote}{value}{quote}");
    }
}

/// The first entry of a list; each further proxy may have appended its own.
fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()?.split(',').next().map(str::trim)
}

fn host(text: &str) -> Option<HeaderValue> {
    Authority::from_str(text).ok().filter(|host| !host.as_str().contains('@'))?;
    HeaderValue::from_str(text).ok()
}

fn scheme(text: &str) -> Option<HeaderValue> {
    let text = text.to_ascii_lowercase();
    Scheme::from_str(&text).ok()?;
    HeaderValue::from_str(&text).ok()
}

/// RFC 7239 §6.3: an identifier that hides an address or a port.
fn is_obfuscated(text: &str) -> bool {
    let rest = text.strip_prefix('_').unwrap_or_default();
    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

/// The entries of a list, from its end: a quotation mark that a client left open cannot hide an entry that a proxy appended.
fn entries<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().rev();
    let entries = lines.flat_map(|line| split_from_end(line.as_bytes(), b','));
    entries.map(|entry| str::from_utf8(entry).unwrap_or("?").trim()).filter(|entry| !entry.is_empty())
}

/// The parts between separators outside of quoted strings, from the end.
fn split_from_end(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        for at in (0..text.len()).rev() {
            match text[at] {
                b'"' => {
                    let escapes = text[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
                    quoted ^= escapes % 2 == 0;
                }
                byte if byte == separator && !quoted => {
                    rest = Some(&text[..at]);
                    return Some(&text[at + 1..]);
                }
                _ => {}
            }
        }
        rest = None;
        Some(text)
    })
}

/// The value of a parameter of an element of `Forwarded`, without quotes and escapes (RFC 7239 §4).
fn parameter(element: &str, name: &str) -> Option<String> {
    split_from_end(element.as_bytes(), b';').find_map(|pair| {
        let (key, value) = str::from_utf8(pair).ok()?.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| unquoted(value.trim()))
    })
}

fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return value.to_owned() };
    let mut plain = String::with_capacity(inner.len());
    let mut escaped = false;
    for c in inner.chars() {
        escaped = c == '\\' && !escaped;
        if !escaped {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn stated(name: &HeaderName, lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name, HeaderValue::from_str(line).expect("a field value"));
        }
        let trusted: Vec<IpNet> =
            ["10.0.0.0/8", "2001:db8:aa::/48"].map(|text| text.parse().expect("a network")).into();
        let statement = Statement::read(&headers, &FieldRules { trusted, ..FieldRules::default() });
        statement.client.map(|address| address.to_string())
    }

    #[test]
    fn the_client_is_the_first_address_from_the_end_that_is_no_proxy() {
        for (lines, expected) in [
            (&[][..], None),
            (&[""], None),
            (&["192.0.2.1"], Some("192.0.2.1")),
            (&["6.6.6.6, 192.0.2.1"], Some("192.0.2.1")),
            (&["6.6.6.6, 192.0.2.1, 10.0.0.2,10.0.0.1"], Some("192.0.2.1")),
            (&["6.6.6.6, 192.0.2.1", "10.0.0.2", " , 10.0.0.1 "], Some("192.0.2.1")),
            (&["10.0.0.2, 10.0.0.1"], Some("10.0.0.2")),
            (&["192.0.2.1:4711, 10.0.0.1:80"], Some("192.0.2.1")),
            (&["2001:db8::1, 2001:db8:aa::1"], Some("2001:db8::1")),
            (&["[2001:db8::1]:4711, [2001:db8:aa::1]"], Some("2001:db8::1")),
            (&["::ffff:192.0.2.1, ::ffff:10.0.0.1"], Some("192.0.2.1")),
            (&["6.6.6.6, unknown, 10.0.0.1"], Some("10.0.0.1")),
            (&["6.6.6.6, unknown"], None),
            (&["6.6.6.6, [::1]x"], None),
            (&["\"6.6.6.6, 192.0.2.1"], Some("192.0.2.1")),
        ] {
            assert_eq!(stated(&X_FORWARDED_FOR, lines).as_deref(), expected, "{lines:?}");
        }
    }

    #[test]
    fn elements_of_forwarded_state_the_same() {
        for (lines, expected) in [
            (&["for=192.0.2.1"][..], Some("192.0.2.1")),
            (&["for=6.6.6.6, For=\"192.0.2.1:80\";proto=https, by=_a ; for = 10.0.0.1"], Some("192.0.2.1")),
            (&["for=\"[2001:db8::1]:_x\"", "for=10.0.0.1"], Some("2001:db8::1")),
            (&["host=\"a,b;for=6.6.6.6\";for=192.0.2.1, for=10.0.0.1"], Some("192.0.2.1")),
            (&["for=6.6.6.6;x=\"\\\", for=192.0.2.1, for=10.0.0.1"], Some("192.0.2.1")),
            (&["for=\"192.0.2\\.1\""], Some("192.0.2.1")),
            (&["for=_hidden, for=10.0.0.1"], Some("10.0.0.1")),
            (&["proto=https"], None),
        ] {
            assert_eq!(stated(&FORWARDED, lines).as_deref(), expected, "{lines:?}");
        }
    }

    /// `X-Forwarded-For` and `Forwarded` as they go on, of fields as they come from 10.0.0.1.
    fn passed_on(fields: &[(HeaderName, &'static str)], family: Family) -> [String; 4] {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, HeaderValue::from_static(value));
        }
        let trusted = vec!["10.0.0.0/8".parse().expect("a network")];
        let statement = Statement::read(&headers, &FieldRules { trusted, family, ..FieldRules::default() });
        let host = statement.host.clone().unwrap_or(HeaderValue::from_static("inner"));
        let scheme = statement.scheme.clone().unwrap_or(HeaderValue::from_static("http"));
        statement.write(&mut headers, IpAddr::from([10, 0, 0, 1]), host, scheme);
        let names = [X_FORWARDED_FOR, FORWARDED, X_FORWARDED_HOST, X_FORWARDED_PROTO];
        names.map(|name| headers[name].to_str().expect("text").to_owned())
    }

    #[test]
    fn a_node_that_is_none_stays_one_entry() {
        let [x_for, ..] = passed_on(&[(FORWARDED, "for=\"6.6.6.6, 7.7.7.7\"")], Family::XForwarded);
        assert_eq!(x_for, "unknown, 10.0.0.1");
    }

    #[test]
    fn both_families_say_what_one_said() {
        let (x_for, x_host, x_proto) = (X_FORWARDED_FOR, X_FORWARDED_HOST, X_FORWARDED_PROTO);
        /// Fields that a trusted proxy sends, and the four fields that go on.
        type Case<'a> = (&'a [(HeaderName, &'static str)], [&'static str; 4]);
        let cases: [Case<'_>; 9] = [
            (&[], ["10.0.0.1", "for=10.0.0.1;host=\"inner\";proto=http", "inner", "http"]),
            (
                &[(x_for.clone(), "192.0.2.1"), (x_host.clone(), "outer:81"), (x_proto.clone(), "HTTPS, http")],
                [
                    "192.0.2.1, 10.0.0.1",
                    "for=192.0.2.1;host=\"outer:81\";proto=https, for=10.0.0.1",
                    "outer:81",
                    "https",
                ],
            ),
            (
                &[(x_for.clone(), "6.6.6.6, 2001:db8::1, 10.0.0.2:80")],
                [
                    "2001:db8::1, 10.0.0.2:80, 10.0.0.1",
                    "for=\"[2001:db8::1]\";host=\"inner\";proto=http, for=\"10.0.0.2:80\", for=10.0.0.1",
                    "inner",
                    "http",
                ],
            ),
            (
                &[(x_for.clone(), "\"a\""), (x_proto.clone(), "a b"), (x_host.clone(), "me@evil")],
                ["unknown, 10.0.0.1", "for=unknown;host=\"inner\";proto=http, for=10.0.0.1", "inner", "http"],
            ),
            (
                &[(
                    FORWARDED,
                    "for=6.6.6.6;proto=ftp, for=\"[2001:db8::1]:4711\";proto=https;by=_p, for=10.0.0.2;host=outer",
                )],
                [
                    "2001:db8::1, 10.0.0.2, 10.0.0.1",
                    "for=\"[2001:db8::1]:4711\";proto=https;by=_p;host=\"outer\", for=10.0.0.2;host=outer, for=10.0.0.1",
                    "outer",
                    "https",
                ],
            ),
            (
                &[(FORWARDED, "for=_hidden;host=\"a,b\"")],
                ["_hidden, 10.0.0.1", "for=_hidden;host=\"a,b\";proto=http, for=10.0.0.1", "a,b", "http"],
            ),
            (
                &[(FORWARDED, "for=6.6.6.6;host=evil;proto=ftp"), (x_for.clone(), "192.0.2.1")],
                ["192.0.2.1, 10.0.0.1", "for=192.0.2.1;host=\"inner\";proto=http, for=10.0.0.1", "inner", "http"],
            ),
            (
                &[(FORWARDED, "for=6.6.6.6;host=evil"), (x_proto.clone(), "https")],
                ["10.0.0.1", "for=10.0.0.1;host=\"inner\";proto=https", "inner", "https"],
            ),
            (
                &[(FORWARDED, "proto=https")],
                ["unknown, 10.0.0.1", "proto=https;host=\"inner\", for=10.0.0.1", "inner", "https"],
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(passed_on(fields, Family::XForwarded), expected, "{fields:?}");
        }
        let both = [(FORWARDED, "for=192.0.2.1;proto=https"), (x_for, "6.6.6.6"), (x_host, "evil"), (x_proto, "ftp")];
        let expected =
            ["192.0.2.1, 10.0.0.1", "for=192.0.2.1;proto=https;host=\"inner\", for=10.0.0.1", "inner", "https"];
        assert_eq!(passed_on(&both, Family::Forwarded), expected);
    }
}
