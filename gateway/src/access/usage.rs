//! How much each consumer uses each version of an API. What is counted here is taken over into the store now and then.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};

use super::Product;

/// Counts by version and consumer.
#[derive(Debug, Default)]
pub struct Usages(DashMap<Box<str>, Arc<Usage>>);

/// What one consumer has used of one version since it was last taken over.
#[derive(Debug, Default)]
pub struct Usage {
    requests: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// All of them.
    pub requests: u64,
    /// Those that were not let through: 401, 403, 410, 429.
    pub refused: u64,
    /// Those that the service or the gateway failed: 500 and above.
    pub failed: u64,
    /// Bytes of bodies.
    pub received: u64,
    pub sent: u64,
}

impl Usages {
    /// The count of a consumer, or of nobody, for this version.
    pub(super) fn of(&self, product: &Product, consumer: &str) -> Arc<Usage> {
        let key = format!("{}/{}/{consumer}", product.api, product.version);
        if let Some(usage) = self.0.get(key.as_str()) {
            return Arc::clone(&usage);
        }
        Arc::clone(&self.0.entry(key.into()).or_default())
    }

    /// Takes over what was counted, by `API/VERSION/CONSUMER`, and lets go of what nobody uses just now.
    pub fn take(&self) -> Vec<(Box<str>, Used)> {
        let mut all = Vec::new();
        self.0.retain(|key, usage| {
            let used = usage.take();
            if used != Used::default() {
                all.push((key.clone(), used));
                return true;
            }
            // Nobody can get at it meanwhile.
            Arc::strong_count(usage) > 1
        });
        all
    }

    /// Puts back what could not be taken over.
    pub fn put_back(&self, key: &str, used: &Used) {
        self.0.entry(key.into()).or_default().add(used);
    }
}

impl Usage {
    pub fn add(&self, used: &Used) {
        let Used { requests, refused, failed, received, sent } = *used;
        self.requests.fetch_add(requests, Relaxed);
        self.refused.fetch_add(refused, Relaxed);
        self.failed.fetch_add(failed, Relaxed);
        self.received.fetch_add(received, Relaxed);
        self.sent.fetch_add(sent, Relaxed);
    }

    fn take(&self) -> Used {
        Used {
            requests: self.requests.swap(0, Relaxed),
            refused: self.refused.swap(0, Relaxed),
            failed: self.failed.swap(0, Relaxed),
            received: self.received.swap(0, Relaxed),
            sent: self.sent.swap(0, Relaxed),
        }
    }
}

impl Used {
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        Self {
            requests: self.requests + more.requests,
            refused: self.refused + more.refused,
            failed: self.failed + more.failed,
            received: self.received + more.received,
            sent: self.sent + more.sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_taken_over_once() {
        let product =
            Product { api: "a".into(), version: "1".into(), retired: false, anonymous: false, scopes: Box::default() };
        let usages = Usages::default();
        let (one, two) = (Used { requests: 1, ..Used::default() }, Used { requests: 2, sent: 9, ..Used::default() });
        let held = usages.of(&product, "ann");
        held.add(&one);
        usages.of(&product, "ann").add(&two);
        assert_eq!(usages.take(), [("a/1/ann".into(), one.plus(&two))]);
        assert_eq!(usages.take(), []);
        held.add(&one);
        assert_eq!(usages.take(), [("a/1/ann".into(), one)], "what is in use stays");
        usages.put_back("a/1/ann", &one);
        assert_eq!(usages.take(), [("a/1/ann".into(), one)]);
        drop(held);
        assert_eq!((usages.take().len(), usages.0.len()), (0, 0));
    }
}
