//! A registration: what a server sends, what is kept of it, and under which keys. What is wrong with it is told all at once.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    config::scalar,
    store::{Entry, Event, LeaseId, Revision, StoreError},
    upstream::Member,
};

/// All that is kept of endpoints.
pub(super) const ENDPOINTS: &str = "endpoint/";
const REGISTERED: &str = "endpoint/registered/";
const DRAINED: &str = "endpoint/drained/";

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(86_400);
const MAX_ID: usize = 128;
const MAX_METADATA: usize = 64;
const MAX_KEY: usize = 64;
const MAX_VALUE: usize = 1024;

/// What a server says of itself, as it is sent and stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Announcement {
    /// Where it takes connections.
    #[schemars(with = "scalar::Address")]
    pub address: SocketAddr,
    /// Its share under `weighted`; 0 takes none.
    #[serde(default = "one")]
    pub weight: u16,
    /// How long it stays without a heartbeat, 100ms to 24h.
    #[serde(default = "thirty_seconds")]
    pub ttl: scalar::Duration,
    /// What others may choose it by.
    #[serde(default)]
    pub metadata: BTreeMap<Box<str>, Box<str>>,
}

/// What is kept of a registration.
#[derive(Debug, Clone)]
pub(super) struct Record {
    pub(super) member: Arc<Member>,
    pub(super) ttl: Duration,
    pub(super) lease: LeaseId,
    /// The commit that wrote it.
    pub(super) revision: Revision,
}

/// What an entry of the store is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    Registered { service: &'a str, id: &'a str },
    Drained { service: &'a str, id: &'a str },
}

impl Announcement {
    /// What is wrong with it under this id, each with the key of its cause.
    pub(super) fn mistakes(&self, id: &str) -> Vec<(String, String)> {
        let mut mistakes = Vec::new();
        let mut wrong = |path: &str, message: String| mistakes.push((path.to_owned(), message));
        if !is_id(id) {
            let form = "1 to 128 letters, digits, \".\", \"_\", \"-\", \":\", \"[\" or \"]\"";
            wrong("id", format!("\"{}\" is no id: it has {form}", id.escape_debug()));
        }
        if self.address.port() == 0 || self.address.ip().is_unspecified() {
            wrong("address", format!("nobody can connect to {}", self.address));
        }
        if !(SHORTEST..=LONGEST).contains(&self.ttl.0) {
            wrong("ttl", format!("{} is not within 100ms and 24h", self.ttl));
        }
        if self.metadata.len() > MAX_METADATA {
            wrong("metadata", format!("{} entries are more than {MAX_METADATA}", self.metadata.len()));
        }
        for (key, value) in self.metadata.iter().take(MAX_METADATA) {
            if key.is_empty() || key.len() > MAX_KEY {
                wrong("metadata", format!("\"{}\" does not have 1 to {MAX_KEY} bytes", key.escape_debug()));
            }
            if value.len() > MAX_VALUE {
                let path = format!("metadata.{}", key.escape_debug());
                wrong(&path, format!("{} bytes are more than {MAX_VALUE}", value.len()));
            }
        }
        mistakes
    }

    pub(super) fn member(&self, id: &str) -> Member {
        Member { id: id.into(), address: self.address, weight: self.weight, metadata: self.metadata.clone().into() }
    }

    pub(super) fn value(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("its keys are texts")
    }
}

impl Record {
    fn parse(key: &str, value: &[u8], lease: Option<LeaseId>, revision: Revision) -> Result<Self, StoreError> {
        let corrupt = |message: String| StoreError::Corrupt(key.to_owned(), message);
        let announcement: Announcement = serde_json::from_slice(value).map_err(|error| corrupt(error.to_string()))?;
        let lease = lease.ok_or_else(|| corrupt("it has no lease".to_owned()))?;
        let id = key.rsplit('/').next().unwrap_or_default();
        Ok(Self { member: Arc::new(announcement.member(id)), ttl: announcement.ttl.0, lease, revision })
    }

    pub(super) fn of_entry(entry: &Entry) -> Result<Self, StoreError> {
        Self::parse(&entry.key, &entry.value, entry.lease, entry.revision)
    }

    /// None if it has ended.
    pub(super) fn of_event(event: &Event) -> Result<Option<Self>, StoreError> {
        let value = event.value.as_ref();
        value.map(|value| Self::parse(&event.key, value, event.lease, event.revision)).transpose()
    }
}

impl<'a> Subject<'a> {
    pub(super) fn of(key: &'a str) -> Option<Self> {
        let parts = |prefix| key.strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
        let registered = parts(REGISTERED).map(|(service, id)| Self::Registered { service, id });
        registered.or_else(|| parts(DRAINED).map(|(service, id)| Self::Drained { service, id }))
    }

    pub(super) fn key(&self) -> String {
        match self {
            Self::Registered { service, id } => format!("{REGISTERED}{service}/{id}"),
            Self::Drained { service, id } => format!("{DRAINED}{service}/{id}"),
        }
    }
}

fn is_id(text: &str) -> bool {
    let part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-:[]".contains(&byte);
    (1..=MAX_ID).contains(&text.len()) && text.bytes().all(part)
}

fn one() -> u16 {
    1
}

fn thirty_seconds() -> scalar::Duration {
    scalar::Duration::from_secs(30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_all_that_is_wrong() {
        let sent = r#"{"address":"0.0.0.0:0","ttl":"10ms","metadata":{"":"x"}}"#;
        let announcement: Announcement = serde_json::from_str(sent).expect("its form is right");
        let mistakes = announcement.mistakes("a/b");
        let paths: Vec<_> = mistakes.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["id", "address", "ttl", "metadata"]);
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let announcement: Announcement = serde_json::from_str(r#"{"address":"127.0.0.1:1"}"#).expect("it is whole");
        assert_eq!((announcement.weight, announcement.ttl.0), (1, Duration::from_secs(30)));
        assert_eq!(announcement.mistakes("127.0.0.1:1"), []);
    }

    #[test]
    fn keys_lead_back_to_what_they_are_of() {
        let (service, id) = ("users", "[::1]:7001");
        for subject in [Subject::Registered { service, id }, Subject::Drained { service, id }] {
            assert_eq!(Subject::of(&subject.key()), Some(subject));
        }
        assert_eq!(Subject::of("endpoint/other/users/1"), None);
    }
}
