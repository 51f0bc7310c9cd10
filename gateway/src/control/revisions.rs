//! The revisions of plugins: found in files, pushes and the store, compiled, numbered, and kept.
//! Which one is active changes with `commit` alone.

use std::{collections::HashMap, path::Path, sync::Arc, time::SystemTime};

use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::PluginError;
use crate::{
    plugin::{Digest256, Engine, LoadError, Module, Revision, loader::MAX_MODULE},
    store::{Commit, Revision as Number, Store, StoreError},
};

/// Revisions of a plugin that the store keeps.
const KEPT: usize = 20;

/// Where a revision came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    File,
    Push,
}

/// One revision as the store keeps it, beside its module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub revision: u32,
    pub sha256: String,
    pub origin: Origin,
    /// Seconds since 1970.
    pub loaded_at: u64,
    pub phases: Vec<String>,
    pub imports: Vec<String>,
}

/// What the store keeps of a plugin as a whole.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct State {
    active: u32,
    /// Digest of the file as last seen: a file that is as it was does not undo a later push.
    file_sha256: Option<String>,
}

/// A revision that is to become active.
#[derive(Debug)]
pub(super) struct Staged {
    revision: Revision,
    /// What is to be stored of it, if that is new.
    new: Option<(Record, Vec<u8>)>,
    state: State,
    /// The one that the store says is active.
    before: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Revisions {
    engine: Engine,
    store: Store,
    active: HashMap<Arc<str>, Revision>,
    /// A commit failed, and may have been made all the same.
    doubtful: bool,
}

impl Staged {
    pub(super) fn revision(&self) -> &Revision {
        &self.revision
    }

    pub(super) fn is_new(&self) -> bool {
        self.new.is_some()
    }

    /// The number of the one that the store says is active.
    pub(super) fn before(&self) -> Option<u32> {
        self.before
    }
}

impl Revisions {
    pub(super) fn new(engine: Engine, store: Store) -> Self {
        Self { engine, store, active: HashMap::new(), doubtful: false }
    }

    /// Whether what is stored is not known to be what is here.
    pub(super) fn is_doubtful(&self) -> bool {
        self.doubtful
    }

    pub(super) fn is_settled(&mut self) {
        self.doubtful = false;
    }

    /// The revisions that the store says are active, where others are or none is; of these plugins.
    pub(super) async fn others(&self, plugins: impl Iterator<Item = &str>) -> Result<Vec<Staged>, StoreError> {
        let mut others = Vec::new();
        for plugin in plugins {
            let running = self.active(plugin).map(|active| active.number);
            let stored = self.state(plugin).await?.filter(|state| Some(state.active) != running);
            if stored.is_some() {
                others.extend(self.resume(plugin).await?);
            }
        }
        Ok(others)
    }

    pub(super) fn active(&self, plugin: &str) -> Option<&Revision> {
        self.active.get(plugin)
    }

    /// The active revisions as they will be.
    pub(super) fn with(&self, staged: &[Staged]) -> HashMap<Arc<str>, Revision> {
        let mut active = self.active.clone();
        active.extend(staged.iter().map(|staged| (Arc::clone(&staged.revision.plugin), staged.revision.clone())));
        active
    }

    /// The revision that was active when the process last ended.
    pub(super) async fn resume(&self, plugin: &str) -> Result<Option<Staged>, StoreError> {
        let Some(state) = self.state(plugin).await? else { return Ok(None) };
        match self.stored(plugin, state.active).await {
            Ok(staged) => Ok(Some(staged)),
            Err(PluginError::Store(error)) => Err(error),
            Err(error) => {
                tracing::error!(plugin, revision = state.active, "the stored revision cannot be resumed: {error}");
                Ok(None)
            }
        }
    }

    pub(super) async fn stored(&self, plugin: &str, number: u32) -> Result<Staged, PluginError> {
        let unknown = || PluginError::UnknownRevision(plugin.to_owned(), number);
        let record = records(&self.store, plugin)
            .await?
            .into_iter()
            .find(|record| record.revision == number)
            .ok_or_else(unknown)?;
        let entry = self.store.get(&module_key(plugin, &record.sha256)).await?.ok_or_else(unknown)?;
        let module = self.compile(entry.value).await?.0;
        let before = self.state(plugin).await?;
        let (state, before) = (before.clone().unwrap_or_default(), before.map(|before| before.active));
        let state = State { active: number, ..state };
        Ok(Staged { revision: Revision { plugin: plugin.into(), number, module }, new: None, state, before })
    }

