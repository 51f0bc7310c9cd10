//! The whole life of a request: route, filters, service, filters, answer.
//! It takes one snapshot and uses it to the end; it parses no configuration and names no plugin.

mod accept;
mod ending;
mod error;
mod respond;
mod upgrade;

use std::{cell::RefCell, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;

use crate::{
    exchange::{Client, id::RequestIds},
    plugin::Caller,
    snapshot::{Pinned, Reader},
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
        let found = match refused {
            Some(refusal) => Err(refusal.into()),
            None => snapshot.route(&ending.exchange).ok_or(Error::NoRoute),
        };
        let route = match found {
            Ok(route) if !ending.exchange.encoded_slash || route.allow_encoded_slash => route,
            unserved => {
                accept::discard(body);
                let body = respond::problem(&mut ending, &unserved.err().unwrap_or(Error::EncodedSlash));
                return respond::finish(ending, body);
            }
        };
        ending.routed(route);

        // Filters decide before the service is contacted.
        let caller = Caller { worker: self.worker, handles: snapshot.handles() };
        let mut answer = match route.chain.request(caller, &mut ending.exchange, &mut body).await {
            Some(instead) => {
                accept::discard(body);
                respond::instead(&mut ending, instead)
            }
            None => {
                let request = &mut ending.exchange.request;
                accept::rewrite(request, route.strip_prefix.as_deref());
                match route.service.send(self.worker, request, body, route.host, route.timeout).await {
                    Ok((response, lease)) => respond::upstream(&mut ending, response, lease, upgrade),
                    Err(error) => respond::problem(&mut ending, &error.into()),
                }
            }
        };

        // The response meets them in reverse, the gateway's own answers too; one that answers instead is met in its turn.
        let mut left = route.chain.filters().len();
        while let Some(instead) =
            route.chain.response(caller, &mut ending.exchange, answer.body(), &mut left).await
        {
            answer = respond::instead(&mut ending, instead);
        }
        respond::finish(ending, answer)
    }
}
