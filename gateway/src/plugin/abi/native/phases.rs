//! The phases that a component may export: found once per component, looked up once per instance, then called.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use wasmtime::{
    Store,
    component::{Instance, InstancePre, Resource},
};

use super::{bindings::stile::plugin::exchange as wit, list};
use crate::{
    exchange::Destination,
    plugin::{
        host::{EditError, Host, field, final_status},
        phase::{self, Answer, Given, Phase, Refusal, Verdict},
    },
};

/// Bindings of worlds that export one interface each, so that a component may export any of them, and where to find these.
macro_rules! exports {
    ($($name:ident: $interface:literal $(over $shared:literal as $known:ident)? by $world:literal, $type:ident, $indices:ident;)*) => {
        $(mod $name {
            wasmtime::component::bindgen!({
                path: "../plugin-sdk/wit",
                world: $world,
                exports: { default: async },
                with: { $($shared: crate::plugin::abi::native::bindings::stile::plugin::$known)? },
            });
        })*

        /// The interfaces of the contract that this gateway calls.
        const INTERFACES: &[&str] = &[$($interface),*];

        /// What a component exports.
        #[derive(Clone)]
        pub(in crate::plugin) struct Phases {
            $($name: Option<$name::$indices>,)*
        }

        /// The same, in one instance.
        pub(in crate::plugin) struct Calls {
            $($name: Option<$name::$type>,)*
        }

        impl Phases {
            /// Finds the phases among the names of what a component exports.
            pub(in crate::plugin) fn find(pre: &InstancePre<Host>, exports: &[String]) -> wasmtime::Result<Self> {
                let has = |interface: &str| exports.iter().any(|name| is_interface(name, interface));
                Ok(Self {
                    $($name: has($interface).then(|| $name::$indices::new(pre)).transpose()?,)*
                })
            }

            pub(in crate::plugin) fn load(&self, store: &mut Store<Host>, instance: &Instance) -> wasmtime::Result<Calls> {
                Ok(Calls {
                    $($name: self.$name.as_ref().map(|found| found.load(&mut *store, instance)).transpose()?,)*
                })
            }
        }
    };
}

exports! {
    configuration: "configuration" by "stile:plugin/takes-configuration", TakesConfiguration, TakesConfigurationIndices;
    request: "request-filter" over "stile:plugin/exchange" as exchange
        by "stile:plugin/filters-requests", FiltersRequests, FiltersRequestsIndices;
    response: "response-filter" over "stile:plugin/exchange" as exchange
        by "stile:plugin/filters-responses", FiltersResponses, FiltersResponsesIndices;
    request_body: "request-body" over "stile:plugin/exchange" as exchange
        by "stile:plugin/decides-on-request-bodies", DecidesOnRequestBodies, DecidesOnRequestBodiesIndices;
    response_body: "response-body" over "stile:plugin/exchange" as exchange
        by "stile:plugin/decides-on-response-bodies", DecidesOnResponseBodies, DecidesOnResponseBodiesIndices;
    request_stream: "request-stream" over "stile:plugin/body" as body
        by "stile:plugin/streams-request-bodies", StreamsRequestBodies, StreamsRequestBodiesIndices;
    response_stream: "response-stream" over "stile:plugin/body" as body
        by "stile:plugin/streams-response-bodies", StreamsResponseBodies, StreamsResponseBodiesIndices;
    request_trailers: "request-trailers" over "stile:plugin/exchange" as exchange
        by "stile:plugin/filters-request-trailers", FiltersRequestTrailers, FiltersRequestTrailersIndices;
    authenticate: "authenticator" over "stile:plugin/exchange" as exchange
        by "stile:plugin/authenticates", Authenticates, AuthenticatesIndices;
    route: "router" over "stile:plugin/exchange" as exchange
        by "stile:plugin/routes", Routes, RoutesIndices;
    balance: "balancer" over "stile:plugin/exchange" as exchange
        by "stile:plugin/balances", Balances, BalancesIndices;
    log: "exchange-log" over "stile:plugin/exchange" as exchange
        by "stile:plugin/logs", Logs, LogsIndices;
    tick: "tick" by "stile:plugin/ticks", Ticks, TicksIndices;
    response_trailers: "response-trailers" over "stile:plugin/exchange" as exchange
        by "stile:plugin/filters-response-trailers", FiltersResponseTrailers, FiltersResponseTrailersIndices;
}

