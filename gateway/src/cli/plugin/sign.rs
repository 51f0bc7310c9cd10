//! `stile plugin keygen` and `stile plugin sign`: what a gateway with `signed_by` asks of modules.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Args;
use serde_json::json;

use super::{print, read};
use crate::{
    config::signature_file,
    plugin::{Digest256, signature::SigningKey},
};

#[derive(Debug, Args)]
pub struct Keygen {
    /// The file for the private key, which must not exist.
    file: PathBuf,
    /// Print `{"file":…,"public":…}`.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
pub struct Sign {
    /// The .wasm file; its signature is written beside it, as FILE.sig.
    file: PathBuf,
    /// The private key (Ed25519, PKCS #8 in PEM form).
    #[arg(long)]
    key: PathBuf,
    /// Print `{"file":…,"public":…}`.
    #[arg(long)]
    json: bool,
}

impl Keygen {
    pub(super) fn run(self) -> Result<ExitCode> {
        let (key, pem) = SigningKey::generate()?;
        // Its owner's alone, from the first byte.
        let file = File::options().write(true).create_new(true).mode(0o600).open(&self.file);
        let written = file.and_then(|mut file| file.write_all(pem.as_bytes()));
        written.with_context(|| format!("cannot write {}", self.file.display()))?;
        let public = key.public();
        print(self.json, &json!({ "file": self.file, "public": public }), || {
            format!("made {}; its public key, for signed_by:\n{public}", self.file.display())
        });
        Ok(ExitCode::SUCCESS)
    }
}

impl Sign {
    pub(super) fn run(self) -> Result<ExitCode> {
        let key = SigningKey::from_pem(&read(&self.key)?).with_context(|| self.key.display().to_string())?;
        let (signature, file) = (key.sign(Digest256::of(&read(&self.file)?)), signature_file(&self.file));
        fs::write(&file, format!("{signature}\n")).with_context(|| format!("cannot write {}", file.display()))?;
        let public = key.public();
        print(self.json, &json!({ "file": file, "public": public }), || {
            format!("made {}, by the key {public}", file.display())
        });
        Ok(ExitCode::SUCCESS)
    }
}
