//! The back end inside the gateway: the host's functions, generated from the contract.
#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_qualifications,
    reason = "generated code, and handles moved out of it"
)]

use log::Level;

use crate::connection::Connection;
use crate::consumers::{Consumer, Presented};
use crate::crypto::{Algorithm, Hash, PublicKey};
use crate::http::{Answer, Call, CallError};
use crate::key_value::KeyValueError;
use crate::metrics::MetricError;

include!("../bindings/host.rs");

pub(crate) use exchange::{Request, Response};
use stile::plugin::{
    clock, connection as wire, consumers as directory, crypto, http_client as calls, key_value as kv, log as host,
    metrics, random,
};

/// The contract's `exchange` as the worlds of the phases use it: resources from above, values from the SDK.
pub mod exchange {
    pub use super::stile::plugin::exchange::{Header, Request, Response};
    pub use crate::consumers::Consumer;
    pub use crate::{BodyVerdict, Reply, Verdict};
}

/// The contract's `body`, likewise.
pub mod body {
    pub use super::stile::plugin::body::BodyStream;
}

pub(crate) use body::BodyStream as Stream;

impl crate::Stream {
    pub(crate) fn borrow(body: &Stream) -> Self {
        // SAFETY: as below.
        Self::new(unsafe { Stream::from_handle(body.take_handle()) })
    }
}

impl crate::Request {
    pub(crate) fn borrow(request: &Request) -> Self {
        // SAFETY: the handle moves: `take_handle` leaves an empty one behind, which drops nothing.
        Self(unsafe { Request::from_handle(request.take_handle()) })
    }
}

impl crate::Response {
    pub(crate) fn borrow(response: &Response) -> Self {
        // SAFETY: as above.
        Self(unsafe { Response::from_handle(response.take_handle()) })
    }
}

pub(crate) fn log_enabled(level: Level) -> bool {
    host::enabled(level.into())
}

pub(crate) fn log_write(level: Level, message: &str) {
    host::write(level.into(), message);
}

pub(crate) fn panicked(message: &str, place: &str) {
    host::panicked(message, place);
}

pub(crate) fn verify(presented: &Presented<'_>) -> Option<Consumer> {
    let presented = match *presented {
        Presented::ApiKey(key) => directory::Presented::ApiKey(key.into()),
        Presented::Basic { username, password } => {
            directory::Presented::Basic(directory::Password { username: username.into(), password: password.into() })
        }
        Presented::Hmac { key_id, message, signature } => directory::Presented::Hmac(directory::Signature {
            key_id: key_id.into(),
            message: message.into(),
            signature: signature.into(),
        }),
        Presented::Jwt { issuer, subject } => {
            directory::Presented::Jwt(directory::Subject { issuer: issuer.into(), subject: subject.into() })
        }
        Presented::Certificate(subject) => directory::Presented::Certificate(subject.into()),
    };
    directory::verify(&presented)
}

pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
    kv::get(key)
}

pub(crate) fn set(key: &str, value: &[u8], ttl: Option<u64>) -> Result<(), KeyValueError> {
    kv::set(key, value, ttl)
}

pub(crate) fn compare_and_swap(
    key: &str,
    before: Option<&[u8]>,
    value: &[u8],
    ttl: Option<u64>,
) -> Result<bool, KeyValueError> {
    kv::compare_and_swap(key, before, value, ttl)
}

pub(crate) fn increment(key: &str, by: i64, ttl: Option<u64>) -> Result<i64, KeyValueError> {
    kv::increment(key, by, ttl)
}

pub(crate) fn delete(key: &str) {
    kv::delete(key);
}

fn owned(labels: &[(&str, &str)]) -> Vec<metrics::Label> {
    labels.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

pub(crate) fn add(name: &str, labels: &[(&str, &str)], by: u64) -> Result<(), MetricError> {
    metrics::add(name, &owned(labels), by)
}

pub(crate) fn set_gauge(name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), MetricError> {
    metrics::set(name, &owned(labels), value)
}

pub(crate) fn observe(name: &str, labels: &[(&str, &str)], seconds: f64) -> Result<(), MetricError> {
    metrics::observe(name, &owned(labels), seconds)
}

pub(crate) fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    crypto::digest(hash, message)
}

pub(crate) fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    crypto::hmac(hash, key, message)
}

pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    crypto::equal(a, b)
}

pub(crate) fn verify_signature(
    algorithm: Algorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    let algorithm = match algorithm {
        Algorithm::Rs256 => crypto::Algorithm::Rs256,
        Algorithm::Rs384 => crypto::Algorithm::Rs384,
        Algorithm::Rs512 => crypto::Algorithm::Rs512,
        Algorithm::Ps256 => crypto::Algorithm::Ps256,
        Algorithm::Ps384 => crypto::Algorithm::Ps384,
        Algorithm::Ps512 => crypto::Algorithm::Ps512,
        Algorithm::Es256 => crypto::Algorithm::Es256,
        Algorithm::Es384 => crypto::Algorithm::Es384,
        Algorithm::Es512 => crypto::Algorithm::Es512,
        Algorithm::EdDsa => crypto::Algorithm::Eddsa,
    };
    let key = match key.clone() {
        PublicKey::Rsa { n, e } => crypto::PublicKey::Rsa(crypto::RsaKey { n, e }),
        PublicKey::Ec(point) => crypto::PublicKey::Ec(point),
        PublicKey::Ed25519(key) => crypto::PublicKey::Ed25519(key),
    };
    crypto::verify(algorithm, &key, message, signature)
}

pub(crate) fn now() -> u64 {
    clock::now()
}

pub(crate) fn monotonic() -> u64 {
    clock::monotonic()
}

pub(crate) fn random_bytes(count: usize) -> Vec<u8> {
    random::bytes(count as u32)
}

pub(crate) fn connection() -> Connection {
    wire::current()
}

pub(crate) use calls::Pending;

impl From<Call> for calls::Request {
    fn from(call: Call) -> Self {
        let Call { method, url, headers, body, timeout } = call;
        let timeout = timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
        Self { method, url, headers, body, timeout }
    }
}

pub(crate) fn send(call: Call) -> Result<Answer, CallError> {
    calls::send(&call.into())
}

pub(crate) fn start(call: Call) -> Result<Pending, CallError> {
    calls::start(&call.into())
}

impl From<Level> for host::Level {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::Error,
            Level::Warn => Self::Warn,
            Level::Info => Self::Info,
            Level::Debug => Self::Debug,
            Level::Trace => Self::Trace,
        }
    }
}
