//! What the host offers beside the exchange, in memory and for one thread, as one test is.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use aws_lc_rs::{constant_time, digest as sha, hmac as mac, signature};

use crate::connection::Connection;
use crate::crypto::{Algorithm, Hash, PublicKey};
use crate::http::{Answer, Call, CallError};
use crate::key_value::KeyValueError;
use crate::metrics::MetricError;

const MAX_KEY: usize = 1024;

thread_local! {
    static VALUES: RefCell<Values> = const { RefCell::new(BTreeMap::new()) };
    static METRICS: RefCell<BTreeMap<Metric, f64>> = const { RefCell::new(BTreeMap::new()) };
    /// Nanoseconds since 1970, where a test has set them.
    static TIME: Cell<Option<u64>> = const { Cell::new(None) };
    static ANSWERS: RefCell<Option<Rc<Answers>>> = const { RefCell::new(None) };
    static CONNECTION: RefCell<Option<Connection>> = const { RefCell::new(None) };
}

/// With when each lapses.
type Values = BTreeMap<String, (Vec<u8>, Option<u64>)>;
type Answers = dyn Fn(&Call) -> Result<Answer, CallError>;
type Metric = (String, Vec<(String, String)>);

pub(crate) fn get(key: &str) -> Option<Vec<u8>> {
    let now = now();
    VALUES.with_borrow(|values| {
        let (value, lapses) = values.get(key)?;
        lapses.is_none_or(|lapses| now < lapses).then(|| value.clone())
    })
}

pub(crate) fn set(key: &str, value: &[u8], ttl: Option<u64>) -> Result<(), KeyValueError> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(KeyValueError::InvalidKey);
    }
    let lapses = ttl.map(|ttl| now().saturating_add(ttl.saturating_mul(1_000_000)));
    VALUES.with_borrow_mut(|values| values.insert(key.into(), (value.to_vec(), lapses)));
    Ok(())
}

pub(crate) fn compare_and_swap(
    key: &str,
    before: Option<&[u8]>,
    value: &[u8],
    ttl: Option<u64>,
) -> Result<bool, KeyValueError> {
    let same = get(key).as_deref() == before;
    if same {
        set(key, value, ttl)?;
    }
    Ok(same)
}

pub(crate) fn increment(key: &str, by: i64, ttl: Option<u64>) -> Result<i64, KeyValueError> {
    let Some(before) = get(key) else {
        set(key, by.to_string().as_bytes(), ttl)?;
        return Ok(by);
    };
    let before: i64 =
        str::from_utf8(&before).ok().and_then(|text| text.parse().ok()).ok_or(KeyValueError::NotACounter)?;
    let after = before.saturating_add(by);
    VALUES.with_borrow_mut(|values| {
        if let Some((value, _)) = values.get_mut(key) {
            *value = after.to_string().into_bytes();
        }
    });
    Ok(after)
}

pub(crate) fn delete(key: &str) {
    VALUES.with_borrow_mut(|values| values.remove(key));
}

fn record(name: &str, labels: &[(&str, &str)], change: impl FnOnce(f64) -> f64) -> Result<(), MetricError> {
    let is_name = |name: &str| {
        let rest = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        name.starts_with(|first: char| first.is_ascii_lowercase()) && name.bytes().all(rest)
    };
    if !is_name(name) || !labels.iter().all(|(label, _)| is_name(label)) {
        return Err(MetricError::Invalid(format!("{name:?} or one of its labels is no name")));
    }
    METRICS.with_borrow_mut(|metrics| {
        let value = metrics.entry(metric_key(name, labels)).or_insert(0.0);
        *value = change(*value);
    });
    Ok(())
}

fn metric_key(name: &str, labels: &[(&str, &str)]) -> Metric {
    let mut labels: Vec<_> = labels.iter().map(|(name, value)| ((*name).to_string(), (*value).to_string())).collect();
    labels.sort();
    (name.into(), labels)
}

pub(crate) fn add(name: &str, labels: &[(&str, &str)], by: u64) -> Result<(), MetricError> {
    record(name, labels, |before| before + by as f64)
}

pub(crate) fn set_gauge(name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), MetricError> {
    record(name, labels, |_| value)
}

pub(crate) fn observe(name: &str, labels: &[(&str, &str)], seconds: f64) -> Result<(), MetricError> {
    record(name, labels, |before| before + seconds)
}

pub(crate) fn metric(name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    METRICS.with_borrow(|metrics| metrics.get(&metric_key(name, labels)).copied())
}

