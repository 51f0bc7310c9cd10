//! From bytes to a module that can be run: core module or component, verified, compiled, its phases and imports read.
//! It publishes nothing and probes nothing.

use std::{
    borrow::Cow,
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Weak},
};

use rustix::io::Errno;
use sha2::{Digest, Sha256};
use wasmparser::WasmFeatures;
use wasmtime::component::{Component, InstancePre};

pub use super::complexity::MAX_MODULE;

use super::{
    abi::native::Phases,
    bulk,
    cache::Cache,
    engine::{Engine, TABLES_PER_SLOT},
    foreign,
    host::Host,
    phase::Phase,
    slots::Slots,
    ticker::Ticker,
};

/// One compiled module. Cheap to clone.
#[derive(Clone)]
pub struct Module(Arc<Inner>);

struct Inner {
    sha256: Digest256,
    pre: InstancePre<Host>,
    phases: Phases,
    imports: Vec<String>,
    ticker: Arc<Ticker>,
    slots: Arc<Slots>,
    /// Slots that one instance takes.
    slots_of_instance: usize,
    /// Bytes of the stack of one instance.
    stack: usize,
}

/// A module for as long as others have it.
#[derive(Clone)]
pub struct WeakModule(Weak<Inner>);

/// A SHA-256 digest, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest256([u8; 32]);

#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    #[error("the file is empty")]
    Empty,
    #[error("this is neither a WebAssembly module nor a component")]
    NotWasm,
    #[error("the module is not valid: {0}")]
    Invalid(String),
    #[error("compiling the module would take too much: {0}")]
    TooComplex(String),
    #[error("the module cannot be made a component: {0}")]
    Encode(String),
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    /// The system refuses something that it may grant another time.
    #[error("the component cannot be compiled now: {0}")]
    Unavailable(String),
    #[error("the component cannot be linked: {0}")]
    Link(String),
    #[error("it exports no phase of stile:plugin: nothing would ever call it")]
    NoPhase,
    #[error("it exports {0}, which this gateway does not know")]
    UnknownPhase(String),
    #[error("it imports {0}, which this gateway does not have")]
    UnknownImports(String),
    /// A module for another host.
    #[error("{0}")]
    Foreign(String),
    #[error("one instance takes {0} slots, one for each memory; wasm.instances is {1}")]
    TooManyMemories(usize, usize),
}

impl LoadError {
    /// Whether it is about the gateway and not about the module, which may be right.
    pub fn is_unavailable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}

impl Module {
    /// Compiles on the calling thread, some milliseconds for each 16 KiB: keep it off the request path.
    pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self, LoadError> {
        engine.check_size(bytes.len())?;
        Self::load(engine, bytes, Digest256::of(bytes), None)
    }

    /// Takes a module with this digest from the cache, or else compiles it.
    pub fn load(engine: &Engine, bytes: &[u8], sha256: Digest256, cache: Option<&Cache>) -> Result<Self, LoadError> {
        contained(|| Self::load_uncontained(engine, bytes, sha256, cache))
    }

