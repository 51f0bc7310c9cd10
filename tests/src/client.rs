//! A well-behaved client on one connection: HTTP/1.1 with keep-alive, or HTTP/2 by prior knowledge.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::{
    body::{Body, Incoming},
    client::conn::{http1, http2},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::{net::TcpStream, task::JoinSet};

use crate::wait::soon;

/// The host of every request that names none.
pub const HOST: &str = "stile.test";

#[derive(Debug)]
pub struct Client {
    sender: Sender,
    /// Drives the connection; ends with the client.
    _driver: JoinSet<()>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Full<Bytes>>),
    Http2(http2::SendRequest<Full<Bytes>>),
}

/// A whole response.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub trailers: HeaderMap,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).await.expect("the address accepts")
    }

    pub async fn try_connect(address: SocketAddr) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { sender: Sender::Http1(sender), _driver: driven(connection) })
    }

    /// HTTP/2 by prior knowledge.
    pub async fn http2(address: SocketAddr) -> Self {
        let (sender, driver) = http2(address).await;
        Self { sender: Sender::Http2(sender), _driver: driver }
    }

    /// A second sender on the same HTTP/2 connection, which ends with the first.
    pub fn another(&self) -> Self {
        match &self.sender {
            Sender::Http2(sender) => Self { sender: Sender::Http2(sender.clone()), _driver: JoinSet::new() },
            Sender::Http1(_) => panic!("an HTTP/1.1 connection has one exchange at a time"),
        }
    }

    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(get(path)).await
    }

    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> Answer {
        soon("an answer", self.try_send(request)).await.expect("an answer")
    }

    pub async fn try_send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Answer> {
        let response = match &mut self.sender {
            Sender::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Sender::Http2(sender) => {
                sender.ready().await?;
                let (mut parts, body) = request.into_parts();
                if parts.uri.authority().is_none() {
                    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
                    parts.uri = format!("http://{HOST}{path}").parse().expect("a path makes a URI");
                    parts.headers.remove("host");
                }
                sender.send_request(Request::from_parts(parts, body)).await?
            }
        };
        Answer::read(response).await
    }
}

/// A connection of HTTP/2 by prior knowledge, for bodies of any kind, and the task that drives it.
pub async fn http2<B>(address: SocketAddr) -> (http2::SendRequest<B>, JoinSet<()>)
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let stream = TcpStream::connect(address).await.expect("the address accepts");
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2 is spoken");
    (sender, driven(connection))
}

fn driven<E: 'static>(connection: impl Future<Output = Result<(), E>> + Send + 'static) -> JoinSet<()> {
    let mut driver = JoinSet::new();
    // How a connection ended is seen by the requests on it.
    driver.spawn(async move { drop(connection.await) });
    driver
}

impl Answer {
    async fn read(response: Response<Incoming>) -> hyper::Result<Self> {
        let (parts, body) = response.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        Ok(Self { status: parts.status, headers: parts.headers, body: body.to_bytes(), trailers })
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON, null if it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The first value of a field, empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().filter_map(|value| value.to_str().ok()).collect()
    }
}

/// A request to `HOST` without a body.
pub fn get(path: &str) -> Request<Full<Bytes>> {
    with(path, &[])
}

/// The same with fields of its own.
pub fn with(path: &str, fields: &[(&str, &str)]) -> Request<Full<Bytes>> {
    request("GET", path, fields, "")
}

pub fn request(method: &str, path: &str, fields: &[(&str, &str)], body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let named = fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let mut builder = Request::builder().method(method).uri(path);
    if !named {
        builder = builder.header("host", HOST);
    }
    let builder = fields.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    builder.body(Full::new(body.into())).expect("a request that can be written")
}

/// One GET on a connection of its own.
pub async fn fetch(address: SocketAddr, path: &str) -> Answer {
    Client::connect(address).await.get(path).await
}
