//! One running copy of a plugin: made, configured once, then called for one exchange at a time.

use std::{
    fmt::{self, Write as _},
    future::{Future, poll_fn},
    mem,
    pin::{Pin, pin},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    task::Poll,
    thread,
    time::Duration,
};

use tokio::{sync::OwnedSemaphorePermit, time::sleep};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, WasmBacktrace};

use super::{
    Failure, Module, Outcome,
    abi::native::Calls,
    host::{About, Host, Passing},
    limits::{CallClock, Cause, Limits},
    phase::{Given, Phase, Verdict},
    slots::SlotPermit,
};
use crate::exchange::Exchange;

/// Functions of a guest that the text of its failure names, and bytes of the name of each.
const MAX_FUNCTIONS: usize = 16;
const MAX_NAME: usize = 200;
/// Bytes of a name that are looked at.
const MAX_MANGLED: usize = 1024;

/// It is large, and handed from one to the other: always in a box.
pub(super) struct Instance {
    // Ends before its permits do.
    store: Store<Host>,
    calls: Calls,
    /// That of its meter.
    clock: Arc<CallClock>,
    permits: Permits,
    /// No phase has been called yet.
    is_fresh: bool,
}

/// The room that an instance takes.
pub(super) struct Permits {
    /// Within `limits.instances` of its filter.
    pub(super) _of_filter: OwnedSemaphorePermit,
    /// Within the engine.
    pub(super) of_engine: SlotPermit,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance").finish_non_exhaustive()
    }
}

impl Instance {
    /// Instantiates and configures, all of it within the plugin's limits. The time-out is the deadline of this one
    /// call, which may parse a large configuration and has no exchange waiting behind it more than once.
    pub(super) async fn new(module: &Module, host: Host, config: &str, permits: Permits) -> Result<Box<Self>, Failure> {
        let limits = host.meter.limits;
        let mut store = Store::new(module.pre().engine(), host);
        store.limiter(|host| &mut host.meter);
        store.set_hostcall_fuel(limits.copied_per_call());
        store.set_max_component_handles(limits.handles as usize);
        store.epoch_deadline_callback(|mut store| Ok(store.data_mut().meter.tick()));
        let clock = Arc::clone(&store.data().meter.clock);
        begin(&mut store, &clock, limits.timeout, Duration::ZERO);
        let started = AtomicBool::new(false);
        let making = async {
            let instance = module.pre().instantiate_async(&mut store).await?;
            let calls = module.found().load(&mut store, &instance)?;
            started.store(true, Relaxed);
            let configured = calls.configure(&mut store, config).await?;
            Ok((calls, configured))
        };
        let made = bounded(&clock, limits.timeout, pin!(making)).await;
        match made {
            Some(Ok((calls, Ok(())))) => Ok(Box::new(Self { store, calls, clock, permits, is_fresh: true })),
            Some(Ok((_, Err(refusal)))) => Err(Failure::new(Cause::Configure, refusal)),
            unfinished => {
                let why = match unfinished {
                    Some(Err(error)) => failure(&mut store, &error, ("limits.timeout", limits.timeout)),
                    _ => {
                        let text =
                            format!("a new instance was not ready in time: {:?} (limits.timeout)", limits.timeout);
                        Failure::new(Cause::Timeout, text)
                    }
                };
                Err(Failure { at_start: !started.load(Relaxed), ..why })
            }
        }
    }

    /// Says that the instance ends for the sake of a waiting call; gives the number of slots that this frees.
    pub(super) fn mark_evicted(&mut self) -> usize {
        self.permits.of_engine.mark_evicted()
    }

    /// Moves the instance from the room of probes to slots of the engine.
    pub(super) fn keep(&mut self, slots: SlotPermit) {
        self.permits.of_engine = slots;
    }

    /// Calls a phase that is about no head: an exchange may end meanwhile, or have none.
    pub(super) async fn alone(
        self: Box<Self>,
        phase: Phase,
        given: Given,
        limits: &Limits,
        about: About,
    ) -> (Outcome, Option<Box<Self>>) {
        let mut called = Called(Some(self));
        let Some(instance) = &mut called.0 else { return (gone(), None) };
        instance.store.data_mut().about = about;
        let ran = instance.run(phase, given, limits, Duration::ZERO).await;
        called.ended(ran)
    }

    /// Passes a body on; what the guest leaves of it comes back. It may take as long as the body does.
    pub(super) async fn pass(
        self: Box<Self>,
        phase: Phase,
        passing: Passing,
        limits: &Limits,
        about: About,
    ) -> (Outcome, Option<Passing>, Option<Box<Self>>) {
        let mut called = Called(Some(self));
        let Some(instance) = &mut called.0 else { return (gone(), Some(passing), None) };
        let host = instance.store.data_mut();
        (host.about, host.passing) = (about, Some(passing));
        let ran = instance.run(phase, Given::Nothing, limits, Duration::ZERO).await;
        let passing = instance.store.data_mut().passing.take();
        let (outcome, instance) = called.ended(ran);
        (outcome, passing, instance)
    }

