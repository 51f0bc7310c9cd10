//! The one wasmtime engine of a process.
//! It is made by `main` or a test harness and handed in, since every pooled slot takes address space.

use std::{fmt, sync::Arc};

use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, component::Linker};

use super::{abi, host::Host, ticker::Ticker};

/// What all plugins of a process share at most. Each slot reserves over 4 GiB of address space.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Instances of all plugins together.
    pub instances: u32,
    /// Linear memory of one instance, whatever its plugin's limit says, in bytes.
    pub memory: usize,
    /// Elements of one table, likewise.
    pub table_elements: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { instances: 4096, memory: 1 << 30, table_elements: 100_000 }
    }
}

/// Compiles modules and runs their instances. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) ticker: Arc<Ticker>,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the WebAssembly engine cannot start: {0:#}")]
    Start(wasmtime::Error),
    #[error("the epoch ticker cannot start: {0}")]
    Ticker(#[from] std::io::Error),
}

impl Engine {
    pub fn new(bounds: Bounds) -> Result<Self, EngineError> {
        let wasm = wasmtime::Engine::new(&config(bounds)).map_err(EngineError::Start)?;
        let mut linker = Linker::new(&wasm);
        abi::add_to_linker(&mut linker).map_err(EngineError::Start)?;
        let ticker = Ticker::start(wasm.weak())?;
        Ok(Self { wasm, linker: Arc::new(linker), ticker })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn config(bounds: Bounds) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    // A core module becomes a component of three core instances, with WASI's adapter of six; one has the memory.
    pool.total_component_instances(bounds.instances)
        .total_core_instances(bounds.instances.saturating_mul(6))
        .total_memories(bounds.instances)
        .total_tables(bounds.instances.saturating_mul(4))
        .total_stacks(bounds.instances)
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
        // What no toolchain of components makes; `bulk` knows one memory of 32 bits.
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .max_wasm_stack(256 << 10)
        .async_stack_size(512 << 10);
    config
}
