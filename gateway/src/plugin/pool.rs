//! Instances of one (revision, configuration): kept idle per worker, bounded over all of them, waited for briefly.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    Cause, Failure, Limits, Phase, Revision, Verdict,
    host::Identity,
    instance::{Instance, Running},
};
use crate::{
    exchange::Exchange,
    worker::{PerWorker, WorkerId},
};

/// How long an instance lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Isolation {
    /// For many exchanges, one at a time.
    Pooled,
    /// For one call.
    Request,
}

/// The instances of one revision with one configuration, for all workers.
pub struct Instances {
    revision: Revision,
    identity: Arc<Identity>,
    config: Box<str>,
    limits: Limits,
    isolation: Isolation,
    idle: PerWorker<Shelf>,
    /// One permit per instance, idle ones included, so that a call that finds one on its shelf touches nothing shared.
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// Idle instances of one worker, the last used on top.
#[derive(Default)]
struct Shelf {
    instances: Vec<Instance>,
    /// The fewest there were since the last sweep: so many were not needed.
    unneeded: usize,
}

/// Counts one waiting call, also when that call is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Instances {
    /// `config` is JSON text.
    pub fn new(revision: Revision, config: &str, limits: Limits, isolation: Isolation, workers: usize) -> Self {
        let identity = Identity { plugin: Arc::clone(&revision.plugin), revision: revision.number };
        Self {
            revision,
            identity: Arc::new(identity),
            config: config.into(),
            limits,
            isolation,
            idle: PerWorker::new(workers, |_| Shelf::default()),
            permits: Arc::new(Semaphore::new(limits.instances as usize)),
            waiting: AtomicUsize::new(0),
        }
    }

    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    pub fn has(&self, phase: Phase) -> bool {
        self.revision.module.found().has(phase)
    }

    /// Makes and configures one instance, and so shows that the plugin takes this configuration.
    pub async fn probe(&self) -> Result<(), Failure> {
        if self.config.as_ref() != "null" && !self.revision.module.found().takes_configuration() {
            return Err(Failure::new(Cause::Configure, "it takes no configuration"));
        }
        let permit = self.permit().await?;
        let instance = self.make(permit).await?;
        self.put(WorkerId(0), instance);
        Ok(())
    }

    /// Runs one phase of one exchange, with the slot of this filter in it. After a failure the exchange is as before.
    pub async fn call(
        &self,
        worker: WorkerId,
        phase: Phase,
        exchange: &mut Exchange,
        slot: usize,
    ) -> Result<Verdict, Failure> {
        let instance = self.take(worker).await?;
        let (result, instance) = Running::lend(instance, exchange, slot).run(phase, &self.limits).await;
        if let Some(instance) = instance {
            self.put(worker, instance);
        }
        result
    }

    /// Ends the instances that were not needed since the last sweep.
    pub fn sweep(&self) {
        for mut shelf in self.idle.all() {
            let unneeded = shelf.unneeded;
            shelf.instances.drain(..unneeded);
            shelf.unneeded = shelf.instances.len();
        }
    }

    /// Instances alive now, idle or in a call.
    pub fn alive(&self) -> usize {
        self.limits.instances as usize - self.permits.available_permits()
    }

    async fn take(&self, worker: WorkerId) -> Result<Instance, Failure> {
        if let Some(instance) = self.idle.of(worker).pop() {
            return Ok(instance);
        }
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            // All exist already: one that is idle at another worker serves as well.
            Err(_) => match self.idle.all().find_map(|mut shelf| shelf.pop()) {
                Some(instance) => return Ok(instance),
                None => self.permit().await?,
            },
        };
        self.make(permit).await
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let _waiting = Waiting::new(&self.waiting);
        match timeout(self.limits.instance_wait, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Failure::new(Cause::Instances, format!("all {} instances are busy", self.limits.instances))),
        }
    }

    async fn make(&self, permit: OwnedSemaphorePermit) -> Result<Instance, Failure> {
        Instance::new(&self.revision.module, Arc::clone(&self.identity), self.limits, &self.config, permit).await
    }

    /// Keeps an instance for the next call, unless somebody waits for its permit.
    fn put(&self, worker: WorkerId, instance: Instance) {
        if self.isolation == Isolation::Pooled && self.waiting.load(Relaxed) == 0 {
            self.idle.of(worker).instances.push(instance);
        }
    }
}

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Shelf {
    fn pop(&mut self) -> Option<Instance> {
        let instance = self.instances.pop();
        self.unneeded = self.unneeded.min(self.instances.len());
        instance
    }
}

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances").field("revision", &self.revision).finish_non_exhaustive()
    }
}
