//! A service as its owner would write it: it registers itself, says now and then that it is alive, answers, asks the other
//! service through the gateway, and leaves.

mod data;
mod gateway;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Result;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE, server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet, time::interval};

pub use self::{data::Kind, gateway::Gateway};

/// How long it is kept without a heartbeat, and how often it sends one.
const TTL: &str = "3s";
const HEARTBEAT: Duration = Duration::from_secs(1);

/// One running service, registered as long as it runs.
#[derive(Debug)]
pub struct Service {
    id: String,
    kind: Kind,
    gateway: Gateway,
    tasks: JoinSet<()>,
}

impl Service {
    /// Listens on a free port and registers under this id, with a weight for who balances by it.
    pub async fn start(kind: Kind, id: &str, weight: u16, gateway: Gateway) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, kind, id.to_owned(), gateway.clone()));
        register(&gateway, kind, id, address, weight).await?;
        tasks.spawn({
            let (gateway, id) = (gateway.clone(), id.to_owned());
            async move {
                let mut beats = interval(HEARTBEAT);
                loop {
                    beats.tick().await;
                    // It has lapsed, or the gateway is another one now: then it announces itself anew.
                    if !matches!(gateway.heartbeat(kind.as_str(), &id).await, Ok(true)) {
                        let _ = register(&gateway, kind, &id, address, weight).await;
                    }
                }
            }
        });
        Ok(Self { id: id.to_owned(), kind, gateway, tasks })
    }

    /// Leaves, so that nobody is sent here any more.
    pub async fn stop(self) -> Result<()> {
        self.gateway.deregister(self.kind.as_str(), &self.id).await
    }

    /// Ends without a word, as a crash does.
    pub async fn crash(mut self) {
        self.tasks.shutdown().await;
    }
}

async fn register(gateway: &Gateway, kind: Kind, id: &str, address: SocketAddr, weight: u16) -> Result<()> {
    let announcement = json!({ "address": address, "weight": weight, "ttl": TTL, "metadata": { "language": "rust" } });
    gateway.register(kind.as_str(), id, &announcement).await
}

async fn serve(listener: TcpListener, kind: Kind, id: String, gateway: Gateway) {
    let shared = Arc::new((kind, id, gateway));
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        let answer = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            async move {
                let (kind, id, gateway) = &*shared;
                Ok::<_, Infallible>(answer(*kind, id, gateway, request.uri().path()).await)
            }
        });
        connections.spawn(async move {
            // A client that breaks off is its own affair.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}

async fn answer(kind: Kind, id: &str, gateway: &Gateway, path: &str) -> Response<Full<Bytes>> {
    let (status, mut told) = match data::answer(kind, gateway, path).await {
        Ok(Some(told)) => (StatusCode::OK, told),
        Ok(None) => (StatusCode::NOT_FOUND, json!({ "error": "there is nothing here" })),
        Err(error) => (StatusCode::BAD_GATEWAY, json!({ "error": error.to_string() })),
    };
    told["served_by"] = id.into();
    respond(status, &told)
}

fn respond(status: StatusCode, told: &Value) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(told.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    response
}

/// Keeps a service running until somebody ends it.
pub async fn run(service: Service) -> Result<()> {
    tokio::signal::ctrl_c().await?;
    service.stop().await
}
