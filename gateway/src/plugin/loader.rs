//! From bytes to a module that can be run: core module or component, verified, compiled, its phases and imports read.
//! It publishes nothing and probes nothing.

use std::{fmt, sync::Arc};

use sha2::{Digest, Sha256};
use wasmparser::Validator;
use wasmtime::component::{Component, InstancePre};

use super::{
    abi::native::Phases,
    bulk,
    cache::Cache,
    engine::{Engine, TABLES_PER_SLOT},
    host::Host,
    phase::Phase,
    slots::Slots,
    ticker::Ticker,
};

/// Largest module taken, in bytes.
pub const MAX_MODULE: usize = 64 << 20;

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
}

/// A SHA-256 digest, shown in hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest256([u8; 32]);

#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("the file is empty")]
    Empty,
    #[error("the file has {0} bytes, more than the {MAX_MODULE} that a module may have")]
    TooLarge(usize),
    #[error("this is neither a WebAssembly module nor a component")]
    NotWasm,
    #[error("the module is not valid: {0}")]
    Invalid(String),
    #[error("the module cannot be made a component: {0}")]
    Encode(String),
    #[error("the component cannot be compiled: {0}")]
    Compile(String),
    #[error("the component cannot be linked: {0}")]
    Link(String),
    #[error("it exports no phase of stile:plugin: nothing would ever call it")]
    NoPhase,
    #[error("it exports {0}, which this gateway does not know")]
    UnknownPhase(String),
    #[error("one instance takes {0} slots, one for each memory; wasm.instances is {1}")]
    TooManyMemories(usize, usize),
}

impl Module {
    /// Compiles on the calling thread, some milliseconds for each 16 KiB: keep it off the request path.
    pub fn compile(engine: &Engine, bytes: &[u8]) -> Result<Self, LoadError> {
        Self::load(engine, bytes, None)
    }

    /// The same, if it was not compiled before.
    pub fn load(engine: &Engine, bytes: &[u8], cache: Option<&Cache>) -> Result<Self, LoadError> {
        let (sha256, kind) = (Digest256::of(bytes), kind(bytes)?);
        let component = match cache.and_then(|cache| cache.get(&engine.wasm, sha256)) {
            Some(component) => component,
            None => {
                validate(bytes)?;
                let rewritten = match kind {
                    Kind::Component => bulk::in_pieces(bytes),
                    Kind::CoreModule => bulk::in_pieces(&encode(bytes)?),
                };
                let rewritten = rewritten.map_err(LoadError::Invalid)?;
                let component = Component::from_binary(&engine.wasm, &rewritten);
                let component = component.map_err(|error| LoadError::Compile(format!("{error:#}")))?;
                cache.inspect(|cache| cache.put(sha256, &component));
                component
            }
        };
        let types = component.component_type();
        let exports: Vec<String> = types.exports(&engine.wasm).map(|(name, _)| name.to_owned()).collect();
        let imports: Vec<String> = types.imports(&engine.wasm).map(|(name, _)| name.to_owned()).collect();
        let link = |error: wasmtime::Error| LoadError::Link(format!("{error:#}"));
        let pre = engine.linker.instantiate_pre(&component).map_err(link)?;
        let phases = Phases::find(&pre, &exports).map_err(link)?;
        if let Some(name) = exports.iter().find(|name| name.starts_with("stile:plugin/") && !phases.knows(name)) {
            return Err(LoadError::UnknownPhase(name.clone()));
        }
        if phases.names().is_empty() {
            return Err(LoadError::NoPhase);
        }
        let slots_of_instance = slots_of_instance(&component);
        if slots_of_instance > engine.slots.total() {
            return Err(LoadError::TooManyMemories(slots_of_instance, engine.slots.total()));
        }
        let (ticker, slots) = (Arc::clone(&engine.ticker), Arc::clone(&engine.slots));
        Ok(Self(Arc::new(Inner { sha256, pre, phases, imports, ticker, slots, slots_of_instance })))
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

    pub(super) fn pre(&self) -> &InstancePre<Host> {
        &self.0.pre
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("sha256", &self.0.sha256).finish_non_exhaustive()
    }
}

impl Digest256 {
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl Digest256 {
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

/// Whether a module may have so many bytes.
pub fn fits(bytes: usize) -> Result<(), LoadError> {
    if bytes > MAX_MODULE { Err(LoadError::TooLarge(bytes)) } else { Ok(()) }
}

/// Reads the preamble: `\0asm`, then version 1 and layer 0 for a module, layer 1 for a component.
fn kind(bytes: &[u8]) -> Result<Kind, LoadError> {
    if bytes.is_empty() {
        return Err(LoadError::Empty);
    }
    fits(bytes.len())?;
    match bytes.get(..8) {
        Some([0, b'a', b's', b'm', 1, 0, 0, 0]) => Ok(Kind::CoreModule),
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => Ok(Kind::Component),
        _ => Err(LoadError::NotWasm),
    }
}

/// What goes through the encoders is well formed: they panic on what is not.
fn validate(bytes: &[u8]) -> Result<(), LoadError> {
    Validator::new().validate_all(bytes).map_err(|error| LoadError::Invalid(error.to_string()))?;
    Ok(())
}

/// Turns what `cargo build --target wasm32-unknown-unknown` makes into a component.
fn encode(module: &[u8]) -> Result<Vec<u8>, LoadError> {
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(module)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| LoadError::Encode(format!("{error:#}")))
}
