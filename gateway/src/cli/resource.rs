//! `stile service|route|plugin|consumer list|get|put|delete`: the resources of a running gateway, as tables for people and as the
//! Admin API tells them for programs.

use std::{
    io::{Read, stdin},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use super::{Target, consumer, table};
use crate::config::{self, scalar::is_name};

/// What a command is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    Plugin,
    Service,
    Route,
    Api,
    Consumer,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// List them all.
    List {
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Print one, in the form that `put` takes.
    Get {
        /// Its name.
        name: String,
        #[command(flatten)]
        target: Target,
    },
    /// Make or change one.
    Put {
        /// Its name.
        name: String,
        /// A file with it in YAML or JSON, in the form of the configuration file; `-` reads the standard input.
        file: PathBuf,
        /// Only say what would come of it.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
        /// Print the gateway's answer.
        #[arg(long)]
        json: bool,
    },
    /// Delete one.
    Delete {
        /// Its name.
        name: String,
        /// Only say what would come of it.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        target: Target,
        /// Print the gateway's answer.
        #[arg(long)]
        json: bool,
    },
}

impl Noun {
    /// Their part of a path of the Admin API.
    fn list(self) -> &'static str {
        match self {
            Self::Plugin => "plugins",
            Self::Service => "services",
            Self::Route => "routes",
            Self::Api => "apis",
            Self::Consumer => "consumers",
        }
    }

    fn singular(self) -> &'static str {
        self.list().trim_end_matches('s')
    }
}

pub(super) fn run(noun: Noun, command: Command) -> Result<ExitCode> {
    super::runtime()?.block_on(async {
        match command {
            Command::List { target, json } => list(noun, &target, json).await,
            Command::Get { name, target } => {
                let told = target.call(Method::GET, &path(noun, &name, false)?, Vec::new()).await?;
                super::print(&format!("{told:#}\n"))
            }
            Command::Put { name, file, dry_run, target, json } => {
                let told = target.call(Method::PUT, &path(noun, &name, dry_run)?, body(noun, &file)?).await?;
                say(json, &told, || format!("{} {name} {}", noun.singular(), done(&told, "is live")))?;
                if noun == Noun::Consumer {
                    consumer::note_strays(&target, &told).await;
                }
                Ok(())
            }
            Command::Delete { name, dry_run, target, json } => {
                let told = target.call(Method::DELETE, &path(noun, &name, dry_run)?, Vec::new()).await?;
                say(json, &told, || format!("{} {name} {}", noun.singular(), done(&told, "is deleted")))
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(noun: Noun, target: &Target, json: bool) -> Result<()> {
    let items = items(target, &format!("/v1/{}", noun.list())).await?;
    table::list(json, &items, columns(noun), |item| row(noun, item))
}

/// Everything that a list has, page by page.
pub(super) async fn items(target: &Target, path: &str) -> Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut page = path.to_owned();
    loop {
        let mut told = target.call(Method::GET, &page, Vec::new()).await?;
        if let Some(Value::Array(more)) = told.get_mut("items").map(Value::take) {
            items.extend(more);
        }
        let Some(next) = told["next"].as_str() else { return Ok(items) };
        let and = if path.contains('?') { '&' } else { '?' };
        page = format!("{path}{and}after={}", utf8_percent_encode(next, NON_ALPHANUMERIC));
    }
}

fn columns(noun: Noun) -> &'static [&'static str] {
    match noun {
        Noun::Plugin => &["NAME", "FROM", "REVISION", "PHASES"],
        Noun::Service => &["NAME", "FROM", "BALANCE", "ENDPOINTS"],
        Noun::Route => &["NAME", "FROM", "HOSTS", "PATH", "FILTERS", "SERVICE"],
        Noun::Api => &["NAME", "FROM", "VERSIONS"],
        Noun::Consumer => &["NAME", "FROM", "GROUPS"],
    }
}

fn row(noun: Noun, item: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let texts = |list: &Value, key: Option<&str>| {
        let items = list.as_array().into_iter().flatten();
        items.map(|item| text(key.map_or(item, |key| &item[key]))).collect::<Vec<_>>().join(", ")
    };
    let or = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text };
    let mut row = vec![text(&item["name"]), text(&item["origin"])];
    match noun {
        Noun::Plugin => {
            let revision = item["revision"].as_u64().map_or_else(|| "-".to_owned(), |revision| revision.to_string());
            row.extend([revision, or(texts(&item["phases"], None), "-")]);
        }
        Noun::Service => row.extend([text(&item["balance"]), or(texts(&item["endpoints"], Some("address")), "-")]),
        Noun::Route => row.extend([
            or(texts(&item["match"]["hosts"], None), "*"),
            item["match"]["path"].as_str().unwrap_or("*").to_owned(),
            or(texts(&item["filters"], Some("plugin")), "-"),
            text(&item["service"]),
        ]),
        Noun::Api => {
            let versions = item["versions"].as_array().into_iter().flatten();
            let told = versions.map(|it| format!("{} {}", text(&it["name"]), text(&it["state"])));
            row.push(or(told.collect::<Vec<_>>().join(", "), "-"));
        }
        Noun::Consumer => row.push(or(texts(&item["groups"], None), "-")),
    }
    row
}

pub(super) fn path(noun: Noun, name: &str, dry_run: bool) -> Result<String> {
    let kind = if noun == Noun::Api { "an API" } else { &format!("a {}", noun.singular()) };
    anyhow::ensure!(is_name(name), "{name:?} is no name of {kind}");
    Ok(format!("/v1/{}/{name}{}", noun.list(), if dry_run { "?dry_run=true" } else { "" }))
}

fn done(told: &Value, otherwise: &str) -> String {
    match told["would"].as_str() {
        Some(would) => format!("would be {}d", would.trim_end_matches('d')),
        None => otherwise.to_owned(),
    }
}

pub(super) fn say(json: bool, told: &Value, text: impl FnOnce() -> String) -> Result<()> {
    super::print(&match (json, told) {
        (false, _) => format!("{}\n", text()),
        (true, Value::Null) => "{}\n".to_owned(),
        (true, told) => format!("{told}\n"),
    })
}

/// What a file holds, as the Admin API takes it: resources as they are written, so that mistakes are told by their place.
fn body(noun: Noun, file: &Path) -> Result<Vec<u8>> {
    let text = read(file)?;
    if noun != Noun::Consumer {
        return Ok(text);
    }
    let text = String::from_utf8(text).context("the file is no UTF-8 text")?;
    Ok(config::plain(file, &text)?.to_string().into_bytes())
}

pub(super) fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        stdin().read_to_end(&mut bytes).context("cannot read the standard input")?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
