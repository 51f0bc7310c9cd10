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
    /// Largest `limits.memory` that a plugin may have.
    pub memory: Size,
    /// Largest `limits.table_elements` that a plugin may have.
    pub table_elements: u32,
    /// Core instances that a component may be composed of, and the memories and tables of all of them.
    #[schemars(range(min = 1, max = 1000))]
    pub core_instances: u32,
}

impl Default for Wasm {
    fn default() -> Self {
        Self { instances: None, memory: Size::mib(1024), table_elements: 100_000, core_instances: 64 }
    }
}
