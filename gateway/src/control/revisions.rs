//! The revisions of plugins: found in files, pushes and the store, compiled, numbered, and kept.
//! Which of them run changes with `commit` alone.

mod state;

use std::{collections::HashMap, path::PathBuf, sync::Arc, time::SystemTime};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::mpsc::UnboundedSender;

pub use self::state::State;
use super::{PluginError, artifact::Artifact, compiler::Compiler};
use crate::{
    config::schema,
    plugin::{Budget, Cache, Digest256, Exhausted, Revision, Running, Signature, Trial, WHOLE, signature},
    store::{Commit, Revision as Number, Store, StoreError},
};

/// Where the store keeps what files of compiled modules are authenticated with.
const CACHE_KEY: &str = "cache/key";

/// Where a revision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    File,
    Url,
    Push,
}

/// One revision as the store keeps it, beside its module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub revision: u32,
    pub sha256: String,
    pub origin: Origin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<Signature>,
    /// Seconds since 1970.
    pub loaded_at: u64,
    pub phases: Vec<String>,
    pub imports: Vec<String>,
}

/// Revisions that are to run.
#[derive(Debug)]
pub(super) struct Staged {
    /// The one that it is about.
    revision: Revision,
    running: Running,
    /// What is to be stored of it.
    new: Option<New>,
    state: State,
    /// What the store says.
    before: Option<State>,
    /// How many revisions the store keeps.
    keep: usize,
}

/// A revision that is not stored yet as it is.
#[derive(Debug)]
struct New {
    record: Record,
    /// None if only the record is other than it was.
    module: Option<Vec<u8>>,
}

#[derive(Debug)]
pub(super) struct Revisions {
    compiler: Arc<Compiler>,
    store: Store,
    running: HashMap<Arc<str>, Running>,
    /// Where trials tell that they have failed too often.
    exhausted: UnboundedSender<Exhausted>,
    /// A commit failed, and may have been made all the same.
    doubtful: bool,
}

impl Staged {
    pub(super) fn revision(&self) -> &Revision {
        &self.revision
    }

    pub(super) fn is_new(&self) -> bool {
        self.new.as_ref().is_some_and(|new| new.module.is_some())
    }

    /// Of a hundred exchanges, those that get the revision it is about.
    pub(super) fn percent(&self) -> u8 {
        self.state.percent(self.revision.number)
    }

    /// As the audit log tells what ran, and what will.
    pub(super) fn told(&self) -> (Option<Value>, Value) {
        (self.before.as_ref().map(State::told), self.state.told())
    }

    /// Nothing becomes of it but a commit of what there is.
    pub(super) fn changes_nothing(&self) -> bool {
        self.new.is_none() && self.before.as_ref() == Some(&self.state)
    }
}

impl Revisions {
    pub(super) fn new(compiler: Arc<Compiler>, store: Store, exhausted: UnboundedSender<Exhausted>) -> Self {
        Self { compiler, store, running: HashMap::new(), exhausted, doubtful: false }
    }

    pub(super) fn compiler(&self) -> &Arc<Compiler> {
        &self.compiler
    }

