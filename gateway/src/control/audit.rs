//! The audit log: who changed what, from what to what. It is written in the same commit as the change itself, and goes
//! back a bounded number of changes.

use std::{sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Commit, Store, StoreError};

/// Changes that are kept.
const KEPT: u64 = 10_000;
const PREFIX: &str = "audit/";

/// One change of the configuration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Counts from 1, one more for each change.
    pub number: u64,
    /// RFC 3339, UTC.
    pub at: String,
    /// The name of the token that was used; `file` for the configuration file.
    pub by: String,
    pub action: Action,
    /// Such as `routes`; `configuration` for the file as a whole.
    pub kind: String,
    pub name: String,
    /// The generation that went live with it.
    pub generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Value>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Put,
    Delete,
    /// A revision of a plugin became live.
    Rollout,
    /// The configuration file was read again.
    Reload,
}

/// What was done, before it has a number.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) by: Arc<str>,
    pub(super) action: Action,
    pub(super) kind: &'static str,
    pub(super) name: String,
    pub(super) before: Option<Value>,
    pub(super) after: Option<Value>,
}

#[derive(Debug)]
pub(super) struct Audit {
    /// Of the last change.
    number: u64,
    generation: u64,
}

impl Audit {
    pub(super) async fn open(store: &Store) -> Result<Self, StoreError> {
        let last = list(store, None, 1).await?;
        let (number, generation) = last.first().map_or((0, 0), |last| (last.number, last.generation));
        Ok(Self { number, generation })
    }

    /// The generation that the next change makes.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Adds what was done to the commit that does it, and what is to be forgotten for it.
    pub(super) fn add(&self, mut commit: Commit, done: Vec<Done>) -> Commit {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        for (number, Done { by, action, kind, name, before, after }) in (self.number + 1..).zip(done) {
            let generation = self.next_generation();
            let (by, kind, at) = (by.to_string(), kind.to_owned(), at.clone());
            let change = Change { number, at, by, action, kind, name, generation, before, after };
            let value = serde_json::to_vec(&change).expect("a change of texts, numbers and JSON is JSON");
            commit = commit.put(key(number), value);
            if let Some(old) = number.checked_sub(KEPT) {
                commit = commit.delete(key(old));
            }
        }
        commit
    }

    /// So many changes were made, and with them a generation.
    pub(super) fn made(&mut self, changes: usize) {
        self.number += changes as u64;
        self.generation += 1;
    }
}

/// The newest first: at most `limit` of those before the change `before`.
pub(super) async fn list(store: &Store, before: Option<u64>, limit: usize) -> Result<Vec<Change>, StoreError> {
    let all = store.last(PREFIX, before.map(key).as_deref(), limit).await?;
    all.iter().map(|entry| entry.json()).collect()
}

fn key(number: u64) -> String {
    format!("{PREFIX}{number:020}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn done(name: &str) -> Done {
        let (by, action, kind) = ("ops".into(), Action::Put, "routes");
        Done { by, action, kind, name: name.to_owned(), before: None, after: Some(name.into()) }
    }

    #[tokio::test]
    async fn changes_are_told_page_by_page_and_go_on_after_a_restart() {
        let store = Store::in_memory().expect("a store");
        let mut audit = Audit::open(&store).await.expect("a reading");
        assert_eq!(audit.next_generation(), 1);
        for names in [&["a", "b"][..], &["c"]] {
            let done: Vec<_> = names.iter().map(|name| done(name)).collect();
            store.commit(audit.add(Commit::new(), done)).await.expect("room");
            audit.made(names.len());
        }
        let names = async |before, limit| {
            let changes = list(&store, before, limit).await.expect("a reading");
            changes.into_iter().map(|change| (change.number, change.name, change.generation)).collect::<Vec<_>>()
        };
        assert_eq!(names(None, 2).await, [(3, "c".to_owned(), 2), (2, "b".to_owned(), 1)]);
        assert_eq!(names(Some(2), 9).await, [(1, "a".to_owned(), 1)]);
        assert_eq!(Audit::open(&store).await.expect("a reading").next_generation(), 3);
    }
}
