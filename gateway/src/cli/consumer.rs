//! `stile consumer …`: those who call a gateway, as resources, and what they prove with who they are.

use std::{path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Args, Subcommand, ValueEnum};
use http::Method;
use serde_json::{Value, json};

use super::{
    Target, grant,
    resource::{self, Noun, items, path, read, say},
    table,
};
use crate::config::{
    scalar::is_name,
    words::{did_you_mean, nearest},
};

#[derive(Debug, Subcommand)]
pub enum Command {
    #[command(flatten)]
    Resource(resource::Command),
    /// List, add, rotate and delete the credentials of a consumer.
    #[command(subcommand)]
    Credential(Credential),
    /// List, make and delete the grants of a consumer.
    #[command(subcommand)]
    Grant(grant::Command),
}

#[derive(Debug, Subcommand)]
pub enum Credential {
    /// List them, without anything secret.
    List {
        /// The consumer's name.
        consumer: String,
        #[command(flatten)]
        target: Target,
        /// Print `{"items":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Give a consumer one more. What is secret of it is printed this once, where the gateway makes it.
    Add(Add),
    /// Make a new secret in the place of one that ends.
    Rotate {
        /// The consumer's name.
        consumer: String,
        /// Which of its credentials.
        id: String,
        /// How long the old secret goes on, such as 24h.
        #[arg(long, default_value = "0s")]
        overlap: String,
        #[command(flatten)]
        target: Target,
        /// Print the gateway's answer.
        #[arg(long)]
        json: bool,
    },
    /// Take one away.
    Delete {
        /// The consumer's name.
        consumer: String,
        /// Which of its credentials.
        id: String,
        #[command(flatten)]
        target: Target,
        /// Print the gateway's answer.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct Add {
    /// The consumer's name.
    consumer: String,
    /// What is presented.
    #[arg(long = "type", value_enum, default_value_t = Type::ApiKey)]
    kind: Type,
    /// What it is called; without it the gateway finds a name.
    #[arg(long)]
    id: Option<String>,
    /// When it ends, such as 2030-01-01T00:00:00Z.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// Of basic: the name.
    #[arg(long)]
    username: Option<String>,
    /// Of hmac: what names the secret.
    #[arg(long)]
    key_id: Option<String>,
    /// Of jwt: who issues the tokens.
    #[arg(long)]
    issuer: Option<String>,
    /// Of jwt and certificate: whom they name.
    #[arg(long)]
    subject: Option<String>,
    /// A file with the key, the secret or the password on its first line; `-` reads the standard input.
    #[arg(long, value_name = "FILE")]
    secret_from: Option<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Print the gateway's answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Type {
    ApiKey,
    Basic,
    Hmac,
    Jwt,
    Certificate,
}

/// Notes groups of a consumer that nobody else is in and that may use nothing, where the name of another is like it.
pub(super) async fn note_strays(target: &Target, consumer: &Value) {
    let named: Vec<&str> = consumer["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if named.is_empty() {
        return;
    }
    // The consumer is what it was to be, whether this can be told or not.
    let Ok(groups) = items(target, "/v1/groups").await else { return };
    let (strays, known): (Vec<_>, Vec<_>) = groups.into_iter().partition(is_stray);
    let known = || known.iter().filter_map(|group| group["name"].as_str());
    for stray in strays.iter().filter_map(|group| group["name"].as_str()).filter(|stray| named.contains(stray)) {
        if let Some(meant) = nearest(stray, known()) {
            eprintln!("note: nobody else is in group {stray:?}, and nothing is granted to it{}", did_you_mean(meant));
        }
    }
}

fn is_stray(group: &Value) -> bool {
    group["consumers"] == 1 && group["grants"] == 0
}

pub(super) fn consumer(command: Command) -> Result<ExitCode> {
    let command = match command {
        Command::Resource(command) => return resource::run(Noun::Consumer, command),
        Command::Grant(command) => return grant::grant("consumers", command),
        Command::Credential(command) => command,
    };
    super::runtime()?.block_on(async {
        match command {
            Credential::List { consumer, target, json } => list(&consumer, &target, json).await,
            Credential::Add(add) => {
                let told = add.target.call(Method::POST, &place(&add.consumer, None)?, add.body()?).await?;
                say(add.json, &told, || made(&told))
            }
            Credential::Rotate { consumer, id, overlap, target, json } => {
                let (place, body) = (format!("{}/rotate", place(&consumer, Some(&id))?), json!({ "overlap": overlap }));
                let told = target.call(Method::POST, &place, body.to_string().into_bytes()).await?;
                say(json, &told, || made(&told))
            }
            Credential::Delete { consumer, id, target, json } => {
                let told = target.call(Method::DELETE, &place(&consumer, Some(&id))?, Vec::new()).await?;
                say(json, &told, || format!("credential {id} of {consumer} is deleted"))
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}

async fn list(consumer: &str, target: &Target, json: bool) -> Result<()> {
    let items = items(target, &place(consumer, None)?).await?;
    let text = |item: &Value, key: &str| item[key].as_str().unwrap_or("-").to_owned();
    let shown = |item: &Value| {
        let names = ["username", "key_id", "issuer", "subject"];
        let shown = names.into_iter().filter_map(|name| Some(format!("{name}={}", item[name].as_str()?)));
        shown.collect::<Vec<_>>().join(" ")
    };
    let row = |item: &Value| {
        vec![text(item, "id"), text(item, "type"), text(item, "created"), text(item, "expires"), shown(item)]
    };
    table::list(json, &items, &["ID", "TYPE", "CREATED", "EXPIRES", "FOR"], row)
}

impl Add {
    fn body(&self) -> Result<Vec<u8>> {
        let kind = self.kind.to_possible_value().map(|kind| kind.get_name().to_owned());
        let mut body = json!({ "type": kind });
        let named = [
            ("id", &self.id),
            ("expires", &self.expires),
            ("username", &self.username),
            ("key_id", &self.key_id),
            ("issuer", &self.issuer),
            ("subject", &self.subject),
        ];
        for (key, value) in named {
            if let Some(value) = value {
                body[key] = value.as_str().into();
            }
        }
        if let Some(file) = &self.secret_from {
            let key = match self.kind {
                Type::ApiKey => "key",
                Type::Basic => "password",
                Type::Hmac => "secret",
                Type::Jwt | Type::Certificate => anyhow::bail!("a credential of this type has no secret"),
            };
            let text = String::from_utf8(read(file)?).context("the secret is no UTF-8 text")?;
            body[key] = text.lines().next().unwrap_or_default().into();
        }
        Ok(body.to_string().into_bytes())
    }
}

fn made(told: &Value) -> String {
    let id = told["id"].as_str().unwrap_or_default();
    match told["secret"].as_str() {
        Some(secret) => format!("credential {id} is live; its secret, told this once:\n{secret}"),
        None => format!("credential {id} is live"),
    }
}

fn place(consumer: &str, id: Option<&str>) -> Result<String> {
    let list = format!("{}/credentials", path(Noun::Consumer, consumer, false)?);
    let Some(id) = id else { return Ok(list) };
    anyhow::ensure!(is_name(id), "{id:?} is no name of a credential");
    Ok(format!("{list}/{id}"))
}