impl Phases {
    pub(in crate::plugin) fn takes_configuration(&self) -> bool {
        self.configuration.is_some()
    }

    pub(in crate::plugin) fn has(&self, phase: Phase) -> bool {
        match phase {
            Phase::Authenticate => self.authenticate.is_some(),
            Phase::Request => self.request.is_some(),
            Phase::RequestBody => self.request_body.is_some(),
            Phase::RequestStream => self.request_stream.is_some(),
            Phase::RequestTrailers => self.request_trailers.is_some(),
            Phase::Route => self.route.is_some(),
            Phase::Balance => self.balance.is_some(),
            Phase::Response => self.response.is_some(),
            Phase::ResponseBody => self.response_body.is_some(),
            Phase::ResponseStream => self.response_stream.is_some(),
            Phase::ResponseTrailers => self.response_trailers.is_some(),
            Phase::Log => self.log.is_some(),
            Phase::Tick => self.tick.is_some(),
        }
    }

    /// Says whether an export of the contract is one that this gateway calls.
    pub(in crate::plugin) fn knows(&self, export: &str) -> bool {
        INTERFACES.iter().any(|known| is_interface(export, known))
    }

    pub(in crate::plugin) fn names(&self) -> Vec<&'static str> {
        Phase::ALL.into_iter().filter(|phase| self.has(*phase)).map(Phase::as_str).collect()
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
        given: Given,
    ) -> wasmtime::Result<Result<Verdict, String>> {
        // Most calls are of the first two: the others are boxed, so that these need not be as large as they.
        match phase {
            Phase::Request => {
                let Some(calls) = &self.request else { return Ok(Ok(Verdict::Proceed)) };
                let calls = calls.stile_plugin_request_filter();
                Ok(calls.call_on_request(store, Resource::new_borrow(0)).await?.and_then(verdict))
            }
            Phase::Response => {
                let Some(calls) = &self.response else { return Ok(Ok(Verdict::Proceed)) };
                let calls = calls.stile_plugin_response_filter();
                Ok(calls.call_on_response(store, Resource::new_borrow(0)).await?.and_then(verdict))
            }
            Phase::RequestBody | Phase::ResponseBody => Box::pin(self.body(store, phase, given)).await,
            Phase::RequestStream | Phase::ResponseStream => Box::pin(self.stream(store, phase)).await,
            Phase::RequestTrailers | Phase::ResponseTrailers => Box::pin(self.trailers(store, phase, given)).await,
            Phase::Authenticate => Box::pin(self.authenticate(store)).await,
            Phase::Route => Box::pin(self.route(store, given)).await,
            Phase::Balance => Box::pin(self.balance(store, given)).await,
            Phase::Log => Box::pin(self.log(store, given)).await,
            Phase::Tick => {
                let Some(calls) = &self.tick else { return Ok(Ok(Verdict::Proceed)) };
                Ok(calls.stile_plugin_tick().call_on_tick(store).await?.map(|()| Verdict::Proceed))
            }
        }
    }

    async fn body(
        &self,
        store: &mut Store<Host>,
        phase: Phase,
        given: Given,
    ) -> wasmtime::Result<Result<Verdict, String>> {
        let Given::Body(body) = given else { return Ok(Ok(Verdict::Proceed)) };
        let verdict = match (phase, &self.request_body, &self.response_body) {
            (Phase::RequestBody, Some(calls), _) => {
                let calls = calls.stile_plugin_request_body();
                calls.call_on_request_body(store, Resource::new_borrow(0), &body).await?
            }
            (Phase::ResponseBody, _, Some(calls)) => {
                let calls = calls.stile_plugin_response_body();
                calls.call_on_response_body(store, Resource::new_borrow(0), &body).await?
            }
            _ => Ok(wit::BodyVerdict::Proceed),
        };
        Ok(verdict.and_then(|verdict| match verdict {
            wit::BodyVerdict::Proceed => Ok(Verdict::Proceed),
            wit::BodyVerdict::Replace(body) => Ok(Verdict::Replace(body.into())),
            wit::BodyVerdict::Respond(reply) => answer(reply).map(Verdict::Respond).map_err(refusal),
        }))
    }

    async fn stream(&self, store: &mut Store<Host>, phase: Phase) -> wasmtime::Result<Result<Verdict, String>> {
        let ended = match (phase, &self.request_stream, &self.response_stream) {
            (Phase::RequestStream, Some(calls), _) => {
                calls.stile_plugin_request_stream().call_on_request_stream(store, Resource::new_borrow(0)).await?
            }
            (Phase::ResponseStream, _, Some(calls)) => {
                calls.stile_plugin_response_stream().call_on_response_stream(store, Resource::new_borrow(0)).await?
            }
            _ => Ok(()),
        };
        Ok(ended.map(|()| Verdict::Proceed))
    }

    async fn trailers(
        &self,
        store: &mut Store<Host>,
        phase: Phase,
        given: Given,
    ) -> wasmtime::Result<Result<Verdict, String>> {
        let Given::Trailers(trailers) = given else { return Ok(Ok(Verdict::Proceed)) };
        let before = list(&trailers);
        let after = match (phase, &self.request_trailers, &self.response_trailers) {
            (Phase::RequestTrailers, Some(calls), _) => {
                calls.stile_plugin_request_trailers().call_on_request_trailers(store, &before).await?
            }
            (Phase::ResponseTrailers, _, Some(calls)) => {
                calls.stile_plugin_response_trailers().call_on_response_trailers(store, &before).await?
            }
            _ => return Ok(Ok(Verdict::Proceed)),
        };
        let refused = |error: EditError| format!("its trailers are refused: {error}");
        Ok(after.and_then(|after| fields(after).map(|after| Verdict::Trailers(after.into())).map_err(refused)))
    }
}

