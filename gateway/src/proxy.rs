//! The whole life of a request: route, filters, service, filters, answer.
//! It takes one snapshot and uses it to the end; it parses no configuration and names no plugin.

mod accept;
mod admit;
mod ending;
mod error;
mod final_recipient;
mod log;
mod respond;
mod upgrade;
mod validate;

use std::{cell::RefCell, rc::Rc, sync::Arc};

use http::{HeaderValue, Request, Response, StatusCode, Version, header::VIA, uri::Authority};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use crate::{
    exchange::{Body, Client, Destination, Exchange, Via, id::RequestIds},
    filter::{Instead, Span},
    openapi::Invalid,
    plugin::Caller,
    snapshot::{Pinned, Reader, Route, Snapshot},
    upstream::{Idle, Lease, Sending, longest_idle},
    worker::WorkerId,
};

pub(crate) use self::respond::panicked;
use self::{
    ending::Ending,
    validate::{Checker, validate},
};
pub use self::{
    error::Error,
    log::{Logs, Teller},
    respond::Outgoing,
    upgrade::Tunnel,
};

/// What one worker needs to serve requests.
#[derive(Debug)]
pub struct Proxy {
    worker: WorkerId,
    snapshot: Reader,
    ids: RefCell<RequestIds>,
    /// The last host that was parsed: the next request most often names the same one.
    last_host: RefCell<Option<Authority>>,
    logs: Logs,
    via: Via,
    checker: Checker,
}

impl Proxy {
    /// `logs` is where filters are told of ends.
    pub fn new(worker: WorkerId, snapshot: Reader, logs: Logs, via: Via) -> Self {
        let checker = Checker::default();
        let ids = RefCell::new(RequestIds::new());
        Self { worker, snapshot, ids, last_host: RefCell::default(), logs, via, checker }
    }

    /// The worker that it serves on.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// The generation that a request would be served by now.
    pub fn snapshot(&self) -> Pinned {
        self.snapshot.latest()
    }

    /// Takes the connection to a service that has been idle longest on this worker.
    pub fn longest_idle(&self) -> Option<Idle> {
        longest_idle(self.snapshot.latest().services.values(), self.worker)
    }

    /// The `Via` of what goes out for an exchange that came with these entries, the gateway's own among them.
    pub fn via(&self, entries: Option<&HeaderValue>, version: Version) -> HeaderValue {
        entries.unwrap_or_else(|| self.via.entry(version)).clone()
    }

    /// Serves one request. Whatever goes wrong becomes an answer.
    pub async fn handle(self: Rc<Self>, client: Arc<Client>, request: Request<Incoming>) -> Response<Outgoing> {
        // One generation from here to the end, whatever is loaded meanwhile.
        let snapshot = self.snapshot.latest();
        let (exchange, mut body, upgrade, refused) = accept::exchange(request, client, &self, &snapshot);
        // Told of the end, also if that is the client's leaving in the middle of this.
        let mut ending = Ending::of(exchange, body.transfer(), self.worker, &snapshot);
        let caller = Caller { worker: self.worker, handles: snapshot.handles() };

        // Those of the listener come first, and may say where it goes.
        let entry = snapshot.entry(&ending.exchange);
        if let Some(entry) = entry.filter(|entry| entry.logs) {
            self.logs.join(&mut ending.listeners, entry, 0, caller.handles);
        }
        let met = match entry.filter(|_| refused.is_none()) {
            Some(entry) => {
                let first = entry.enter(&mut ending.exchange);
                entry.request(caller, &mut ending.exchange, &mut body, first, Span::All).await
            }
            None => None,
        };
        let mut answer = match (met, refused) {
            (Some(instead), _) => {
                accept::discard(body);
                respond::instead(&mut ending, instead)
            }
            (None, Some(refusal)) => {
                accept::discard(body);
                respond::problem(&mut ending, &refusal.into())
            }
            (None, None) => self.route(&snapshot, caller, &mut ending, body, upgrade).await,
        };
        if let Some(entry) = entry {
            answer = respond::filtered(entry, caller, &mut ending, 0, answer).await;
        }
        respond::finish(ending, answer)
    }

    /// Records a request that hyper could not parse and has answered itself; `line` is its first line, if that is known.
    pub(crate) fn unparsed(&self, client: Arc<Client>, line: Option<&str>, status: StatusCode, reason: &'static str) {
        let exchange = accept::unparsed(client, line, self);
        let mut ending = Ending::of(exchange, None, self.worker, &self.snapshot.latest());
        ending.failed(&Error::Unparsed(status, reason));
        ending.exchange.response.status = status;
        ending.answered();
        ending.whole();
    }

