//! `stile consumer grant …` and `stile group grant …`: which versions of APIs they may use, and how often.

use std::{process::ExitCode, str::FromStr};

use anyhow::{Result, ensure};
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use super::{
    Target,
    resource::{items, say},
    table,
};
use crate::{config::scalar::is_name, control::grants::EACH};

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them.
    List {
        /// Whose they are.
        name: String,
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Make or change one: what is not said is not limited.
    Put(Put),
    /// Take one away.
    Delete {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        target: Target,
        /// Print the gateway's answer.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Group {
    /// List those that have grants or consumers.
    List {
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// List, make and delete the grants of a group.
    #[command(subcommand)]
    Grant(Command),
}

/// Which grant.
#[derive(Debug, Args)]
pub struct Of {
    /// Whose it is.
    name: String,
    /// The API.
    api: String,
    /// One version of it; without it, each.
    #[arg(long)]
    version: Option<String>,
}

#[derive(Debug, Args)]
pub struct Put {
    #[command(flatten)]
    of: Of,
    /// A scope that it allows; may be there several times.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// How many requests in each second, minute, day or month, such as minute=60; may be there several times.
    #[arg(long = "quota", value_name = "WINDOW=NUMBER")]
    quotas: Vec<Quota>,
    #[command(flatten)]
    target: Target,
    /// Print the gateway's answer.
    #[arg(long)]
    json: bool,
}

/// A number of requests in each of such windows.
#[derive(Debug, Clone)]
pub struct Quota {
    window: String,
    requests: u32,
}

impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not one of second, minute, day and month with a number, such as minute=60");
        let (window, requests) = text.split_once('=').ok_or_else(wrong)?;
        let is_window = ["second", "minute", "day", "month"].contains(&window);
        let requests = requests.parse().ok().filter(|_| is_window).ok_or_else(wrong)?;
        Ok(Self { window: window.to_owned(), requests })
    }
}

/// `holders` is a part of a path of the Admin API: `consumers` or `groups`.
pub(super) fn grant(holders: &str, command: Command) -> Result<ExitCode> {
    super::runtime()?.block_on(async {
        match command {
            Command::List { name, target, json } => list(&place(holders, &name)?, &target, json).await,
            Command::Put(put) => {
                let (place, body) = (put.of.place(holders)?, put.body()?.to_string());
                let told = put.target.call(Method::PUT, &place, body.into_bytes()).await?;
                say(put.json, &told, || format!("{} may use {}", put.of.name, put.of.named()))
            }
            Command::Delete { of, target, json } => {
                let told = target.call(Method::DELETE, &of.place(holders)?, Vec::new()).await?;
                say(json, &told, || format!("the grant of {} for {} is deleted", of.name, of.named()))
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn group(command: Group) -> Result<ExitCode> {
    let (target, json) = match command {
        Group::Grant(command) => return grant("groups", command),
        Group::List { target, json } => (target, json),
    };
    let items = super::runtime()?.block_on(items(&target, "/v1/groups"))?;
    let row = |item: &Value| {
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        vec![name, item["consumers"].to_string(), item["grants"].to_string()]
    };
    table::list(json, &items, &["NAME", "CONSUMERS", "GRANTS"], row)?;
    Ok(ExitCode::SUCCESS)
}

async fn list(place: &str, target: &Target, json: bool) -> Result<()> {
    table::list(json, &items(target, place).await?, &["API", "VERSION", "SCOPES", "QUOTAS"], row)
}

fn row(item: &Value) -> Vec<String> {
    let text = |key: &str| item[key].as_str().unwrap_or(EACH).to_owned();
    let scopes = item["scopes"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let quotas = item["quotas"].as_object().into_iter().flatten().filter(|(_, most)| !most.is_null());
    vec![
        text("api"),
        text("version"),
        scopes.collect::<Vec<_>>().join(", "),
        quotas.map(|(window, most)| format!("{window}={most}")).collect::<Vec<_>>().join(" "),
    ]
}

impl Put {
    fn body(&self) -> Result<Value> {
        let mut quotas = Map::new();
        for Quota { window, requests } in &self.quotas {
            let before = quotas.insert(window.clone(), (*requests).into());
            ensure!(before.is_none(), "--quota has {window} twice");
        }
        Ok(json!({ "scopes": self.scopes, "quotas": quotas }))
    }
}

impl Of {
    fn place(&self, holders: &str) -> Result<String> {
        let version = self.version.as_deref().unwrap_or(EACH);
        ensure!(is_name(&self.api), "{:?} is no name of an API", self.api);
        ensure!(version == EACH || is_name(version), "{version:?} is no name of a version");
        Ok(format!("{}/{}/{version}", place(holders, &self.name)?, self.api))
    }

    fn named(&self) -> String {
        match &self.version {
            Some(version) => format!("version {version} of {}", self.api),
            None => format!("each version of {}", self.api),
        }
    }
}

fn place(holders: &str, name: &str) -> Result<String> {
    ensure!(is_name(name), "{name:?} is no name of one of the {holders}");
    Ok(format!("/v1/{holders}/{name}/grants"))
}
