//! The one wasmtime engine of a process.
//! It is made by `main` or a test harness and handed in, since every pooled slot takes address space.

use std::{fmt, fs, ops::RangeInclusive, sync::Arc};

use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, component::Linker};

use super::{abi, complexity::Complexity, host::Host, slots::Slots, ticker::Ticker};

/// Tables that one slot has room for.
pub(super) const TABLES_PER_SLOT: u32 = 4;
/// Bytes of stack that host functions have beside the guest's.
const HOST_STACK: usize = 256 << 10;
/// Bytes of the machine's memory for each slot, and how many slots there are at least and at most by default.
const MEMORY_PER_SLOT: u64 = 1 << 20;
const DEFAULT_SLOTS: RangeInclusive<u64> = 1024..=8192;

/// What all plugins of a process share at most.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Instances of all plugins together. Each reserves over 4 GiB of address space.
    pub instances: u32,
    /// Linear memory of one instance, whatever its plugin's limit says, in bytes.
    pub memory: usize,
    /// Elements of one table, likewise.
    pub table_elements: usize,
    /// Core instances, memories and tables of one instance, each.
    pub core_instances: u32,
    /// Bytes of the stack of one instance.
    pub stack: usize,
    /// What a module may be made of, so that compiling it ends.
    pub complexity: Complexity,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            instances: default_instances(),
            memory: 1 << 30,
            table_elements: 100_000,
            core_instances: 64,
            stack: 256 << 10,
            complexity: Complexity::default(),
        }
    }
}

/// One instance for each MiB that the machine has, or that the process may use of it.
fn default_instances() -> u32 {
    let of_machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    let of_machine = of_machine.map_or(u64::MAX, |kib| kib.saturating_mul(1024));
    // "max" without a limit.
    let of_group = fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let of_group = of_group.and_then(|text| text.trim_end().parse().ok()).unwrap_or(u64::MAX);
    let slots = of_machine.min(of_group) / MEMORY_PER_SLOT;
    u32::try_from(slots.clamp(*DEFAULT_SLOTS.start(), *DEFAULT_SLOTS.end())).unwrap_or(u32::MAX)
}

/// Compiles modules and runs their instances. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) ticker: Arc<Ticker>,
    pub(super) slots: Arc<Slots>,
    pub(super) complexity: Complexity,
    pub(super) stack: usize,
    /// Gives memory that the calling thread has freed back to the system.
    pub(super) release: fn(),
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the WebAssembly engine cannot start with {0} instances (wasm.instances): {1:#}")]
    Reserve(u32, wasmtime::Error),
    #[error("the WebAssembly engine cannot start: {0:#}")]
    Start(wasmtime::Error),
    #[error("the epoch ticker cannot start: {0}")]
    Ticker(#[from] std::io::Error),
}

impl Engine {
    pub fn new(bounds: Bounds) -> Result<Self, EngineError> {
        let wasm = wasmtime::Engine::new(&config(bounds));
        let wasm = wasm.map_err(|error| EngineError::Reserve(bounds.instances, error))?;
        let mut linker = Linker::new(&wasm);
        abi::add_to_linker(&mut linker).map_err(EngineError::Start)?;
        let ticker = Ticker::start(wasm.weak())?;
        let slots = Arc::new(Slots::new(bounds.instances as usize));
        Ok(Self {
            wasm,
            linker: Arc::new(linker),
            ticker,
            slots,
            complexity: bounds.complexity,
            stack: bounds.stack,
            release: || {},
        })
    }
}

impl Engine {
    /// Calls this on the thread that has compiled a module, once what that took is free.
    #[must_use]
    pub fn with_release(self, release: fn()) -> Self {
        Self { release, ..self }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn config(bounds: Bounds) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    // Probes have room beside the slots, for the largest component.
    let slots = bounds.instances.saturating_add(bounds.core_instances);
    pool.total_component_instances(slots)
        .total_core_instances(slots.saturating_mul(bounds.core_instances))
        .max_core_instances_per_component(bounds.core_instances)
        .max_memories_per_component(bounds.core_instances)
        .max_tables_per_component(bounds.core_instances)
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES_PER_SLOT))
        .total_stacks(slots)
        .max_memory_size(bounds.memory)
        .table_elements(bounds.table_elements)
        // Nothing of a memory is kept: what a guest writes lies behind its stack, not first. (Scanning for what was written
        // misses pages that were swapped out.)
        .linear_memory_keep_resident(0)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(16 << 10);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .concurrency_support(false)
        // The engine's adapters between composed components have two memories; guests' own modules have one, see `loader`.
        .wasm_multi_memory(true)
        .wasm_memory64(false)
        .max_wasm_stack(bounds.stack)
        .async_stack_size(bounds.stack.saturating_add(HOST_STACK));
    config
}
