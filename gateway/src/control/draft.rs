//! A generation in the making: compiled from layers and revisions, stored, and only then live. Whatever a change comes
//! from, this is how it is made.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::{
    ApplyError,
    artifact::Artifacts,
    audit::{Action, Audit, Done},
    compiler::Compiler,
    consumers,
    resources::{self, Changes},
    revisions::{self, Revisions, Staged},
};
use crate::{
    access::{Holdings, SealKey},
    config::{Document, Errors, Layers, Problem, Sources, resource::Kind},
    plugin::{Engine, Exhausted, Running},
    snapshot::{
        Snapshot,
        compile::{Input, compile},
    },
    store::{Commit, Revision as Number, Store, StoreError},
};

/// What only one change at a time may touch.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) store: Store,
    pub(super) workers: usize,
    pub(super) layers: Arc<Layers>,
    pub(super) revisions: Revisions,
    /// Trials that have failed too often, for who takes them back.
    pub(super) exhausted: Option<UnboundedReceiver<Exhausted>>,
    pub(super) audit: Audit,
    /// What consumers of the store present.
    pub(super) credentials: Holdings,
    pub(super) seal_key: Option<Arc<SealKey>>,
    /// Those of the configuration that was last read, also if it was refused: a change of them may mend it.
    pub(super) sources: Sources,
}

/// What is live, for whoever only reads.
#[derive(Debug)]
pub struct View {
    pub layers: Arc<Layers>,
    /// What runs of plugins.
    pub revisions: HashMap<Arc<str>, Running>,
}

/// A generation that could be made live, and what becomes true with it.
pub(super) struct Draft {
    pub(super) snapshot: Snapshot,
    staged: Vec<Staged>,
    pub(super) layers: Arc<Layers>,
    /// None where they are as they were.
    credentials: Option<Holdings>,
    /// Plugins' files that are refused while an earlier revision goes on.
    pub(super) faults: Option<Errors>,
}

/// What became of the plugins' files.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) changes: Vec<Staged>,
    /// Plugins that cannot run, and what else keeps a configuration from going live.
    pub(super) problems: Vec<Problem>,
    /// Plugins of which an earlier revision can go on.
    faults: Vec<Problem>,
}

/// What a store holds beside revisions of plugins.
struct Stored {
    audit: Audit,
    credentials: Holdings,
    resources: Result<Changes, Errors>,
}

impl Work {
    /// Begins over what a store holds; `modules` is where compiled modules are kept. Nothing is live yet.
    pub(super) async fn open(
        store: Store,
        modules: Option<PathBuf>,
        engine: Engine,
        document: Document,
        workers: usize,
    ) -> Result<Self, ApplyError> {
        let seal_key = super::seal_key(&document)?.map(Arc::new);
        let Stored { audit, credentials, resources } = Stored::read(&store, seal_key.as_deref()).await?;
        let (exhausted, told) = unbounded_channel();
        let cache = match modules {
            Some(modules) => revisions::cache(&store, modules).await?,
            None => None,
        };
        let compiler = Arc::new(Compiler::new(engine, cache));
        let revisions = Revisions::new(compiler, store.clone(), exhausted);
        let sources = document.sources.clone();
        let layers = Arc::new(Layers::new(document).with(resources?));
        let exhausted = Some(told);
        Ok(Self { store, workers, layers, revisions, exhausted, audit, credentials, seal_key, sources })
    }

    pub(super) fn view(&self) -> Arc<View> {
        Arc::new(View { layers: Arc::clone(&self.layers), revisions: self.revisions.with(&[]) })
    }

    /// Finds the revisions of plugins of such names. What is wrong with one plugin's module does not hide what is wrong
    /// elsewhere, and does not keep the rest from going live where an earlier revision can go on.
    pub(super) async fn stage(
        &self,
        layers: &Layers,
        mut artifacts: Artifacts,
        named: impl Fn(&str) -> bool,
    ) -> Result<Stage, StoreError> {
        let mut stage = Stage::default();
        let plugins = layers.config().plugins.iter().enumerate();
        for (index, plugin) in plugins.filter(|(_, plugin)| named(&plugin.name)) {
            let runs = self.revisions.running(&plugin.name).is_some();
            let resumed = if runs { None } else { self.revisions.resume(&plugin.name).await? };
            let goes_on = runs || resumed.is_some();
            let changed = match artifacts.remove(&plugin.name) {
                Some(Ok(artifact)) => self.revisions.stage_source(plugin, artifact, !goes_on).await,
                Some(Err(error)) => Err(error.into()),
                None => Ok(None),
            };
            match changed {
                Ok(changed) => stage.changes.extend(changed.or(resumed)),
                Err(error) => {
                    let refused = if goes_on { &mut stage.faults } else { &mut stage.problems };
                    let source = if plugin.file.is_some() { "file" } else { "url" };
                    refused.push(Problem::new(format!("plugins[{index}].{source}"), error.to_string()));
                    stage.changes.extend(resumed);
                }
            }
        }
        Ok(stage)
    }

    /// The same for a file that was read: all its plugins, and consumers of the store that it has, too.
    pub(super) async fn stage_file(&self, layers: &Layers, artifacts: Artifacts) -> Result<Stage, StoreError> {
        let mut stage = self.stage(layers, artifacts, |_| true).await?;
        stage.problems.extend(consumers::clashes(&self.store, &layers.config().consumers).await?);
        Ok(stage)
    }