    /// Whether what is stored is not known to be what is here.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    pub(super) fn is_settled(&mut self) {
        self.doubtful = false;
    }

    /// What the store says runs, where that is something else or nothing; of these plugins.
    pub(super) async fn others(&self, plugins: impl Iterator<Item = &str>) -> Result<Vec<Staged>, StoreError> {
        let mut others = Vec::new();
        for plugin in plugins {
            let running = self.running(plugin);
            let stored =
                self.state(plugin).await?.filter(|state| !running.is_some_and(|running| is_as(running, state)));
            if stored.is_some() {
                others.extend(self.resume(plugin).await?);
            }
        }
        Ok(others)
    }

    pub(super) fn running(&self, plugin: &str) -> Option<&Running> {
        self.running.get(plugin)
    }

    /// What runs, as it will be.
    pub(super) fn with(&self, staged: &[Staged]) -> HashMap<Arc<str>, Running> {
        let mut running = self.running.clone();
        running.extend(staged.iter().map(|staged| (Arc::clone(&staged.revision.plugin), staged.running.clone())));
        running
    }

    /// What ran when the process last ended.
    pub(super) async fn resume(&self, plugin: &str) -> Result<Option<Staged>, StoreError> {
        let Some(mut state) = self.state(plugin).await? else { return Ok(None) };
        let before = Some(state.clone());
        // What was not running has not lasted.
        if let Some(trial) = state.trial.as_mut().filter(|_| self.running(plugin).is_none()) {
            trial.since = now();
        }
        let mut found = Vec::new();
        for number in state.running() {
            match self.stored(plugin, number).await {
                Ok(revision) => found.push(revision),
                Err(PluginError::Store(error)) => return Err(error),
                Err(error) => tracing::error!(plugin, number, "the stored revision cannot be resumed: {error}"),
            }
        }
        // One that is lost takes nobody else along.
        let Some(first) = found.first() else { return Ok(None) };
        if found.len() < state.running().count() {
            state = State { active: first.number, trial: None, ..state };
        }
        let running = self.running_as(&state, &found);
        let revision = running.leading().clone();
        Ok(Some(Staged { revision, running, new: None, state, before, keep: usize::MAX }))
    }

    /// What runs by this state, of these modules; a trial that goes on keeps its budget.
    fn running_as(&self, state: &State, found: &[Revision]) -> Running {
        let of = |number: u32| found.iter().find(|revision| revision.number == number).or(found.first());
        let revision = of(state.active).expect("the caller has found one").clone();
        let trial = state.trial.as_ref().and_then(|trial| {
            let revision = found.iter().find(|revision| revision.number == trial.revision)?.clone();
            let same = self.running(&revision.plugin).and_then(|running| running.trial.as_ref());
            let same = same.filter(|same| same.revision.number == revision.number && same.since == trial.since);
            let made = || Arc::new(Budget::new(Arc::clone(&revision.plugin), revision.number, self.exhausted.clone()));
            let budget = same.map_or_else(made, |same| Arc::clone(&same.budget));
            Some(Trial { percent: trial.percent, since: trial.since, budget, revision })
        });
        Running { revision, trial }
    }

    /// One that is running, or from the store.
    async fn stored(&self, plugin: &str, number: u32) -> Result<Revision, PluginError> {
        let known = self.running(plugin).into_iter().flat_map(Running::all).find(|it| it.number == number);
        if let Some(known) = known {
            return Ok(known.clone());
        }
        let unknown = || PluginError::UnknownRevision(plugin.to_owned(), number);
        let records = records(&self.store, plugin).await?;
        let record = records.into_iter().find(|record| record.revision == number).ok_or_else(unknown)?;
        let module = module(&self.store, plugin, &record.sha256).await?.ok_or_else(unknown)?;
        let sha256 = Digest256::of(&module);
        let module = self.compiler.module(module.into(), sha256).await?;
        Ok(Revision { plugin: plugin.into(), number, module, signature: record.signature })
    }

    /// What there is is to run in another way; nothing if `next` says that nothing is to change.
    pub(super) async fn stage_state(
        &self,
        plugin: &str,
        about: u32,
        next: impl FnOnce(&State) -> Option<State>,
    ) -> Result<Option<Staged>, PluginError> {
        let unknown = || PluginError::UnknownRevision(plugin.to_owned(), about);
        let before = self.state(plugin).await?.ok_or_else(unknown)?;
        let revision = self.stored(plugin, about).await?;
        let Some(state) = next(&before) else { return Ok(None) };
        let mut found = vec![revision.clone()];
        for number in state.running().filter(|number| *number != about) {
            found.push(self.stored(plugin, number).await?);
        }
        let running = self.running_as(&state, &found);
        Ok(Some(Staged { revision, running, new: None, state, before: Some(before), keep: usize::MAX }))
    }

    /// A whole rollout of one that the store has.
    pub(super) async fn stage_stored(&self, plugin: &str, number: u32) -> Result<Staged, PluginError> {
        let staged = self.stage_state(plugin, number, |before| Some(State::rolled(before, number, WHOLE, None, now())));
        staged.await?.ok_or_else(|| PluginError::UnknownRevision(plugin.to_owned(), number))
    }

    /// None if what the plugin's source gave is as it was when last seen, unless it is wanted `anyhow`.
    pub(super) async fn stage_source(
        &self,
        plugin: &schema::Plugin,
        artifact: Artifact,
        anyhow: bool,
    ) -> Result<Option<Staged>, PluginError> {
        let before = self.state(&plugin.name).await?;
        let digest = artifact.sha256.to_string();
        let seen = before.as_ref().filter(|before| before.source_sha256.as_ref() == Some(&digest));
        if let Some(same) = seen.filter(|_| !anyhow) {
            let records = records(&self.store, &plugin.name).await?;
            let known = records.iter().find(|record| record.sha256 == digest);
            // Signed by somebody else since: what runs stays.
            let signed =
                artifact.signature.is_some() && known.is_some_and(|record| record.signature != artifact.signature);
            let state = same.clone();
            return if signed { self.stage(plugin, artifact, before, |_| state).await.map(Some) } else { Ok(None) };
        }
        let next = |number| {
            let state = State::with_new(before.as_ref(), number, WHOLE, now());
            State { source_sha256: Some(digest), ..state }
        };
        self.stage(plugin, artifact, before.clone(), next).await.map(Some)
    }

    /// A module that was pushed, for so many of a hundred exchanges.
    pub(super) async fn stage_push(
        &self,
        plugin: &schema::Plugin,
        artifact: Artifact,
        percent: u8,
    ) -> Result<Staged, PluginError> {
        let before = self.state(&plugin.name).await?;
        let next = |number| State::with_new(before.as_ref(), number, percent, now());
        self.stage(plugin, artifact, before.clone(), next).await
    }

    /// A module that has come: a new revision, or the one with its digest. By its number, `next` says what runs.
    async fn stage(
        &self,
        plugin: &schema::Plugin,
        artifact: Artifact,
        before: Option<State>,
        next: impl FnOnce(u32) -> State,
    ) -> Result<Staged, PluginError> {
        let (name, keep) = (plugin.name.as_str(), plugin.rollout.keep.into());
        let (revision, new) = self.arrived(name, artifact).await?;
        let mut state = next(revision.number);
        let mut found = vec![revision.clone()];
        let others: Vec<_> = state.running().filter(|number| *number != revision.number).collect();
        for number in others {
            let other = self.stored(name, number).await;
            match other.and_then(|other| trusted(other, plugin)) {
                Ok(other) => found.push(other),
                Err(PluginError::Store(error)) => return Err(error.into()),
                // There is nothing good to go back to: the new one takes its place.
                Err(error) => {
                    tracing::error!(plugin = name, number, "the stored revision cannot be resumed: {error}");
                    state = State { active: revision.number, trial: None, ..state };
                    break;
                }
            }
        }
        let running = self.running_as(&state, &found);
        Ok(Staged { revision, running, new, state, before, keep })
    }

    /// The revision that an artifact is, and what is to be stored of it.
    async fn arrived(&self, plugin: &str, artifact: Artifact) -> Result<(Revision, Option<New>), PluginError> {
        let Artifact { bytes, sha256, origin, signature } = artifact;
        let records = records(&self.store, plugin).await?;
        let digest = sha256.to_string();
        if let Some(same) = records.iter().find(|record| record.sha256 == digest) {
            let mut revision = self.stored(plugin, same.revision).await?;
            if signature.is_none() || signature == revision.signature {
                return Ok((revision, None));
            }
            revision.signature = signature.clone();
            let record = Record { signature, ..same.clone() };
            return Ok((revision, Some(New { record, module: None })));
        }
        let module = self.compiler.module(bytes.clone(), sha256).await?;
        let number = records.last().map_or(1, |last| last.revision + 1);
        let record = Record {
            revision: number,
            sha256: digest,
            origin,
            signature: signature.clone(),
            loaded_at: now(),
            phases: module.phases().into_iter().map(str::to_owned).collect(),
            imports: module.imports().to_vec(),
        };
        let revision = Revision { plugin: plugin.into(), number, module, signature };
        Ok((revision, Some(New { record, module: Some(bytes.into()) })))
    }

    /// Stores what is new, together with what that commit has already, then makes all of it run.
    pub(super) async fn commit(&mut self, staged: Vec<Staged>, mut commit: Commit) -> Result<Number, StoreError> {
        let mut started = Vec::new();
        for Staged { revision, running, new, state, keep, .. } in staged {
            let plugin = &revision.plugin;
            if let Some(New { record, module }) = new {
                commit = commit.put(revision_key(plugin, record.revision), json(&record));
                if let Some(module) = module {
                    for old in outdated(records(&self.store, plugin).await?, keep, &state) {
                        let (module, record) = (module_key(plugin, &old.sha256), revision_key(plugin, old.revision));
                        commit = commit.delete(module).delete(record);
                    }
                    commit = commit.put(module_key(plugin, &record.sha256), module);
                }
            }
            commit = commit.put(state_key(plugin), json(&state));
            started.push((Arc::clone(plugin), running));
        }
        // Expectations that do not hold change nothing; any other failure may come after the change.
        let committed = self.store.commit(commit).await;
        self.doubtful |= !matches!(committed, Ok(_) | Err(StoreError::Conflict { .. } | StoreError::NoLease));
        let number = committed?;
        self.running.extend(started);
        Ok(number)
    }

    async fn state(&self, plugin: &str) -> Result<Option<State>, StoreError> {
        state(&self.store, plugin).await
    }
}

