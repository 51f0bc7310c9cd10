//! Statements of trusted proxies about the client: `X-Forwarded-*`, and `Forwarded` (RFC 7239).
//! It reads fields and knows no connection.

use std::{iter, net::IpAddr};

use http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

pub(super) const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The client's address as a chain of trusted proxies states it; `None` if they state no address.
///
/// The peer is trusted and states the last entry; each entry with the address of a trusted proxy vouches for the one before
/// it. The client is the first address from the end that is not trusted. Entries to its left are the client's own claims.
pub(super) fn client(headers: &HeaderMap, proxies: &[IpNet]) -> Option<IpAddr> {
    let x_forwarded = headers.contains_key(X_FORWARDED_FOR);
    let name = if x_forwarded { X_FORWARDED_FOR } else { FORWARDED };
    let mut client = None;
    for entry in entries(headers, &name) {
        let stated = if x_forwarded { address(entry) } else { parameter(entry, "for").and_then(|node| address(&node)) };
        // Behind `unknown` or an obfuscated identifier nobody is known to vouch for anything.
        let Some(address) = stated else { break };
        client = Some(address);
        if !proxies.iter().any(|network| network.contains(&address)) {
            break;
        }
    }
    client
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

/// The address of a node: `192.0.2.1`, `2001:db8::1` or `[2001:db8::1]`, with a port or without (RFC 7239 §6).
fn address(node: &str) -> Option<IpAddr> {
    let host = match node.strip_prefix('[') {
        Some(rest) => match rest.split_once(']')? {
            (host, "") => host,
            (host, port) if port.starts_with(':') => host,
            _ => return None,
        },
        None => match node.split_once(':') {
            Some((host, port)) if !port.contains(':') => host,
            _ => node,
        },
    };
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
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
        let proxies: Vec<IpNet> =
            ["10.0.0.0/8", "2001:db8:aa::/48"].map(|text| text.parse().expect("a network")).into();
        client(&headers, &proxies).map(|address| address.to_string())
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
}
