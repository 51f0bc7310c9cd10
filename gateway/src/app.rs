//! The composition root: builds a gateway from its parts, runs it, drains it. It decides nothing itself.

mod calls;
mod ticks;
mod worker;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    num::NonZeroU32,
    ops::RangeInclusive,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::mpsc::unbounded_channel,
    task::spawn_blocking,
    time::{interval, sleep, timeout},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::worker::{Generations, Shutdown, Worker};
use crate::{
    admin::{self, Address},
    config::{
        Config, Document, Problem, schema,
        watch::{Watch, WatchError},
    },
    control::{ApplyError, Control, Reloaded},
    exchange::{Passes, Via, id::RequestIds},
    listener::Listeners,
    monitor::{health::Health, log::Log},
    plugin::{Bounds, Complexity, Engine, engine::EngineError},
    snapshot::compile::listener_limits,
    worker::WorkerId,
};

/// An instance that was idle between two of these is ended.
const INSTANCE_SWEEP: Duration = Duration::from_secs(10);
/// Before watching is tried again after it failed.
const WATCH_PAUSE: Duration = Duration::from_secs(5);
/// Before a plugin that could not be fetched is asked for again: the first time, and later, as each is twice the one before.
const FETCH_PAUSES: RangeInclusive<Duration> = Duration::from_secs(2)..=Duration::from_secs(300);

/// A running gateway. Several may run in one process.
#[derive(Debug)]
pub struct Gateway {
    control: Arc<Control>,
    admin: Option<SocketAddr>,
    workers: Vec<Worker>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _end_when_dropped: [DropGuard; 2],
    /// Ends the admin address, which tells that the gateway is draining as long as it is.
    drained: CancellationToken,
    grace: Duration,
    flush_timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Apply(#[from] ApplyError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("a worker cannot start: {0}")]
    Worker(io::Error),
}

/// The engine that a configuration asks for.
pub fn engine(config: &Config) -> Result<Engine, EngineError> {
    let (wasm, default) = (&config.wasm, Bounds::default());
    Engine::new(Bounds {
        instances: wasm.instances.map_or(default.instances, NonZeroU32::get),
        memory: usize::try_from(wasm.memory.0).unwrap_or(usize::MAX),
        table_elements: wasm.table_elements as usize,
        core_instances: wasm.core_instances,
        stack: usize::try_from(wasm.stack.0).unwrap_or(usize::MAX),
        complexity: Complexity {
            module_bytes: usize::try_from(wasm.module_bytes.0).unwrap_or(usize::MAX),
            functions: wasm.functions,
            function_bytes: usize::try_from(wasm.function_bytes.0).unwrap_or(usize::MAX),
            function_locals: wasm.function_locals,
            function_blocks: wasm.function_blocks,
            function_values: wasm.function_values,
            module_values: wasm.module_values,
        },
    })
}

impl Gateway {
    /// Starts a gateway from its configuration file, with the engine that `engine` makes for it or shares with others; when
    /// this returns, its sockets accept. Must be called on a tokio runtime, which becomes its control plane.
    pub async fn start(
        engine: impl FnOnce(&Config) -> Result<Engine, EngineError>,
        file: &Path,
    ) -> Result<Self, StartError> {
        Self::start_logging(engine, file, None).await
    }

