//! Brings one generation after the other to life: a configuration or a plugin revision comes in, a snapshot goes out.
//! One change at a time; one that fails leaves everything as it was.

mod artifact;
pub mod audit;
mod compiler;
pub mod consumers;
mod credentials;
mod draft;
pub mod explain;
pub mod grants;
pub mod groups;
pub mod history;
mod meters;
pub mod plugins;
pub mod resources;
mod revisions;
pub mod transfer;
pub mod usage;
pub mod versions;
mod warn;

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use tokio::{
    sync::{Mutex as AsyncMutex, MutexGuard, watch},
    task::spawn_blocking,
    time::sleep,
};
use tokio_util::task::TaskTracker;

use crate::{
    access::{SealError, SealKey},
    config::{Document, Errors, Layers, Premise, Problem, Sources, schema},
    listener::{Bound, Listeners},
    monitor::record::Standing,
    plugin::Engine,
    registry::{Announcement, Directory, Preservation, Registry, RegistryError, Settings},
    snapshot::{Snapshot, compile},
    store::{Commit, Revision as Number, Store},
};

use self::{
    artifact::{Artifacts, bring, is_unfetched},
    audit::{Action, Done},
    compiler::Compiler,
    draft::{Draft, Work},
    warn::warn,
};
pub use self::{
    draft::View,
    plugins::{Known, PluginError, Push, Pushed, Rollout},
    revisions::{Origin, Record, State},
};
pub use crate::store::StoreError;

/// How often it is looked whether a generation that is past is still in use.
const RETIREMENT: Duration = Duration::from_millis(100);
/// The folder of compiled modules, in that of the store.
const MODULES: &str = "modules";
/// Who changes something by changing a file.
const FILE: &str = "file";

/// The control plane of one gateway.
#[derive(Debug)]
pub struct Control {
    live: Arc<ArcSwap<Snapshot>>,
    view: ArcSwap<View>,
    /// Tells that another generation is live.
    changed: watch::Sender<()>,
    listeners: Listeners,
    work: AsyncMutex<Work>,
    /// One reading of the files at a time.
    reloading: AsyncMutex<()>,
    /// Then some plugins were not to be had.
    unfetched: AtomicBool,
    store: Store,
    compiler: Arc<Compiler>,
    registry: Arc<Registry>,
    /// What the store has of quotas.
    meters: AsyncMutex<meters::Written>,
    /// One taking over of usage at a time.
    usage: AsyncMutex<()>,
    seal_key: Option<Arc<SealKey>>,
    /// Changes of resources that are to be made.
    waiting: Mutex<Vec<resources::Waiting>>,
    refused: Mutex<Option<Refused>>,
    /// Changes that were applied.
    applied: AtomicU64,
    /// Changes that were refused.
    refusals: AtomicU64,
    /// Changes go on to their end although who asked for them has left.
    tasks: TaskTracker,
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

/// What came of a reload.
#[derive(Debug)]
pub struct Reloaded {
    /// There is a new generation.
    pub changed: bool,
    /// Plugins' files that are refused while an earlier revision goes on.
    pub faults: Option<Errors>,
}

impl Control {
    /// Compiles the first generation and binds its listeners.
    pub async fn start(
        engine: Engine,
        document: Document,
        listeners: Listeners,
        workers: usize,
    ) -> Result<Self, ApplyError> {
        let (store, modules) = match &document.config.store {
            // With mistakes nothing comes of it but an answer.
            Some(store) if document.is_sound() => (Store::open(&store.path)?, Some(store.path.join(MODULES))),
            _ => (Store::in_memory()?, None),
        };
        Self::over(store, modules, engine, document, listeners, workers).await
    }