/// One that may run with the keys that its plugin trusts.
fn trusted(revision: Revision, plugin: &schema::Plugin) -> Result<Revision, PluginError> {
    let signed = signature::check(&plugin.signed_by, revision.module.sha256(), revision.signature.as_ref());
    signed.map(|()| revision).map_err(|error| PluginError::Artifact(error.into()))
}

/// All that a store keeps of a plugin, the oldest first.
pub(super) async fn records(store: &Store, plugin: &str) -> Result<Vec<Record>, StoreError> {
    store.list_all(&revision_prefix(plugin)).await?.entries.iter().map(|entry| entry.json()).collect()
}

/// The module of that digest.
pub(super) async fn module(store: &Store, plugin: &str, sha256: &str) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(store.get(&module_key(plugin, sha256)).await?.map(|entry| entry.value))
}

/// Whether that is what runs by this state.
fn is_as(running: &Running, state: &State) -> bool {
    let trial = running.trial.as_ref().map(|trial| (trial.revision.number, trial.percent, trial.since));
    let stored = state.trial.as_ref().map(|trial| (trial.revision, trial.percent, trial.since));
    (running.revision.number, trial) == (state.active, stored)
}

/// What runs of a plugin by the store.
pub(super) async fn state(store: &Store, plugin: &str) -> Result<Option<State>, StoreError> {
    store.get(&state_key(plugin)).await?.map(|entry| entry.json()).transpose()
}

