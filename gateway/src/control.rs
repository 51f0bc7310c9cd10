//! Brings one generation after the other to life: a configuration or a plugin revision comes in, a snapshot goes out.
//! One change at a time; one that fails leaves everything as it was.

pub mod explain;
mod revisions;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Mutex as AsyncMutex, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    config::{Document, Errors, Premise, Problem, Sources},
    listener::{Bound, Listeners},
    monitor::record::Standing,
    plugin::{Engine, LoadError, Revision},
    snapshot::{
        Snapshot,
        compile::{Input, compile},
    },
    store::{Store, StoreError},
};

pub use revisions::{Origin, Record};
use revisions::{Revisions, Staged};

/// How often it is looked whether a generation that is past is still in use.
const RETIREMENT: Duration = Duration::from_millis(100);

/// The control plane of one gateway.
#[derive(Debug)]
pub struct Control {
    live: Arc<ArcSwap<Snapshot>>,
    /// Tells that another generation is live.
    changed: watch::Sender<()>,
    listeners: Listeners,
    workers: usize,
    work: AsyncMutex<Work>,
    refused: Mutex<Option<Refused>>,
    /// Changes that were applied.
    applied: AtomicU64,
    /// Changes that were refused.
    refusals: AtomicU64,
    /// Changes go on to their end although who asked for them has left.
    tasks: TaskTracker,
}

/// What only one change at a time may touch.
#[derive(Debug)]
struct Work {
    document: Document,
    revisions: Revisions,
    /// Those of the configuration that was last read, also if it was refused: a change of them may mend it.
    sources: Sources,
}

/// The last change that was refused, until one succeeds.
#[derive(Debug, Clone)]
pub struct Refused {
    pub at: SystemTime,
    pub message: String,
}

