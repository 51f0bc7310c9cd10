//! The least that wasmtime needs of a host to run the header filter: a map of fields behind two functions.

use http::{HeaderMap, HeaderName, HeaderValue};
use wasmtime::{
    Engine, Result, StoreContextMut,
    component::{Component, ComponentType, Lift, Linker, Lower, Resource, ResourceType},
};

/// The type of the handle that the guest is lent.
pub(crate) struct Request;

/// `stile:plugin/exchange.verdict`.
#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Verdict {
    #[component(name = "proceed")]
    Proceed,
    #[component(name = "pass-body")]
    PassBody,
    #[component(name = "done")]
    Done,
    #[component(name = "respond")]
    #[expect(dead_code, reason = "it never answers")]
    Respond(Reply),
}

/// `stile:plugin/exchange.reply`.
#[derive(ComponentType, Lift)]
#[component(record)]
#[expect(dead_code, reason = "it never answers")]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// `stile:plugin/exchange.edit-error`.
#[derive(ComponentType, Lower)]
#[component(variant)]
enum EditError {
    #[component(name = "invalid")]
    Invalid(String),
    #[component(name = "forbidden")]
    #[expect(dead_code, reason = "a bare host forbids nothing")]
    Forbidden(String),
    #[component(name = "limit")]
    #[expect(dead_code, reason = "nor has it limits")]
    Limit(String),
}

/// The fields that `stile_tests::called::exchange` has.
pub(crate) fn head() -> HeaderMap {
    stile_tests::called::exchange(&[]).request.headers
}

pub(crate) fn linker(engine: &Engine, component: &Component) -> Result<Linker<HeaderMap>> {
    let mut linker = Linker::new(engine);
    let mut exchange = linker.instance("stile:plugin/exchange@0.1.0")?;
    exchange.resource("request", ResourceType::host::<Request>(), |_, _| Ok(()))?;
    exchange.func_wrap("[method]request.header", read)?;
    exchange.func_wrap("[method]request.set-header", set)?;
    linker.define_unknown_imports_as_traps(component)?;
    Ok(linker)
}

#[expect(clippy::unnecessary_wraps, reason = "host functions may fail")]
fn read(head: StoreContextMut<'_, HeaderMap>, (_, name): (Resource<Request>, String)) -> Result<(Option<Vec<u8>>,)> {
    Ok((head.data().get(&name).map(|value| value.as_bytes().to_vec()),))
}

type Edited = (std::result::Result<(), EditError>,);

#[expect(clippy::unnecessary_wraps, reason = "host functions may fail")]
fn set(
    mut head: StoreContextMut<'_, HeaderMap>,
    (_, name, value): (Resource<Request>, String, Vec<u8>),
) -> Result<Edited> {
    let invalid = |_: http::Error| EditError::Invalid(name.clone());
    let edited = HeaderName::try_from(name.as_str()).map_err(http::Error::from).and_then(|name| {
        let value = HeaderValue::from_maybe_shared(bytes::Bytes::from(value))?;
        head.data_mut().insert(name, value);
        Ok(())
    });
    Ok((edited.map_err(invalid),))
}
