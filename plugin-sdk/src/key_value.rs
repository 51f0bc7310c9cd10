//! What a plugin remembers: values by key, shared by all its instances whatever their configuration, as long as the gateway
//! runs. The plugin's entry in the configuration must allow `key-value`; its `limits.key_value` bounds all of it.
//!
//! ```
//! use std::time::Duration;
//! use stile_sdk::{key_value, Result};
//!
//! /// At most so many in a minute.
//! fn may(name: &str, most: i64) -> Result<bool> {
//!     Ok(key_value::increment(name, 1, Some(Duration::from_secs(60)))? <= most)
//! }
//!
//! # fn main() -> Result<()> {
//! assert_eq!((may("ann", 1)?, may("ann", 1)?), (true, false));
//! # Ok(()) }
//! ```

use std::{fmt, time::Duration};

use crate::backend;

/// Why something was not remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyValueError {
    /// The key is empty or longer than 1024 bytes.
    InvalidKey,
    /// There is no room for it.
    Full,
    /// The value is no counter.
    NotACounter,
}

impl std::error::Error for KeyValueError {}

impl fmt::Display for KeyValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidKey => "the key is empty or longer than 1024 bytes",
            Self::Full => "more than the plugin may remember",
            Self::NotACounter => "the value is no counter",
        })
    }
}

/// The value of this key; a counter's is its decimal text.
#[must_use]
pub fn get(key: &str) -> Option<Vec<u8>> {
    backend::get(key)
}

/// Sets a value, for this long or for good.
pub fn set(key: &str, value: impl AsRef<[u8]>, ttl: Option<Duration>) -> Result<(), KeyValueError> {
    backend::set(key, value.as_ref(), ttl.map(millis))
}

/// Sets a value where that before is this one; none stands for none. Says whether it was.
pub fn compare_and_swap(
    key: &str,
    before: Option<&[u8]>,
    value: impl AsRef<[u8]>,
    ttl: Option<Duration>,
) -> Result<bool, KeyValueError> {
    backend::compare_and_swap(key, before, value.as_ref(), ttl.map(millis))
}

/// Adds to a counter and gives what it is then. One that is not there begins at 0, with this time to live.
pub fn increment(key: &str, by: i64, ttl: Option<Duration>) -> Result<i64, KeyValueError> {
    backend::increment(key, by, ttl.map(millis))
}

/// Forgets a value; one that is not there is no error.
pub fn delete(key: &str) {
    backend::delete(key);
}

fn millis(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
