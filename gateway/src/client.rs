//! A client of HTTP and HTTPS for hosts that are no services. It follows no redirect and has no time-out: that is for who calls.

use std::{error::Error, iter::successors, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client as Legacy, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// Idle connections to each host, and for how long they are kept.
const IDLE: usize = 8;
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Cheap to clone; clones share their connections.
pub type Client = Legacy<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Why an answer's body did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum Incomplete {
    #[error("it has more than {0} bytes")]
    TooLarge(usize),
    #[error("{0}")]
    Broken(String),
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
    let connector = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().build();
    Legacy::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE_TIME)
        .pool_max_idle_per_host(IDLE)
        .build(connector)
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
