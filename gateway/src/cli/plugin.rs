//! `stile plugin …`: the life of a plugin from a folder to a running gateway.

pub mod build;
pub mod new;
mod push;
mod rollout;
mod sign;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Subcommand;
use serde_json::{Value, json};

use super::{Target, client, resource, target};
use crate::{
    config::scalar::is_name,
    plugin::{Bounds, Engine, Module},
};

/// The contract. The first of its files names the package.
const CONTRACT: [&str; 4] = [
    include_str!("../../../plugin-sdk/wit/exchange.wit"),
    include_str!("../../../plugin-sdk/wit/host.wit"),
    include_str!("../../../plugin-sdk/wit/phases.wit"),
    include_str!("../../../plugin-sdk/wit/worlds.wit"),
];

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a new plugin into a folder of its name.
    New {
        /// Its name: lower-case letters, digits and "-".
        name: String,
        /// What it is for.
        #[arg(long, value_enum, default_value_t)]
        kind: new::Kind,
        /// The folder of stile-sdk, or the URL of a git repository with it. Without it: that of the checkout of Stile around this
        /// folder, or else of the project's repository.
        #[arg(long)]
        sdk: Option<String>,
    },
    /// Build the plugin in a folder to WebAssembly.
    Build {
        /// The folder with its Cargo.toml.
        #[arg(default_value = ".")]
        dir: PathBuf,
        /// Print `{"file":…,"bytes":…}` for each.
        #[arg(long)]
        json: bool,
    },
    /// Print the contract between gateway and plugins, for languages without an SDK: one package of WIT.
    Wit,
    /// Say whether a module would load, its phases and its imports.
    Check {
        /// The .wasm file.
        file: PathBuf,
        /// Print `{"sha256":…,"bytes":…,"phases":[…],"imports":[…]}`.
        #[arg(long)]
        json: bool,
    },
    /// Make a key that modules are signed with.
    Keygen(sign::Keygen),
    /// Sign a module.
    Sign(sign::Sign),
    /// Make a module the newest revision of a plugin in a running gateway.
    Push(push::Push),
    /// Say which revision of a plugin is live in a running gateway.
    Rollout(rollout::Rollout),
    /// List the revisions of a plugin, what runs, and how many exchanges are on each.
    Revisions(rollout::Revisions),
    #[command(flatten)]
    Resource(resource::Command),
}

pub(super) fn plugin(command: Command) -> Result<ExitCode> {
    match command {
        Command::Resource(command) => return resource::run(resource::Noun::Plugin, command),
        Command::New { name, kind, sdk } => {
            let made = new::new(Path::new("."), &name, kind, sdk.as_deref())?;
            println!("made {} with stile-sdk of {}; try `stile plugin build {name}`", made.folder.display(), made.sdk);
        }
        Command::Wit => print!("{}", CONTRACT.concat()),
        Command::Build { dir, json } => {
            let built = build::build(&dir, &|line| eprintln!("{line}"))?;
            for built in built {
                let facts = json!({ "file": built.path, "bytes": built.bytes });
                print(json, &facts, || format!("{} ({} KiB)", built.path.display(), built.bytes.div_ceil(1024)));
            }
        }
        Command::Check { file, json } => check(&file, json)?,
        Command::Push(push) => return super::runtime()?.block_on(push.run()),
        Command::Keygen(keygen) => return keygen.run(),
        Command::Sign(sign) => return sign.run(),
        Command::Rollout(rollout) => return super::runtime()?.block_on(rollout.run()),
        Command::Revisions(revisions) => return super::runtime()?.block_on(revisions.run()),
    }
    Ok(ExitCode::SUCCESS)
}

fn check(file: &Path, json: bool) -> Result<()> {
    let bytes = read(file)?;
    // It makes no instance; this is room enough for any component.
    let bounds = Bounds::default();
    let engine = Engine::new(Bounds { instances: bounds.core_instances, ..bounds })?;
    let module = Module::compile(&engine, &bytes).with_context(|| file.display().to_string())?;
    let facts = json!({
        "sha256": module.sha256().to_string(),
        "bytes": bytes.len(),
        "phases": module.phases(),
        "imports": module.imports(),
    });
    print(json, &facts, || {
        let (phases, imports) = (module.phases().join(", "), module.imports().join("\n         "));
        format!("sha256   {}\nphases   {phases}\nimports  {imports}", module.sha256())
    });
    Ok(())
}

fn path_of(name: &str) -> Result<String> {
    anyhow::ensure!(is_name(name), "{name:?} is no name of a plugin");
    Ok(format!("/v1/plugins/{name}"))
}

/// What a gateway tells that has done what it was asked for.
fn accepted(answer: &client::Answer, json: bool) -> Result<Value> {
    let facts = target::told(answer);
    if !answer.status.is_success() {
        if json {
            println!("{facts}");
        }
        let detail = facts["detail"].as_str().unwrap_or("no reason given");
        anyhow::bail!("the gateway refused it ({}): {detail}", answer.status.as_u16());
    }
    Ok(facts)
}

fn print(json: bool, facts: &Value, text: impl FnOnce() -> String) {
    if json {
        println!("{facts}");
    } else {
        println!("{}", text());
    }
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