    fn load_uncontained(
        engine: &Engine,
        bytes: &[u8],
        sha256: Digest256,
        cache: Option<&Cache>,
    ) -> Result<Self, LoadError> {
        engine.check_size(bytes.len())?;
        let kind = kind(bytes)?;
        let component = match cache.and_then(|cache| cache.get(&engine.wasm, sha256)) {
            Some(component) => component,
            None => {
                let component = compile(engine, bytes, kind);
                if let (Ok(component), Some(cache)) = (&component, cache) {
                    cache.put(sha256, component);
                }
                (engine.release)();
                component?
            }
        };
        let types = component.component_type();
        let exports: Vec<String> = types.exports(&engine.wasm).map(|(name, _)| name.to_owned()).collect();
        let imports: Vec<String> = types.imports(&engine.wasm).map(|(name, _)| name.to_owned()).collect();
        let link = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        let pre =
            engine.linker.instantiate_pre(&component).map_err(|error| match foreign::unknown_imports(&imports) {
                unknown if unknown.is_empty() => link(error),
                unknown => LoadError::UnknownImports(unknown.join(", ")),
            })?;
        let phases = Phases::find(&pre, &exports).map_err(link)?;
        let is_unknown = |name: &&String| name.starts_with("stile:plugin/") && !phases.knows(name);
        let unknown: Vec<&str> = exports.iter().filter(is_unknown).map(String::as_str).collect();
        if !unknown.is_empty() {
            return Err(LoadError::UnknownPhase(unknown.join(", ")));
        }
        if phases.names().is_empty() {
            return Err(foreign::of_component(&exports).map_or(LoadError::NoPhase, LoadError::Foreign));
        }
        let slots_of_instance = slots_of_instance(&component);
        if slots_of_instance > engine.slots.total() {
            return Err(LoadError::TooManyMemories(slots_of_instance, engine.slots.total()));
        }
        let (ticker, slots) = (Arc::clone(&engine.ticker), Arc::clone(&engine.slots));
        Ok(Self(Arc::new(Inner {
            sha256,
            pre,
            phases,
            imports,
            ticker,
            slots,
            slots_of_instance,
            stack: engine.stack,
        })))
    }

    pub fn downgrade(&self) -> WeakModule {
        WeakModule(Arc::downgrade(&self.0))
    }

    pub fn sha256(&self) -> Digest256 {
        self.0.sha256
    }

    /// The phases it exports, in the order an exchange meets them.
    pub fn phases(&self) -> Vec<&'static str> {
        self.0.phases.names()
    }

    /// The interfaces it imports, with their versions, as in `stile:plugin/log@0.1.0`.
    pub fn imports(&self) -> &[String] {
        &self.0.imports
    }

    pub fn has(&self, phase: Phase) -> bool {
        self.0.phases.has(phase)
    }

    pub(super) fn found(&self) -> &Phases {
        &self.0.phases
    }

    pub(super) fn ticker(&self) -> &Arc<Ticker> {
        &self.0.ticker
    }

    pub(super) fn slots(&self) -> &Arc<Slots> {
        &self.0.slots
    }

    /// Slots that one instance takes.
    pub(super) fn slots_of_instance(&self) -> usize {
        self.0.slots_of_instance
    }

    /// Bytes of the stack of one instance.
    pub(super) fn stack(&self) -> usize {
        self.0.stack
    }

    pub(super) fn pre(&self) -> &InstancePre<Host> {
        &self.0.pre
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("sha256", &self.0.sha256).finish_non_exhaustive()
    }
}

impl WeakModule {
    pub fn upgrade(&self) -> Option<Module> {
        self.0.upgrade().map(Module)
    }
}

impl fmt::Debug for WeakModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakModule").finish_non_exhaustive()
    }
}

impl Digest256 {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A slot has room for one memory and some tables. Most components have one memory, composed ones several.
fn slots_of_instance(component: &Component) -> usize {
    let (memories, tables) =
        component.resources_required().map_or((1, 1), |needed| (needed.num_memories, needed.num_tables));
    let slots = memories.max(tables.div_ceil(TABLES_PER_SLOT));
    slots.max(1) as usize
}

enum Kind {
    CoreModule,
    Component,
}

/// Reads the preamble: `\0asm`, then version 1 and layer 0 for a module, layer 1 for a component.
fn kind(bytes: &[u8]) -> Result<Kind, LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(Kind::CoreModule),
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(Kind::Component),
        _ => Err(LoadError::NotWasm),
    }
}

/// Runs what a module decides the course of: should that panic, the module is refused, and the command goes on.
fn contained(load: impl FnOnce() -> Result<Module, LoadError>) -> Result<Module, LoadError> {
    catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(LoadError::Compile(format!("the compiler panicked, please report the module: {text}")))
    })
}

fn compile(engine: &Engine, bytes: &[u8], kind: Kind) -> Result<Component, LoadError> {
    let component = match kind {
        Kind::Component => Cow::Borrowed(bytes),
        Kind::CoreModule => {
            // Encoders panic on what is not well formed.
            engine.complexity.check(bytes, features(), engine.core_instances)?;
            Cow::Owned(encode(bytes)?)
        }
    };
    engine.complexity.check(&component, features(), engine.core_instances)?;
    let rewritten = bulk::in_pieces(&component).map_err(LoadError::Invalid)?;
    Component::from_binary(&engine.wasm, &rewritten).map_err(|error| refusal(&error))
}

