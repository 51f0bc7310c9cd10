//! Where keys come from: the configuration, or a set that is fetched, shared by all instances, and kept for a while longer than
//! it is fresh, so that an issuer that is down locks nobody out.

use std::cell::RefCell;
use std::time::Duration;

use stile_sdk::{http, key_value, prelude::*};

use crate::jws::{Jwk, Key};

/// How long a set that cannot be fetched again is still good.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// How often it is fetched because of a key that is not in it: anybody can name one.
const UNKNOWN: Duration = Duration::from_secs(30);
/// How long one call may be the one that fetches.
const LEASE: Duration = Duration::from_secs(2);

/// RFC 7517 §5.
#[derive(Deserialize)]
pub(crate) struct KeySet {
    keys: Vec<serde_json::Value>,
}

/// A set that is fetched.
pub(crate) struct Fetched {
    url: String,
    fresh: Duration,
    /// The last that this instance has read: most calls find the same.
    read: RefCell<(Vec<u8>, Vec<Key>)>,
}

/// The keys of a set that are of use; one that cannot be read is passed over, since it is not ours to mend.
pub(crate) fn usable(set: KeySet) -> Vec<Key> {
    let keys = set.keys.into_iter().filter_map(|key| match serde_json::from_value::<Jwk>(key).map(Key::of) {
        Ok(Ok(key)) => key,
        Ok(Err(error)) => {
            log::warn!("a key is passed over: {error}");
            None
        }
        Err(error) => {
            log::warn!("a key is passed over: {error}");
            None
        }
    });
    keys.collect()
}

impl Fetched {
    pub(crate) fn new(url: String, fresh: Duration) -> Self {
        Self { url, fresh, read: RefCell::default() }
    }

    /// The keys as they are known.
    pub(crate) fn keys(&self) -> Result<Vec<Key>> {
        let known = key_value::get(&self.name("set"));
        // One call fetches, the others go on with what there is; for a moment only, should its client leave in the middle.
        if key_value::compare_and_swap(&self.name("fresh"), None, "", Some(LEASE))? || known.is_none() {
            return self.fetch().or_else(|error| {
                let _ = key_value::compare_and_swap(&self.name("fresh"), Some(b""), "", Some(UNKNOWN));
                log::warn!("{}: {error}", self.url);
                self.read(&known.ok_or(error)?)
            });
        }
        self.read(&known.unwrap_or_default())
    }

    /// The keys as they are now, unless that was looked at just before.
    pub(crate) fn again(&self) -> Result<Option<Vec<Key>>> {
        if !key_value::compare_and_swap(&self.name("again"), None, "", Some(UNKNOWN))? {
            return Ok(None);
        }
        self.fetch().map(Some)
    }

    pub(crate) fn fetch(&self) -> Result<Vec<Key>> {
        let answer = http::get(&self.url).header("accept", "application/json").send()?;
        if answer.status != 200 {
            return Err(Error::new(format!("the set of keys is answered {}", answer.status)));
        }
        let keys = self.read(&answer.body)?;
        if keys.is_empty() {
            return Err(Error::new("the set of keys has none that is of use"));
        }
        key_value::set(&self.name("set"), &answer.body, Some(STALE))?;
        key_value::set(&self.name("fresh"), "", Some(self.fresh))?;
        Ok(keys)
    }

    fn read(&self, text: &[u8]) -> Result<Vec<Key>> {
        if self.read.borrow().0 != text {
            let mut keys = usable(serde_json::from_slice(text)?);
            // What everybody may fetch is no secret.
            keys.retain(|key| !key.is_secret());
            self.read.replace((text.to_vec(), keys));
        }
        Ok(self.read.borrow().1.clone())
    }

    fn name(&self, what: &str) -> String {
        format!("{what} {}", self.url)
    }
}
