//! Tries what the gateway offers, as the header `x-tool` of a request says, and tells what came of it.

use std::{
    io::{Read, Write},
    time::Duration,
};

use stile_sdk::{
    clock, connection,
    crypto::{self, Algorithm, Hash, PublicKey},
    key_value, metrics,
    prelude::*,
    random,
};

#[derive(Deserialize)]
struct Toolbox {}

impl RequestFilter for Toolbox {
    fn on_request(&self, request: &mut Request) -> Result<Verdict> {
        let Some(tool) = request.header("x-tool").map(|value| value.to_string()) else { return Ok(Verdict::Proceed) };
        let is_endless = request.header("x-forever").is_some();
        loop {
            let told = used(&tool, request)?;
            if !is_endless {
                return Ok(Reply::text(200, told).into());
            }
        }
    }
}

/// Uses a tool once, and returns its result as text.
fn used(tool: &str, request: &mut Request) -> Result<String> {
    if tool == "head" {
        return Ok(head(request));
    }
    let argument = |name: &str| request.header(name).map(|value| value.to_string());
    let key = argument("x-key").unwrap_or_else(|| "key".into());
    let value = argument("x-value").unwrap_or_default();
    let ttl = argument("x-ttl").map(|text| text.parse()).transpose()?.map(Duration::from_millis);
    Ok(match tool {
        "get" => key_value::get(&key).map_or("nothing".into(), |value| String::from_utf8_lossy(&value).into_owned()),
        "set" => tell(key_value::set(&key, value, ttl)),
        "swap" => {
            let before = argument("x-before");
            tell(key_value::compare_and_swap(&key, before.as_ref().map(String::as_bytes), value, ttl))
        }
        "increment" => tell(key_value::increment(&key, value.parse()?, ttl)),
        "delete" => {
            key_value::delete(&key);
            "done".into()
        }
        "fill" => {
            let full = (0..).find_map(|n| key_value::set(&format!("{key}{n}"), vec![0; 6000], ttl).err());
            full.map(|error| error.to_string()).unwrap_or_default()
        }
        "add" => tell(metrics::add(&key, &[("kind", &value)], 1)),
        "gauge" => tell(metrics::set(&key, &[], value.parse()?)),
        "observe" => tell(metrics::observe(&key, &[], Duration::from_secs_f64(value.parse()?))),
        "now" => clock::now().as_secs().to_string(),
        "monotonic" => {
            let before = clock::monotonic();
            (clock::monotonic() >= before).to_string()
        }
        "random" => format!("{:02x?}", random::bytes::<16>()),
        "connection" => format!("{:?}", connection::current()),
        "hash" => format!("{:02x?}", crypto::digest(Hash::Sha256, value.as_bytes())),
        "digest" => crypto::digest(Hash::Sha512, &long(&value)).len().to_string(),
        "hmac" => crypto::hmac(Hash::Sha384, &long(&value), &long(&value)).len().to_string(),
        "equal" => crypto::equal(&long(&value), &long(&value)).to_string(),
        "rs256" => {
            let key = PublicKey::Rsa { n: vec![255; 256], e: vec![1, 0, 1] };
            tell(crypto::verify(Algorithm::Rs256, &key, &long(&value), &[0; 256]))
        }
        "eddsa" => tell(crypto::verify(Algorithm::EdDsa, &PublicKey::Ed25519(vec![9; 32]), &long(&value), &[0; 64])),
        "keep" => tell(key_value::set(&key, long(&value), ttl)),
        "ed25519" => {
            let bytes = |name: &str| hex(&argument(name).unwrap_or_default());
            let key = PublicKey::Ed25519(bytes("x-public"));
            tell(crypto::verify(Algorithm::EdDsa, &key, value.as_bytes(), &bytes("x-signature")))
        }
        other => return Err(Error::new(format!("there is no tool {other}"))),
    })
}

/// Reads and edits all that a request has.
fn head(request: &mut Request) -> String {
    let edits = [
        request.set_method("PUT"),
        request.set_path("/x"),
        request.set_query(Some("y")),
        request.add_header("x-a", "1"),
        request.set_header("x-a", "2"),
        request.remove_header("x-a"),
    ];
    let kept = request.keep(&"kept");
    let read = (request.method(), request.path(), request.query(), request.authority(), request.headers());
    let values = (request.header("host"), request.header_values("host"), request.consumer(), request.kept::<String>());
    format!("{edits:?} {kept:?} {read:?} {values:?}")
}

fn tell<T: std::fmt::Debug, E: std::fmt::Display>(result: Result<T, E>) -> String {
    result.map_or_else(|error| error.to_string(), |value| format!("{value:?}"))
}

/// So many bytes.
fn long(count: &str) -> Vec<u8> {
    vec![b'x'; count.parse().unwrap_or_default()]
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len() / 2).filter_map(|n| u8::from_str_radix(&text[2 * n..2 * n + 2], 16).ok()).collect()
}

/// Remembers bodies, as far as it may.
impl RequestStream for Toolbox {
    fn on_request_stream(&self, body: &mut Stream) -> Result<()> {
        let mut whole = Vec::new();
        body.read_to_end(&mut whole)?;
        // Whether it may is the gateway's to tell.
        let _ = key_value::set("body", whole.as_slice(), None);
        body.write_all(&whole)?;
        Ok(())
    }
}

stile_sdk::export!(Toolbox: request, request_stream);
