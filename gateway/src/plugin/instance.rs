//! One running copy of a plugin: made, configured once, then called for one exchange at a time.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::timeout};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap};

use super::{
    Failure, Module,
    abi::native::Calls,
    host::{Consumers, Host, Identity, Lent},
    limits::{COPIED_PER_CALL, CallClock, Cause, HANDLES, Limits},
    phase::{Phase, Verdict},
};
use crate::exchange::{Draft, Exchange};

pub(super) struct Instance {
    store: Store<Host>,
    calls: Calls,
    _permit: OwnedSemaphorePermit,
}

impl Instance {
    /// Instantiates and configures, all of it within the plugin's limits. The time-out is the deadline of this one
    /// call, which may parse a large configuration and has no exchange waiting behind it more than once.
    pub(super) async fn new(
        module: &Module,
        identity: Arc<Identity>,
        limits: Limits,
        config: &str,
        permit: OwnedSemaphorePermit,
    ) -> Result<Self, Failure> {
        let mut store = Store::new(module.pre().engine(), Host::new(identity, limits, Arc::clone(module.ticker())));
        store.limiter(|host| &mut host.meter);
        store.set_hostcall_fuel(COPIED_PER_CALL);
        store.set_max_component_handles(HANDLES);
        store.epoch_deadline_callback(|mut store| store.data_mut().meter.tick());
        let clock = begin(&mut store, limits.timeout, Duration::ZERO);
        let making = async {
            let instance = module.pre().instantiate_async(&mut store).await?;
            let calls = module.found().load(&mut store, &instance)?;
            let configured = calls.configure(&mut store, config).await?;
            Ok((calls, configured))
        };
        let made = bounded(&clock, limits.timeout, pin!(making)).await;
        match made {
            Some(Ok((calls, Ok(())))) => Ok(Self { store, calls, _permit: permit }),
            Some(Ok((_, Err(refusal)))) => Err(Failure::new(Cause::Configure, refusal)),
            Some(Err(error)) => Err(failure(&mut store, &error)),
            None => Err(Failure::new(Cause::Timeout, "a new instance was not ready in time")),
        }
    }

    async fn run(&mut self, phase: Phase, limits: &Limits, spent: Duration) -> Result<Ran, Failure> {
        let clock = begin(&mut self.store, limits.deadline, spent);
        let ended = bounded(&clock, limits.timeout, pin!(self.calls.run(&mut self.store, phase))).await;
        match ended {
            Some(Ok(Ok(verdict))) => Ok(Ran::Verdict(verdict)),
            Some(Ok(Err(message))) => Ok(Ran::OwnError(message)),
            Some(Err(error)) => Err(failure(&mut self.store, &error)),
            None => Err(Failure::new(Cause::Timeout, "the call took too long")),
        }
    }
}

/// How a call ended that leaves its instance whole.
enum Ran {
    Verdict(Verdict),
    OwnError(String),
}

/// An instance with an exchange lent to it. Dropped in the middle of a call (the client left) it gives the exchange
/// back unedited and ends the instance.
pub(super) struct Running<'a> {
    instance: Option<Instance>,
    exchange: &'a mut Exchange,
    slot: usize,
}

impl<'a> Running<'a> {
    pub(super) fn lend(
        mut instance: Instance,
        exchange: &'a mut Exchange,
        slot: usize,
        consumers: Option<Arc<dyn Consumers>>,
    ) -> Self {
        instance.store.data_mut().lent = Some(Lent {
            id: exchange.id.clone(),
            request: Draft::new(std::mem::take(&mut exchange.request)),
            response: Draft::new(std::mem::take(&mut exchange.response)),
            kept: std::mem::take(&mut exchange.filters[slot].kept),
            consumers,
            written: Default::default(),
        });
        Self { instance: Some(instance), exchange, slot }
    }

    /// Runs the phase; the instance comes back if it can be used again.
    pub(super) async fn run(mut self, phase: Phase, limits: &Limits) -> (Result<Verdict, Failure>, Option<Instance>) {
        let spent = self.exchange.filters[self.slot].spent;
        let Some(instance) = self.instance.as_mut() else {
            return (Err(Failure::new(Cause::Trap, "the instance is gone")), None);
        };
        match instance.run(phase, limits, spent).await {
            Ok(Ran::Verdict(verdict)) => (Ok(verdict), self.give_back(true)),
            Ok(Ran::OwnError(message)) => (Err(Failure::new(Cause::Error, message)), self.give_back(false)),
            Err(failure) => {
                self.give_back(false);
                (Err(failure), None)
            }
        }
    }

    fn give_back(&mut self, accept: bool) -> Option<Instance> {
        let mut instance = self.instance.take()?;
        let host = instance.store.data_mut();
        if let Some(lent) = host.lent.take() {
            let slot = &mut self.exchange.filters[self.slot];
            slot.spent = host.meter.clock.spent();
            if accept {
                slot.kept = lent.kept;
                self.exchange.request = lent.request.accept();
                self.exchange.response = lent.response.accept();
            } else {
                self.exchange.request = lent.request.undo();
                self.exchange.response = lent.response.undo();
            }
        }
        Some(instance)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.give_back(false);
    }
}

fn begin(store: &mut Store<Host>, deadline: Duration, spent: Duration) -> Arc<CallClock> {
    store.set_epoch_deadline(1);
    let clock = Arc::clone(&store.data().meter.clock);
    clock.start(deadline, spent);
    clock
}

/// Runs guest code on its clock and within the time-out; `None` when that has passed.
async fn bounded<F: Future>(clock: &CallClock, limit: Duration, mut call: Pin<&mut F>) -> Option<F::Output> {
    let metered = poll_fn(|cx| {
        clock.resume();
        let polled = call.as_mut().poll(cx);
        clock.suspend();
        polled
    });
    timeout(limit, metered).await.ok()
}

/// What an error of wasmtime means for the plugin.
fn failure(store: &mut Store<Host>, error: &wasmtime::Error) -> Failure {
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::new(Cause::Instances, "the gateway has no room for another instance");
    }
    let cause = store.data_mut().meter.overrun.take().unwrap_or(Cause::Trap);
    let message = match (cause, error.downcast_ref::<Trap>()) {
        (Cause::Deadline, _) => "the guest computed past its deadline".to_owned(),
        (_, Some(trap)) => trap.to_string(),
        (_, None) => error.root_cause().to_string(),
    };
    Failure::new(cause, message)
}