    /// What came of a call, and the instance if it can be used again.
    fn told(mut self: Box<Self>, ran: Result<Ran, Failure>) -> (Outcome, Option<Box<Self>>) {
        let overruns = self.store.data_mut().clear();
        let is_first = mem::take(&mut self.is_fresh);
        match ran {
            Ok(Ran::Verdict(verdict)) => (Outcome { result: Ok(verdict), overruns, is_first }, Some(self)),
            Ok(Ran::OwnError(message)) => {
                (Outcome { result: Err(Failure::new(Cause::Error, message)), overruns, is_first }, Some(self))
            }
            Err(mut failure) => {
                end(self);
                if is_first && failure.cause == Cause::Deadline {
                    let text = "in the first call of its instance: do work that is needed once in configure";
                    failure = Failure::new(failure.cause, format!("{} {text}", failure.message));
                }
                (Outcome { result: Err(failure), overruns, is_first }, None)
            }
        }
    }

    async fn run(&mut self, phase: Phase, given: Given, limits: &Limits, spent: Duration) -> Result<Ran, Failure> {
        begin(&mut self.store, &self.clock, limits.deadline, spent);
        let ended = bounded(&self.clock, limits.timeout, pin!(self.calls.run(&mut self.store, phase, given))).await;
        match ended {
            Some(Ok(Ok(verdict))) => Ok(Ran::Verdict(verdict)),
            Some(Ok(Err(message))) => Ok(Ran::OwnError(message)),
            Some(Err(error)) => Err(failure(&mut self.store, &error, ("limits.deadline", limits.deadline))),
            None => {
                let text = format!("the call took longer than {:?} (limits.timeout)", limits.timeout);
                Err(Failure::new(Cause::Timeout, text))
            }
        }
    }
}

/// How a call ended that leaves its instance whole.
enum Ran {
    Verdict(Verdict),
    OwnError(String),
}

/// An instance in a call that lends it no exchange. Dropped in the middle of the call it ends the instance.
struct Called(Option<Box<Instance>>);

impl Called {
    fn ended(mut self, ran: Result<Ran, Failure>) -> (Outcome, Option<Box<Instance>>) {
        self.0.take().map_or_else(|| (gone(), None), |instance| instance.told(ran))
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(end);
    }
}

/// What cannot be: a call without its instance.
fn gone() -> Outcome {
    Failure::new(Cause::Trap, "the instance is gone").into()
}

/// An instance with an exchange lent to it. Dropped in the middle of a call (the client left) it gives the exchange
/// back unedited and ends the instance.
pub(super) struct Lending<'a> {
    instance: Option<Box<Instance>>,
    exchange: &'a mut Exchange,
    slot: usize,
}

impl<'a> Lending<'a> {
    pub(super) fn lend(
        mut instance: Box<Instance>,
        exchange: &'a mut Exchange,
        slot: usize,
        about: About,
        knows_client: bool,
    ) -> Self {
        let host = instance.store.data_mut();
        host.about = about;
        host.lend(exchange, slot, knows_client);
        Self { instance: Some(instance), exchange, slot }
    }

    /// Runs the phase; the instance comes back if it can be used again.
    pub(super) async fn run(mut self, phase: Phase, given: Given, limits: &Limits) -> (Outcome, Option<Box<Instance>>) {
        let spent = self.exchange.filters[self.slot].spent;
        let Some(instance) = self.instance.as_mut() else { return (gone(), None) };
        let ran = instance.run(phase, given, limits, spent).await;
        let accept = matches!(ran, Ok(Ran::Verdict(_)));
        self.give_back(accept).map_or_else(|| (gone(), None), |instance| instance.told(ran))
    }

    fn give_back(&mut self, accept: bool) -> Option<Box<Instance>> {
        let mut instance = self.instance.take()?;
        let host = instance.store.data_mut();
        self.exchange.filters[self.slot].spent = host.meter.clock.spent();
        host.give_back(self.exchange, self.slot, accept);
        Some(instance)
    }
}

impl Drop for Lending<'_> {
    fn drop(&mut self) {
        self.give_back(false).into_iter().for_each(end);
    }
}

/// On a thread of its own: to give a large memory back takes about as long as a tick, and neighbours would wait for it.
pub(super) fn end(instance: Box<Instance>) {
    static ENDINGS: LazyLock<Sender<Box<Instance>>> = LazyLock::new(|| {
        let (sender, receiver) = channel::<Box<Instance>>();
        let ending = move || receiver.into_iter().for_each(drop);
        if let Err(error) = thread::Builder::new().name("stile-endings".to_owned()).spawn(ending) {
            tracing::warn!("instances of plugins end where they ran: no thread for that can be started: {error}");
        }
        sender
    });
    // Without that thread it comes back, and ends here.
    drop(ENDINGS.send(instance));
}

fn begin(store: &mut Store<Host>, clock: &CallClock, deadline: Duration, spent: Duration) {
    store.set_epoch_deadline(1);
    clock.start(deadline, spent);
}

