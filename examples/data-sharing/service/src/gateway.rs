//! The gateway as a service sees it: its Admin API to register and to find others, and a listener to call them.

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// Cheap to clone.
#[derive(Debug, Clone)]
pub struct Gateway {
    client: Client<HttpConnector, Full<Bytes>>,
    /// Such as `http://127.0.0.1:9090`.
    admin: String,
    /// Where services are called by name.
    calls: String,
    token: String,
}

impl Gateway {
    pub fn new(admin: &str, calls: &str, token: &str) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, admin: admin.to_owned(), calls: calls.to_owned(), token: token.to_owned() }
    }

    pub(crate) async fn register(&self, service: &str, id: &str, announcement: &Value) -> Result<()> {
        let path = format!("/v1/services/{service}/endpoints/{id}");
        let (status, told) = self.ask(Method::PUT, &path, announcement.to_string()).await?;
        ensure!(status.is_success(), "the gateway does not take {id}: {told}");
        Ok(())
    }

    /// False if it does not know us.
    pub(crate) async fn heartbeat(&self, service: &str, id: &str) -> Result<bool> {
        let path = format!("/v1/services/{service}/endpoints/{id}/heartbeat");
        Ok(self.ask(Method::POST, &path, String::new()).await?.0.is_success())
    }

    pub(crate) async fn deregister(&self, service: &str, id: &str) -> Result<()> {
        let path = format!("/v1/services/{service}/endpoints/{id}");
        self.ask(Method::DELETE, &path, String::new()).await.map(drop)
    }

    /// The next endpoint of a service.
    pub(crate) async fn discover(&self, service: &str) -> Result<Value> {
        let (status, told) = self.ask(Method::GET, &format!("/v1/services/{service}/discover"), String::new()).await?;
        ensure!(status.is_success(), "the gateway does not find {service}: {told}");
        Ok(told)
    }

    /// Asks a service by its name, whichever of its endpoints answers.
    pub(crate) async fn call(&self, service: &str, path: &str) -> Result<Value> {
        let request = Request::get(format!("{}/call/{service}{path}", self.calls)).body(Full::default())?;
        let (status, told) = self.send(request).await?;
        ensure!(status.is_success(), "{service} answers {status} to {path}: {told}");
        Ok(told)
    }

    async fn ask(&self, method: Method, path: &str, body: String) -> Result<(StatusCode, Value)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.admin))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .header(CONTENT_TYPE, "application/json");
        self.send(request.body(Full::from(body))?).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<(StatusCode, Value)> {
        let uri = request.uri().to_string();
        let response = self.client.request(request).await.with_context(|| format!("nobody answers at {uri}"))?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        Ok((status, if body.is_empty() { Value::Null } else { serde_json::from_slice(&body)? }))
    }
}
