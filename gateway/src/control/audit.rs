//! The audit log: who changed what, from what to what. It is written in the same commit as the change itself, and goes
//! back a bounded number of changes.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::store::{Commit, Store, StoreError};

/// Changes that are kept, and their bytes.
const KEPT: usize = 10_000;
const KEPT_BYTES: usize = 64 << 20;
/// Changes that are read at once.
const AT_ONCE: usize = 1000;
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

/// Where the log stands.
#[derive(Debug, Clone, Default)]
pub(super) struct Audit {
    /// Of the last change.
    number: u64,
    generation: u64,
    /// Of each change that is kept, the oldest first.
    bytes: VecDeque<usize>,
    all_bytes: usize,
}

impl Audit {
    pub(super) async fn open(store: &Store) -> Result<Self, StoreError> {
        let mut audit = Self::default();
        let mut before: Option<String> = None;
        loop {
            let page = store.last(PREFIX, before.as_deref(), AT_ONCE).await?;
            if let (None, Some(last)) = (&before, page.first()) {
                let Change { number, generation, .. } = last.json()?;
                audit = Self { number, generation, ..audit };
            }
            let Some(first) = page.last() else { return Ok(audit) };
            before = Some(first.key.clone());
            for entry in page {
                audit.bytes.push_front(entry.value.len());
                audit.all_bytes += entry.value.len();
            }
        }
    }

    /// The generation that the next change makes.
    pub(super) fn next_generation(&self) -> u64 {
        self.generation + 1
    }

    /// Adds what was done to the commit that does it, and what is to be forgotten for it; gives where the log stands once
    /// that is made.
    pub(super) fn add(&self, mut commit: Commit, done: Vec<Done>) -> (Commit, Self) {
        let at = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut next = Self { generation: self.next_generation(), ..self.clone() };
        for Done { by, action, kind, name, before, after } in done {
            next.number += 1;
            let Self { number, generation, .. } = next;
            let (by, kind, at) = (by.to_string(), kind.to_owned(), at.clone());
            let change = Change { number, at, by, action, kind, name, generation, before, after };
            let value = serde_json::to_vec(&change).expect("a change of texts, numbers and JSON is JSON");
            next.bytes.push_back(value.len());
            next.all_bytes += value.len();
            commit = commit.put(key(number), value);
            // The newest stays, however large.
            while next.bytes.len() > KEPT || (next.all_bytes > KEPT_BYTES && next.bytes.len() > 1) {
                commit = commit.delete(key(number + 1 - next.bytes.len() as u64));
                next.all_bytes -= next.bytes.pop_front().unwrap_or(0);
            }
        }
        (commit, next)
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
            let (commit, next) = audit.add(Commit::new(), done);
            store.commit(commit).await.expect("room");
            audit = next;
        }
        let names = async |before, limit| {
            let changes = list(&store, before, limit).await.expect("a reading");
            changes.into_iter().map(|change| (change.number, change.name, change.generation)).collect::<Vec<_>>()
        };
        assert_eq!(names(None, 2).await, [(3, "c".to_owned(), 2), (2, "b".to_owned(), 1)]);
        assert_eq!(names(Some(2), 9).await, [(1, "a".to_owned(), 1)]);
        assert_eq!(Audit::open(&store).await.expect("a reading").next_generation(), 3);
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_number_and_in_bytes() {
        let store = Store::in_memory().expect("a store");
        let mut audit = Audit::open(&store).await.expect("a reading");
        let commit = async |audit: &mut Audit, done: Vec<Done>| {
            let (commit, next) = audit.add(Commit::new(), done);
            store.commit(commit).await.expect("room");
            *audit = next;
            let all = store.list_all(PREFIX).await.expect("a reading").entries;
            (all.len(), all.iter().map(|entry| entry.value.len()).sum::<usize>())
        };
        let (number, _) = commit(&mut audit, (0..KEPT + 5).map(|_| done("small")).collect()).await;
        assert_eq!(number, KEPT);
        let large = || Done { after: Some("x".repeat(KEPT_BYTES / 4).into()), ..done("large") };
        for n in 1..6 {
            let (number, bytes) = commit(&mut audit, vec![large()]).await;
            assert!(bytes <= KEPT_BYTES, "{bytes}");
            assert_eq!(number, if n < 4 { KEPT } else { 3 }, "with {n} large ones");
        }
        let again = Audit::open(&store).await.expect("a reading");
        assert_eq!((again.number, &again.bytes, again.all_bytes), (audit.number, &audit.bytes, audit.all_bytes));
        assert_eq!(again.next_generation(), audit.next_generation());
    }
}
