//! Connections of the client: sockets that give way to others, and a bound on interim responses above TLS.

use std::{
    error::Error,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connected, Connection, HttpConnector},
    rt::TokioIo,
};
use rustls::ClientConfig;
use socket2::SockRef;
use tower_service::Service;

use crate::{
    progress::{Limits, Peer},
    socket::{InterimBounded, Socket, set_up},
};

/// Interim responses to one request: the default of services.
const INTERIM_RESPONSES: u32 = 32;
/// Silence after which a host is probed: the default of services.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens connections over TCP, or over TLS where the URI asks for it.
#[derive(Debug, Clone)]
pub(super) struct Connector(HttpsConnector<Tcp>);

/// Opens connections over TCP.
#[derive(Debug, Clone)]
struct Tcp(HttpConnector);

type Opening<T> = Pin<Box<dyn Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send>>;
type Secured = TokioIo<MaybeHttpsStream<TokioIo<Socket>>>;

impl Connector {
    pub(super) fn new(config: ClientConfig) -> Self {
        let mut connector = HttpConnector::new();
        connector.enforce_http(false);
        let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1();
        Self(builder.wrap_connector(Tcp(connector)))
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<InterimBounded<Secured>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Opening<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = self.0.call(uri);
        Box::pin(async move {
            let stream = TokioIo::new(opening.await?);
            Ok(TokioIo::new(InterimBounded::new(stream, INTERIM_RESPONSES)))
        })
    }
}

impl Service<Uri> for Tcp {
    type Response = TokioIo<Socket>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Opening<Self::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let opening = self.0.call(uri);
        Box::pin(async move {
            let stream = opening.await?.into_inner();
            set_up(&SockRef::from(&stream), KEEPALIVE)?;
            Ok(TokioIo::new(Socket::to_host(stream, Arc::new(Peer::new(Limits::default())))))
        })
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

/// Each response is given the exchanges of its connection.
impl<S: Connection> Connection for InterimBounded<S> {
    fn connected(&self) -> Connected {
        self.stream().connected().extra(self.exchanges().clone())
    }
}