    /// Starts a gateway that counts the dropped lines of the process's log in its metrics, and bounds that log as the file says.
    pub async fn start_logging(
        engine: impl FnOnce(&Config) -> Result<Engine, EngineError>,
        file: &Path,
        log: Option<Log>,
    ) -> Result<Self, StartError> {
        let mut document = Document::read(file, &environment);
        let config = document.config.clone();
        let engine = engine(&config)?;
        let release = engine.release();
        let workers = config.workers.map_or_else(cores, |workers| usize::from(workers.get()));
        let bound = bind_admin(&mut document).await;
        let address = bound.as_ref().map(|(address, _)| *address);
        let (stop, drained) = (CancellationToken::new(), CancellationToken::new());
        let end_when_dropped = [stop.clone().drop_guard(), drained.clone().drop_guard()];
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
        let listeners = Listeners::new(senders, address, stop.child_token());
        let tasks = TaskTracker::new();
        let api = Arc::new(OnceLock::new());
        // Before plugins are compiled, which takes as long as it takes.
        if let (Some((told, socket)), Some(admin)) = (bound, &config.admin) {
            tracing::info!("admin address {told} answers, compiling plugins");
            let limits = listener_limits(&admin.limits);
            let (connections, room) = (listeners.admin().clone(), Arc::clone(listeners.room()));
            let reserved_descriptors = config.limits.reserved_descriptors.into();
            let address = Address { socket, limits, connections, room, reserved_descriptors };
            tasks.spawn(admin::serve(address, admin::when_started(Arc::clone(&api)), drained.clone()));
        }
        let grace = config.grace.0;
        if let Some(log) = &log {
            log.set_buffer(usize::try_from(config.log.buffer.0).unwrap_or(usize::MAX));
        }
        let control = Arc::new(Control::start(engine, document, listeners, workers).await?);
        // Workers count from here on: none of them turns while plugins are compiled.
        let worker_timeout = config.admin.as_ref().map_or(Duration::MAX, |admin| admin.worker_timeout.0);
        let health = Arc::new(Health::new(workers, worker_timeout, log));
        let passes = passes(&config.via);
        let mut running = Vec::with_capacity(workers);
        for (number, shares) in receivers.into_iter().enumerate() {
            let generations = Generations { live: Arc::clone(control.live()), changed: control.changed() };
            let via = Via::new(passes.clone());
            let shutdown = Shutdown { stop: stop.child_token(), grace };
            let health = Arc::clone(&health);
            let started = Worker::start(WorkerId(number), generations, shares, via, shutdown, health, release);
            running.push(started.map_err(StartError::Worker)?);
        }
        if let Some(admin) = &config.admin {
            let router = admin::router(Arc::clone(&control), &admin.tokens, stop.clone(), health);
            api.set(router).expect("it is set here only");
        }
        let gateway = Self {
            control,
            admin: address,
            workers: running,
            tasks,
            _end_when_dropped: end_when_dropped,
            stop,
            drained,
            grace,
            flush_timeout: config.flush_timeout.0,
        };
        gateway.watch();
        gateway.attend_trials();
        gateway.keep_registry();
        gateway.keep_counts();
        gateway.sweep();
        Ok(gateway)
    }

    /// Every open socket by its listener's name, the admin one as `admin`.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let mut addresses = self.control.listeners().addresses();
        addresses.extend(self.admin.map(|address| (Arc::from("admin"), address)));
        addresses
    }

    /// The address of one of them.
    pub fn address(&self, name: &str) -> Option<SocketAddr> {
        self.addresses().into_iter().find(|(known, _)| &**known == name).map(|(_, address)| address)
    }

    pub fn control(&self) -> &Arc<Control> {
        &self.control
    }

    /// Reads the configuration and the plugins' files again, as when they change, and logs what came of it.
    pub async fn reload(&self) {
        reload(&self.control).await;
    }

    /// The longest time that stopping takes.
    pub fn longest_stop(&self) -> Duration {
        self.grace + 3 * self.flush_timeout
    }

    /// Stops accepting, lets the exchanges in flight finish within the grace period, ends. Returns the number of connections cut
    /// off at its end.
    pub async fn stop(self) -> usize {
        self.stop.cancel();
        self.tasks.close();
        let ended = async {
            let mut cut = 0;
            for worker in self.workers {
                cut += worker.ended().await;
            }
            cut
        };
        let cut = timeout(self.grace + self.flush_timeout, ended).await.unwrap_or_else(|_| {
            tracing::error!("a worker does not end: its loop does not turn");
            0
        });
        if timeout(self.flush_timeout, flush(&self.control)).await.is_err() {
            tracing::error!(
                "usage, quotas or the access log could not be written within flush_timeout: the rest is lost"
            );
        }
        self.drained.cancel();
        let _ = timeout(self.flush_timeout, self.tasks.wait()).await;
        cut
    }

    /// Reads the configuration again whenever one of its files may have changed.
    fn watch(&self) {
        let (control, stop) = (Arc::clone(&self.control), self.stop.child_token());
        self.tasks.spawn(async move {
            let watching = async {
                loop {
                    let Err(error) = follow(&control).await;
                    tracing::error!("changes of files are not seen: {error}");
                    sleep(WATCH_PAUSE).await;
                }
            };
            stop.run_until_cancelled(watching).await;
        });
    }