pub(crate) fn digest(hash: Hash, message: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => &sha::SHA256,
        Hash::Sha384 => &sha::SHA384,
        Hash::Sha512 => &sha::SHA512,
    };
    sha::digest(algorithm, message).as_ref().to_vec()
}

pub(crate) fn hmac(hash: Hash, key: &[u8], message: &[u8]) -> Vec<u8> {
    let algorithm = match hash {
        Hash::Sha256 => mac::HMAC_SHA256,
        Hash::Sha384 => mac::HMAC_SHA384,
        Hash::Sha512 => mac::HMAC_SHA512,
    };
    mac::sign(&mac::Key::new(algorithm, key), message).as_ref().to_vec()
}

pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

pub(crate) fn verify_signature(
    algorithm: Algorithm,
    key: &PublicKey,
    message: &[u8],
    signature: &[u8],
) -> Result<bool, String> {
    use signature::{self as by, UnparsedPublicKey};
    let (rsa, curve) = match algorithm {
        Algorithm::Rs256 => (Some(&by::RSA_PKCS1_2048_8192_SHA256), None),
        Algorithm::Rs384 => (Some(&by::RSA_PKCS1_2048_8192_SHA384), None),
        Algorithm::Rs512 => (Some(&by::RSA_PKCS1_2048_8192_SHA512), None),
        Algorithm::Ps256 => (Some(&by::RSA_PSS_2048_8192_SHA256), None),
        Algorithm::Ps384 => (Some(&by::RSA_PSS_2048_8192_SHA384), None),
        Algorithm::Ps512 => (Some(&by::RSA_PSS_2048_8192_SHA512), None),
        Algorithm::Es256 => (None, Some((&by::ECDSA_P256_SHA256_FIXED, 65))),
        Algorithm::Es384 => (None, Some((&by::ECDSA_P384_SHA384_FIXED, 97))),
        Algorithm::Es512 => (None, Some((&by::ECDSA_P521_SHA512_FIXED, 133))),
        Algorithm::EdDsa => (None, None),
    };
    match (key, rsa, curve) {
        (PublicKey::Rsa { n, .. }, Some(_), _) if n.iter().skip_while(|byte| **byte == 0).count() < 256 => {
            Err("an RSA key of less than 2048 bits".into())
        }
        (PublicKey::Rsa { n, e }, Some(parameters), _) => {
            let n: Vec<u8> = n.iter().copied().skip_while(|byte| *byte == 0).collect();
            Ok(by::RsaPublicKeyComponents { n, e: e.clone() }.verify(parameters, message, signature).is_ok())
        }
        (PublicKey::Ec(point), _, Some((parameters, length))) if point.len() == length && point[0] == 4 => {
            Ok(UnparsedPublicKey::new(parameters, point).verify(message, signature).is_ok())
        }
        (PublicKey::Ed25519(key), None, None) if key.len() == 32 => {
            Ok(UnparsedPublicKey::new(&by::ED25519, key).verify(message, signature).is_ok())
        }
        _ => Err("a key that is none for the algorithm".into()),
    }
}

pub(crate) fn now() -> u64 {
    let clock = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    TIME.get().unwrap_or_else(|| nanos(clock()))
}

pub(crate) fn set_time(time: Duration) {
    TIME.set(Some(nanos(time)));
}

pub(crate) fn monotonic() -> u64 {
    now()
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

pub(crate) fn random_bytes(count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    SystemRandom::new().fill(&mut bytes).expect("this machine has random bytes");
    bytes
}

/// The answer is there as soon as it is asked for.
#[derive(Debug)]
pub(crate) struct Pending(Result<Answer, CallError>);

impl Pending {
    pub(crate) fn wait(self) -> Result<Answer, CallError> {
        self.0
    }
}

pub(crate) fn send(call: Call) -> Result<Answer, CallError> {
    let answers = ANSWERS.with_borrow(Clone::clone);
    answers.map_or_else(|| Err(CallError::NotAllowed(format!("nobody answers {}", call.url))), |answers| answers(&call))
}

pub(crate) fn start(call: Call) -> Result<Pending, CallError> {
    Ok(Pending(send(call)))
}

pub(crate) fn answer_calls(answers: Rc<Answers>) {
    ANSWERS.set(Some(answers));
}

pub(crate) fn connection() -> Connection {
    CONNECTION.with_borrow(Clone::clone).unwrap_or_else(|| Connection {
        address: "127.0.0.1".into(),
        peer: "127.0.0.1".into(),
        peer_port: 50_000,
        listener: "test".into(),
        scheme: "http".into(),
        protocol: "HTTP/1.1".into(),
        trusted: false,
    })
}

pub(crate) fn set_connection(connection: Connection) {
    CONNECTION.set(Some(connection));
}
