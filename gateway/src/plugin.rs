//! Plugins: named WebAssembly modules in numbered revisions, and calls into their instances.
//! The only code that names wasmtime lies here; `filter` sees what this file offers and nothing below it.

pub mod capability;
pub mod engine;
mod limits;
pub mod loader;
pub mod signature;

mod abi;
mod budget;
mod bulk;
mod cache;
mod complexity;
mod foreign;
mod host;
mod idle;
mod instance;
mod phase;
mod pool;
mod slots;
mod state;
mod text;
mod ticker;

use std::sync::Arc;

pub use self::{
    budget::{Budget, Exhausted, Running, Trial, WHOLE},
    cache::Cache,
    complexity::Complexity,
    engine::{Bounds, Engine},
    host::{
        CallAnswer, CallError, CallOut, CallTarget, Called, Caller, Consumers, Handles, Origin, Outbound, Output,
        Passing, Presented, Reach, Verified,
    },
    limits::{Cause, Limits, Overruns},
    loader::{Digest256, LoadError, Module, WeakModule},
    phase::{Answer, Candidate, Given, Phase, Refusal, Summary, Verdict},
    pool::{Admission, Instances, Isolation},
    signature::Signature,
    slots::SlotUse,
    state::{OwnMetric, OwnValue, State, States},
    text::one_line,
};

/// One revision of a plugin: what `Instances` are made from. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Revision {
    pub plugin: Arc<str>,
    /// 1, 2, 3 … in the order they were loaded, over the plugin's whole life.
    pub number: u32,
    pub module: Module,
    /// What it came with.
    pub signature: Option<Signature>,
}

/// A call that came to no verdict: its edits are undone and its instance is gone.
#[derive(Debug, thiserror::Error)]
#[error("{}: {message}", cause.as_str())]
pub struct Failure {
    pub cause: Cause,
    /// One line of a bounded length, whatever the guest wrote.
    pub message: String,
    /// An instance did not start, whatever its configuration.
    pub at_start: bool,
}

/// What came of a call.
#[derive(Debug)]
pub struct Outcome {
    pub result: Result<Verdict, Failure>,
    pub overruns: Overruns,
    /// The first call of its instance.
    pub is_first: bool,
}

impl Failure {
    pub fn new(cause: Cause, message: impl AsRef<str>) -> Self {
        Self { cause, message: one_line(message.as_ref()).into_owned(), at_start: false }
    }
}

/// No guest was reached.
impl From<Failure> for Outcome {
    fn from(failure: Failure) -> Self {
        Self { result: Err(failure), overruns: Overruns::default(), is_first: false }
    }
}
