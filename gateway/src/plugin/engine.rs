//! The one wasmtime engine of a process.
//! It is made by `main` or a test harness and handed in, since every pooled slot takes address space.

use std::{fmt, fs, ops::RangeInclusive, path::Path, sync::Arc};

use wasmtime::{Config, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, component::Linker};

use super::{abi, complexity::Complexity, host::Host, loader::LoadError, slots::Slots, ticker::Ticker};

/// Tables that one slot has room for.
pub(super) const TABLES_PER_SLOT: u32 = 4;
/// Bytes of stack that host functions have beside the guest's.
const HOST_STACK: usize = 256 << 10;
/// Bytes of the stack that an instance may have. A call needs some KiB at least.
pub const STACK: RangeInclusive<usize> = 16 << 10..=8 << 20;
/// Largest linear memory of 32 bits, in bytes.
pub const MAX_MEMORY: usize = 4 << 30;
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
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let slots = of_machine.min(memory_of_groups(&groups, Path::new("/sys/fs/cgroup"))) / MEMORY_PER_SLOT;
    u32::try_from(slots.clamp(*DEFAULT_SLOTS.start(), *DEFAULT_SLOTS.end())).unwrap_or(u32::MAX)
}

/// Bytes of memory that the control groups of the process allow, which `groups` lists as /proc/self/cgroup does. The smallest
/// limit on the way from the root to the group holds.
fn memory_of_groups(groups: &str, mount: &Path) -> u64 {
    let mut smallest = u64::MAX;
    for line in groups.lines() {
        // Hierarchy, controllers and group; version 2 names no controllers.
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(group)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => (mount.to_owned(), "memory.max"),
            _ if controllers.split(',').any(|name| name == "memory") => (mount.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        // Within a container the group may be named as the host sees it; then only the root is there.
        for folder in root.join(group.trim_start_matches('/')).ancestors().take_while(|it| it.starts_with(&root)) {
            // "max" without a limit.
            let limit = fs::read_to_string(folder.join(file)).ok().and_then(|text| text.trim_end().parse().ok());
            smallest = smallest.min(limit.unwrap_or(u64::MAX));
        }
    }
    smallest
}

/// Compiles modules and runs their instances. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    pub(super) wasm: wasmtime::Engine,
    pub(super) linker: Arc<Linker<Host>>,
    pub(super) ticker: Arc<Ticker>,
    pub(super) slots: Arc<Slots>,
    pub(super) complexity: Complexity,
    pub(super) core_instances: u32,
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
    /// Bounds that no engine can have are replaced by the nearest ones: a configuration with them is refused when it is compiled,
    /// with its key.
    pub fn new(bounds: Bounds) -> Result<Self, EngineError> {
        let bounds = bounds.possible();
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
            core_instances: bounds.core_instances,
            stack: bounds.stack,
            release: || {},
        })
    }
}

impl Bounds {
    fn possible(self) -> Self {
        let stack = self.stack.clamp(*STACK.start(), *STACK.end());
        Self { stack, memory: self.memory.min(MAX_MEMORY), core_instances: self.core_instances.max(1), ..self }
    }
}

impl Engine {
    /// Bytes that a module may have.
    pub fn module_bytes(&self) -> usize {
        self.complexity.module_bytes
    }

    pub fn check_size(&self, bytes: usize) -> Result<(), LoadError> {
        self.complexity.check_size(bytes)
    }

    /// Calls this on the thread that has compiled a module, once what that took is free.
    #[must_use]
    pub fn with_release(self, release: fn()) -> Self {
        Self { release, ..self }
    }

    /// Gives memory that the calling thread has freed back to the system.
    pub fn release(&self) -> fn() {
        self.release
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_to_a_nested_group_holds() {
        let mount = tempfile::tempdir().expect("a temporary folder");
        let limit = |file: &str, text: &str| {
            let file = mount.path().join(file);
            fs::create_dir_all(file.parent().expect("a folder")).expect("the folder is ours");
            fs::write(file, text).expect("the folder is ours");
        };
        let memory = |groups: &str| memory_of_groups(groups, mount.path());
        assert_eq!(memory("0::/a.slice/b.service\n"), u64::MAX);
        limit("a.slice/b.service/memory.max", "max\n");
        limit("a.slice/memory.max", "4096\n");
        limit("memory.max", "8192\n");
        assert_eq!(memory("0::/a.slice/b.service\n"), 4096, "that of the group around it");
        limit("a.slice/b.service/memory.max", "1024\n");
        assert_eq!(memory("0::/a.slice/b.service\n"), 1024);
        assert_eq!(memory("0::/\n"), 8192);
        assert_eq!(memory("0::/not/seen/here\n"), 8192);
        // Version 1 beside it, whose root has no limit.
        limit("memory/memory.limit_in_bytes", "9223372036854771712\n");
        limit("memory/docker/1/memory.limit_in_bytes", "512\n");
        assert_eq!(memory("3:cpu,cpuacct:/x\n4:memory:/docker/1\n0::/\n"), 512);
        assert_eq!(memory("4:memory:/docker/2\nnonsense\n"), 9_223_372_036_854_771_712);
    }

    #[test]
    fn an_engine_starts_whatever_a_configuration_has_for_its_bounds() {
        let bounds = Bounds { instances: 1, table_elements: 100, core_instances: 1, ..Bounds::default() };
        for bounds in [
            Bounds { stack: 0, ..bounds },
            Bounds { stack: usize::MAX, ..bounds },
            Bounds { memory: usize::MAX, ..bounds },
            Bounds { memory: 0, ..bounds },
        ] {
            Engine::new(bounds).unwrap_or_else(|error| panic!("{bounds:?}: {error}"));
        }
    }
}