    /// None if the file is as it was when last seen, unless it is wanted `anyhow`.
    pub(super) async fn stage_file(
        &self,
        plugin: &str,
        file: &Path,
        anyhow: bool,
    ) -> Result<Option<Staged>, PluginError> {
        let unread = |error| LoadError::Read(file.to_owned(), error);
        let size = tokio::fs::metadata(file).await.map_err(unread)?.len();
        if size > MAX_MODULE as u64 {
            return Err(LoadError::TooLarge(usize::try_from(size).unwrap_or(usize::MAX)).into());
        }
        let bytes = tokio::fs::read(file).await.map_err(unread)?;
        let digest = Digest256::of(&bytes).to_string();
        let seen = self.state(plugin).await?.and_then(|state| state.file_sha256);
        if !anyhow && seen.is_some_and(|seen| seen == digest) {
            return Ok(None);
        }
        self.stage(plugin, bytes, Origin::File).await.map(Some)
    }

    pub(super) async fn stage(&self, plugin: &str, bytes: Vec<u8>, origin: Origin) -> Result<Staged, PluginError> {
        let records = records(&self.store, plugin).await?;
        let digest = Digest256::of(&bytes).to_string();
        let (before, seen) = self.state(plugin).await?.map(|state| (state.active, state.file_sha256)).unzip();
        let file_sha256 = if origin == Origin::File { Some(digest.clone()) } else { seen.flatten() };
        if let Some(same) = records.iter().find(|record| record.sha256 == digest) {
            let staged = self.stored(plugin, same.revision).await?;
            return Ok(Staged { state: State { active: same.revision, file_sha256 }, ..staged });
        }
        let (module, bytes) = self.compile(bytes).await?;
        let number = records.last().map_or(1, |last| last.revision + 1);
        let record = Record {
            revision: number,
            sha256: digest,
            origin,
            loaded_at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            phases: module.phases().into_iter().map(str::to_owned).collect(),
            imports: module.imports().to_vec(),
        };
        Ok(Staged {
            revision: Revision { plugin: plugin.into(), number, module },
            new: Some((record, bytes)),
            state: State { active: number, file_sha256 },
            before,
        })
    }

    /// Stores what is new, together with what that commit has already, then makes all of it active.
    pub(super) async fn commit(&mut self, staged: Vec<Staged>, mut commit: Commit) -> Result<Number, StoreError> {
        let mut active = Vec::new();
        for Staged { revision, new, state, .. } in staged {
            let plugin = &revision.plugin;
            if let Some((record, bytes)) = new {
                for old in outdated(records(&self.store, plugin).await?) {
                    commit = commit.delete(module_key(plugin, &old.sha256)).delete(revision_key(plugin, old.revision));
                }
                commit = commit
                    .put(module_key(plugin, &record.sha256), bytes)
                    .put(revision_key(plugin, record.revision), json(&record));
            }
            commit = commit.put(state_key(plugin), json(&state));
            active.push((Arc::clone(plugin), revision));
        }
        // Expectations that do not hold change nothing; any other failure may come after the change.
        let committed = self.store.commit(commit).await;
        self.doubtful |= !matches!(committed, Ok(_) | Err(StoreError::Conflict { .. } | StoreError::NoLease));
        let number = committed?;
        self.active.extend(active);
        Ok(number)
    }

    /// The number of the revision that is active, or would be if the plugin came back.
    pub(super) async fn number(&self, plugin: &str) -> Result<Option<u32>, StoreError> {
        match self.active(plugin) {
            Some(active) => Ok(Some(active.number)),
            None => Ok(self.state(plugin).await?.map(|state| state.active)),
        }
    }

    async fn state(&self, plugin: &str) -> Result<Option<State>, StoreError> {
        self.store.get(&state_key(plugin)).await?.map(|entry| entry.json()).transpose()
    }

    /// Gives the bytes back, to be stored.
    async fn compile(&self, bytes: Vec<u8>) -> Result<(Module, Vec<u8>), LoadError> {
        let engine = self.engine.clone();
        let compiled = spawn_blocking(move || Module::compile(&engine, &bytes).map(|module| (module, bytes))).await;
        compiled.unwrap_or_else(|_| Err(LoadError::Compile("the compiler failed".to_owned())))
    }
}

/// All that a store keeps of a plugin, the oldest first.
pub(super) async fn records(store: &Store, plugin: &str) -> Result<Vec<Record>, StoreError> {
    store.list_all(&revision_prefix(plugin)).await?.entries.iter().map(|entry| entry.json()).collect()
}

/// What is dropped when one more is stored, which becomes the active one.
fn outdated(mut records: Vec<Record>) -> Vec<Record> {
    let surplus = (records.len() + 1).saturating_sub(KEPT);
    records.drain(..surplus).collect()
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
