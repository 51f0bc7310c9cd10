//! The whole life of a request: route, filters, service, filters, answer.
//! It takes one snapshot and uses it to the end; it parses no configuration and names no plugin.

mod accept;
mod ending;
mod error;
mod respond;
mod upgrade;

use std::{cell::RefCell, sync::Arc};

use http::{Request, Response};
use hyper::{body::Incoming, upgrade::OnUpgrade};

use crate::{
    exchange::{Body, Client, Exchange, id::RequestIds},
    plugin::Caller,
    snapshot::{Pinned, Reader, Route},
    worker::WorkerId,
};

use self::ending::Ending;
pub(crate) use self::respond::panicked;
pub use self::{error::Error, respond::Outgoing, upgrade::Tunnel};

/// What one worker needs to serve requests.
#[derive(Debug)]
pub struct Proxy {
    worker: WorkerId,
    snapshot: Reader,
    ids: RefCell<RequestIds>,
}

impl Proxy {
    pub fn new(worker: WorkerId, snapshot: Reader) -> Self {
        Self { worker, snapshot, ids: RefCell::new(RequestIds::new()) }
    }

    /// The generation that a request would be served by now.
    pub fn snapshot(&self) -> Pinned {
        self.snapshot.latest()
    }

    /// Serves one request. Whatever goes wrong becomes an answer.
    pub async fn handle(&self, client: Arc<Client>, request: Request<Incoming>) -> Response<Outgoing> {
        // One generation from here to the end, whatever is loaded meanwhile.
        let snapshot = self.snapshot.latest();
        let (exchange, mut body, upgrade, refused) = accept::exchange(request, client, &self.ids);
        // Told of the end, also if that is the client's leaving in the middle of this.
        let mut ending = Ending::of(exchange, body.passed(), self.worker, &snapshot);
        let caller = Caller { worker: self.worker, handles: snapshot.handles() };

        // Those of the listener come first, and may say where it goes.
        let entry = snapshot.entry(&ending.exchange).filter(|_| refused.is_none());
        let met = match entry {
            Some(entry) => entry.request(caller, &mut ending.exchange, &mut body).await.1,
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

    /// From the choice of a route to the answer as the route's filters leave it.
    async fn route(
        &self,
        snapshot: &Pinned,
        caller: Caller<'_>,
        ending: &mut Ending,
        mut body: Body,
        upgrade: Option<OnUpgrade>,
    ) -> Outgoing {
        let route = match snapshot.route(&ending.exchange) {
            Some(route) if !ending.exchange.encoded_slash || route.allow_encoded_slash => route,
            unserved => {
                accept::discard(body);
                return respond::problem(ending, &unserved_by(unserved, &ending.exchange));
            }
        };
        ending.routed(route);

        // Filters decide before the service is contacted.
        let (first, instead) = route.chain.request(caller, &mut ending.exchange, &mut body).await;
        let answer = match instead {
            Some(instead) => {
                accept::discard(body);
                respond::instead(ending, instead)
            }
            None => {
                let request = &mut ending.exchange.request;
                accept::rewrite(request, route.strip_prefix.as_deref());
                match route.service.send(self.worker, request, body, route.host, route.timeout).await {
                    Ok((response, lease)) => respond::upstream(ending, response, lease, upgrade),
                    Err(error) => respond::problem(ending, &error.into()),
                }
            }
        };
        respond::filtered(&route.chain, caller, ending, first, answer).await
    }
}

/// Why a request has no route, or not that one.
fn unserved_by(route: Option<&Arc<Route>>, exchange: &Exchange) -> Error {
    match (route, &exchange.destination) {
        (Some(_), _) => Error::EncodedSlash,
        (None, Some(destination)) => Error::Astray(destination.clone()),
        (None, None) => Error::NoRoute,
    }
}
