//! Consumers and credentials that come through the Admin API: kept in the store, looked up in `access`. A secret is told
//! once, when it is made; what is kept is a digest, a hash, or sealed.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use super::credentials::{Kept, Wanted};
use super::{
    Control, Work,
    audit::{Action, Done},
    credentials::{self, CREDENTIALS, credential_key, now, random_id},
    grants::{self, Whose},
    resources::{Condition, Outcome},
};
use crate::{
    access::{Consumer, Holdings, SealKey},
    config::{
        Problem,
        scalar::{NAME, Timestamp, is_name},
        schema::{self, CredentialType},
    },
    snapshot::compile::consumers::{compiled, type_name},
    store::{Commit, Entry, Revision, Store, StoreError},
};

pub(super) const CONSUMERS: &str = "consumer/";
/// How long a credential may go on that another took the place of.
const LONGEST_OVERLAP: Duration = Duration::from_secs(366 * 86_400);
/// Entries that are read at once.
const AT_ONCE: usize = 10_000;
/// Credentials that a consumer may have.
pub(super) const MAX_CREDENTIALS: usize = 100;

/// A consumer as it is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stored {
    #[serde(default)]
    pub groups: Vec<String>,
}

/// A wish to change one consumer.
#[derive(Debug)]
pub struct Wish {
    pub name: String,
    /// None deletes it.
    pub stored: Option<Stored>,
    pub condition: Condition,
    /// The name of the token that is used.
    pub by: Arc<str>,
}

/// What is told of a credential that was made: the secret, this once, where it was made here.
#[derive(Debug)]
pub struct Made {
    pub id: String,
    pub kept: Kept,
    pub secret: Option<String>,
}

/// What is to be stored and told of consumers that change, and what their credentials are then.
#[derive(Debug, Default)]
pub(super) struct Edit {
    pub(super) commit: Commit,
    pub(super) done: Vec<Done>,
    /// None where nothing changes.
    pub(super) credentials: Option<Holdings>,
}

/// A credential that is to end for another, and what was told of it before.
struct Ending {
    id: String,
    kept: Kept,
    before: Value,
}

