//! `stile plugin push`: a module becomes the newest revision of a plugin in a running gateway.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use http::{Method, StatusCode};

use super::{Target, accepted, path_of, print, read, rollout::told};
use crate::{config::signature_file, plugin::signature};

#[derive(Debug, Args)]
pub struct Push {
    /// The plugin, as the gateway's configuration names it under `plugins`.
    name: String,
    /// The .wasm file; its signature in FILE.sig, if there is one, goes along.
    file: PathBuf,
    /// How many of a hundred exchanges get it.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u8).range(0..=100))]
    percent: u8,
    #[command(flatten)]
    target: Target,
    /// Print the gateway's answer.
    #[arg(long)]
    json: bool,
}

impl Push {
    pub(super) async fn run(self) -> Result<ExitCode> {
        let Self { name, file, percent, target, json } = self;
        let path = format!("{}/revisions?percent={percent}", path_of(&name)?);
        let (module, signature) = (read(&file)?, read_signature(&file)?);
        let mut headers = vec![("content-type", "application/wasm")];
        headers.extend(signature.as_deref().map(|signature| (signature::FIELD, signature)));
        let answer = target.send(Method::PUT, &path, &headers, module).await?;
        let facts = accepted(&answer, json)?;
        print(json, &facts, || {
            let same = if answer.status == StatusCode::OK { " (a module that was known before)" } else { "" };
            format!("{}{same}", told(&name, &facts))
        });
        Ok(ExitCode::SUCCESS)
    }
}

fn read_signature(module: &Path) -> Result<Option<String>> {
    let file = signature_file(module);
    match fs::read_to_string(&file) {
        Ok(signature) => Ok(Some(signature.trim().to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", file.display())),
    }
}