/// Runs guest code on its clock and within the time-out; `None` when that has passed. Time in which the guest waits for a body, or for
/// whoever takes one, does not count: the time-out begins anew with each piece.
async fn bounded<F: Future>(clock: &CallClock, limit: Duration, mut call: Pin<&mut F>) -> Option<F::Output> {
    let mut timer = pin!(None);
    poll_fn(|cx| {
        clock.resume();
        let polled = call.as_mut().poll(cx);
        clock.suspend();
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Some(output));
        }
        if clock.waits_for_body() {
            timer.set(None);
            return Poll::Pending;
        }
        // Most calls never wait: a timer is only for those that do.
        if timer.is_none() {
            timer.set(Some(sleep(limit)));
        }
        let timer = timer.as_mut().as_pin_mut();
        timer.map_or(Poll::Pending, |timer| timer.poll(cx).map(|()| None))
    })
    .await
}

/// Errors of the engine that are about bounds of `limits`, by their texts, which have no types.
fn over_a_bound(limits: &Limits, error: &wasmtime::Error) -> Option<Failure> {
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls") {
        let bytes = limits.copied_per_call();
        let message = format!(
            "a call copied more than {bytes} bytes out of the guest, which are limits.copies and the larger of \
             limits.body and limits.call_body"
        );
        return Some(Failure::new(Cause::Copies, message));
    }
    text.contains("store handle limit").then(|| {
        Failure::new(Cause::Handles, format!("the guest held more than {} handles (limits.handles)", limits.handles))
    })
}

/// What an error of wasmtime means for the plugin, whose deadline has this key.
fn failure(store: &mut Store<Host>, error: &wasmtime::Error, (key, deadline): (&str, Duration)) -> Failure {
    if error.is::<PoolConcurrencyLimitError>() {
        return Failure::new(Cause::Instances, "the gateway has no room for another instance");
    }
    let host = store.data_mut();
    let cause = host.meter.overrun.take().unwrap_or(Cause::Trap);
    let panic = host.panic.take();
    if let Some(failure) = over_a_bound(&host.meter.limits, error) {
        return failure;
    }
    let message = match (cause, panic, error.downcast_ref::<Trap>()) {
        (_, _, Some(Trap::StackOverflow)) => {
            format!("{}: its stack has {} bytes (wasm.stack)", Trap::StackOverflow, host.meter.stack)
        }
        (Cause::Deadline, ..) => format!("the guest computed past its deadline of {deadline:?} ({key})"),
        (Cause::Trap, Some(panic), _) => panic.into(),
        (_, _, Some(trap)) => trap.to_string(),
        (_, _, None) => error.root_cause().to_string(),
    };
    let functions = error.downcast_ref::<WasmBacktrace>().map(functions).unwrap_or_default();
    Failure::new(cause, if functions.is_empty() { message } else { format!("{message}; in {functions}") })
}

/// The functions that a guest was in, the innermost first, without those that a panic goes through in any case.
fn functions(backtrace: &WasmBacktrace) -> String {
    const PANIC: [&str; 5] = ["core::panicking", "std::panicking", "std::sys", "std::process", "__rust"];
    let named = backtrace.frames().iter().filter_map(|frame| frame.func_name());
    let named = named.map(demangled);
    let own = named.skip_while(|name| PANIC.iter().any(|known| name.starts_with(known)));
    own.take(MAX_FUNCTIONS).collect::<Vec<_>>().join(" < ")
}

/// A function's name as its author wrote it. The module's own text, and what it is short for may be long: both are cut.
fn demangled(name: &str) -> String {
    struct Short(String);

    impl fmt::Write for Short {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = MAX_NAME.saturating_sub(self.0.len());
            if text.len() > room {
                self.0.push_str(&text[..text.floor_char_boundary(room)]);
                self.0.push('\u{2026}');
                return Err(fmt::Error);
            }
            self.0.push_str(text);
            Ok(())
        }
    }

    let (mut short, name) = (Short(String::new()), &name[..name.floor_char_boundary(MAX_MANGLED)]);
    // An error says that it was cut.
    let _ = write!(short, "{:#}", rustc_demangle::demangle(name));
    short.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_functions_are_cut() {
        assert_eq!(demangled("_ZN4core9panicking5panic17h0123456789abcdefE"), "core::panicking::panic");
        assert_eq!(demangled("f"), "f");
        let long = demangled(&"x".repeat(1 << 20));
        assert!(long.len() <= MAX_NAME + 3 && long.ends_with('\u{2026}'), "{}", long.len());
        // Each type is a pair of the one before it, to which it refers by its place: the last has 2^40 parts.
        let digit = |n: usize| char::from(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[n]);
        let (mut name, mut before) = ("_RIC1aTuuE".to_owned(), 4);
        for _ in 0..40 {
            let place = name.len() - "_R".len();
            let high = if before > 62 { digit((before - 1) / 62 - 1).to_string() } else { String::new() };
            let reference = format!("B{high}{}_", digit((before - 1) % 62));
            name.push_str(&format!("T{reference}{reference}E"));
            before = place;
        }
        name.push('E');
        let long = demangled(&name);
        assert!(long.starts_with("a::<((), ()), (((), ()), ((), ())), "), "{long}");
        assert!(long.len() <= MAX_NAME + 3, "{}", long.len());
    }
}