/// A consumer, and the commit that wrote it; none of one of the file.
#[derive(Debug)]
pub struct Told {
    pub name: String,
    pub groups: Vec<String>,
    pub revision: Option<u64>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum ConsumerError {
    #[error("there is no consumer \"{0}\"")]
    Unknown(String),
    #[error("there is no group \"{0}\": no consumer is in it, and nothing is granted to it")]
    UnknownGroup(String),
    /// Of whom, and of which API.
    #[error("{0} has no such grant of API \"{1}\"")]
    UnknownGrant(String, String),
    #[error("consumer \"{0}\" has no credential \"{1}\"")]
    UnknownCredential(String, String),
    #[error("consumer \"{0}\" is in the configuration file: change it there")]
    OfFile(String),
    #[error("consumer \"{0}\" is not as the condition says")]
    Condition(String),
    #[error("{}", .0.iter().map(|(path, message)| shown(path, message)).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<(String, String)>),
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Control {
    /// Consumers of both layers, by name: at most `limit` of those after the name `after`.
    pub async fn consumers(&self, after: Option<&str>, limit: usize) -> Result<Vec<Told>, StoreError> {
        let of_file: Vec<_> = self.view().layers.config().consumers.iter().map(of_file).collect();
        let key = after.map(|after| format!("{CONSUMERS}{after}"));
        let stored = self.store.list(CONSUMERS, key.as_deref(), limit).await?.entries;
        let mut all: BTreeMap<String, Told> = BTreeMap::new();
        for told in stored.iter().map(of_store).chain(of_file.into_iter().map(Ok)) {
            let told = told?;
            all.insert(told.name.clone(), told);
        }
        Ok(all.into_values().filter(|told| after.is_none_or(|after| *told.name > *after)).take(limit).collect())
    }

    pub async fn consumer(&self, name: &str) -> Result<Told, ConsumerError> {
        let view = self.view();
        if let Some(found) = view.layers.config().consumers.iter().find(|consumer| consumer.name == name) {
            return Ok(of_file(found));
        }
        let entry =
            self.store.get(&consumer_key(name)).await?.ok_or_else(|| ConsumerError::Unknown(name.to_owned()))?;
        Ok(of_store(&entry)?)
    }

    /// Makes, changes or deletes a consumer, its credentials with it; or only says what would come of it.
    pub async fn change_consumer(self: &Arc<Self>, wish: Wish, dry_run: bool) -> Result<Outcome, ConsumerError> {
        let Wish { name, stored, condition, by } = wish;
        let groups = stored.iter().flat_map(|stored| stored.groups.iter().enumerate());
        let named = groups.map(|(n, group)| (format!("groups[{n}]"), group)).chain([("name".to_owned(), &name)]);
        let no_name = |text: &str| format!("\"{}\" is no name: {NAME}", text.escape_debug());
        let mistakes: Vec<_> =
            named.filter(|(_, text)| !is_name(text)).map(|(path, text)| (path, no_name(text))).collect();
        if !mistakes.is_empty() && stored.is_some() {
            return Err(ConsumerError::Invalid(mistakes));
        }
        let this = Arc::clone(self);
        self.consumer_change(async move {
            let mut work = this.settled().await?;
            let before = this.found(&work, &name, &condition).await?;
            let (mut commit, mut credentials) = (Commit::new(), work.credentials.clone());
            let kept = this.kept(&name).await?;
            match &stored {
                Some(new) => {
                    let consumer = Arc::new(compiled(&name, &new.groups));
                    for (id, kept) in kept {
                        work.enter(&mut credentials, &consumer, &id, &kept)?;
                    }
                    commit = commit.put(consumer_key(&name), json!(new).to_string());
                }
                None if before.is_none() => return Err(ConsumerError::Unknown(name)),
                None => {
                    for (id, kept) in kept {
                        credentials.remove(&kept.lookup()?);
                        commit = commit.delete(credential_key(&name, &id));
                    }
                    commit = commit.delete(consumer_key(&name));
                    let whose = Whose::Consumer(name.clone());
                    (commit, _) = this.plan_grants(&whose, &[], &mut credentials, &by, commit).await?;
                }
            }
            let outcome = |revision| match (&stored, &before) {
                (None, _) => Outcome::Deleted,
                (Some(_), None) => Outcome::Created(revision),
                (Some(_), Some(_)) => Outcome::Changed(revision),
            };
            if dry_run {
                return Ok(outcome(this.store.revision() + 1));
            }
            let action = if stored.is_some() { Action::Put } else { Action::Delete };
            let told = |stored: &Stored| json!(stored);
            let (before, after) = (before.as_ref().map(told), stored.as_ref().map(told));
            let done = vec![done(Arc::clone(&by), action, "consumers", name, before, after)];
            this.consumers_changed(&mut work, commit, &by, done, credentials).await.map(outcome)
        })
        .await
    }

    /// The credentials of a consumer of the store, by id.
    pub async fn credentials(&self, name: &str) -> Result<Vec<(String, Kept)>, ConsumerError> {
        if self.consumer(name).await?.revision.is_none() {
            return Err(ConsumerError::OfFile(name.to_owned()));
        }
        Ok(self.kept(name).await?)
    }

    pub async fn add_credential(
        self: &Arc<Self>,
        name: String,
        wanted: Wanted,
        by: Arc<str>,
    ) -> Result<Made, ConsumerError> {
        let this = Arc::clone(self);
        self.consumer_change(async move {
            let mut work = this.settled().await?;
            this.add(&mut work, name, wanted, None, by).await
        })
        .await
    }

    /// Makes another secret in the place of one that ends after `overlap`.
    pub async fn rotate_credential(
        self: &Arc<Self>,
        name: String,
        id: String,
        overlap: Duration,
        by: Arc<str>,
    ) -> Result<Made, ConsumerError> {
        if overlap > LONGEST_OVERLAP {
            let message = format!("it is longer than {} days", LONGEST_OVERLAP.as_secs() / 86_400);
            return Err(ConsumerError::Invalid(vec![("overlap".to_owned(), message)]));
        }
        let this = Arc::clone(self);
        self.consumer_change(async move {
            let mut work = this.settled().await?;
            let old = this.credential(&work, &name, &id).await?;
            if !matches!(old.kind, CredentialType::ApiKey | CredentialType::Hmac) {
                let message = format!("a credential of type {} has no secret to be made anew", type_name(old.kind));
                return Err(ConsumerError::Conflict(message));
            }
            if old.has_ended() {
                return Err(ConsumerError::Conflict(format!("credential \"{id}\" has expired: give another one")));
            }
            // One that ends is followed by one that ends then.
            let (kind, expires) = (old.kind, old.expires);
            let wanted = Wanted { id: None, kind, expires, ..Wanted::empty(kind) };
            let before = old.told(&id);
            let ending = old.until(Timestamp(now().0 + overlap.as_secs()));
            this.add(&mut work, name, wanted, Some(Ending { id, kept: ending, before }), by).await
        })
        .await
    }

    pub async fn remove_credential(
        self: &Arc<Self>,
        name: String,
        id: String,
        by: Arc<str>,
    ) -> Result<(), ConsumerError> {
        let this = Arc::clone(self);
        self.consumer_change(async move {
            let mut work = this.settled().await?;
            let old = this.credential(&work, &name, &id).await?;
            let mut credentials = work.credentials.clone();
            credentials.remove(&old.lookup()?);
            let commit = Commit::new().delete(credential_key(&name, &id));
            let done = vec![done(
                Arc::clone(&by),
                Action::Delete,
                "credentials",
                format!("{name}/{id}"),
                Some(old.told(&id)),
                None,
            )];
            this.consumers_changed(&mut work, commit, &by, done, credentials).await?;
            Ok(())
        })
        .await
    }

    /// Adds a credential; `ending` is one that is to end for it.
    async fn add(
        &self,
        work: &mut Work,
        name: String,
        wanted: Wanted,
        ending: Option<Ending>,
        by: Arc<str>,
    ) -> Result<Made, ConsumerError> {
        let before = self.found(work, &name, &Condition::Any).await?;
        let consumer = before.ok_or_else(|| ConsumerError::Unknown(name.clone()))?;
        let (over, known): (Vec<_>, Vec<_>) =
            self.kept(&name).await?.into_iter().partition(|(_, kept)| kept.has_ended());
        if known.len() >= MAX_CREDENTIALS {
            return Err(ConsumerError::Conflict(format!("a consumer may have {MAX_CREDENTIALS} credentials, no more")));
        }
        let id = wanted.id.clone().map_or_else(random_id, Ok)?;
        if known.iter().any(|(known, _)| *known == id) {
            return Err(ConsumerError::Conflict(format!("consumer \"{name}\" has a credential \"{id}\" already")));
        }
        let (kept, secret) = wanted.made(&id, &name, work.seal_key.as_deref()).await?;
        let (mut commit, mut all, mut credentials) = (Commit::new(), Vec::new(), work.credentials.clone());
        let tell = |action, id: &str, before, after| {
            done(Arc::clone(&by), action, "credentials", format!("{name}/{id}"), before, after)
        };
        // Those that have ended make room for it.
        for (id, kept) in over {
            credentials.remove(&kept.lookup()?);
            commit = commit.delete(credential_key(&name, &id));
            all.push(tell(Action::Delete, &id, Some(kept.told(&id)), None));
        }
        let (lookup, live) = (kept.lookup()?, self.live.load_full());
        if live.access.file.get(&lookup).is_some() || credentials.get(&lookup).is_some() {
            return Err(ConsumerError::Conflict("another credential is presented the same way".to_owned()));
        }
        let consumer = Arc::new(compiled(&name, &consumer.groups));
        let before = ending.as_ref().map(|ending| ending.before.clone());
        all.push(tell(Action::Put, &id, before, Some(kept.told(&id))));
        let news = [Some((id.clone(), kept.clone())), ending.map(|ending| (ending.id, ending.kept))];
        for (id, kept) in news.into_iter().flatten() {
            work.enter(&mut credentials, &consumer, &id, &kept)?;
            commit = commit.put(credential_key(&name, &id), json!(kept).to_string());
        }
        self.consumers_changed(work, commit, &by, all, credentials).await?;
        Ok(Made { id, kept, secret })
    }

    /// The consumer of the store, if it is as it must be.
    async fn found(&self, work: &Work, name: &str, condition: &Condition) -> Result<Option<Stored>, ConsumerError> {
        if work.consumer_of_file(name).is_some() {
            return Err(ConsumerError::OfFile(name.to_owned()));
        }
        let entry = self.store.get(&consumer_key(name)).await?;
        let revision = entry.as_ref().map(|entry| entry.revision);
        let holds = match (condition, revision) {
            (Condition::Any, _) | (Condition::Absent, None) | (Condition::Present, Some(_)) => true,
            (Condition::At(revisions), Some(revision)) => revisions.contains(&revision),
            (Condition::Absent, Some(_)) | (Condition::Present | Condition::At(_), None) => false,
        };
        if !holds {
            return Err(ConsumerError::Condition(name.to_owned()));
        }
        Ok(entry.map(|entry| entry.json()).transpose()?)
    }

    async fn credential(&self, work: &Work, name: &str, id: &str) -> Result<Kept, ConsumerError> {
        let found = self.found(work, name, &Condition::Any).await?;
        found.ok_or_else(|| ConsumerError::Unknown(name.to_owned()))?;
        let kept = self.kept(name).await?.into_iter().find(|(known, _)| known == id);
        kept.map(|(_, kept)| kept).ok_or_else(|| ConsumerError::UnknownCredential(name.to_owned(), id.to_owned()))
    }

    pub(super) async fn kept(&self, name: &str) -> Result<Vec<(String, Kept)>, StoreError> {
        let prefix = format!("{CREDENTIALS}{name}/");
        let entries = self.store.list_all(&prefix).await?.entries;
        let kept = entries.iter().map(|entry| Ok((entry.key[prefix.len()..].to_owned(), entry.json()?)));
        kept.collect()
    }

    pub(super) async fn consumers_changed(
        &self,
        work: &mut Work,
        commit: Commit,
        by: &Arc<str>,
        done: Vec<Done>,
        credentials: Holdings,
    ) -> Result<Revision, ConsumerError> {
        let draft = work.draft_credentials(&self.live.load_full(), credentials);
        Ok(self.make_live(work, draft, commit, by, done).await?)
    }

    pub(super) async fn consumer_change<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, ConsumerError>> + Send + 'static,
    ) -> Result<T, ConsumerError> {
        self.tasks.spawn(change).await.unwrap_or(Err(ConsumerError::Store(StoreError::Ended)))
    }
}

impl Work {
    pub(super) fn consumer_of_file(&self, name: &str) -> Option<&schema::Consumer> {
        self.layers.config().consumers.iter().find(|consumer| consumer.name == name)
    }

