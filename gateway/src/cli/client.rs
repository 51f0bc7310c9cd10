//! A small HTTP client for commands that speak to a gateway: one connection, one request, one answer.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Uri, header::HOST};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Longest answer read, in bytes.
const MAX_ANSWER: usize = 64 << 20;

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A field's value, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// Sends one request to `http://HOST:PORT/…`.
pub async fn send(method: Method, url: &str, headers: &[(&str, &str)], body: Bytes) -> Result<Answer> {
    let uri = url.parse().ok().filter(|uri: &Uri| uri.scheme_str() == Some("http"));
    let uri = uri.with_context(|| format!("{url:?} is not a URL such as http://127.0.0.1:9090"))?;
    let authority = uri.authority().with_context(|| format!("\"{url}\" names no host"))?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((authority.host().trim_matches(['[', ']']), port))
        .await
        .with_context(|| format!("cannot find {authority}"))?
        .collect();
    let stream = TcpStream::connect(&addresses[..]).await.with_context(|| format!("cannot connect to {authority}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::builder().method(method).uri(target).header(HOST, authority.as_str());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body))?;
    let exchange = async move {
        let response = sender.send_request(request).await?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_ANSWER).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        Ok::<_, anyhow::Error>(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
    };
    // A gateway that refuses a body may close the connection before it is sent: the answer is what counts.
    let (answer, _) = tokio::join!(exchange, connection);
    answer.with_context(|| format!("no answer from {authority}"))
}
