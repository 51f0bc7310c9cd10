//! The one wasmtime engine of a process and the ticker of its epochs.
//! It is made by `main` or a test harness and handed in, since every pooled slot takes address space.

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, component::Linker};

use super::{abi, host::Host};

/// How often a guest that computes gives way to its neighbours.
pub const TICK: Duration = Duration::from_millis(1);

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

/// Compiles modules and runs their instances. Cheap to clone; the ticker ends with the last clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Arc<Linker<Host>>,
    _alive: Arc<()>,
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
        let alive = Arc::new(());
        tick(wasm.weak(), Arc::downgrade(&alive))?;
        Ok(Self { wasm, linker: Arc::new(linker), _alive: alive })
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
        .linear_memory_keep_resident(64 << 10)
        .table_keep_resident(16 << 10)
        .async_stack_keep_resident(16 << 10);
    let mut config = Config::new();
    config
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .concurrency_support(false)
        .max_wasm_stack(256 << 10)
        .async_stack_size(512 << 10);
    config
}

/// Raises the epoch every tick for as long as the engine is used.
#[expect(clippy::disallowed_methods, reason = "a thread of its own: a worker that is busy must not hold up the ticks")]
fn tick(engine: wasmtime::EngineWeak, alive: Weak<()>) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name("stile-epochs".into())
        .spawn(move || {
            while alive.strong_count() > 0 {
                std::thread::sleep(TICK);
                if let Some(engine) = engine.upgrade() {
                    engine.increment_epoch();
                }
            }
        })
        .map(drop)
}