/// The error of a component that the engine does not compile.
fn refusal(error: &wasmtime::Error) -> LoadError {
    let text = format!("{error:#}");
    // Compiling opens no file: the system refuses memory.
    let is_of_system = error.chain().any(|cause| cause.is::<Errno>() || cause.is::<io::Error>());
    if is_of_system { LoadError::Unavailable(text) } else { LoadError::Compile(with_key(text)) }
}

/// Adds to an error of the engine the key of the bound that the component does not fit in.
fn with_key(error: String) -> String {
    const KEYS: [(&str, &str); 5] = [
        ("core module instances", "core_instances"),
        ("Wasm linear memories", "core_instances"),
        ("tables, which", "core_instances"),
        ("memory does not fit", "memory"),
        ("table does not fit", "table_elements"),
    ];
    match KEYS.iter().find(|(text, _)| error.contains(text)) {
        Some((_, key)) => format!("{error} (wasm.{key})"),
        None => error,
    }
}

/// Features of modules. `bulk` knows one memory of 32 bits; the engine takes several all the same, since its own adapters between
/// composed components have two.
fn features() -> WasmFeatures {
    WasmFeatures::default() - WasmFeatures::MULTI_MEMORY - WasmFeatures::MEMORY64
}

/// Turns what `cargo build --target wasm32-unknown-unknown` makes into a component.
fn encode(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| match foreign::of_core_module(module) {
            Some(kind) => LoadError::Foreign(kind),
            None => LoadError::Encode(format!("{error:#}")),
        })
}

