//! What the gateway does for a guest, whatever its ABI: the state behind one instance and neutral operations on it.
//! It decodes nothing, opens no sockets and decides no policy.

mod edit;
mod log;

use std::sync::Arc;

use bytes::Bytes;
use wasmtime_wasi::{ResourceTable, WasiCtx, WasiCtxView, WasiView};

pub(super) use edit::{EditError, Write, field, final_status};
pub(super) use log::Level;

use super::limits::{Limits, Meter};
use crate::exchange::{Draft, RequestHead, RequestId, ResponseHead};

/// Whose instance this is, as log lines name it.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) plugin: Arc<str>,
    pub(super) revision: u32,
}

/// The state behind one instance.
pub(super) struct Host {
    pub(super) identity: Arc<Identity>,
    pub(super) meter: Meter,
    pub(super) lent: Option<Lent>,
    wasi: Option<Box<Wasi>>,
}

/// The part of an exchange that a guest has for the length of a call.
#[derive(Debug)]
pub(super) struct Lent {
    pub(super) id: RequestId,
    pub(super) request: Draft<RequestHead>,
    pub(super) response: Draft<ResponseHead>,
    pub(super) kept: Bytes,
    /// Header fields and bytes that this call has written.
    pub(super) written: edit::Written,
}

/// An empty environment for guests built with WASI: no files, no network, no arguments.
struct Wasi {
    context: WasiCtx,
    table: ResourceTable,
}

#[derive(Debug, thiserror::Error)]
#[error("called outside of an exchange")]
pub(super) struct NoExchange;

impl Host {
    pub(super) fn new(identity: Arc<Identity>, limits: Limits) -> Self {
        Self { identity, meter: Meter::new(limits), lent: None, wasi: None }
    }

    pub(super) fn lent(&mut self) -> Result<&mut Lent, NoExchange> {
        self.lent.as_mut().ok_or(NoExchange)
    }
}

impl WasiView for Host {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let wasi = self
            .wasi
            .get_or_insert_with(|| Box::new(Wasi { context: WasiCtx::builder().build(), table: ResourceTable::new() }));
        WasiCtxView { ctx: &mut wasi.context, table: &mut wasi.table }
    }
}
