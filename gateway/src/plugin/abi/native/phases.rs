//! The phases that a component may export: found once per component, looked up once per instance, then called.

use bytes::Bytes;
use http::HeaderMap;
use wasmtime::{
    Store,
    component::{Instance, InstancePre, Resource},
};

use super::bindings::stile::plugin::exchange as wit;
use crate::plugin::{
    host::{EditError, Host, field, final_status},
    phase::{Answer, Phase, Verdict},
};

mod configuration {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "stile:plugin/takes-configuration",
        exports: { default: async },
    });
}

mod request {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "stile:plugin/filters-requests",
        exports: { default: async },
        with: { "stile:plugin/exchange": crate::plugin::abi::native::bindings::stile::plugin::exchange },
    });
}

mod response {
    wasmtime::component::bindgen!({
        path: "../plugin-sdk/wit",
        world: "stile:plugin/filters-responses",
        exports: { default: async },
        with: { "stile:plugin/exchange": crate::plugin::abi::native::bindings::stile::plugin::exchange },
    });
}

/// What a component exports.
#[derive(Clone)]
pub(in crate::plugin) struct Phases {
    configuration: Option<configuration::TakesConfigurationIndices>,
    request: Option<request::FiltersRequestsIndices>,
    response: Option<response::FiltersResponsesIndices>,
}

/// The same, in one instance.
pub(in crate::plugin) struct Calls {
    configuration: Option<configuration::TakesConfiguration>,
    request: Option<request::FiltersRequests>,
    response: Option<response::FiltersResponses>,
}

impl Phases {
    /// Finds the phases among the names of what a component exports.
    pub(in crate::plugin) fn find(pre: &InstancePre<Host>, exports: &[String]) -> wasmtime::Result<Self> {
        let has = |interface: &str| exports.iter().any(|name| is_interface(name, interface));
        Ok(Self {
            configuration: has("configuration")
                .then(|| configuration::TakesConfigurationIndices::new(pre))
                .transpose()?,
            request: has("request-filter").then(|| request::FiltersRequestsIndices::new(pre)).transpose()?,
            response: has("response-filter").then(|| response::FiltersResponsesIndices::new(pre)).transpose()?,
        })
    }

    pub(in crate::plugin) fn takes_configuration(&self) -> bool {
        self.configuration.is_some()
    }

    pub(in crate::plugin) fn has(&self, phase: Phase) -> bool {
        match phase {
            Phase::Request => self.request.is_some(),
            Phase::Response => self.response.is_some(),
        }
    }

    /// Says whether an export of the contract is one that this gateway calls.
    pub(in crate::plugin) fn knows(&self, export: &str) -> bool {
        ["configuration", "request-filter", "response-filter"].iter().any(|known| is_interface(export, known))
    }

    pub(in crate::plugin) fn names(&self) -> Vec<&'static str> {
        Phase::ALL.into_iter().filter(|phase| self.has(*phase)).map(Phase::as_str).collect()
    }

    pub(in crate::plugin) fn load(&self, store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<Calls> {
        Ok(Calls {
            configuration: self.configuration.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
            request: self.request.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
            response: self.response.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,
        })
    }
}

impl Calls {
    /// The inner error is the guest's own refusal of the configuration.
    pub(in crate::plugin) async fn configure(
        &self,
        store: &mut Store<Host>,
        json: &str,
    ) -> wasmtime::Result<Result<(), String>> {
        match &self.configuration {
            Some(calls) => calls.stile_plugin_configuration().call_configure(store, json).await,
            None => Ok(Ok(())),
        }
    }

    /// A component without the phase lets the exchange proceed. The inner error is the guest's own.
    pub(in crate::plugin) async fn run(
        &self,
        store: &mut Store<Host>,
        phase: Phase,
    ) -> wasmtime::Result<Result<Verdict, String>> {
        let verdict = match (phase, &self.request, &self.response) {
            (Phase::Request, Some(calls), _) => {
                calls.stile_plugin_request_filter().call_on_request(store, Resource::new_borrow(0)).await?
            }
            (Phase::Response, _, Some(calls)) => {
                calls.stile_plugin_response_filter().call_on_response(store, Resource::new_borrow(0)).await?
            }
            _ => Ok(wit::Verdict::Proceed),
        };
        Ok(verdict.and_then(|verdict| match verdict {
            wit::Verdict::Proceed => Ok(Verdict::Proceed),
            wit::Verdict::Done => Ok(Verdict::Done),
            wit::Verdict::Respond(reply) => answer(reply).map(Verdict::Respond).map_err(refusal),
        }))
    }
}

/// Says whether an export such as `stile:plugin/log@0.1.0` is this interface of the contract.
fn is_interface(export: &str, interface: &str) -> bool {
    let name = export.split_once('@').map_or(export, |(name, _)| name);
    name.strip_prefix("stile:plugin/") == Some(interface)
}

fn answer(reply: wit::Reply) -> Result<Answer, EditError> {
    let mut headers = HeaderMap::new();
    for (name, value) in reply.headers {
        let (name, value) = field(&name, value)?;
        headers.try_append(name, value).map_err(|_| EditError::Limit("header fields of an answer"))?;
    }
    Ok(Answer { status: final_status(reply.status)?, headers, body: Bytes::from(reply.body) })
}

fn refusal(error: EditError) -> String {
    let what = match error {
        EditError::Invalid(text) => text,
        EditError::Forbidden(name) => format!("\"{name}\" is the gateway's to write"),
        EditError::Limit(name) => format!("over the limit of {name}"),
    };
    format!("its answer is refused: {what}")
}
