//! Compiles modules: one at a time, on a thread of its own, and before a change takes its turn. A module that is in use is
//! found by its digest, and so is one that a change has had compiled before it took its turn.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
};

use bytes::Bytes;
use tokio::sync::{Mutex as AsyncMutex, oneshot};

use crate::plugin::{Cache, Digest256, Engine, LoadError, Module, WeakModule};

/// Refused modules that are remembered, so that one is not tried again during the turn of a change.
const MAX_REFUSED: usize = 64;
/// Niceness of the thread while the gateway serves. At 10 a push took minutes where requests keep all cores busy.
const NICENESS: i32 = 1;

#[derive(Debug)]
pub(super) struct Compiler {
    engine: Engine,
    cache: Option<Arc<Cache>>,
    /// One module at a time.
    turn: AsyncMutex<()>,
    known: Mutex<HashMap<Digest256, Known>>,
    /// Requests are served, which compiling must not slow down.
    is_live: AtomicBool,
}

#[derive(Debug)]
enum Known {
    Module(WeakModule),
    Refused(LoadError),
}

impl Compiler {
    pub(super) fn new(engine: Engine, cache: Option<Arc<Cache>>) -> Self {
        let (turn, known, is_live) = Default::default();
        Self { engine, cache, turn, known, is_live }
    }

    /// Compiles at low priority from now on.
    pub(super) fn goes_live(&self) {
        self.is_live.store(true, Relaxed);
    }

    /// The module of these bytes: one in use, or a new one.
    pub(super) async fn module(&self, bytes: Bytes) -> Result<Module, LoadError> {
        let sha256 = Digest256::of(&bytes);
        if let Some(known) = self.known(sha256) {
            return known;
        }
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(sha256) {
            return known;
        }
        let made = self.compile(bytes).await;
        self.remember(sha256, &made);
        made
    }

    async fn compile(&self, bytes: Bytes) -> Result<Module, LoadError> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let is_live = self.is_live.load(Relaxed);
        let (done, made) = oneshot::channel();
        let work = move || {
            if is_live && let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::warn!("modules compile at full priority: {error}");
            }
            let made = Module::load(&engine, &bytes, cache.as_deref());
            // Whoever stores them gets the bytes without a copy.
            drop(bytes);
            let _ = done.send(made);
        };
        // A thread for each: a raised niceness stays, and what a thread's allocator holds goes back when it ends.
        let started = thread::Builder::new().name("stile-compiler".to_owned()).spawn(work);
        started.map_err(|error| LoadError::Compile(format!("no thread can be started: {error}")))?;
        made.await.unwrap_or_else(|_| Err(LoadError::Compile("the compiler failed".to_owned())))
    }

    fn known(&self, sha256: Digest256) -> Option<Result<Module, LoadError>> {
        match self.lock().get(&sha256)? {
            Known::Module(module) => module.upgrade().map(Ok),
            Known::Refused(error) => Some(Err(error.clone())),
        }
    }

    fn remember(&self, sha256: Digest256, made: &Result<Module, LoadError>) {
        let mut known = self.lock();
        known.retain(|_, known| !matches!(known, Known::Module(module) if module.upgrade().is_none()));
        let refused = known.values().filter(|known| matches!(known, Known::Refused(_))).count();
        if refused >= MAX_REFUSED {
            known.retain(|_, known| matches!(known, Known::Module(_)));
        }
        let made = match made {
            Ok(module) => Known::Module(module.downgrade()),
            Err(error) => Known::Refused(error.clone()),
        };
        known.insert(sha256, made);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest256, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
