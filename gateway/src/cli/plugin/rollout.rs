//! `stile plugin rollout` and `stile plugin revisions`: which revision runs.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use http::Method;
use serde_json::{Value, json};

use super::{
    super::{table, target},
    Target, accepted, path_of, print,
};

#[derive(Debug, Args)]
pub struct Rollout {
    /// The plugin.
    name: String,
    /// The number of the revision.
    revision: u32,
    /// How many of a hundred exchanges get it; 0 ends its trial.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    percent: u8,
    /// Let neither files nor pushes change what runs from now on.
    #[arg(long, conflicts_with = "unpin")]
    pin: bool,
    /// Let them again.
    #[arg(long)]
    unpin: bool,
    #[command(flatten)]
    target: Target,
    /// Print the gateway's answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Revisions {
    /// The plugin.
    name: String,
    #[command(flatten)]
    target: Target,
    /// Print the gateway's answer.
    #[arg(long)]
    json: bool,
}

impl Rollout {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let Self { name, revision, percent, pin, unpin, target, json } = self;
        let pin = (pin || unpin).then_some(pin);
        let wanted = json!({ "revision": revision, "percent": percent, "pin": pin }).to_string();
        let path = format!("{}/rollout", path_of(&name)?);
        let answer = target.send(Method::POST, &path, &[target::JSON], wanted.into_bytes()).await?;
        let facts = accepted(&answer, json)?;
        print(json, &facts, || told(&name, &facts));
        Ok(ExitCode::SUCCESS)
    }
}

impl Revisions {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let Self { name, target, json } = self;
        let path = format!("{}/revisions", path_of(&name)?);
        let answer = target.send(Method::GET, &path, &[target::JSON], Vec::new()).await?;
        let facts = accepted(&answer, json)?;
        print(json, &facts, || {
            let rows = facts["items"].as_array().into_iter().flatten().map(row).collect::<Vec<_>>();
            table::text(&["REVISION", "PERCENT", "EXCHANGES", "ORIGIN", "PHASES", "SHA256"], &rows)
                .trim_end()
                .to_owned()
        });
        Ok(ExitCode::SUCCESS)
    }
}

/// What a gateway has made of a revision.
pub(super) fn told(name: &str, facts: &Value) -> String {
    let revision = &facts["revision"];
    match facts["percent"].as_u64() {
        Some(100) | None => format!("{name} revision {revision} is live"),
        Some(0) => format!("{name} revision {revision} is stored, and not live"),
        Some(percent) => format!("{name} revision {revision} is for {percent} % of exchanges"),
    }
}

fn row(item: &Value) -> Vec<String> {
    let text = |key: &str| item[key].as_str().map_or_else(|| item[key].to_string(), str::to_owned);
    let phases =
        item["phases"].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    let digest: String = text("sha256").chars().take(12).collect();
    vec![text("revision"), text("percent"), text("exchanges"), text("origin"), phases, digest]
}
