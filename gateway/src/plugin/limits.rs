//! What one instance may use, and the meter that holds it to that: CPU time at ticks, memory and tables as they grow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use wasmtime::{ResourceLimiter, Trap, UpdateDeadline};

use super::ticker::Ticker;
use crate::{cpu, worker::give_way};

/// CPU time since a tick, in nanoseconds, by which a guest computes: half of the time between two ticks.
const COMPUTES: u64 = 500_000;

/// Bounds of one plugin's instances; see the configuration reference for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Limits {
    pub deadline: Duration,
    pub timeout: Duration,
    pub memory: usize,
    pub table_elements: usize,
    pub instances: u32,
    /// Bodies that may pass at a time.
    pub streams: u32,
    /// Percent of the bodies that may pass through one filter at a time which one client may have.
    pub streams_per_client: u8,
    pub instance_wait: Duration,
    /// Bytes of a body that is collected, and for how long it may take to come.
    pub body: usize,
    pub body_timeout: Duration,
    /// Bytes of what the plugin remembers.
    pub key_value: usize,
    /// Sets of labels of its own metrics.
    pub metrics: usize,
    /// Log lines of all instances in a second.
    pub log_lines: u32,
    /// Calls that one phase may make, how long each may take, and bytes of a body of it.
    pub calls: u32,
    pub call_timeout: Duration,
    pub call_body: usize,
    /// Bytes that one call from or to a guest may copy out of it, beside a body; wasmtime's own default is 128 MiB.
    pub copies: usize,
    /// Handles of the component model that one instance may hold.
    pub handles: u32,
}

impl Limits {
    /// Little of everything, and much time.
    #[cfg(test)]
    pub(super) fn of_tests() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
            memory: 1 << 20,
            table_elements: 100,
            instances: 2,
            streams: 1,
            streams_per_client: 25,
            instance_wait: Duration::from_secs(10),
            body: 1,
            body_timeout: Duration::from_secs(1),
            key_value: 1,
            metrics: 1,
            log_lines: 100,
            calls: 1,
            call_timeout: Duration::from_secs(1),
            call_body: 1,
            copies: 1 << 20,
            handles: 10,
        }
    }

    /// Bytes that one call from or to a guest may copy out of it.
    pub(super) fn copied_per_call(&self) -> usize {
        self.body.max(self.call_body).saturating_add(self.copies)
    }
}

/// Why a call was cut short, or told no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The guest trapped: a panic, an unreachable, a stack that ran over.
    Trap,
    /// The guest computed past its deadline.
    Deadline,
    /// The call, its waits included, took longer than its time-out.
    Timeout,
    /// The guest asked for more memory than its limit.
    Memory,
    /// The guest asked for larger tables than its limit.
    Table,
    /// A call copied more out of the guest than its limit.
    Copies,
    /// The guest held more handles than its limit.
    Handles,
    /// No instance came free within the wait.
    Instances,
    /// A new instance refused its configuration.
    Configure,
    /// A body was larger than what is collected for the filter.
    Body,
    /// It would have remembered more than its limit, and was told so.
    KeyValue,
    /// It would have had more metrics of its own than its limit, likewise.
    Metrics,
    /// It would have made more calls out, or larger ones, than its limit, likewise.
    Calls,
    /// The guest answered with an error of its own.
    Error,
    /// No revision of the plugin has been loaded yet.
    Missing,
}

impl Cause {
    pub const ALL: [Self; 15] = [
        Self::Trap,
        Self::Deadline,
        Self::Timeout,
        Self::Memory,
        Self::Table,
        Self::Copies,
        Self::Handles,
        Self::Instances,
        Self::Configure,
        Self::Body,
        Self::KeyValue,
        Self::Metrics,
        Self::Calls,
        Self::Error,
        Self::Missing,
    ];

    /// Whether a guest is told of it, and goes on.
    pub fn is_told(self) -> bool {
        matches!(self, Self::KeyValue | Self::Metrics | Self::Calls)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Table => "table",
            Self::Copies => "copies",
            Self::Handles => "handles",
            Self::Instances => "instances",
            Self::Configure => "configure",
            Self::Body => "body",
            Self::KeyValue => "key-value",
            Self::Metrics => "metrics",
            Self::Calls => "calls",
            Self::Error => "error",
            Self::Missing => "missing",
        }
    }
}

/// The limits that a guest was told of in one call, and went on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overruns(u16);