/// The generator of the fuzz target.
#[cfg(test)]
#[path = "../../../tests/fuzz/targets/module/composed.rs"]
mod composed;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{composed::composed, *};
    use crate::{
        plugin::{
            Bounds, Caller, Consumers, Given, Handles, Instances, Isolation, Limits, Outcome, Presented, Revision,
            States, Verified,
        },
        worker::WorkerId,
    };

    fn engine() -> Engine {
        let bounds =
            Bounds { instances: 4, memory: 1 << 20, table_elements: 100, core_instances: 8, ..Bounds::default() };
        Engine::new(bounds).expect("an engine")
    }

    fn refused(text: &str) -> String {
        let module = wat::parse_str(text).expect("it is well formed");
        Module::compile(&engine(), &module).expect_err("it is no plugin").to_string()
    }

    /// Components that hand each other what random bytes say.
    fn handing(bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.iter();
        let text = composed(&mut |below| bytes.next().map_or(0, |byte| usize::from(*byte) % below));
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn tick(module: Module) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(ticked(module))
    }

    async fn ticked(module: Module) -> Outcome {
        let (plugin, states) = ("p".into(), States::default());
        let state = states.of(&plugin);
        let revision = Revision { plugin, number: 1, module, signature: None };
        let pool = Instances::new(revision, state, Arc::default(), "null", Limits::of_tests(), Isolation::Pooled, 1);
        pool.probe(true).await.expect("it starts");
        let handles = Arc::new(Handles { consumers: Arc::new(Nobody), outbound: None });
        let caller = Caller { worker: WorkerId(0), handles: &handles };
        pool.alone(caller, Phase::Tick, Given::Nothing, None, None).await
    }

    #[derive(Debug)]
    struct Nobody;

    impl Consumers for Nobody {
        fn verify(&self, _: Presented) -> Verified<'_> {
            Box::pin(async { None })
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(40) })]
        #[test]
        fn components_that_hand_each_other_values_are_composed_and_run(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let module = Module::compile(&engine(), &handing(&bytes)).expect("a plugin");
            // One slot for each memory: that of the caller, and those of one to three others.
            prop_assert!((2..=4).contains(&module.slots_of_instance()));
            let outcome = tick(module);
            prop_assert!(outcome.result.is_ok(), "{:?}", outcome);
        }
    }

    #[test]
    fn a_module_of_two_memories_is_refused_all_the_same() {
        for text in [
            "(module (memory 1) (memory 1))",
            "(component (core module (memory 1) (memory 1)))",
            "(module (memory i64 1))",
        ] {
            let refused = refused(text);
            assert!(refused.starts_with("the module is not valid: "), "{text}: {refused}");
        }
    }

    #[test]
    fn a_component_of_more_parts_than_may_be_is_refused_with_the_key() {
        let parts = "(core instance (instantiate $m))".repeat(9);
        let refused = refused(&format!("(component (core module $m) {parts})"));
        assert!(
            refused.ends_with("9 core module instances, more than wasm.core_instances allows, which is 8"),
            "{refused}"
        );
    }

    #[test]
    fn a_memory_beyond_the_engines_is_refused_with_the_key() {
        let refused = refused("(component (core module $m (memory 17)) (core instance (instantiate $m)))");
        assert!(refused.contains("1114112") && refused.ends_with("(wasm.memory)"), "{refused}");
    }

    #[test]
    fn more_handles_than_may_be_are_refused_with_the_key() {
        let text = r#"(component
            (type $r (resource (rep i32)))
            (core func $new (canon resource.new $r))
            (core module $m
                (import "" "new" (func $new (param i32) (result i32)))
                (memory (export "memory") 1)
                (func (export "f") (result i32) (local $n i32)
                    (loop
                        (drop (call $new (i32.const 1)))
                        (local.set $n (i32.add (local.get $n) (i32.const 1)))
                        (br_if 0 (i32.lt_u (local.get $n) (i32.const 11))))
                    (i32.const 0)))
            (core instance $i (instantiate $m (with "" (instance (export "new" (func $new))))))
            (func $tick (result (result (error string)))
                (canon lift (core func $i "f") (memory (core memory $i "memory"))))
            (instance $tick-interface (export "on-tick" (func $tick)))
            (export "stile:plugin/tick@0.1.0" (instance $tick-interface)))"#;
        let module = Module::compile(&engine(), &wat::parse_str(text).expect("a component")).expect("a plugin");
        let failure = tick(module).result.expect_err("limits.handles is 10");
        assert_eq!(failure.to_string(), "handles: the guest held more than 10 handles (limits.handles)");
    }

    #[test]
    fn memory_that_the_system_refuses_is_no_fault_of_the_module() {
        let error = wasmtime::Error::from(Errno::NOMEM).context("mmap failed to allocate 0x1000 bytes");
        let refusal = refusal(&error);
        assert!(matches!(refusal, LoadError::Unavailable(_)), "{refusal:?}");
        assert!(refusal.to_string().starts_with("the component cannot be compiled now: mmap failed"), "{refusal}");
    }

    #[test]
    fn a_panic_of_the_compiler_is_an_error() {
        let error = contained(|| panic!("as a test has it")).expect_err("it panics").to_string();
        assert_eq!(
            error,
            "the component cannot be compiled: the compiler panicked, please report the module: as a test has it"
        );
    }

    #[test]
    fn modules_of_other_hosts_are_told_from_broken_ones() {
        let wasi =
            r#"(module (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32))))"#;
        assert!(refused(wasi).starts_with("this is a module for WASI preview 1"), "{}", refused(wasi));
        let proxy = r#"(module (import "env" "proxy_log" (func)) (func (export "proxy_abi_version_0_2_1")))"#;
        assert!(refused(proxy).starts_with("this is a filter for proxy-wasm hosts"), "{}", refused(proxy));
        let imports = r#"(component (import "wasi:http/types@0.2.3" (instance)) (import "a:b/c" (instance (export "f" (func)))))"#;
        assert_eq!(refused(imports), "it imports wasi:http/types@0.2.3, a:b/c, which this gateway does not have");
        let http = r#"(component (instance $i) (export "wasi:http/incoming-handler@0.2.3" (instance $i)))"#;
        assert!(refused(http).starts_with("this is a component for hosts of wasi:http"), "{}", refused(http));
    }
}