/// What is dropped when one more is stored: the oldest of those that do not run.
fn outdated(records: Vec<Record>, keep: usize, state: &State) -> Vec<Record> {
    let surplus = (records.len() + 1).saturating_sub(keep);
    let runs = |record: &Record| state.running().any(|number| number == record.revision);
    records.into_iter().filter(|record| !runs(record)).take(surplus).collect()
}

/// Where modules are kept as they were compiled, beside the store. Its key is in the store, which only its owner reads.
pub(super) async fn cache(store: &Store, folder: PathBuf) -> Result<Option<Arc<Cache>>, StoreError> {
    let key = match store.get(CACHE_KEY).await? {
        Some(entry) => entry.value,
        None => {
            let mut key = vec![0; Cache::KEY];
            SystemRandom::new()
                .fill(&mut key)
                .map_err(|_| StoreError::Corrupt(CACHE_KEY.to_owned(), "no chance".into()))?;
            store.commit(Commit::new().put(CACHE_KEY.to_owned(), key.clone())).await?;
            key
        }
    };
    let key = <&[u8; Cache::KEY]>::try_from(key.as_slice())
        .map_err(|_| StoreError::Corrupt(CACHE_KEY.to_owned(), "it is not of its length".to_owned()))?;
    match Cache::open(folder.clone(), key) {
        Ok(cache) => Ok(Some(Arc::new(cache))),
        Err(error) => {
            tracing::warn!("modules are compiled at each start, since {} cannot be used: {error}", folder.display());
            Ok(None)
        }
    }
}

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn revision_prefix(plugin: &str) -> String {
    format!("plugin/{plugin}/revision/")
}

fn state_key(plugin: &str) -> String {
    format!("plugin/{plugin}/state")
}

fn revision_key(plugin: &str, revision: u32) -> String {
    format!("{}{revision:010}", revision_prefix(plugin))
}

fn module_key(plugin: &str, sha256: &str) -> String {
    format!("plugin/{plugin}/module/{sha256}")
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("a record of texts and numbers is JSON")
}