    /// Makes a credential one that is looked up.
    pub(super) fn enter(
        &self,
        entered: &mut Holdings,
        consumer: &Arc<Consumer>,
        id: &str,
        kept: &Kept,
    ) -> Result<(), StoreError> {
        let (lookup, credential) = credentials::entry(consumer, id, kept, self.seal_key.as_deref())?;
        entered.insert(lookup, credential);
        Ok(())
    }
}

/// All credentials of a store.
pub(super) async fn stored(store: &Store, seal_key: Option<&SealKey>) -> Result<Holdings, StoreError> {
    let mut consumers = HashMap::new();
    each(store, CONSUMERS, |entry| {
        let Stored { groups } = entry.json()?;
        let name = entry.key[CONSUMERS.len()..].to_owned();
        let consumer = Arc::new(compiled(&name, &groups));
        consumers.insert(name, consumer);
        Ok(())
    })
    .await?;
    let mut all = Holdings::default();
    each(store, CREDENTIALS, |entry| {
        let corrupt = || StoreError::Corrupt(entry.key.clone(), "its consumer is not there".to_owned());
        let (name, id) = entry.key[CREDENTIALS.len()..].split_once('/').ok_or_else(corrupt)?;
        let consumer = consumers.get(name).ok_or_else(corrupt)?;
        let (lookup, credential) = credentials::entry(consumer, id, &entry.json()?, seal_key)?;
        all.insert(lookup, credential);
        Ok(())
    })
    .await?;
    grants::stored(store, &mut all).await?;
    Ok(all)
}

/// Goes through all entries of a prefix, of which only some are in memory at a time: there may be a million.
pub(super) async fn each(
    store: &Store,
    prefix: &str,
    mut take: impl FnMut(&Entry) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut after: Option<String> = None;
    loop {
        let entries = store.list(prefix, after.as_deref(), AT_ONCE).await?.entries;
        let Some(last) = entries.last() else { return Ok(()) };
        after = Some(last.key.clone());
        entries.iter().try_for_each(&mut take)?;
    }
}

/// Consumers that a file and the store both have.
pub(super) async fn clashes(store: &Store, consumers: &[schema::Consumer]) -> Result<Vec<Problem>, StoreError> {
    let mut problems = Vec::new();
    for (index, consumer) in consumers.iter().enumerate() {
        if store.get(&consumer_key(&consumer.name)).await?.is_some() {
            let message = format!("there is another \"{0}\" in consumers, at /v1/consumers/{0}", consumer.name);
            problems.push(Problem::new(format!("consumers[{index}].name"), message));
        }
    }
    Ok(problems)
}

fn of_file(consumer: &schema::Consumer) -> Told {
    Told { name: consumer.name.clone(), groups: consumer.groups.clone(), revision: None }
}

fn of_store(entry: &Entry) -> Result<Told, StoreError> {
    let Stored { groups } = entry.json()?;
    Ok(Told { name: entry.key[CONSUMERS.len()..].to_owned(), groups, revision: Some(entry.revision) })
}

fn done(
    by: Arc<str>,
    action: Action,
    kind: &'static str,
    name: String,
    before: Option<Value>,
    after: Option<Value>,
) -> Done {
    Done { by, action, kind, name, before, after }
}

pub(super) fn consumer_key(name: &str) -> String {
    format!("{CONSUMERS}{name}")
}

fn shown(path: &str, message: &str) -> String {
    if path.is_empty() { message.to_owned() } else { format!("{path}: {message}") }
}
