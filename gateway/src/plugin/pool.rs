//! Instances of one (revision, configuration): kept idle per worker, bounded over all of them, waited for briefly.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::timeout,
};

use super::{
    Caller, Cause, Failure, Given, Handles, Limits, Outcome, Passing, Phase, Reach, Revision, State, capability,
    host::{Host, Identity},
    instance::{Instance, Lending},
    limits::Meter,
    state::Presence,
};
use crate::{
    exchange::{Exchange, RequestId},
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
    state: Arc<State>,
    presence: Presence,
    reach: Arc<Reach>,
    config: Box<str>,
    limits: Limits,
    isolation: Isolation,
    /// The plugin may use what is handed to it.
    asks: bool,
    /// The plugin may know the connection.
    asks_connection: bool,
    idle: PerWorker<Shelf>,
    /// Bytes of linear memory of all instances.
    memory: Arc<AtomicUsize>,
    /// One permit per instance, idle ones included, so that a call that finds one on its shelf touches nothing shared.
    permits: Arc<Semaphore>,
    /// Those that may pass bodies on.
    passing: Semaphore,
    /// Calls that wait for an instance: their number, looked at by every call, and who they are, looked at if any.
    waiting: AtomicUsize,
    waiters: Mutex<VecDeque<oneshot::Sender<Box<Instance>>>>,
}

/// Idle instances of one worker, the last used on top.
#[derive(Default)]
struct Shelf {
    #[expect(clippy::vec_box, reason = "they are handed on in their boxes")]
    instances: Vec<Box<Instance>>,
    /// The fewest there were since the last sweep: so many were not needed.
    unneeded: usize,
}

/// Counts one waiting call, also when that call is given up.
struct Waiting<'a>(&'a AtomicUsize);

impl Instances {
    /// `config` is JSON text.
    pub fn new(
        revision: Revision,
        state: Arc<State>,
        reach: Arc<Reach>,
        config: &str,
        limits: Limits,
        isolation: Isolation,
        workers: usize,
    ) -> Self {
        let identity = Identity {
            plugin: Arc::clone(&revision.plugin),
            revision: revision.number,
            lines: Arc::clone(&state.lines),
            lines_per_second: limits.log_lines,
        };
        let uses = |name| capability::is_used(name, revision.module.imports());
        Self {
            asks: uses(capability::CONSUMERS) || uses(capability::HTTP_CLIENT),
            asks_connection: uses(capability::CONNECTION),
            presence: state.presence(revision.number),
            state,
            reach,
            revision,
            identity: Arc::new(identity),
            config: config.into(),
            limits,
            isolation,
            idle: PerWorker::new(workers, |_| Shelf::default()),
            memory: Arc::default(),
            permits: Arc::new(Semaphore::new(limits.instances as usize)),
            passing: Semaphore::new((limits.instances as usize).div_ceil(2)),
            waiting: AtomicUsize::new(0),
            waiters: Mutex::default(),
        }
    }

    pub fn revision(&self) -> &Revision {
        &self.revision
    }

    pub fn has(&self, phase: Phase) -> bool {
        self.revision.module.found().has(phase)
    }

    /// What an exchange holds that is on this revision.
    pub fn presence(&self) -> Arc<()> {
        Arc::clone(&self.presence.exchange)
    }

    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Makes and configures one instance, and so shows that the plugin takes this configuration; may keep it for the first
    /// call.
    pub async fn probe(&self, keep: bool) -> Result<(), Failure> {
        if self.config.as_ref() != "null" && !self.revision.module.found().takes_configuration() {
            return Err(Failure::new(Cause::Configure, "it takes no configuration"));
        }
        let instance = self.take(WorkerId(0)).await?;
        if keep {
            self.put(WorkerId(0), instance);
        }
        Ok(())
    }

    /// Runs one phase of one exchange, with the slot of this filter in it. After a failure the exchange is as before.
    pub async fn call(
        &self,
        caller: Caller<'_>,
        phase: Phase,
        given: Given,
        exchange: &mut Exchange,
        slot: usize,
    ) -> Outcome {
        let instance = match self.take(caller.worker).await {
            Ok(instance) => instance,
            Err(failure) => return failure.into(),
        };
        let handles = self.handles(caller.handles);
        let (outcome, instance) = Lending::lend(instance, exchange, slot, handles, self.asks_connection)
            .run(phase, given, &self.limits)
            .await;
        self.put_if(caller.worker, instance);
        outcome
    }

    /// Runs a phase that sees no head; `request` names its exchange, if it has one.
    pub async fn alone(&self, caller: Caller<'_>, phase: Phase, given: Given, request: Option<RequestId>) -> Outcome {
        let instance = match self.take(caller.worker).await {
            Ok(instance) => instance,
            Err(failure) => return failure.into(),
        };
        let about = (request, self.handles(caller.handles));
        let (outcome, instance) = instance.alone(phase, given, &self.limits, about).await;
        self.put_if(caller.worker, instance);
        outcome
    }