    async fn over(
        store: Store,
        modules: Option<PathBuf>,
        engine: Engine,
        document: Document,
        listeners: Listeners,
        workers: usize,
    ) -> Result<Self, ApplyError> {
        // Clients that connect while plugins are fetched and compiled wait in the kernel's queue. `open` reports an address that
        // cannot be bound.
        let early = if document.is_sound() { compile::listeners(&document.config) } else { Vec::new() };
        let early = listeners.bind(Bound::default(), &early).unwrap_or_default();
        let mut work = Work::open(store.clone(), modules, engine, document, workers).await?;
        let artifacts = bring(&store, work.revisions.compiler().engine(), work.layers.document()).await?;
        let unfetched = AtomicBool::new(is_unfetched(&artifacts));
        let stage = work.stage_file(&work.layers, artifacts).await?;
        let draft = work.draft(None, Arc::clone(&work.layers), stage).await?;
        if let Some(faults) = &draft.faults {
            tracing::error!("a plugin's file is refused, its stored revision goes on:\n{faults}");
        }
        let registry = Arc::new(Registry::open(store.clone()).await?);
        let written = meters::resume(&store, &draft.snapshot.access.meters).await?;
        let bound = open(&listeners, early, &draft)?;
        let done = vec![read_again(&work.layers)];
        let (snapshot, _) = work.adopt(draft, Commit::new(), &FILE.into(), done).await?;
        warn(&snapshot, None);
        let services = Arc::clone(&snapshot.services);
        let live = registry.bring_live(&services, settings(&work.layers), || ArcSwap::new(snapshot));
        listeners.open(bound, &live.load().listeners);
        let compiler = Arc::clone(work.revisions.compiler());
        compiler.goes_live();
        Ok(Self {
            live: Arc::new(live),
            view: ArcSwap::new(work.view()),
            compiler,
            seal_key: work.seal_key.clone(),
            changed: watch::Sender::new(()),
            listeners,
            work: AsyncMutex::new(work),
            reloading: AsyncMutex::default(),
            unfetched,
            store,
            registry,
            meters: AsyncMutex::new(written),
            usage: AsyncMutex::default(),
            waiting: Mutex::default(),
            refused: Mutex::default(),
            applied: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            tasks: TaskTracker::new(),
        })
    }

    pub fn live(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.live
    }

    /// The whole configuration that is live, and the active revisions of plugins.
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// Changes whenever another generation is live.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    pub fn listeners(&self) -> &Listeners {
        &self.listeners
    }

    /// Endpoints that announce themselves.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Registers an endpoint, or replaces its registration; returns whether it is new.
    ///
    /// # Errors
    ///
    /// The errors of the registry, and `Invalid` for an address of the gateway itself: its requests would come back.
    pub async fn register(&self, service: &str, id: &str, announcement: &Announcement) -> Result<bool, RegistryError> {
        if self.listeners.is_own(announcement.address) {
            let message =
                format!("{} is an address of this gateway: its requests would come back", announcement.address);
            return Err(RegistryError::Invalid(vec![("address".to_owned(), message)]));
        }
        self.registry.register(service, id, announcement).await
    }

    /// What a change of this gateway may come from.
    pub async fn sources(&self) -> Sources {
        self.work.lock().await.sources.clone()
    }

    /// The newest changes first: at most `limit` of those before the one of that number.
    pub async fn audit(&self, before: Option<u64>, limit: usize) -> Result<Vec<audit::Change>, StoreError> {
        audit::list(&self.store, before, limit).await
    }

    /// What metrics tell beside the snapshot; `log_dropped` is the number of lines that the log has dropped.
    pub fn standing(&self, log_dropped: u64) -> Standing {
        let (applied, refused) = (self.applied.load(Relaxed), self.refusals.load(Relaxed));
        let (registrations, held) = (self.registry.count(), self.registry.held());
        Standing {
            applied,
            refused,
            listeners: self.listeners.connections(),
            windows: self.listeners.windows(),
            registrations,
            held,
            log_dropped,
        }
    }