    /// Compiles a configuration with the revisions that were found for it.
    ///
    /// # Errors
    ///
    /// All that is wrong with the file, its plugins and what the store adds to it.
    pub(super) async fn draft(
        &self,
        live: Option<&Snapshot>,
        layers: Arc<Layers>,
        stage: Stage,
    ) -> Result<Draft, Errors> {
        let faults = stage.faults(&layers);
        let Stage { changes: staged, mut problems, faults: refused } = stage;
        match self.compiled(live, &layers, &staged, self.credentials.clone()).await {
            Ok(snapshot) if problems.is_empty() && layers.document().is_sound() => {
                return Ok(Draft { snapshot, staged, layers, credentials: None, faults });
            }
            Ok(_) => {}
            Err(more) => problems.extend(more),
        }
        problems.extend(refused);
        Err(layers.errors(problems))
    }

    /// Drafts other credentials; nothing is compiled for them.
    pub(super) fn draft_credentials(&self, live: &Snapshot, credentials: Holdings) -> Draft {
        let snapshot = live.with_access(live.access.with_stored(credentials.clone()), self.audit.next_generation());
        let layers = Arc::clone(&self.layers);
        Draft { snapshot, staged: Vec::new(), layers, credentials: Some(credentials), faults: None }
    }

    /// Reads a store again that failed, and drafts what it holds.
    pub(super) async fn draft_again(&mut self, live: &Snapshot) -> Result<Draft, StoreError> {
        let unsound = |errors: Errors| StoreError::Corrupt("resource/".to_owned(), errors.to_string());
        let Stored { audit, credentials, resources } = Stored::read(&self.store, self.seal_key.as_deref()).await?;
        let layers = self.layers.stored(resources.map_err(unsound)?);
        let plugins = layers.config().plugins.iter().map(|plugin| plugin.name.as_str());
        let staged = self.revisions.others(plugins).await?;
        self.audit = audit;
        let snapshot = self.compiled(Some(live), &layers, &staged, credentials.clone()).await;
        let snapshot = snapshot.map_err(|problems| unsound(layers.errors(problems)))?;
        Ok(Draft { snapshot, staged, layers: Arc::new(layers), credentials: Some(credentials), faults: None })
    }

    async fn compiled(
        &self,
        previous: Option<&Snapshot>,
        layers: &Layers,
        staged: &[Staged],
        stored: Holdings,
    ) -> Result<Snapshot, Vec<Problem>> {
        compile(Input {
            config: layers.config(),
            revisions: &self.revisions.with(staged),
            previous,
            workers: self.workers,
            generation: self.audit.next_generation(),
            stored,
        })
        .await
    }

    /// Stores a draft in one commit, with what that has already and what is to be told of it; then it is what is, and its
    /// snapshot is to be published. `by` is who made other revisions active.
    ///
    /// # Errors
    ///
    /// Nothing is as in the draft, as far as is known: after a failure the store is to be read again.
    pub(super) async fn adopt(
        &mut self,
        draft: Draft,
        commit: Commit,
        by: &Arc<str>,
        mut done: Vec<Done>,
    ) -> Result<(Arc<Snapshot>, Number), StoreError> {
        let Draft { snapshot, staged, layers, credentials, .. } = draft;
        let rollouts = |all: bool| {
            let told = staged.iter().filter(move |staged| {
                let (before, after) = staged.told();
                all || before != Some(after)
            });
            told.map(|staged| rollout(staged, by))
        };
        done.extend(rollouts(false));
        if done.is_empty() {
            // Written before, while the store said that it was not. No generation is without a change that made it.
            done.extend(rollouts(true));
        }
        let (commit, audit) = self.audit.add(commit, done);
        let number = self.revisions.commit(staged, commit).await?;
        self.audit = audit;
        if !Arc::ptr_eq(&layers, &self.layers) {
            self.layers = Arc::new(Arc::unwrap_or_clone(layers).at(number));
        }
        if let Some(credentials) = credentials {
            self.credentials = credentials;
        }
        Ok((Arc::new(snapshot), number))
    }
}

impl Draft {
    /// The same with other credentials.
    pub(super) fn with_credentials(mut self, credentials: Holdings) -> Self {
        self.snapshot.access = self.snapshot.access.with_stored(credentials.clone());
        self.credentials = Some(credentials);
        self
    }
}

impl Stage {
    /// The same with these revisions, wherever they were found.
    pub(super) fn with(mut self, staged: Vec<Staged>) -> Self {
        let plugin = |staged: &Staged| Arc::clone(&staged.revision().plugin);
        self.changes.retain(|found| staged.iter().all(|staged| plugin(staged) != plugin(found)));
        self.changes.extend(staged);
        self
    }

    pub(super) fn faults(&self, layers: &Layers) -> Option<Errors> {
        (!self.faults.is_empty()).then(|| layers.errors(self.faults.clone()))
    }
}

impl Stored {
    async fn read(store: &Store, seal_key: Option<&SealKey>) -> Result<Self, StoreError> {
        Ok(Self {
            audit: Audit::open(store).await?,
            credentials: consumers::stored(store, seal_key).await?,
            resources: resources::stored(store).await?,
        })
    }
}

/// That other revisions run.
fn rollout(staged: &Staged, by: &Arc<str>) -> Done {
    let (before, after) = staged.told();
    Done {
        by: Arc::clone(by),
        action: Action::Rollout,
        kind: Kind::Plugin.list(),
        name: staged.revision().plugin.to_string(),
        before,
        after: Some(after),
    }
}