impl Overruns {
    pub(super) fn add(&mut self, cause: Cause) {
        self.0 |= 1 << cause as u16;
    }

    pub fn iter(self) -> impl Iterator<Item = Cause> {
        Cause::ALL.into_iter().filter(move |cause| self.0 & (1 << *cause as u16) != 0)
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Holds one instance to its limits.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) limits: Limits,
    memory: usize,
    /// Elements of all its tables.
    table_elements: usize,
    /// Bytes of the guest's stack.
    pub(super) stack: usize,
    /// Of all instances of the pool.
    pool_memory: Arc<AtomicUsize>,
    /// The limit that the current call ran into.
    pub(super) overrun: Option<Cause>,
    pub(super) clock: Arc<CallClock>,
}

/// Guest execution of the current call, on the CPU clock of the thread that runs it, so that neither a wait of
/// the guest nor a preempted worker counts.
///
/// A call that ends before its first tick is never timed: it costs no system call, and counts as nothing. So a call misses its
/// deadline by two ticks at most, of which the first may take 4 ms where no guest has computed lately.
///
/// The guest gives way at the second tick after it was last resumed, so that calls of microseconds do not wait for a whole turn
/// of their worker because a tick happened to fall into them; if it gave way before, at the first.
#[derive(Debug)]
pub(super) struct CallClock {
    ticker: Arc<Ticker>,
    deadline: AtomicU64,
    spent: AtomicU64,
    resumed: AtomicU64,
    ticking: AtomicBool,
    /// The tick at which the guest gives way.
    turn_end: AtomicU64,
    /// It gave way at a tick, and was not resumed since.
    gave_way: AtomicBool,
    /// It waits for a piece of a body, or for whoever takes one.
    waits_for_body: AtomicBool,
}

impl CallClock {
    fn new(ticker: Arc<Ticker>) -> Self {
        let (deadline, spent, resumed, turn_end) = Default::default();
        let (ticking, gave_way, waits_for_body) = Default::default();
        Self { ticker, deadline, spent, resumed, ticking, turn_end, gave_way, waits_for_body }
    }

    /// Starts a call that has used `spent` of its `deadline` before.
    pub(super) fn start(&self, deadline: Duration, spent: Duration) {
        self.deadline.store(nanos(deadline), Relaxed);
        self.spent.store(nanos(spent), Relaxed);
        self.ticking.store(false, Relaxed);
        self.gave_way.store(false, Relaxed);
        self.waits_for_body.store(false, Relaxed);
    }

    /// The guest goes on, on this thread.
    pub(super) fn resume(&self) {
        self.ticker.needed();
        let ticks = if self.gave_way.load(Relaxed) { 1 } else { 2 };
        self.gave_way.store(false, Relaxed);
        self.turn_end.store(self.ticker.now() + ticks, Relaxed);
        if self.ticking.load(Relaxed) {
            self.resumed.store(cpu::nanos(), Relaxed);
        }
    }

    /// The guest stops on this thread, for a wait, a neighbour or good.
    pub(super) fn suspend(&self) {
        if self.ticking.load(Relaxed) {
            let resumed = self.resumed.load(Relaxed);
            if resumed > 0 {
                self.spent.fetch_add(cpu::nanos().saturating_sub(resumed), Relaxed);
            }
            self.resumed.store(0, Relaxed);
        }
    }

    /// Counts CPU time, in nanoseconds, that another thread spent on the call.
    pub(super) fn add(&self, nanos: u64) {
        self.spent.fetch_add(nanos, Relaxed);
    }

    pub(super) fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent.load(Relaxed))
    }

    /// Says whether the guest waits for a body from here on.
    pub(super) fn set_waits_for_body(&self, waits: bool) {
        self.waits_for_body.store(waits, Relaxed);
    }

    pub(super) fn waits_for_body(&self) -> bool {
        self.waits_for_body.load(Relaxed)
    }

    /// Whether the guest has to give way at this tick.
    fn ends_turn(&self) -> bool {
        let ends = self.ticker.now() >= self.turn_end.load(Relaxed);
        self.gave_way.store(ends, Relaxed);
        ends
    }

    /// A tick came while the guest was computing.
    fn is_over(&self) -> bool {
        if !self.ticking.swap(true, Relaxed) {
            self.resumed.store(cpu::nanos(), Relaxed);
            return false;
        }
        let resumed = self.resumed.load(Relaxed);
        let running = if resumed > 0 { cpu::nanos().saturating_sub(resumed) } else { 0 };
        // A call of microseconds that was kept from the processor between two ticks has not computed from one to the next.
        if running > COMPUTES {
            self.ticker.computes();
        }
        self.spent.load(Relaxed) + running >= self.deadline.load(Relaxed)
    }
}