    /// Takes back what fails too often on trial.
    fn attend_trials(&self) {
        let (control, stop) = (Arc::clone(&self.control), self.stop.child_token());
        self.tasks.spawn(async move { stop.run_until_cancelled(control.attend_trials()).await });
    }

    /// Brings registrations to requests, and ends those that are over.
    fn keep_registry(&self) {
        let (control, stop) = (Arc::clone(&self.control), self.stop.child_token());
        self.tasks.spawn(async move {
            let registry = control.registry();
            let directories = Arc::clone(registry).follow_directories();
            let all =
                async { tokio::join!(control.watch_endpoints(), registry.follow(), registry.attend(), directories) };
            stop.run_until_cancelled(all).await;
        });
    }

    /// Writes what is taken of quotas, and what is used.
    fn keep_counts(&self) {
        let (control, stop) = (Arc::clone(&self.control), self.stop.child_token());
        self.tasks.spawn(async move {
            stop.run_until_cancelled(async { tokio::join!(control.attend_meters(), control.attend_usage()) }).await;
        });
    }

    /// Ends instances of plugins that were not needed for a while.
    fn sweep(&self) {
        let (control, stop) = (Arc::clone(&self.control), self.stop.child_token());
        self.tasks.spawn(async move {
            let sweeping = async {
                let mut sweep = interval(INSTANCE_SWEEP);
                loop {
                    sweep.tick().await;
                    control.live().load_full().instances().for_each(|instances| instances.sweep());
                }
            };
            stop.run_until_cancelled(sweeping).await;
        });
    }
}

/// Writes what is still in memory.
async fn flush(control: &Arc<Control>) {
    let (meters, usage) = tokio::join!(control.write_meters(), control.write_usage());
    for error in [meters.err(), usage.err()].into_iter().flatten() {
        tracing::error!("what was used of APIs cannot be written: {error}");
    }
    let log = control.live().load().access_log.clone();
    // The disk may be slow, and other gateways may run on this runtime.
    let _ = spawn_blocking(move || log.inspect(|log| log.flush())).await;
}

/// Binds the admin address; one that cannot be bound is a mistake of the document.
async fn bind_admin(document: &mut Document) -> Option<(SocketAddr, TcpListener)> {
    let address = document.config.admin.as_ref().filter(|_| document.is_sound())?.address;
    let bound = TcpListener::bind(address).await.and_then(|socket| Ok((socket.local_addr()?, socket)));
    match bound {
        Ok(bound) => Some(bound),
        Err(error) => {
            document.refuse(Problem::new("admin.address", format!("cannot listen on {address}: {error}")));
            None
        }
    }
}

/// The value of an environment variable, as configurations may name it.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn follow(control: &Control) -> Result<Infallible, WatchError> {
    let mut sources = control.sources().await;
    let mut watch = Watch::new(&sources)?;
    let mut pause = *FETCH_PAUSES.start();
    loop {
        let fetch_again = async {
            match control.is_unfetched() {
                true => sleep(pause).await,
                false => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = watch.changed() => {
                changed?;
                pause = *FETCH_PAUSES.start();
            }
            () = fetch_again => pause = (2 * pause).min(*FETCH_PAUSES.end()),
        }
        reload(control).await;
        let wanted = control.sources().await;
        if wanted != sources {
            watch.set(&wanted)?;
            sources = wanted;
        }
    }
}

async fn reload(control: &Control) {
    match control.reload(&environment).await {
        Ok(Reloaded { changed, faults }) => {
            if changed {
                tracing::info!("configuration applied");
            }
            if let Some(faults) = faults {
                tracing::error!("a plugin's file is refused, the running revision stays:\n{faults}");
            }
        }
        Err(error) => tracing::error!("configuration refused, the running one stays:\n{error}"),
    }
}

/// Draws a random pseudonym if the configuration has none: other gateways have other names.
fn passes(via: &schema::Via) -> Passes {
    let random = || format!("stile-{}", &RequestIds::new().draw().as_str()[..16]);
    Passes { pseudonym: via.pseudonym.clone().unwrap_or_else(random), max: via.max_passes.into() }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
