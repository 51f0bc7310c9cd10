//! `stile service|route|plugin list|get|put|delete`: the resources of a running gateway, as tables for people and as the
//! Admin API tells them for programs.

use std::{
    io::{self, ErrorKind, Read, Write, stdin, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use http::Method;
use serde_json::{Value, json};

use super::{Target, table};
use crate::config::{resource::Kind, scalar::is_name};

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

pub(super) fn run(kind: Kind, command: Command) -> Result<ExitCode> {
    let done = super::runtime()?.block_on(async {
        match command {
            Command::List { target, json } => list(kind, &target, json).await,
            Command::Get { name, target } => {
                let told = target.call(Method::GET, &path(kind, &name, false)?, Vec::new()).await?;
                Ok(writeln!(stdout(), "{told:#}")?)
            }
            Command::Put { name, file, dry_run, target, json } => {
                let told = target.call(Method::PUT, &path(kind, &name, dry_run)?, read(&file)?).await?;
                say(json, &told, || format!("{} {name} {}", kind.singular(), done(&told, "is live")))
            }
            Command::Delete { name, dry_run, target, json } => {
                let told = target.call(Method::DELETE, &path(kind, &name, dry_run)?, Vec::new()).await?;
                say(json, &told, || format!("{} {name} {}", kind.singular(), done(&told, "is deleted")))
            }
        }
    });
    match done {
        // Who reads what we print has seen enough.
        Err(error) if error.downcast_ref::<io::Error>().is_some_and(|it| it.kind() == ErrorKind::BrokenPipe) => {}
        done => done?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(kind: Kind, target: &Target, json: bool) -> Result<()> {
    let mut items = Vec::new();
    let mut path = format!("/v1/{}", kind.list());
    loop {
        let mut page = target.call(Method::GET, &path, Vec::new()).await?;
        if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
            items.extend(more);
        }
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/{}?after={next}", kind.list());
    }
    if json {
        return Ok(writeln!(stdout(), "{}", json!({ "items": items }))?);
    }
    let rows: Vec<_> = items.iter().map(|item| row(kind, item)).collect();
    Ok(write!(stdout(), "{}", table::text(columns(kind), &rows))?)
}

fn columns(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Plugin => &["NAME", "FROM", "REVISION", "PHASES"],
        Kind::Service => &["NAME", "FROM", "BALANCE", "ENDPOINTS"],
        Kind::Route => &["NAME", "FROM", "HOSTS", "PATH", "FILTERS", "SERVICE"],
    }
}

fn row(kind: Kind, item: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let texts = |list: &Value, key: Option<&str>| {
        let items = list.as_array().into_iter().flatten();
        items.map(|item| text(key.map_or(item, |key| &item[key]))).collect::<Vec<_>>().join(", ")
    };
    let or = |text: String, otherwise: &str| if text.is_empty() { otherwise.to_owned() } else { text };
    let mut row = vec![text(&item["name"]), text(&item["origin"])];
    match kind {
        Kind::Plugin => {
            let revision = item["revision"].as_u64().map_or_else(|| "-".to_owned(), |revision| revision.to_string());
            row.extend([revision, or(texts(&item["phases"], None), "-")]);
        }
        Kind::Service => row.extend([text(&item["balance"]), or(texts(&item["endpoints"], Some("address")), "-")]),
        Kind::Route => row.extend([
            or(texts(&item["match"]["hosts"], None), "*"),
            item["match"]["path"].as_str().unwrap_or("*").to_owned(),
            or(texts(&item["filters"], Some("plugin")), "-"),
            text(&item["service"]),
        ]),
    }
    row
}

fn path(kind: Kind, name: &str, dry_run: bool) -> Result<String> {
    anyhow::ensure!(is_name(name), "{name:?} is no name of a {}", kind.singular());
    Ok(format!("/v1/{}/{name}{}", kind.list(), if dry_run { "?dry_run=true" } else { "" }))
}

fn done(told: &Value, otherwise: &str) -> String {
    match told["would"].as_str() {
        Some(would) => format!("would be {}d", would.trim_end_matches('d')),
        None => otherwise.to_owned(),
    }
}

fn say(json: bool, told: &Value, text: impl FnOnce() -> String) -> Result<()> {
    match (json, told) {
        (false, _) => writeln!(stdout(), "{}", text())?,
        (true, Value::Null) => writeln!(stdout(), "{{}}")?,
        (true, told) => writeln!(stdout(), "{told}")?,
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    if file == Path::new("-") {
        let mut bytes = Vec::new();
        stdin().read_to_end(&mut bytes).context("cannot read the standard input")?;
        return Ok(bytes);
    }
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
