//! The demo's services: each endpoint says who it is and what it was asked.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::Result;
use bytes::Bytes;
use http::{Request, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

/// One endpoint of a sample service; it ends when dropped.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) service: &'static str,
    pub(super) number: u32,
    pub(super) address: SocketAddr,
    _accepting: JoinSet<()>,
}

impl Sample {
    pub(super) async fn start(service: &'static str, number: u32) -> Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, service, number));
        Ok(Self { service, number, address, _accepting: accepting })
    }
}

async fn accept(listener: TcpListener, service: &'static str, number: u32) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let answer = service_fn(move |request: Request<Incoming>| async move {
            let body = json!({ "service": service, "endpoint": number, "path": request.uri().path() });
            let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
            response.headers_mut().insert(CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
            Ok::<_, Infallible>(response)
        });
        connections.spawn(async move {
            // The gateway closes its connections as it likes.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
        });
    }
}