    pub fn last_refused(&self) -> Option<Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the configuration file and the plugins' files again and makes what changed live.
    pub async fn reload(&self, env: &(dyn Fn(&str) -> Option<String> + Sync)) -> Result<Reloaded, ApplyError> {
        // What was read last is what is live last. What is fetched takes its time, in which other changes are made.
        let _turn = self.reloading.lock().await;
        let file = self.view().layers.document().file.clone();
        let document = Document::read(&file, env);
        let result = self.reload_document(document).await;
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

    /// Whether a plugin of what was read last could not be fetched, and may be another time.
    pub fn is_unfetched(&self) -> bool {
        self.unfetched.load(Relaxed)
    }

    async fn reload_document(&self, document: Document) -> Result<Reloaded, ApplyError> {
        let artifacts = bring(&self.store, self.compiler.engine(), &document).await?;
        self.unfetched.store(is_unfetched(&artifacts), Relaxed);
        // Plugins of the store run already.
        let plugins: Vec<&str> = document.config.plugins.iter().map(|plugin| plugin.name.as_str()).collect();
        let _compiled = self.compile_ahead(&plugins, &artifacts).await?;
        let mut work = self.settled().await?;
        self.reload_locked(&mut work, document, artifacts).await
    }

    /// The turn to change something. After a failure nobody knows what the store holds: then it is read again before
    /// anything else is changed, and what it holds goes live.
    async fn settled(&self) -> Result<MutexGuard<'_, Work>, StoreError> {
        let mut work = self.work.lock().await;
        if work.revisions.is_doubtful() {
            let draft = work.draft_again(&self.live.load_full()).await?;
            let by = "store".into();
            let again = Done { kind: "store", name: String::new(), by: Arc::clone(&by), ..read_again(&work.layers) };
            self.make_live(&mut work, draft, Commit::new(), &by, vec![again]).await?;
            work.revisions.is_settled();
            tracing::warn!("the store failed before: what it holds is read again, and live");
        }
        Ok(work)
    }

    async fn reload_locked(
        &self,
        work: &mut Work,
        document: Document,
        artifacts: Artifacts,
    ) -> Result<Reloaded, ApplyError> {
        work.sources = document.sources.clone();
        let layers = work.layers.over(document);
        let (old, new) = (work.layers.document(), layers.document());
        let mut stage = work.stage_file(&layers, artifacts).await?;
        stage.problems.extend(fixed(old, new));
        let same = new.is_sound() && new.config == old.config;
        if same && stage.changes.is_empty() && stage.problems.is_empty() {
            return Ok(Reloaded { changed: false, faults: stage.faults(&layers) });
        }
        let after = Some(history::of_file(&old.config, &new.config));
        let done = vec![Done { after, ..read_again(&layers) }];
        let mut draft = work.draft(Some(&self.live.load_full()), Arc::new(layers), stage).await?;
        let (bound, faults) = (open(&self.listeners, Bound::default(), &draft)?, draft.faults.take());
        self.make_live(work, draft, Commit::new(), &FILE.into(), done).await?;
        self.listeners.open(bound, &self.live.load().listeners);
        Ok(Reloaded { changed: true, faults })
    }

    /// Stores a draft as `Work::adopt` does, and makes it live.
    async fn make_live(
        &self,
        work: &mut Work,
        draft: Draft,
        commit: Commit,
        by: &Arc<str>,
        done: Vec<Done>,
    ) -> Result<Number, StoreError> {
        let (snapshot, number) = work.adopt(draft, commit, by, done).await?;
        tracing::info!(generation = snapshot.generation, "generation is live");
        warn(&snapshot, Some(&self.live.load()));
        self.applied.fetch_add(1, Relaxed);
        let services = Arc::clone(&snapshot.services);
        let previous = self.registry.bring_live(&services, settings(&work.layers), || self.live.swap(snapshot));
        self.view.store(work.view());
        // What a plugin has kept ends with it.
        let plugins = &work.layers.config().plugins;
        self.live.load().states.sweep(|name| plugins.iter().any(|plugin| plugin.name == name));
        self.changed.send_replace(());
        // Whoever lets go of it last ends its instances and connections: better here than on a worker. Workers let go
        // of it at once, exchanges in flight when they are answered.
        self.tasks.spawn(async move {
            while Arc::strong_count(&previous) > 1 {
                sleep(RETIREMENT).await;
            }
            let _ = spawn_blocking(move || drop(previous)).await;
        });
        Ok(number)
    }

    fn note(&self, message: Option<String>) {
        let refused = message.map(|message| Refused { at: SystemTime::now(), message });
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }
}

/// Everything that would keep this configuration from starting, but for addresses in use and what a store holds.
pub async fn check(engine: Engine, document: Document) -> Result<(), ApplyError> {
    let work = Work::open(Store::in_memory()?, None, engine, document, 1).await?;
    let artifacts = bring(&work.store, work.revisions.compiler().engine(), work.layers.document()).await?;
    let stage = work.stage_file(&work.layers, artifacts).await?;
    warn(&work.draft(None, Arc::clone(&work.layers), stage).await?.snapshot, None);
    Ok(())
}

