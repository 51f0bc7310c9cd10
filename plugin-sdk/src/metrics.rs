//! The plugin's own metrics. They appear in the gateway's `/metrics` as `stile_plugin_own_NAME`, counters with `_total` and
//! histograms with `_seconds` after that, and the plugin's name as a label. The plugin's entry in the configuration must allow
//! `metrics`; its `limits.metrics` bounds how many sets of labels there are.
//!
//! ```
//! use std::time::Duration;
//! use stile_sdk::{metrics, testing, Result};
//!
//! # fn main() -> Result<()> {
//! metrics::add("refusals", &[("reason", "expired")], 1)?;
//! metrics::set("keys", &[], 3.0)?;
//! metrics::observe("lookup", &[], Duration::from_millis(2))?;
//! assert_eq!(testing::metric("refusals", &[("reason", "expired")]), Some(1.0));
//! # Ok(()) }
//! ```

use std::{fmt, time::Duration};

use crate::backend;

/// Why nothing was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricError {
    /// A name, a label or a value that no metric may have.
    Invalid(String),
    /// More sets of labels than the plugin may have.
    Full,
}

impl std::error::Error for MetricError {}

impl fmt::Display for MetricError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(text) => f.write_str(text),
            Self::Full => f.write_str("more sets of labels than the plugin may have"),
        }
    }
}

/// Adds to a counter.
pub fn add(name: &str, labels: &[(&str, &str)], by: u64) -> Result<(), MetricError> {
    backend::add(name, labels, by)
}

/// Sets a gauge.
pub fn set(name: &str, labels: &[(&str, &str)], value: f64) -> Result<(), MetricError> {
    backend::set_gauge(name, labels, value)
}

/// Adds a time to a histogram.
pub fn observe(name: &str, labels: &[(&str, &str)], time: Duration) -> Result<(), MetricError> {
    backend::observe(name, labels, time.as_secs_f64())
}