impl Meter {
    pub(super) fn new(limits: Limits, stack: usize, ticker: Arc<Ticker>, pool_memory: Arc<AtomicUsize>) -> Self {
        Self {
            limits,
            memory: 0,
            table_elements: 0,
            stack,
            pool_memory,
            overrun: None,
            clock: Arc::new(CallClock::new(ticker)),
        }
    }

    /// Gives the current call its whole deadline once more.
    pub(super) fn start_again(&self) {
        self.clock.start(self.limits.deadline, Duration::ZERO);
    }

    /// Ends a guest that is over its deadline at a tick of the epoch; one whose turn is over gives way to the sockets of its worker.
    pub(super) fn tick(&mut self) -> UpdateDeadline {
        self.clock.ticker.met();
        if self.is_over() {
            return UpdateDeadline::Interrupt;
        }
        if self.clock.ends_turn() {
            UpdateDeadline::YieldCustom(1, Box::pin(give_way()))
        } else {
            UpdateDeadline::Continue(1)
        }
    }

    /// The same between two slices of a host call's work.
    pub(super) async fn pause(&mut self) -> wasmtime::Result<()> {
        if self.is_over() {
            return Err(Trap::Interrupt.into());
        }
        give_way().await;
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        self.clock.ticker.needed();
        let is_over = self.clock.is_over();
        if is_over {
            self.overrun = Some(Cause::Deadline);
        }
        is_over
    }

    fn refuse(&mut self, cause: Cause, wanted: usize, (key, limit): (&str, usize)) -> wasmtime::Result<bool> {
        self.overrun = Some(cause);
        Err(wasmtime::format_err!("over its {} limit: it wants {wanted}, limits.{key} is {limit}", cause.as_str()))
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.pool_memory.fetch_sub(self.memory, Relaxed);
    }
}

/// A refused growth traps instead of telling the guest, so that its cause is known.
impl ResourceLimiter for Meter {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.memory.saturating_add(desired.saturating_sub(current));
        if total > self.limits.memory {
            return self.refuse(Cause::Memory, total, ("memory", self.limits.memory));
        }
        self.pool_memory.fetch_add(total - self.memory, Relaxed);
        self.memory = total;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.overrun = Some(Cause::Memory);
        Err(error)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let total = self.table_elements.saturating_add(desired.saturating_sub(current));
        if total > self.limits.table_elements {
            return self.refuse(Cause::Table, total, ("table_elements", self.limits.table_elements));
        }
        self.table_elements = total;
        Ok(true)
    }

    fn table_grow_failed(&mut self, error: wasmtime::Error) -> wasmtime::Result<()> {
        self.overrun = Some(Cause::Table);
        Err(error)
    }

    // The engine bounds these when it compiles a component (wasm.core_instances).
    fn instances(&self) -> usize {
        usize::MAX
    }

    fn tables(&self) -> usize {
        usize::MAX
    }

    fn memories(&self) -> usize {
        usize::MAX
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(deadline: Duration) -> Meter {
        let meter = Meter::new(Limits::of_tests(), 0, Arc::default(), Arc::default());
        meter.clock.start(deadline, Duration::ZERO);
        meter.clock.resume();
        meter
    }

    fn compute() {
        let end = cpu::nanos() + 2 * COMPUTES;
        while cpu::nanos() < end {}
    }

    #[test]
    fn a_guest_that_computes_from_one_tick_to_the_next_is_reported() {
        let mut meter = meter(Duration::from_secs(3600));
        meter.tick();
        assert_eq!(meter.clock.ticker.reported(), (true, false));
        meter.tick();
        assert_eq!(meter.clock.ticker.reported(), (true, false), "it had no processor between them");
        compute();
        meter.tick();
        assert_eq!(meter.clock.ticker.reported(), (true, true));
    }

    #[test]
    fn a_guest_that_ends_at_its_second_tick_is_reported() {
        let mut meter = meter(Duration::from_nanos(1));
        assert!(matches!(meter.tick(), UpdateDeadline::Continue(1)));
        compute();
        assert!(matches!(meter.tick(), UpdateDeadline::Interrupt));
        assert!(meter.clock.ticker.reported().1);
    }
}
