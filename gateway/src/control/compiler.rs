//! Compiles modules: one at a time, on a thread of its own, and before a change takes its turn. A module that is in use is
//! found by its digest, and so is one that a change has compiled before it took its turn.

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

/// Refused modules that are remembered, so that none is compiled again during the turn of a change.
const MAX_REFUSED: usize = 64;
/// Niceness of the thread while the gateway serves: workers get a core first if both could use it, and the compiler still gets its
/// share. At 10 a push took minutes where requests keep all cores busy.
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

    /// Compiles at the niceness `NICENESS` from now on.
    pub(super) fn goes_live(&self) {
        self.is_live.store(true, Relaxed);
    }

    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Returns the module of these bytes, which have this digest: one in use, or a new one.
    pub(super) async fn module(&self, bytes: Bytes, sha256: Digest256) -> Result<Module, LoadError> {
        if let Some(known) = self.known(sha256) {
            return known;
        }
        let _turn = self.turn.lock().await;
        if let Some(known) = self.known(sha256) {
            return known;
        }
        let made = self.compile(bytes, sha256).await;
        self.remember(sha256, &made);
        made
    }

    async fn compile(&self, bytes: Bytes, sha256: Digest256) -> Result<Module, LoadError> {
        let (engine, cache) = (self.engine.clone(), self.cache.clone());
        let is_live = self.is_live.load(Relaxed);
        let (done, made) = oneshot::channel();
        let work = move || {
            if is_live && let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
                tracing::warn!("modules compile at full priority: {error}");
            }
            let made = Module::load(&engine, &bytes, sha256, cache.as_deref());
            // Whoever stores them gets the bytes without a copy.
            drop(bytes);
            let _ = done.send(made);
        };
        // A thread for each: a raised niceness stays, and what a thread's allocator holds goes back when it ends.
        let started = thread::Builder::new().name("stile-compiler".to_owned()).spawn(work);
        started.map_err(|error| LoadError::Unavailable(format!("no thread can be started: {error}")))?;
        made.await.unwrap_or_else(|_| Err(LoadError::Unavailable("the compiler failed".to_owned())))
    }

    pub(super) fn known(&self, sha256: Digest256) -> Option<Result<Module, LoadError>> {
        match self.lock().get(&sha256)? {
            Known::Module(module) => module.upgrade().map(Ok),
            Known::Refused(error) => Some(Err(error.clone())),
        }
    }

    /// Remembers what is so each time that the module is compiled.
    fn remember(&self, sha256: Digest256, made: &Result<Module, LoadError>) {
        let made = match made {
            Ok(module) => Known::Module(module.downgrade()),
            Err(LoadError::Unavailable(_)) => return,
            Err(error) => Known::Refused(error.clone()),
        };
        let mut known = self.lock();
        known.retain(|_, known| !matches!(known, Known::Module(module) if module.upgrade().is_none()));
        let refused = known.values().filter(|known| matches!(known, Known::Refused(_))).count();
        if refused >= MAX_REFUSED {
            known.retain(|_, known| matches!(known, Known::Module(_)));
        }
        known.insert(sha256, made);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest256, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::Bounds;

    #[tokio::test]
    async fn failures_of_the_system_are_not_those_of_a_module() {
        let bounds =
            Bounds { instances: 1, memory: 1 << 20, table_elements: 100, core_instances: 16, ..Bounds::default() };
        let compiler = Compiler::new(Engine::new(bounds).expect("an engine"), None);
        let module = Bytes::from(wat::parse_str(include_str!("../plugin/tick.wat")).expect("a component"));
        let sha256 = Digest256::of(&module);
        compiler.remember(sha256, &Err(LoadError::Unavailable("no thread can be started".to_owned())));
        let made = compiler.module(module, sha256).await.expect("it is a plugin");
        assert_eq!(made.sha256(), sha256);

        let other = Bytes::from_static(b"other");
        let refused = compiler.module(other.clone(), Digest256::of(&other)).await.expect_err("it is no plugin");
        let known = compiler.known(Digest256::of(&other)).expect("it is remembered").expect_err("it is no plugin");
        assert_eq!(known.to_string(), refused.to_string());
    }
}
