//! The filters of a gateway's first route, called as a worker calls them: no sockets, nobody else on the thread.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, uri::Scheme};
use http_body::{Body as HttpBody, Frame};
use serde_json::{Value, json};
use stile_gateway::{
    exchange::{Body, Client, Exchange, RequestHead, ResponseHead, body::BodyError, id::RequestIds},
    filter::{Instead, Span},
    plugin::{Caller, Cause, Handles, Outbound},
    snapshot::Snapshot,
    worker::WorkerId,
};

use crate::gateway::{Gateway, filtered};

const WORKER: WorkerId = WorkerId(0);

/// A gateway whose one route has one filter.
#[derive(Debug)]
pub struct Called {
    /// Its workers have nothing to do.
    _gateway: Gateway,
    snapshot: Arc<Snapshot>,
    handles: Arc<Handles>,
}

impl Called {
    pub async fn start(plugin: Value, filter: Value, outbound: Option<Arc<dyn Outbound>>) -> Self {
        Self::with_consumers(plugin, filter, json!([]), outbound).await
    }

    /// Starts one that knows these consumers.
    pub async fn with_consumers(
        plugin: Value,
        filter: Value,
        consumers: Value,
        outbound: Option<Arc<dyn Outbound>>,
    ) -> Self {
        let mut config = filtered(nowhere(), json!([plugin]), json!([filter]));
        config["consumers"] = consumers;
        let gateway = Gateway::start(config).await;
        let snapshot = gateway.app().control().live().load_full();
        let consumers = Arc::new(snapshot.access.clone());
        Self { _gateway: gateway, snapshot, handles: Arc::new(Handles { consumers, outbound }) }
    }

    /// Its phases of a request; what it says of the body is in that.
    pub async fn request(&self, exchange: &mut Exchange, body: &mut Body) -> Option<Instead> {
        let chain = &self.snapshot.routes[0].chain;
        let first = chain.enter(exchange);
        let instead = chain.request(self.caller(), exchange, body, first, Span::All).await;
        exchange.filters.clear();
        instead
    }

    /// Its tick; whether that was cut short at its deadline.
    pub async fn tick(&self) -> bool {
        let filter = &self.snapshot.routes[0].chain.filters()[0];
        let before = filter.failures(Cause::Deadline);
        filter.tick(self.caller()).await;
        filter.failures(Cause::Deadline) > before
    }

    fn caller(&self) -> Caller<'_> {
        Caller { worker: WORKER, handles: &self.handles }
    }
}

/// An exchange as filters meet it, with these fields beside the usual ones.
pub fn exchange(fields: &[(&'static str, &'static str)]) -> Exchange {
    let usual = [("host", "api.example.com"), ("user-agent", "called/1.0"), ("accept", "application/json")];
    let headers: HeaderMap = usual
        .iter()
        .chain(fields)
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    Exchange {
        id: RequestIds::new().draw(),
        client: Arc::new(Client::new(nowhere(), Arc::from("public"), Scheme::HTTP, Arc::default(), Arc::default())),
        forwarded_for: None,
        via: None,
        trace: None,
        request: RequestHead { headers, ..RequestHead::default() },
        head_only: false,
        encoded_slash: false,
        response: ResponseHead::default(),
        consumer: None,
        destination: None,
        filters: Vec::new(),
        notices: Vec::new(),
    }
}

/// A body of pieces that are all there.
pub fn pieces(pieces: Vec<Bytes>) -> Body {
    Body::changed(Pieces(pieces.into()))
}

struct Pieces(VecDeque<Bytes>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}