impl Calls {
    async fn authenticate(&self, store: &mut Store<Host>) -> wasmtime::Result<Result<Verdict, String>> {
        use authenticate::exports::stile::plugin::authenticator::Identity;
        let Some(calls) = &self.authenticate else { return Ok(Ok(Verdict::Proceed)) };
        let calls = calls.stile_plugin_authenticator();
        let identity = calls.call_authenticate(&mut *store, Resource::new_borrow(0)).await?;
        Ok(identity.and_then(|identity| match identity {
            Identity::Unknown => Ok(Verdict::Proceed),
            Identity::Known(known) => {
                // Nobody else knows who is who: a plugin passes on what it was told in this very call.
                let verified = store.data().verified.iter().find(|verified| verified.name == known.name);
                let unverified = || format!("it names \"{}\", whom the gateway has not verified", known.name);
                verified.cloned().map(|known| Verdict::Known(known.into())).ok_or_else(unverified)
            }
            Identity::Refused(refused) => {
                refuse(refused.status, &refused.challenges, refused.detail).map(Verdict::Refuse)
            }
        }))
    }

    async fn route(&self, store: &mut Store<Host>, given: Given) -> wasmtime::Result<Result<Verdict, String>> {
        use route::exports::stile::plugin::router::Destination as To;
        let Some(calls) = &self.route else { return Ok(Ok(Verdict::Proceed)) };
        let body = if let Given::Body(body) = given { Some(body) } else { None };
        let calls = calls.stile_plugin_router();
        let to = calls.call_route(store, Resource::new_borrow(0), body.as_deref()).await?;
        Ok(to.and_then(|to| match to {
            To::Matched => Ok(Verdict::Proceed),
            To::Route(name) => Ok(Verdict::Send(Destination::Route(name))),
            To::Service(name) => Ok(Verdict::Send(Destination::Service(name))),
            To::WithBody if body.is_some() => Err("it asks for the body that it has".to_owned()),
            To::WithBody => Ok(Verdict::WithBody),
            To::Respond(reply) => answer(reply).map(Verdict::Respond).map_err(refusal),
        }))
    }

