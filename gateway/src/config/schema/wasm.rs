//! Bounds of the WebAssembly engine, which all plugins share. No behaviour here.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config::scalar::Size;

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Wasm {
    /// Instances of all plugins together, idle ones included: where one more is needed, an idle one ends. Each reserves some
    /// 4 GiB of address space. Without it, one for each MiB of memory of the machine or the control group, from 1024 to 8192.
    pub instances: Option<NonZeroU32>,
    /// Largest `limits.memory` that a plugin may have, at most 4GiB.
    pub memory: Size,
    /// Largest `limits.table_elements` that a plugin may have.
    #[schemars(range(max = 10_000_000))]
    pub table_elements: u32,
    /// Core instances that a component may be composed of, and the memories and tables of all of them.
    #[schemars(range(min = 1, max = 1000))]
    pub core_instances: u32,
    /// Stack of one instance, from 16KiB to 8MiB.
    pub stack: Size,
    /// Bytes of a module or component, at most 64MiB. This key and those below bound the work of compiling one.
    pub module_bytes: Size,
    /// Functions and function types of all core modules of a plugin's module, these modules, its components, and the functions that
    /// instances of components pass to one another, with each part of their types.
    pub functions: u32,
    /// Bytes of the body of one function.
    pub function_bytes: Size,
    /// Parameters and local variables of one function.
    pub function_locals: u32,
    /// Blocks, loops and branches of one function.
    pub function_blocks: u32,
    /// Values of one function: those that are alive where each of its blocks begins, and those that its blocks, branches and calls
    /// pass on, weighted by what they cost the compiler.
    pub function_values: u64,
    /// The same, summed over all functions.
    pub module_values: u64,
}

impl Default for Wasm {
    fn default() -> Self {
        Self {
            instances: None,
            memory: Size::mib(1024),
            table_elements: 100_000,
            core_instances: 64,
            stack: Size::kib(256),
            module_bytes: Size::mib(64),
            functions: 100_000,
            function_bytes: Size::mib(1),
            function_locals: 10_000,
            function_blocks: 50_000,
            function_values: 5_000_000,
            module_values: 50_000_000,
        }
    }
}
