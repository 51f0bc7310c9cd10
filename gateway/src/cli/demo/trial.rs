//! `stile demo --check`: does what the demo suggests, over the real sockets, and says what came of it.

use std::{collections::BTreeSet, fs};

use anyhow::{Result, ensure};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::{ADMIN_TOKEN, CLIENT_TOKEN, Demo};
use crate::cli::client::{Answer, send};

/// Prints a line for each result; true if all are as they should be.
pub(super) async fn run(demo: &Demo) -> bool {
    let results = [
        ("refused", refused(demo).await),
        ("allowed", allowed(demo).await),
        ("balanced", balanced(demo).await),
        ("swapped", swapped(demo).await),
    ];
    for (name, result) in &results {
        match result {
            Ok(seen) => println!("ok      {name}: {seen}"),
            Err(error) => println!("FAILED  {name}: {error:#}"),
        }
    }
    results.iter().all(|(_, result)| result.is_ok())
}

async fn refused(demo: &Demo) -> Result<String> {
    let answer = get(demo, "/users/1", &[]).await?;
    ensure!(answer.status == StatusCode::UNAUTHORIZED, "without a token the answer is {}", answer.status);
    Ok(format!("without a token the answer is {}", answer.status))
}

async fn allowed(demo: &Demo) -> Result<String> {
    let answer = with_token(demo).await?;
    ensure!(answer.status == StatusCode::OK, "with a token the answer is {}", answer.status);
    ensure!(answer.header("x-greeting") == "hello, users", "the greeting is \"{}\"", answer.header("x-greeting"));
    Ok(format!("with a token {}, and the plugin says \"{}\"", answer.status, answer.header("x-greeting")))
}

async fn balanced(demo: &Demo) -> Result<String> {
    let endpoints = demo.services.iter().filter(|sample| sample.service == "orders").count();
    let mut seen = BTreeSet::new();
    for _ in 0..endpoints {
        let answer: Value = serde_json::from_slice(&get(demo, "/orders/7", &[]).await?.body)?;
        seen.insert(answer["endpoint"].as_u64());
    }
    ensure!(seen.len() == endpoints, "{endpoints} calls reached {} of {endpoints} endpoints", seen.len());
    Ok(format!("{endpoints} calls reached {endpoints} endpoints"))
}

async fn swapped(demo: &Demo) -> Result<String> {
    let url = format!("http://{}/v1/plugins/greeting/revisions", demo.admin);
    let authorization = format!("Bearer {ADMIN_TOKEN}");
    let pushed = send(Method::PUT, &url, &[("authorization", &authorization)], fs::read(&demo.second)?.into()).await?;
    ensure!(pushed.status == StatusCode::CREATED, "the push was answered {}: {}", pushed.status, pushed.text());
    let answer = with_token(demo).await?;
    let greeting = answer.header("x-greeting");
    ensure!(greeting == "hello again, users", "after the push the greeting is \"{greeting}\"");
    let revision: Value = serde_json::from_slice(&pushed.body)?;
    Ok(format!("revision {} is live, and the plugin says \"{greeting}\"", revision["revision"]))
}

async fn with_token(demo: &Demo) -> Result<Answer> {
    let authorization = format!("Bearer {CLIENT_TOKEN}");
    get(demo, "/users/1", &[("authorization", &authorization)]).await
}

async fn get(demo: &Demo, path: &str, headers: &[(&str, &str)]) -> Result<Answer> {
    send(Method::GET, &format!("http://{}{path}", demo.public), headers, Bytes::new()).await
}
