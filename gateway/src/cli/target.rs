//! A running gateway, as commands that speak to its Admin API reach it.

use anyhow::{Result, bail};
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::client::{self, Answer};

/// The body is JSON.
pub(super) const JSON: (&str, &str) = ("content-type", "application/json");

/// How to reach a running gateway.
#[derive(Debug, Args)]
pub struct Target {
    /// The gateway's admin address.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9090")]
    admin: String,
    /// An admin token.
    #[arg(long, env = "STILE_TOKEN", hide_env_values = true, value_name = "TOKEN",
        value_parser = clap::builder::NonEmptyStringValueParser::new())]
    token: String,
}

impl Target {
    /// Makes one call and gives its answer, null if that is empty.
    ///
    /// # Errors
    ///
    /// The gateway cannot be reached, or it refuses, with its reasons.
    pub(super) async fn call(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value> {
        let answer = self.send(method, path, &[JSON], body).await?;
        let told = told(&answer);
        if answer.status.is_success() {
            return Ok(told);
        }
        bail!(
            "the gateway refused it ({}): {}",
            answer.status.as_u16(),
            told["detail"].as_str().unwrap_or("no reason given")
        )
    }

    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer> {
        let url = format!("{}{path}", self.admin.trim_end_matches('/'));
        let authorization = format!("Bearer {}", self.token);
        let headers = [headers, &[("authorization", authorization.as_str())]].concat();
        client::send(method, &url, &headers, body.into()).await
    }
}

/// What an answer holds; what is no JSON is a detail.
pub(super) fn told(answer: &Answer) -> Value {
    if answer.body.is_empty() {
        return Value::Null;
    }
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| json!({ "detail": answer.text() }))
}
