//! The whole life of a request: route, filters, service, filters, answer.
//! It takes one snapshot and uses it to the end; it parses no configuration and names no plugin.

mod accept;
mod error;
mod respond;

use std::{cell::RefCell, sync::Arc};

use http::{Request, Response};
use hyper::body::Incoming;

use crate::{
    exchange::{Client, id::RequestIds},
    snapshot::{Pinned, Reader},
    worker::WorkerId,
};

pub(crate) use self::respond::panicked;
pub use self::{error::Error, respond::Outgoing};

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
        let (mut exchange, body, refused) = accept::exchange(request, client, &self.ids);
        let found = match refused {
            Some(refusal) => Err(refusal.into()),
            None => snapshot.route(&exchange).ok_or(Error::NoRoute),
        };
        let route = match found {
            Ok(route) if !exchange.encoded_slash || route.allow_encoded_slash => route,
            unserved => {
                accept::discard(body);
                let error = unserved.err().unwrap_or(Error::EncodedSlash);
                let body = respond::problem(&mut exchange, &error);
                snapshot.unrouted.add_one(self.worker, exchange.response.status);
                return respond::finish(exchange, body);
            }
        };

        // Filters decide before the service is contacted.
        let mut body = match route.chain.request(self.worker, &mut exchange).await {
            Some(instead) => {
                accept::discard(body);
                respond::instead(&mut exchange, instead)
            }
            None => {
                accept::rewrite(&mut exchange.request, route.strip_prefix.as_deref());
                let sent = route.service.send(self.worker, &exchange.request, body, route.host, route.timeout).await;
                match sent {
                    Ok((response, lease)) => respond::upstream(&mut exchange, response, lease),
                    Err(error) => respond::problem(&mut exchange, &error.into()),
                }
            }
        };

        // The response meets them in reverse, the gateway's own answers too; one that answers instead is met in its turn.
        let mut left = route.chain.filters().len();
        while let Some(instead) = route.chain.response(self.worker, &mut exchange, &mut left).await {
            body = respond::instead(&mut exchange, instead);
        }
        route.statuses.add_one(self.worker, exchange.response.status);
        respond::finish(exchange, body)
    }
}