/// Opens the access log and binds what is not bound yet; nobody is served before the listeners are opened.
fn open(listeners: &Listeners, bound: Bound, Draft { snapshot, layers, .. }: &Draft) -> Result<Bound, ApplyError> {
    let mut problems = Vec::new();
    if let Some(Err(error)) = snapshot.access_log.as_ref().map(|log| log.open()) {
        problems.push(Problem::new("access_log.file", format!("the file cannot be opened: {error}")));
    }
    let bound = listeners.bind(bound, &snapshot.listeners).unwrap_or_else(|errors| {
        problems.extend(errors.into_iter().map(|error| {
            let index = snapshot.listeners.iter().position(|listener| listener.name == error.listener);
            Problem::new(format!("listeners[{}].address", index.unwrap_or(0)), error.to_string())
        }));
        Bound::default()
    });
    if problems.is_empty() { Ok(bound) } else { Err(layers.errors(problems).into()) }
}

/// The configuration file was read, as the audit log tells it.
fn read_again(layers: &Layers) -> Done {
    Done {
        by: FILE.into(),
        action: Action::Reload,
        kind: "configuration",
        name: layers.document().file.display().to_string(),
        before: None,
        after: None,
    }
}

/// None if it says nothing, which compiling it tells.
fn directory(schema::Source { file, dns, consul }: &schema::Source) -> Option<Directory> {
    let file = file.clone().map(Directory::File);
    let dns = dns.clone().map(|schema::Dns { name, records, port, servers }| {
        let port = port.filter(|_| records == schema::Records::Addresses);
        Directory::Dns { name, port, servers }
    });
    let consul = consul.clone().map(|schema::Consul { url, service, tag, token }| Directory::Consul {
        url,
        service,
        tag,
        token,
    });
    file.or(dns).or(consul)
}

/// The bounds of the registry, and what else knows of endpoints.
fn settings(layers: &Layers) -> Settings {
    let schema::Registry { endpoints_per_service, self_preservation: preservation } = &layers.config().registry;
    let services = layers.config().services.iter();
    let directories = services.flat_map(|service| {
        let known = service.sources.iter().filter_map(directory);
        known.map(|directory| (Arc::from(service.name.as_str()), directory))
    });
    Settings {
        endpoints_per_service: *endpoints_per_service as usize,
        preservation: Preservation { above_percent: preservation.above_percent, least: preservation.least as usize },
        directories: directories.collect(),
    }
}

/// What seals secrets in the store, if the configuration has a key.
fn seal_key(document: &Document) -> Result<Option<SealKey>, StoreError> {
    let key = document.config.store.as_ref().and_then(|store| store.key.as_deref());
    let failed = |error: SealError| StoreError::Corrupt("store.key".to_owned(), error.to_string());
    key.map(SealKey::new).transpose().map_err(failed)
}

/// What is made once, at the start.
fn fixed(old: &Document, new: &Document) -> Vec<Problem> {
    let changes = [
        ("workers", old.config.workers != new.config.workers),
        ("admin", old.config.admin != new.config.admin),
        ("store", old.config.store != new.config.store),
        ("grace", old.config.grace != new.config.grace),
        ("via", old.config.via != new.config.via),
        ("wasm", old.config.wasm != new.config.wasm),
        ("flush_timeout", old.config.flush_timeout != new.config.flush_timeout),
        ("log", old.config.log != new.config.log),
    ];
    let problem = |(key, _): (&str, bool)| {
        let message = format!("{key} cannot change while the gateway runs; restart it");
        Problem::new(key, message).given([Premise::All(key.to_owned())])
    };
    changes.into_iter().filter(|(_, changed)| *changed).map(problem).collect()
}

#[cfg(test)]
mod tests {
    use std::{path::Path, pin::pin};

    use futures_util::{FutureExt, future::join_all};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::{
        config::resource::{Kind, Stored},
        golden,
        plugin::Bounds,
        store::Lossy,
    };

