//! A client of HTTP and HTTPS for hosts that are no services. It follows no redirect and has no time-out: callers have theirs.

mod connect;

use std::{
    error::Error,
    iter::successors,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::Client as Legacy,
    rt::{TokioExecutor, TokioTimer},
};

use self::connect::Connector;
use crate::socket::Exchanges;

/// Idle connections to each host, and for how long they are kept.
const IDLE: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Cheap to clone; clones share their connections.
#[derive(Debug, Clone)]
pub struct Client(Legacy<Connector, Full<Bytes>>);

/// The body of a host's response.
#[derive(Debug)]
pub struct HostBody {
    incoming: Incoming,
    /// The exchanges of its connection.
    exchanges: Option<Exchanges>,
}

/// Why an answer's body did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Broken(String),
}

impl Client {
    pub async fn request(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<HostBody>, hyper_util::client::legacy::Error> {
        let mut response = self.0.request(request).await?;
        let exchanges = response.extensions_mut().remove::<Exchanges>();
        Ok(response.map(|incoming| HostBody { incoming, exchanges }))
    }
}

impl Body for HostBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.incoming).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for HostBody {
    /// The client's pool does not show when a request is sent on a connection, so the next exchange begins with the end of this
    /// one.
    fn drop(&mut self) {
        if let Some(exchanges) = &self.exchanges {
            exchanges.begin();
        }
    }
}

/// The certificates that are trusted are those of the machine, or of the file that `SSL_CERT_FILE` names. Reading them takes
/// some milliseconds.
pub fn client() -> Client {
    let roots = rustls_native_certs::load_native_certs();
    let mut trusted = rustls::RootCertStore::empty();
    let (good, bad) = trusted.add_parsable_certificates(roots.certs);
    tracing::debug!(good, bad, "certificates of the machine that are trusted");
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the default provider has the default versions")
        .with_root_certificates(trusted)
        .with_no_client_auth();
    let client = Legacy::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE)
        .build(Connector::new(config));
    Client(client)
}

/// Reads a body of at most so many bytes.
pub async fn collect<B>(body: B, most: usize) -> Result<Bytes, Incomplete>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>>,
{
    let collected = Limited::new(body, most).collect().await;
    collected.map(|body| body.to_bytes()).map_err(|error| match error.is::<LengthLimitError>() {
        true => Incomplete::TooLarge(most),
        false => Incomplete::Broken(causes(&*error)),
    })
}

/// An error with all that it came from.
pub fn causes(error: &dyn Error) -> String {
    let first = error.to_string();
    successors(error.source(), |cause| Error::source(*cause)).fold(first, |text, cause| format!("{text}: {cause}"))
}