    /// From the choice of a route to the answer as the route's filters leave it.
    async fn route(
        &self,
        snapshot: &Pinned,
        caller: Caller<'_>,
        ending: &mut Ending,
        mut body: Body,
        upgrade: Option<OnUpgrade>,
    ) -> Outgoing {
        if let Some(page) = snapshot.page(&ending.exchange) {
            accept::discard(body);
            return respond::page(ending, page);
        }
        match final_recipient::answer(&mut ending.exchange.request) {
            Ok(None) => {}
            Ok(Some(answer)) => {
                accept::discard(body);
                return respond::instead(ending, Instead::Answer(Box::new(answer)));
            }
            Err(refusal) => {
                accept::discard(body);
                return respond::problem(ending, &refusal.into());
            }
        }
        if ending.exchange.destination.is_none() {
            ending.exchange.destination = snapshot.called(&ending.exchange);
        }
        let route = match snapshot.route(&ending.exchange) {
            Some(route) if !ending.exchange.encoded_slash || route.allow_encoded_slash => route,
            unserved => {
                accept::discard(body);
                return respond::problem(ending, &unserved_by(snapshot, unserved, &ending.exchange));
            }
        };
        if route.chain.logs {
            let first = ending.exchange.filters.len();
            self.logs.join(&mut ending.listeners, &route.chain, first, caller.handles);
        }
        ending.routed(route);

        // Filters decide before the service is contacted.
        let first = route.chain.enter(&mut ending.exchange);
        let answer = match self.decide(snapshot, route, ending, &mut body, first).await {
            Some(answer) => {
                accept::discard(body);
                answer
            }
            None => {
                accept::rewrite(&mut ending.exchange.request, route.strip_prefix.as_deref());
                // Without it nobody could see that a request goes round: filters cannot take it off.
                if !ending.exchange.filters.is_empty() {
                    let via = self.via(ending.exchange.via.as_ref(), ending.exchange.request.version);
                    ending.exchange.request.headers.insert(VIA, via);
                }
                match self.send(route, caller, ending, body).await {
                    Ok((response, lease)) => respond::upstream(ending, response, lease, upgrade),
                    Err(error) => respond::problem(ending, &error),
                }
            }
        };
        respond::filtered(&route.chain, caller, ending, first, answer).await
    }

    /// Sends a request to an endpoint that the service's balance chooses.
    async fn send(
        &self,
        route: &Route,
        caller: Caller<'_>,
        ending: &mut Ending,
        body: Body,
    ) -> Result<(Response<Incoming>, Lease), Error> {
        let chosen = route.endpoint(caller, &mut ending.exchange).await?;
        let transfer = ending.transfer();
        let Route { service, host, timeout, .. } = route;
        let head = &ending.exchange.request;
        let sending = Sending { worker: self.worker, head, host: *host, timeout: *timeout, transfer };
        Ok(service.send(&sending, body, chosen, &|| self.longest_idle()).await?)
    }

    /// What a request gets in the place of the service's answer: it is found out who calls, whether they may, whether it is what its
    /// API describes, and what the other filters say.
    async fn decide(
        &self,
        snapshot: &Pinned,
        route: &Route,
        ending: &mut Ending,
        body: &mut Body,
        first: usize,
    ) -> Option<Outgoing> {
        let caller = Caller { worker: self.worker, handles: snapshot.handles() };
        if let Err(error) = admit::enter(route, &mut ending.exchange) {
            admit::count(snapshot, route, ending);
            return Some(respond::problem(ending, &error));
        }
        if let Some(instead) = route.chain.request(caller, &mut ending.exchange, body, first, Span::UntilKnown).await {
            admit::count(snapshot, route, ending);
            return Some(respond::instead(ending, instead));
        }
        admit::count(snapshot, route, ending);
        if let Err(error) = admit::admit(snapshot, route, &mut ending.exchange) {
            return Some(respond::problem(ending, &error));
        }
        if let Err(error) = validate(route, self.worker, &self.checker, &ending.exchange, body).await {
            return Some(respond::problem(ending, &error));
        }
        let instead = route.chain.request(caller, &mut ending.exchange, body, first, Span::OnceKnown).await?;
        Some(respond::instead(ending, instead))
    }
}

/// Why a request has no route, or not that one.
fn unserved_by(snapshot: &Snapshot, route: Option<&Arc<Route>>, exchange: &Exchange) -> Error {
    match (route, &exchange.destination) {
        (Some(_), _) => Error::EncodedSlash,
        (None, Some(Destination::Call(name))) => Error::NoService(name.clone()),
        (None, Some(destination)) => Error::Astray(destination.clone()),
        (None, None) => match snapshot.methods(exchange) {
            allowed if allowed.is_empty() => Error::NoRoute,
            allowed => Invalid::NoMethod { method: exchange.request.method.clone(), allowed }.into(),
        },
    }
}
