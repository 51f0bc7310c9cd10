//! The interface `body`, without the macro's types: those would copy each piece once more.

use bytes::Bytes;
use wasmtime::component::{Linker, Resource, ResourceType};

use super::BodyHandle;
use crate::plugin::host::Host;

const INTERFACE: &str = "stile:plugin/body@0.1.0";

type Body = Resource<BodyHandle>;

pub(super) fn add_to_linker(linker: &mut Linker<Host>) -> wasmtime::Result<()> {
    let mut body = linker.instance(INTERFACE)?;
    body.resource("body-stream", ResourceType::host::<BodyHandle>(), |_, _| Ok(()))?;
    body.func_wrap_async("[method]body-stream.read", |mut store, (_,): (Body,)| {
        Box::new(async move { Ok((store.data_mut().read_body().await?,)) })
    })?;
    body.func_wrap_async("[method]body-stream.write", |mut store, (_, piece): (Body, Bytes)| {
        Box::new(async move { Ok(store.data_mut().write_body(piece).await?) })
    })?;
    body.func_wrap("[method]body-stream.kept", |mut store, (_,): (Body,)| {
        Ok((store.data_mut().passing()?.kept.clone(),))
    })
}
