//! The Admin API from a client's side.

use std::net::SocketAddr;

use bytes::Bytes;
use serde_json::Value;

use tokio::net::TcpStream;

use crate::{
    client::{Answer, Client, request},
    raw::Raw,
    wire::Wire,
};

/// The secret of the token `ops` that every gateway of the harness has.
pub const SECRET: &str = "secret-of-the-harness";
/// That of `viewer`, who may only read.
pub const VIEWER: &str = "secret-of-the-viewer";
/// That of `publisher`.
pub const PUBLISHER: &str = "secret-of-the-publisher";
/// That of `service`, which speaks for the service `echo` and may find `other`.
pub const SERVICE: &str = "secret-of-the-service";

/// An admin address, called with the token of an admin.
#[derive(Debug, Clone, Copy)]
pub struct Admin(pub SocketAddr);

impl Admin {
    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, Some(SECRET), "").await
    }

    pub async fn call(&self, method: &str, path: &str, secret: Option<&str>, body: impl Into<Bytes>) -> Answer {
        let bearer = secret.map(|secret| format!("Bearer {secret}"));
        let mut fields = vec![("content-type", "application/json")];
        fields.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        Client::connect(self.0).await.send(request(method, path, &fields, body)).await
    }

    /// PUT, DELETE and the like of JSON, as an admin.
    pub async fn send(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.call(method, path, Some(SECRET), body).await
    }

    /// The same with further header fields.
    pub async fn send_with(&self, method: &str, path: &str, fields: &[(&str, &str)], body: Value) -> Answer {
        let bearer = format!("Bearer {SECRET}");
        let fields = [&[("authorization", bearer.as_str())], fields].concat();
        let body = if body.is_null() { String::new() } else { body.to_string() };
        Client::connect(self.0).await.send(request(method, path, &fields, body)).await
    }

    /// The status of a call; none if the gateway is gone before it has answered.
    pub async fn try_call(&self, method: &str, path: &str, body: &str) -> Option<u16> {
        let mut raw = Raw(Wire::new(TcpStream::connect(self.0).await.ok()?));
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: admin\r\nauthorization: Bearer {SECRET}\r\n");
        raw.try_write(format!("{head}content-length: {length}\r\n\r\n{body}")).await.ok()?;
        Some(raw.try_answer_to(method).await.ok()??.status())
    }

    pub async fn push(&self, plugin: &str, module: impl Into<Bytes>) -> Answer {
        self.call("PUT", &format!("/v1/plugins/{plugin}/revisions"), Some(SECRET), module).await
    }

    pub async fn status(&self) -> Value {
        self.get("/v1/status").await.json()
    }

    pub async fn generation(&self) -> u64 {
        self.status().await["generation"].as_u64().expect("the status has a generation")
    }

    /// The value of one line of `/metrics`, 0 if it is not there.
    pub async fn metric(&self, line: &str) -> u64 {
        let text = self.get("/metrics").await.text();
        let value = text.lines().find_map(|each| each.strip_prefix(line)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0)
    }
}
