//! Instances of one (revision, configuration): kept idle per worker, bounded over all of them, waited for briefly.

use std::{
    collections::VecDeque,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use http::HeaderValue;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{
    Caller, Cause, Failure, Given, Handles, Limits, Outcome, Passing, Phase, Reach, Revision, State, capability,
    host::{About, Host, Identity},
    idle::IdleInstances,
    instance::{Instance, Lending, Permits, end},
    limits::Meter,
    slots::{SlotPermit, SlotUse, Slots},
    state::Presence,
};
use crate::{
    exchange::{
        Exchange, Present, RequestId,
        clients::{Clients, Counted},
    },
    worker::WorkerId,
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
    presence: Arc<Presence>,
    reach: Arc<Reach>,
    config: Box<str>,
    limits: Limits,
    isolation: Isolation,
    /// The plugin may use what is handed to it.
    asks: bool,
    /// The plugin may know the connection.
    asks_connection: bool,
    idle: Arc<IdleInstances>,
    /// Bytes of linear memory of all instances.
    memory: Arc<AtomicUsize>,
    /// One permit per instance, idle ones included, so that a call that finds one on its shelf touches nothing shared.
    permits: Arc<Semaphore>,
    /// The slots of the engine, which all pools share.
    slots: Arc<Slots>,
    /// One permit per body that passes.
    streams: Arc<Semaphore>,
    /// The bodies of each client address among them.
    clients: Clients,
    /// Calls that wait for an instance: their number, looked at by every call, and who they are, looked at if any.
    waiting: AtomicUsize,
    waiters: Mutex<VecDeque<oneshot::Sender<Box<Instance>>>>,
}

/// An instance for one body that passes. Unused, it goes back to its pool.
#[derive(Debug)]
pub struct Admission {
    pool: Arc<Instances>,
    worker: WorkerId,
    instance: Option<Box<Instance>>,
    /// `None` for a body of no known client.
    _of_client: Option<Counted>,
    _turn: OwnedSemaphorePermit,
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
        let slots = Arc::clone(revision.module.slots());
        let idle = Arc::new(IdleInstances::new(workers));
        slots.register(&idle);
        Self {
            asks: uses(capability::CONSUMERS) || uses(capability::HTTP_CLIENT),
            asks_connection: uses(capability::CONNECTION),
            presence: state.presence(revision.number, workers),
            state,
            reach,
            revision,
            identity: Arc::new(identity),
            config: config.into(),
            limits,
            isolation,
            idle,
            memory: Arc::default(),
            permits: Arc::new(Semaphore::new(limits.instances as usize)),
            slots,
            streams: Arc::new(Semaphore::new(limits.streams as usize)),
            clients: Clients::default(),
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
    pub fn presence(&self, worker: WorkerId) -> Present {
        self.presence.of(worker)
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
        let gone = || Failure::new(Cause::Instances, "the gateway is ending");
        let of_filter = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| gone())?;
        let of_engine = self.slots.acquire_for_probe().await.ok_or_else(gone)?;
        let mut instance = self.make(of_filter, of_engine).await?;
        if keep && let Some(slots) = self.slots.try_acquire(self.revision.module.slots_of_instance()) {
            instance.keep(slots);
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
        let instance = match self.take(caller.worker, None).await {
            Ok(instance) => instance,
            Err(failure) => return failure.into(),
        };
        let about = self.about(caller.handles, Some(&exchange.id), exchange.via.as_ref());
        let (outcome, instance) =
            Lending::lend(instance, exchange, slot, about, self.asks_connection).run(phase, given, &self.limits).await;
        self.put_if(caller.worker, instance);
        outcome
    }

    /// Runs a phase that sees no head; `request` names its exchange, if it has one, and `via` is what that came with.
    pub async fn alone(
        &self,
        caller: Caller<'_>,
        phase: Phase,
        given: Given,
        request: Option<&RequestId>,
        via: Option<&HeaderValue>,
    ) -> Outcome {
        let instance = match self.take(caller.worker, None).await {
            Ok(instance) => instance,
            Err(failure) => return failure.into(),
        };
        let about = self.about(caller.handles, request, via);
        let (outcome, instance) = instance.alone(phase, given, &self.limits, about).await;
        self.put_if(caller.worker, instance);
        outcome
    }

    /// Waits for a turn among the bodies that pass and for an instance that passes one on, before anything of it is read.
    ///
    /// # Errors
    ///
    /// `Instances`: there was no turn or no instance in time, or the client has its share already. A share keeps one client from
    /// taking the turns of all others.
    pub async fn admit(self: &Arc<Self>, worker: WorkerId, client: Option<IpAddr>) -> Result<Admission, Failure> {
        let of_client = client.filter(|_| self.limits.streams_per_client < 100);
        let of_client = of_client.map(|client| self.share(client)).transpose()?;
        // A body may take as long as its slowest reader. If all instances waited for such, heads would have none.
        let mut deadline = None;
        let turn = match Arc::clone(&self.streams).try_acquire_owned() {
            Ok(turn) => Some(turn),
            Err(_) => {
                let until = Instant::now() + self.limits.instance_wait;
                deadline = Some(until);
                let turn = Arc::clone(&self.streams).acquire_owned();
                timeout_at(until, Box::pin(turn)).await.ok().and_then(Result::ok)
            }
        };
        let Some(turn) = turn else {
            let message = format!("{} bodies pass already, as many as limits.streams allows", self.limits.streams);
            return Err(Failure::new(Cause::Instances, message));
        };
        let instance = Some(self.take(worker, deadline).await?);
        Ok(Admission { pool: Arc::clone(self), worker, instance, _of_client: of_client, _turn: turn })
    }

    /// Counts a body as one of its client's.
    fn share(&self, client: IpAddr) -> Result<Counted, Failure> {
        let Limits { streams, streams_per_client, .. } = self.limits;
        let most = (streams as usize * usize::from(streams_per_client) / 100).max(1);
        self.clients.admit(client, most).ok_or_else(|| {
            let message =
                format!("{most} bodies of this client pass already, as many as limits.streams_per_client allows");
            Failure::new(Cause::Instances, message)
        })
    }

    /// Whether a call of the plugin ends at `timeout` before a call that it makes can be over its `call_timeout`.
    pub fn hides_call_timeouts(&self) -> bool {
        self.limits.call_timeout >= self.limits.timeout
            && capability::is_used(capability::HTTP_CLIENT, self.revision.module.imports())
    }

    /// Takes one of the log lines that the plugin has in this second.
    pub fn may_log(&self) -> bool {
        self.identity.may_log()
    }

    /// Ends the instances that no call needed since the last sweep.
    pub fn sweep(&self) {
        drop(self.idle.sweep());
    }

    /// Instances alive now, idle or in a call.
    pub fn alive(&self) -> usize {
        self.limits.instances as usize - self.permits.available_permits()
    }

    /// The slots that all pools of the engine share.
    pub fn slots(&self) -> SlotUse {
        self.slots.usage()
    }

    /// Bytes of linear memory that they have.
    pub fn memory(&self) -> usize {
        self.memory.load(Relaxed)
    }

    /// Takes an idle instance of this worker, or makes one while there is room, or waits for one: until the deadline if
    /// the call waited before, else for `limits.instance_wait`.
    async fn take(&self, worker: WorkerId, deadline: Option<Instant>) -> Result<Box<Instance>, Failure> {
        if let Some(instance) = self.idle.pop(worker) {
            return Ok(instance);
        }
        // Boxed, or every request would be as large as the rare path of a few.
        if let Ok(of_filter) = Arc::clone(&self.permits).try_acquire_owned()
            && let Some(of_engine) = self.slots.try_acquire(self.revision.module.slots_of_instance())
        {
            return Box::pin(self.make(of_filter, of_engine)).await;
        }
        Box::pin(self.wait(deadline)).await
    }

    /// Without room for another instance: takes one that is idle at another worker, or the first that a call gives back,
    /// or makes one once another instance has ended, if need be an idle one of another pool.
    async fn wait(&self, deadline: Option<Instant>) -> Result<Box<Instance>, Failure> {
        let _waiting = Waiting::new(&self.waiting);
        let handed_over = self.queue();
        // Only now: a call that makes an instance idle later sees that another waits.
        if let Some(instance) = self.idle.pop_any() {
            return Ok(instance);
        }
        let room = async {
            let of_filter = Arc::clone(&self.permits).acquire_owned().await.ok()?;
            let of_engine = self.slots.acquire(self.revision.module.slots_of_instance()).await?;
            Some((of_filter, of_engine))
        };
        let freed = async {
            tokio::select! {
                Ok(instance) = handed_over => Ok(instance),
                Some(permits) = room => Err(permits),
                else => std::future::pending().await,
            }
        };
        let deadline = deadline.unwrap_or_else(|| Instant::now() + self.limits.instance_wait);
        match timeout_at(deadline, freed).await {
            Ok(Ok(instance)) => Ok(instance),
            Ok(Err((of_filter, of_engine))) => self.make(of_filter, of_engine).await,
            Err(_) => Err(Failure::new(Cause::Instances, self.full())),
        }
    }

    /// Says which bound keeps a call from an instance.
    fn full(&self) -> String {
        match self.permits.available_permits() {
            0 => format!("all {} instances are busy, as many as limits.instances allows", self.limits.instances),
            _ => format!("all {} instances of the gateway are busy (wasm.instances)", self.slots.total()),
        }
    }

    async fn make(&self, of_filter: OwnedSemaphorePermit, of_engine: SlotPermit) -> Result<Box<Instance>, Failure> {
        let host = Host::new(
            Arc::clone(&self.identity),
            Arc::clone(&self.state),
            Arc::clone(&self.reach),
            Meter::new(
                self.limits,
                self.revision.module.stack(),
                Arc::clone(self.revision.module.ticker()),
                Arc::clone(&self.memory),
            ),
        );
        let permits = Permits { _of_filter: of_filter, of_engine };
        Instance::new(&self.revision.module, host, &self.config, permits).await
    }

    /// What a call is about, as far as the plugin can make use of it.
    fn about(&self, handles: &Arc<Handles>, request: Option<&RequestId>, via: Option<&HeaderValue>) -> About {
        About {
            request: request.cloned(),
            via: via.filter(|_| self.asks).cloned(),
            handles: self.asks.then(|| Arc::clone(handles)),
        }
    }

    fn put_if(&self, worker: WorkerId, instance: Option<Box<Instance>>) {
        if let Some(instance) = instance {
            self.put(worker, instance);
        }
    }

    /// Keeps an instance for the next call, and hands it to a call that waits for one.
    fn put(&self, worker: WorkerId, instance: Box<Instance>) {
        if self.isolation == Isolation::Request {
            return end(instance);
        }
        self.idle.push(worker, instance);
        if self.waiting.load(Relaxed) > 0 {
            self.hand_over(worker);
        }
        while self.slots.are_wanted()
            && let Some(idle) = self.idle.pop(worker)
            && let Some(unwanted) = self.slots.surrender(idle)
        {
            self.idle.push(worker, unwanted);
            if self.waiting.load(Relaxed) > 0 {
                self.hand_over(worker);
            }
        }
    }

    /// Gives an idle instance to a call that waits. A call that begins to wait meanwhile looks for idle ones once this is over.
    fn hand_over(&self, worker: WorkerId) {
        let mut waiters = self.waiters();
        let Some(mut instance) = self.idle.pop(worker) else { return };
        while let Some(waiter) = waiters.pop_front() {
            match waiter.send(instance) {
                Ok(()) => return,
                // That call has waited too long, or found another.
                Err(back) => instance = back,
            }
        }
        self.idle.push(worker, instance);
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

impl Admission {
    /// Passes the body on, for as long as that takes; what the filter leaves of it comes back.
    pub async fn pass(mut self, phase: Phase, passing: Passing, handles: &Arc<Handles>) -> (Outcome, Option<Passing>) {
        let Some(instance) = self.instance.take() else {
            return (Failure::new(Cause::Instances, "the instance is gone").into(), Some(passing));
        };
        let pool = &self.pool;
        let about = pool.about(handles, Some(&passing.id), passing.via.as_ref());
        let (outcome, passing, instance) = instance.pass(phase, passing, &pool.limits, about).await;
        pool.put_if(self.worker, instance);
        (outcome, passing)
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        self.pool.put_if(self.worker, self.instance.take());
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

impl fmt::Debug for Instances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instances").field("revision", &self.revision).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;
    use crate::plugin::{Bounds, Engine, Module, States};

    const PLUGIN: &str = include_str!("tick.wat");
    const WORKER: WorkerId = WorkerId(0);

    /// Pools of one plugin in an engine with so many slots.
    fn pools(slots: u32, count: usize) -> Vec<Arc<Instances>> {
        let bounds =
            Bounds { instances: slots, memory: 1 << 20, table_elements: 100, core_instances: 4, ..Bounds::default() };
        let engine = Engine::new(bounds).expect("an engine");
        let module = Module::compile(&engine, &wat::parse_str(PLUGIN).expect("a component")).expect("a plugin");
        let (plugin, states) = ("p".into(), States::default());
        let state = states.of(&plugin);
        let revision = Revision { plugin, number: 1, module, signature: None };
        let pool = |_| {
            let (state, reach) = (Arc::clone(&state), Arc::default());
            Arc::new(Instances::new(revision.clone(), state, reach, "null", Limits::of_tests(), Isolation::Pooled, 2))
        };
        (0..count).map(pool).collect()
    }

    async fn call(pool: &Instances) -> Result<(), Failure> {
        let instance = pool.take(WORKER, None).await?;
        pool.put(WORKER, instance);
        Ok(())
    }

    #[tokio::test]
    async fn an_idle_instance_ends_whenever_another_configuration_needs_its_slot() {
        let pools = pools(3, 10);
        for round in 0..3 {
            for pool in &pools {
                call(pool).await.unwrap_or_else(|failure| panic!("round {round}: {failure}"));
            }
        }
        let slots = pools[0].slots();
        assert_eq!((slots.total, slots.used), (3, 3));
        assert!(slots.evicted >= 20, "{slots:?}");
        assert_eq!(pools.iter().map(|pool| pool.alive()).sum::<usize>(), 3);
    }

    #[tokio::test]
    async fn an_instance_in_use_lately_stays_while_others_are_spared() {
        let pools = pools(3, 4);
        for pool in &pools[..3] {
            call(pool).await.expect("there is room");
        }
        // All were used since the start: the first look clears that, the second evicts one.
        call(&pools[3]).await.expect("one gives way");
        let there = |pool: &Arc<Instances>| pool.alive() == 1;
        let spared = pools[..3].iter().position(|pool| !there(pool)).expect("one is gone");
        let used = &pools[(spared + 1) % 3];
        call(used).await.expect("it is there");
        call(&pools[spared]).await.expect("another gives way");
        assert!(there(used), "it was used after the others");
    }

    #[tokio::test]
    async fn a_probe_finds_room_while_all_slots_are_taken() {
        let pools = pools(2, 3);
        let _busy =
            [pools[0].take(WORKER, None).await.expect("room"), pools[1].take(WORKER, None).await.expect("room")];
        for keep in [false, true] {
            pools[2].probe(keep).await.unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!(pools[2].alive(), 0, "there is no slot to keep it in");
        }
    }

    #[tokio::test]
    #[expect(clippy::disallowed_methods, reason = "the runtime ends with the test")]
    async fn calls_that_wait_get_the_slots_of_instances_that_would_go_idle() {
        let pools = pools(2, 6);
        let busy = [pools[0].take(WORKER, None).await.expect("room"), pools[1].take(WORKER, None).await.expect("room")];
        let waiting: Vec<_> =
            pools[2..].iter().cloned().map(|pool| tokio::spawn(async move { call(&pool).await })).collect();
        tokio::task::yield_now().await;
        for (pool, instance) in pools.iter().zip(busy) {
            pool.put(WORKER, instance);
        }
        for call in waiting {
            call.await.expect("it does not panic").unwrap_or_else(|failure| panic!("{failure}"));
        }
        assert_eq!(pools[0].slots().used, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_finds_no_room_says_which_bound_it_met() {
        let pools = pools(2, 2);
        let mut busy = Vec::new();
        for _ in 0..2 {
            busy.push(pools[0].take(WORKER, None).await.expect("room"));
        }
        for (pool, full) in [
            (&pools[0], "all 2 instances are busy, as many as limits.instances allows"),
            (&pools[1], "all 2 instances of the gateway are busy (wasm.instances)"),
        ] {
            let failure = pool.take(WORKER, None).await.expect_err("no room");
            assert_eq!((failure.cause, failure.message.as_str()), (Cause::Instances, full));
        }
        drop(busy);
        advance(Duration::from_secs(1)).await;
        call(&pools[1]).await.expect("those that gave up took no slot with them");
    }
}
