//! The ABIs that guests may speak, each an adapter: decode, one neutral call on `host`, encode.

pub(super) mod native;

use wasmtime::component::Linker;

use super::host::Host;

/// Everything that a component may import.
pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    native::add_to_linker(linker)?;
    wasmtime_wasi::p2::add_to_linker_async(linker)
}