    /// What `stile check` says of a file; of one named `fixed…`, what a gateway says that runs with the defaults.
    fn outcome(file: &Path) -> String {
        let document = Document::read(file, &|_| None);
        let name = file.file_name().expect("a name").to_string_lossy();
        let errors = if name.starts_with("fixed") {
            let running = Document::parse(file, "{}", &|_| None);
            document.errors(fixed(&running, &document))
        } else {
            let bounds =
                Bounds { instances: 1, memory: 1 << 20, table_elements: 100, core_instances: 16, ..Bounds::default() };
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
        let message = "compiling the module would take too much: it has 67108865 bytes, more than wasm.module_bytes allows, \
                       which is 67108864";
        assert_eq!(outcome(&file), format!("stile.yaml:1:32: plugins[0].file: {message}\n"));
    }

    /// One without a file, over this store.
    pub(super) async fn over(store: Store) -> Arc<Control> {
        let engine = Engine::new(Bounds {
            instances: 1,
            memory: 1 << 20,
            table_elements: 100,
            core_instances: 16,
            ..Bounds::default()
        })
        .expect("an engine");
        let document = Document::parse(Path::new("stile.yaml"), "{}", &|_| None);
        let listeners = Listeners::new(Vec::new(), None, CancellationToken::new());
        Arc::new(Control::over(store, None, engine, document, listeners, 1).await.expect("a control plane"))
    }

    fn wish(name: &str, text: &str) -> resources::Wish {
        let kind = Kind::Service;
        let stored = Some(Arc::new(Stored::parse(kind, name, text).expect("a service")));
        resources::Wish { kind, name: name.to_owned(), stored, condition: Default::default(), by: "ops".into() }
    }

    /// A disk that tells a failure although everything was written: what was refused is there all the same.
    #[tokio::test]
    async fn after_a_failure_of_the_store_what_it_holds_is_what_is_live() {
        let disk = Lossy::default();
        let control = over(Store::on(&disk).expect("a store")).await;
        let consumer = |name: &str| {
            let (name, stored) = (name.to_owned(), Some(Default::default()));
            control.change_consumer(
                consumers::Wish { name, stored, condition: Default::default(), by: "ops".into() },
                false,
            )
        };
        consumer("before").await.expect("room");
        disk.set_failing(true);
        let refused = control.change(wish("doubtful", "{}")).await;
        assert!(matches!(refused, Err(resources::ResourceError::Store(_))), "{refused:?}");
        assert!(control.view().layers.origin(Kind::Service, "doubtful").is_none(), "nobody knows yet");
        assert!(consumer("later").await.is_err());
        disk.set_failing(false);
        control.change(wish("after", "{}")).await.expect("room again");

        let layers = Arc::clone(&control.view().layers);
        assert!(layers.origin(Kind::Service, "doubtful").is_some(), "it was written");
        let told: Vec<_> = control.audit(None, 100).await.expect("a reading").into_iter().rev().collect();
        let numbers: Vec<_> = told.iter().map(|change| (change.number, change.generation)).collect();
        assert_eq!(numbers, (1..=told.len() as u64).map(|n| (n, n)).collect::<Vec<_>>(), "{told:?}");
        let names: Vec<_> = told.iter().map(|change| change.name.as_str()).collect();
        assert!(names.contains(&"doubtful") && names.ends_with(&["", "after"]), "{names:?}");
        assert_eq!(control.live().load().generation, told.len() as u64);
    }

    #[tokio::test]
    async fn changes_that_wait_for_another_are_made_with_one_generation() {
        let engine = Engine::new(Bounds {
            instances: 1,
            memory: 1 << 20,
            table_elements: 100,
            core_instances: 16,
            ..Bounds::default()
        })
        .expect("an engine");
        let document = Document::parse(Path::new("stile.yaml"), "{}", &|_| None);
        let listeners = Listeners::new(Vec::new(), None, CancellationToken::new());
        let control = Control::start(engine, document, listeners, 1).await.expect("a control plane");
        let control = Arc::new(control);
        let work = control.work.lock().await;
        let changes: Vec<_> = (0..20)
            .map(|n| {
                let control = Arc::clone(&control);
                async move { control.change(wish(&format!("s{n}"), "{}")).await }
            })
            .collect();
        let mut changes = pin!(join_all(changes));
        assert!(changes.as_mut().now_or_never().is_none(), "they wait");
        assert_eq!(control.waiting.lock().expect("nobody panics").len(), 20);
        drop(work);
        for change in changes.await {
            change.expect("room");
        }
        assert_eq!(control.live().load().generation, 2, "one for all of them");
        assert_eq!(control.audit(None, 100).await.expect("a reading").len(), 21);
    }

    #[test]
    fn every_mistake_has_its_golden_text() {
        golden::check("src/control/golden", outcome);
    }
}
