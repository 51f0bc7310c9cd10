//! `stile endpoint list|drain|restore|delete`: where a service of a running gateway is, and taking a server out of service.

use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{
    Target,
    resource::{items, say},
    table,
};
use crate::config::scalar::is_name;

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the endpoints of a service, wherever they are known from.
    List {
        /// Its name.
        service: String,
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Send one no new requests; those that it has go on to their end.
    Drain(One),
    /// Send one that is drained requests again.
    Restore(One),
    /// Take a registration away.
    Delete(One),
}

/// Which endpoint.
#[derive(Debug, Args)]
pub struct One {
    /// The name of its service.
    service: String,
    /// Its id; of one of the configuration, its address.
    id: String,
    #[command(flatten)]
    target: Target,
    /// Print the gateway's answer.
    #[arg(long)]
    json: bool,
}

pub(super) fn endpoint(command: Command) -> Result<ExitCode> {
    super::runtime()?.block_on(async {
        match command {
            Command::List { service, target, json } => list(&service, &target, json).await,
            Command::Drain(one) => one.call(Method::PUT, "/drain", "is drained").await,
            Command::Restore(one) => one.call(Method::DELETE, "/drain", "takes requests again").await,
            Command::Delete(one) => one.call(Method::DELETE, "", "is deleted").await,
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(service: &str, target: &Target, json: bool) -> Result<()> {
    let items = items(target, &place(service)?).await?;
    table::list(json, &items, &["ID", "ADDRESS", "FROM", "WEIGHT", "STATE", "IN FLIGHT", "LEFT"], row)
}

fn row(item: &Value) -> Vec<String> {
    let text = |key: &str| item[key].as_str().unwrap_or("-").to_owned();
    let state = if item["drained"] == true { "drained".to_owned() } else { text("health") };
    let (weight, in_flight) = (item["weight"].to_string(), item["in_flight"].to_string());
    vec![text("id"), text("address"), text("source"), weight, state, in_flight, text("left")]
}

fn place(service: &str) -> Result<String> {
    ensure!(is_name(service), "{service:?} is no name of a service");
    Ok(format!("/v1/services/{service}/endpoints"))
}

impl One {
    async fn call(&self, method: Method, below: &str, done: &str) -> Result<()> {
        let id = utf8_percent_encode(&self.id, NON_ALPHANUMERIC);
        let told = self.target.call(method, &format!("{}/{id}{below}", place(&self.service)?), Vec::new()).await?;
        say(self.json, &told, || format!("endpoint {} of {} {done}", self.id, self.service))
    }
}