    async fn balance(&self, store: &mut Store<Host>, given: Given) -> wasmtime::Result<Result<Verdict, String>> {
        use balance::exports::stile::plugin::balancer::Candidate;
        let (Some(calls), Given::Candidates(candidates)) = (&self.balance, given) else {
            return Ok(Ok(Verdict::Proceed));
        };
        let tell = |it: &phase::Candidate| Candidate {
            address: it.address.to_string(),
            weight: it.weight,
            in_flight: it.in_flight,
            latency: it.latency,
        };
        let told: Vec<_> = candidates.iter().map(tell).collect();
        let calls = calls.stile_plugin_balancer();
        let chosen = calls.call_choose(store, Resource::new_borrow(0), &told).await?;
        let there_is = |chosen: &u32| (*chosen as usize) < candidates.len();
        Ok(chosen.and_then(|chosen| match Some(chosen).filter(there_is) {
            Some(chosen) => Ok(Verdict::Choose(chosen as usize)),
            None => Err(format!("it chooses number {chosen} of {} endpoints", candidates.len())),
        }))
    }

    async fn log(&self, store: &mut Store<Host>, given: Given) -> wasmtime::Result<Result<Verdict, String>> {
        let (Some(calls), Given::Summary(it)) = (&self.log, given) else { return Ok(Ok(Verdict::Proceed)) };
        let it = *it;
        let summary = log::exports::stile::plugin::exchange_log::Summary {
            status: it.status,
            route: it.route,
            service: it.service,
            endpoint: it.endpoint,
            received: it.received,
            sent: it.sent,
            answered: it.answered,
            duration: it.duration,
            blame: it.blame,
            cause: it.cause,
        };
        let calls = calls.stile_plugin_exchange_log();
        let told = calls.call_on_log(store, Resource::new_borrow(0), Resource::new_borrow(0), &summary).await?;
        Ok(told.map(|()| Verdict::Proceed))
    }
}

/// RFC 9110 §11.6.1: who is refused with 401 is told what to present.
fn refuse(status: u16, challenges: &[String], detail: String) -> Result<Box<Refusal>, String> {
    let code = StatusCode::from_u16(status).ok().filter(StatusCode::is_client_error);
    let status = code.ok_or_else(|| format!("it refuses with {status}, which is no status from 400 to 499"))?;
    let value = |challenge: &String| {
        let invalid = |_| format!("\"{}\" is no challenge", challenge.escape_debug());
        HeaderValue::from_str(challenge).map_err(invalid)
    };
    let challenges = challenges.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    if status == StatusCode::UNAUTHORIZED && challenges.is_empty() {
        return Err("it refuses with 401 and no challenge".to_owned());
    }
    Ok(Refusal { status, challenges, detail }.into())
}

/// Says whether an export such as `stile:plugin/log@0.1.0` is this interface of the contract.
fn is_interface(export: &str, interface: &str) -> bool {
    let name = export.split_once('@').map_or(export, |(name, _)| name);
    name.strip_prefix("stile:plugin/") == Some(interface)
}

fn verdict(verdict: wit::Verdict) -> Result<Verdict, String> {
    match verdict {
        wit::Verdict::Proceed => Ok(Verdict::Proceed),
        wit::Verdict::PassBody => Ok(Verdict::PassBody),
        wit::Verdict::Done => Ok(Verdict::Done),
        wit::Verdict::Respond(reply) => answer(reply).map(Verdict::Respond).map_err(refusal),
    }
}

fn answer(reply: wit::Reply) -> Result<Box<Answer>, EditError> {
    let headers = fields(reply.headers)?;
    Ok(Answer { status: final_status(reply.status)?, headers, body: Bytes::from(reply.body) }.into())
}

fn fields(list: Vec<wit::Header>) -> Result<HeaderMap, EditError> {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        let (name, value) = field(&name, value)?;
        headers.try_append(name, value).map_err(|_| EditError::Limit("header fields of a message"))?;
    }
    Ok(headers)
}

fn refusal(error: EditError) -> String {
    format!("its answer is refused: {error}")
}