    /// Lets an instance pass a body on, for as long as that takes; what it leaves of it comes back.
    pub async fn pass(&self, caller: Caller<'_>, phase: Phase, passing: Passing) -> (Outcome, Option<Passing>) {
        // A body may take as long as its slowest reader: not all instances may wait for such, or heads would have none.
        let Ok(_passing) = self.passing.try_acquire() else {
            let failure = Failure::new(Cause::Instances, "half of the instances pass bodies on");
            return (failure.into(), Some(passing));
        };
        let instance = match self.take(caller.worker).await {
            Ok(instance) => instance,
            Err(failure) => return (failure.into(), Some(passing)),
        };
        let handles = self.handles(caller.handles);
        let (outcome, passing, instance) = instance.pass(phase, passing, &self.limits, handles).await;
        self.put_if(caller.worker, instance);
        (outcome, passing)
    }

    /// Whether a call of the plugin ends at `timeout` before a call that it makes can be over its `call_timeout`. Streams,
    /// which may take as long as their bodies, have no such end.
    pub fn hides_call_timeouts(&self) -> bool {
        let module = &self.revision.module;
        let ends = |phase: &Phase| !matches!(phase, Phase::RequestStream | Phase::ResponseStream) && module.has(*phase);
        self.limits.call_timeout >= self.limits.timeout
            && capability::is_used(capability::HTTP_CLIENT, module.imports())
            && Phase::ALL.iter().any(ends)
    }

    /// Takes one of the log lines that the plugin has in this second.
    pub fn may_log(&self) -> bool {
        self.identity.may_log()
    }

    /// Ends the instances that were not needed since the last sweep.
    pub fn sweep(&self) {
        for mut shelf in self.idle.all() {
            let unneeded = shelf.unneeded;
            let ended: Vec<_> = shelf.instances.drain(..unneeded).collect();
            shelf.unneeded = shelf.instances.len();
            // Ending them takes longer than a request should wait for its shelf.
            drop(shelf);
            drop(ended);
        }
    }

    /// Instances alive now, idle or in a call.
    pub fn alive(&self) -> usize {
        self.limits.instances as usize - self.permits.available_permits()
    }

    /// Bytes of linear memory that they have.
    pub fn memory(&self) -> usize {
        self.memory.load(Relaxed)
    }

    async fn take(&self, worker: WorkerId) -> Result<Box<Instance>, Failure> {
        if let Some(instance) = self.idle.of(worker).pop() {
            return Ok(instance);
        }
        // Boxed, or every request would be as large as what few of them do.
        match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => Box::pin(self.make(permit)).await,
            Err(_) => Box::pin(self.wait()).await,
        }
    }

    /// All instances exist: takes one that is idle at another worker, or the first that a call gives back, or the
    /// permit of one that ends.
    async fn wait(&self) -> Result<Box<Instance>, Failure> {
        let _waiting = Waiting::new(&self.waiting);
        let handed_over = self.queue();
        // Looked for only now: whoever shelves one later sees that somebody waits.
        if let Some(instance) = self.idle.all().find_map(|mut shelf| shelf.pop()) {
            return Ok(instance);
        }
        let freed = async {
            tokio::select! {
                Ok(instance) = handed_over => Ok(Ok(instance)),
                permit = Arc::clone(&self.permits).acquire_owned() => permit.map(Err),
            }
        };
        match timeout(self.limits.instance_wait, freed).await {
            Ok(Ok(Ok(instance))) => Ok(instance),
            Ok(Ok(Err(permit))) => self.make(permit).await,
            _ => Err(Failure::new(Cause::Instances, format!("all {} instances are busy", self.limits.instances))),
        }
    }

    async fn make(&self, permit: OwnedSemaphorePermit) -> Result<Box<Instance>, Failure> {
        let host = Host::new(
            Arc::clone(&self.identity),
            Arc::clone(&self.state),
            Arc::clone(&self.reach),
            Meter::new(self.limits, Arc::clone(self.revision.module.ticker()), Arc::clone(&self.memory)),
        );
        Instance::new(&self.revision.module, host, &self.config, permit).await
    }

    fn handles(&self, handles: &Arc<Handles>) -> Option<Arc<Handles>> {
        self.asks.then(|| Arc::clone(handles))
    }

    fn put_if(&self, worker: WorkerId, instance: Option<Box<Instance>>) {
        if let Some(instance) = instance {
            self.put(worker, instance);
        }
    }

    /// Keeps an instance for the next call, and hands it to who waits for one.
    fn put(&self, worker: WorkerId, instance: Box<Instance>) {
        if self.isolation == Isolation::Request {
            return;
        }
        self.idle.of(worker).instances.push(instance);
        if self.waiting.load(Relaxed) > 0 {
            self.hand_over(worker);
        }
    }

    fn hand_over(&self, worker: WorkerId) {
        let Some(mut instance) = self.idle.of(worker).pop() else { return };
        while let Some(waiter) = self.waiters().pop_front() {
            match waiter.send(instance) {
                Ok(()) => return,
                // That one has waited too long, or found another.
                Err(back) => instance = back,
            }
        }
        self.idle.of(worker).instances.push(instance);
    }

    fn queue(&self) -> oneshot::Receiver<Box<Instance>> {
        let (sender, receiver) = oneshot::channel();
        let mut waiters = self.waiters();
        // Who came first gives up first: what is left of them is here.
        while waiters.front().is_some_and(oneshot::Sender::is_closed) {
            waiters.pop_front();
        }
        waiters.push_back(sender);
        receiver
    }

    fn waiters(&self) -> MutexGuard<'_, VecDeque<oneshot::Sender<Box<Instance>>>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn pop(&mut self) -> Option<Box<Instance>> {
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