#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Config(#[from] Errors),
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    #[error("there is no plugin \"{0}\": name it under plugins in the configuration first")]
    UnknownPlugin(String),
    #[error("plugin \"{0}\" has no revision {1}")]
    UnknownRevision(String, u32),
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{}", .0.iter().map(|problem| problem.message.as_str()).collect::<Vec<_>>().join("; "))]
    Refused(Vec<Problem>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of a reload.
#[derive(Debug)]
pub struct Reloaded {
    /// There is a new generation.
    pub changed: bool,
    /// Plugins' files that are refused while an earlier revision goes on.
    pub faults: Option<Errors>,
}

/// What became of the plugins' files.
#[derive(Default)]
struct Stage {
    changes: Vec<Staged>,
    /// Plugins that cannot run.
    problems: Vec<Problem>,
    /// Plugins of which an earlier revision can go on.
    faults: Vec<Problem>,
}

/// A generation that is not live yet, and the revisions that become active with it.
struct Next {
    snapshot: Snapshot,
    staged: Vec<Staged>,
    faults: Option<Errors>,
}

/// A revision and whether it is new.
#[derive(Debug)]
pub struct Pushed {
    pub revision: Revision,
    pub new: bool,
}

impl Control {
    /// Compiles the first generation and binds its listeners.
    pub async fn start(
        engine: Engine,
        document: Document,
        listeners: Listeners,
        workers: usize,
    ) -> Result<Self, ApplyError> {
        let config = &document.config;
        let store = match &config.store {
            // With mistakes nothing comes of it but an answer.
            Some(store) if document.is_sound() => Store::open(&store.path)?,
            _ => Store::in_memory()?,
        };
        let mut revisions = Revisions::new(engine, store);
        let stage = stage(&revisions, &document).await?;
        let Next { snapshot, staged, faults } = generation(&revisions, &document, stage, None, workers).await?;
        if let Some(faults) = &faults {
            tracing::error!("a plugin's file is refused, its stored revision goes on:\n{faults}");
        }
        let bound = open(&listeners, &snapshot, &document)?;
        revisions.commit(staged).await?;
        listeners.open(bound, &snapshot.listeners);
        Ok(Self {
            live: Arc::new(ArcSwap::from_pointee(snapshot)),
            changed: watch::Sender::new(()),
            listeners,
            workers,
            work: AsyncMutex::new(Work { sources: document.sources.clone(), document, revisions }),
            refused: Mutex::default(),
            applied: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        })
    }

    pub fn live(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.live
    }

    /// Changes whenever another generation is live.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// What a change of this gateway may come from.
    pub async fn sources(&self) -> Sources {
        self.work.lock().await.sources.clone()
    }

    /// What metrics tell beside the snapshot.
    pub fn standing(&self) -> Standing {
        let (applied, refused) = (self.applied.load(Relaxed), self.refusals.load(Relaxed));
        Standing { applied, refused, listeners: self.listeners.connections() }
    }

    pub fn last_refused(&self) -> Option<Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the configuration file and the plugins' files again and makes what changed live.
    pub async fn reload(&self, env: &(dyn Fn(&str) -> Option<String> + Sync)) -> Result<Reloaded, ApplyError> {
        let mut work = self.work.lock().await;
        let result = self.reload_locked(&mut work, env).await;
        let refusal = match &result {
            Ok(reloaded) => reloaded.faults.as_ref().map(ToString::to_string),
            Err(error) => Some(error.to_string()),
        };
        if refusal.is_some() {
            self.refusals.fetch_add(1, Relaxed);
        }
        self.note(refusal);
        result
    }

    async fn reload_locked(
        &self,
        work: &mut Work,
        env: &(dyn Fn(&str) -> Option<String> + Sync),
    ) -> Result<Reloaded, ApplyError> {
        let document = Document::read(&work.document.file, env);
        work.sources = document.sources.clone();
        let mut stage = stage(&work.revisions, &document).await?;
        stage.problems.extend(fixed(&work.document, &document));
        let same = document.is_sound() && document.config == work.document.config;
        if same && stage.changes.is_empty() && stage.problems.is_empty() {
            return Ok(Reloaded { changed: false, faults: stage.faults(&document) });
        }
        let previous = self.live.load_full();
        let Next { snapshot, staged, faults } =
            generation(&work.revisions, &document, stage, Some(&previous), self.workers).await?;
        let bound = open(&self.listeners, &snapshot, &document)?;
        work.revisions.commit(staged).await?;
        let snapshot = Arc::new(snapshot);
        self.publish(Arc::clone(&snapshot));
        self.listeners.open(bound, &snapshot.listeners);
        work.document = document;
        Ok(Reloaded { changed: true, faults })
    }

    /// Makes a module the newest revision of a plugin and live; one with the digest of an older revision is that one.
    pub async fn push(self: &Arc<Self>, plugin: &str, bytes: Vec<u8>) -> Result<Pushed, PluginError> {
        let (this, plugin) = (Arc::clone(self), plugin.to_owned());
        self.to_its_end(async move {
            let mut work = this.work.lock().await;
            work.knows(&plugin)?;
            let staged = work.revisions.stage(&plugin, bytes, Origin::Push).await?;
            let new = staged.is_new();
            let revision = this.activate(&mut work, staged).await?;
            Ok(Pushed { revision, new })
        })
        .await
    }

    /// Makes an older or newer revision of a plugin live.
    pub async fn roll_to(self: &Arc<Self>, plugin: &str, number: u32) -> Result<Revision, PluginError> {
        let (this, plugin) = (Arc::clone(self), plugin.to_owned());
        self.to_its_end(async move {
            let mut work = this.work.lock().await;
            work.knows(&plugin)?;
            let staged = work.revisions.stored(&plugin, number).await?;
            this.activate(&mut work, staged).await
        })
        .await
    }

    async fn to_its_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, PluginError>> + Send + 'static,
    ) -> Result<T, PluginError> {
        let result = self.tasks.spawn(change).await.unwrap_or(Err(PluginError::Store(StoreError::Ended)));
        result.inspect_err(|error| {
            self.refusals.fetch_add(1, Relaxed);
            tracing::warn!("a change of a plugin is refused: {error}");
        })
    }

    /// Every revision of a plugin, the oldest first, and the number of the active one.
    pub async fn revisions(&self, plugin: &str) -> Result<(Vec<Record>, Option<u32>), PluginError> {
        let work = self.work.lock().await;
        work.knows(plugin)?;
        let active = work.revisions.active(plugin).map(|revision| revision.number);
        Ok((work.revisions.records(plugin).await?, active))
    }

    /// The plugins of the configuration, by its order, each with its active revision.
    pub async fn plugins(&self) -> Vec<(String, Option<Revision>)> {
        let work = self.work.lock().await;
        let plugins = work.document.config.plugins.iter();
        plugins.map(|plugin| (plugin.name.clone(), work.revisions.active(&plugin.name).cloned())).collect()
    }

    async fn activate(&self, work: &mut Work, staged: Staged) -> Result<Revision, PluginError> {
        let revision = staged.revision().clone();
        let staged = vec![staged];
        let active = work.revisions.with(&staged);
        let previous = self.live.load_full();
        let config = &work.document.config;
        let input = Input { config, revisions: &active, previous: Some(&previous), workers: self.workers };
        let snapshot = compile(input).await.map_err(PluginError::Refused)?;
        work.revisions.commit(staged).await?;
        self.publish(Arc::new(snapshot));
        tracing::info!(plugin = &*revision.plugin, revision = revision.number, "revision is live");
        Ok(revision)
    }

    fn publish(&self, snapshot: Arc<Snapshot>) {
        tracing::info!(generation = snapshot.generation, "generation is live");
        self.applied.fetch_add(1, Relaxed);
        let previous = self.live.swap(snapshot);
        self.changed.send_replace(());
        // Whoever lets go of it last ends its instances and connections: better here than on a worker. Workers let go
        // of it at once, exchanges in flight when they are answered.
        self.tasks.spawn(async move {
            while Arc::strong_count(&previous) > 1 {
                sleep(RETIREMENT).await;
            }
            let _ = spawn_blocking(move || drop(previous)).await;
        });
    }

    fn note(&self, message: Option<String>) {
        let refused = message.map(|message| Refused { at: SystemTime::now(), message });
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}

impl Work {
    fn knows(&self, plugin: &str) -> Result<(), PluginError> {
        let known = self.document.config.plugins.iter().any(|known| known.name == plugin);
        if known { Ok(()) } else { Err(PluginError::UnknownPlugin(plugin.to_owned())) }
    }
}

impl Stage {
    fn faults(&self, document: &Document) -> Option<Errors> {
        (!self.faults.is_empty()).then(|| document.errors(self.faults.clone()))
    }
}

/// Everything that would keep this configuration from starting, but for addresses in use and what a store holds.
pub async fn check(engine: Engine, document: Document) -> Result<(), ApplyError> {
    let revisions = Revisions::new(engine, Store::in_memory()?);
    let stage = stage(&revisions, &document).await?;
    generation(&revisions, &document, stage, None, 1).await.map(drop)
}

/// What is wrong with one plugin's file does not hide what is wrong elsewhere, and does not keep the rest from going live
/// where an earlier revision can go on.
async fn stage(revisions: &Revisions, document: &Document) -> Result<Stage, StoreError> {
    let mut stage = Stage::default();
    for (index, plugin) in document.config.plugins.iter().enumerate() {
        let runs = revisions.active(&plugin.name).is_some();
        let resumed = if runs { None } else { revisions.resume(&plugin.name).await? };
        let goes_on = runs || resumed.is_some();
        let changed = match &plugin.file {
            Some(file) => revisions.stage_file(&plugin.name, file, !goes_on).await,
            None => Ok(None),
        };
        match changed {
            Ok(changed) => stage.changes.extend(changed.or(resumed)),
            Err(error) => {
                let refused = if goes_on { &mut stage.faults } else { &mut stage.problems };
                refused.push(Problem::new(format!("plugins[{index}].file"), error.to_string()));
                stage.changes.extend(resumed);
            }
        }
    }
    Ok(stage)
}

async fn generation(
    revisions: &Revisions,
    document: &Document,
    stage: Stage,
    previous: Option<&Snapshot>,
    workers: usize,
) -> Result<Next, ApplyError> {
    let active = revisions.with(&stage.changes);
    let input = Input { config: &document.config, revisions: &active, previous, workers };
    let faults = stage.faults(document);
    let mut problems = stage.problems;
    match compile(input).await {
        Ok(snapshot) if problems.is_empty() && document.is_sound() => {
            return Ok(Next { snapshot, staged: stage.changes, faults });
        }
        Ok(_) => {}
        Err(more) => problems.extend(more),
    }
    problems.extend(stage.faults);
    Err(document.errors(problems).into())
}

/// Opens the access log and binds what is not bound yet; nobody is served before the listeners are opened.
fn open(listeners: &Listeners, snapshot: &Snapshot, document: &Document) -> Result<Bound, ApplyError> {
    let mut problems = Vec::new();
    if let Some(Err(error)) = snapshot.access_log.as_ref().map(|log| log.open()) {
        problems.push(Problem::new("access_log.file", format!("the file cannot be opened: {error}")));
    }
    let bound = listeners.bind(&snapshot.listeners).unwrap_or_else(|errors| {
        problems.extend(errors.into_iter().map(|error| {
            let index = snapshot.listeners.iter().position(|listener| listener.name == error.listener);
            Problem::new(format!("listeners[{}].address", index.unwrap_or(0)), error.to_string())
        }));
        Bound::default()
    });
    if problems.is_empty() { Ok(bound) } else { Err(document.errors(problems).into()) }
}

/// What is made once, at the start.
fn fixed(old: &Document, new: &Document) -> Vec<Problem> {
    let changes = [
        ("workers", old.config.workers != new.config.workers),
        ("admin", old.config.admin != new.config.admin),
        ("store", old.config.store != new.config.store),
        ("grace", old.config.grace != new.config.grace),
    ];
    let problem = |(key, _): (&str, bool)| {
        let message = format!("{key} cannot change while the gateway runs; restart it");
        Problem::new(key, message).given([Premise::All(key.to_owned())])
    };
    changes.into_iter().filter(|(_, changed)| *changed).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{golden, plugin::Bounds};

    /// What `stile check` says of a file; of one named `fixed…`, what a gateway says that runs with the defaults.
    fn outcome(file: &Path) -> String {
        let document = Document::read(file, &|_| None);
        let name = file.file_name().expect("a name").to_string_lossy();
        let errors = if name.starts_with("fixed") {
            let running = Document::parse(file, "{}", &|_| None);
            document.errors(fixed(&running, &document))
        } else {
            let bounds = Bounds { instances: 1, memory: 1 << 20, table_elements: 100 };
            let engine = Engine::new(bounds).expect("an engine");
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            match runtime.block_on(check(engine, document)).expect_err("a mistake") {
                ApplyError::Config(errors) => errors,
                ApplyError::Store(error) => panic!("{error}"),
            }
        };
        let folder = format!("{}/", file.parent().expect("the golden folder").display());
        format!("{errors}\n").replace(&folder, "")
    }

    /// Larger than what a golden file should be.
    #[test]
    fn a_module_that_is_too_large_has_its_text() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (file, module) = (folder.path().join("stile.yaml"), folder.path().join("large.wasm"));
        std::fs::write(&file, "plugins: [{ name: large, file: large.wasm }]").expect("the folder is ours");
        std::fs::File::create(module).and_then(|module| module.set_len((64 << 20) + 1)).expect("the folder is ours");
        let message = "the file has 67108865 bytes, more than the 67108864 that a module may have";
        assert_eq!(outcome(&file), format!("stile.yaml:1:32: plugins[0].file: {message}\n"));
    }

    #[test]
    fn every_mistake_has_its_golden_text() {
        golden::check("src/control/golden", outcome);
    }
}
