//! `stile plugin build`: from a plugin's folder to its `.wasm` file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::cli::toolchain::{self, Build, ToolchainError};

/// A built plugin.
#[derive(Debug)]
pub struct Built {
    pub path: PathBuf,
    pub bytes: u64,
}

#[derive(Debug, Error)]
pub enum BuildError {
    #[error("{0} has no Cargo.toml: it is not the folder of a plugin")]
    NoManifest(PathBuf),
    #[error(transparent)]
    Toolchain(#[from] ToolchainError),
    #[error("cannot read {path}: {error}")]
    Read { path: PathBuf, error: io::Error },
}

/// Builds the plugin in this folder, or every one of a workspace.
///
/// # Errors
///
/// It is no such folder, no toolchain can build it, or it does not compile.
pub fn build(dir: &Path, say: &dyn Fn(&str)) -> Result<Vec<Built>, BuildError> {
    if !dir.join("Cargo.toml").is_file() {
        return Err(BuildError::NoManifest(dir.to_owned()));
    }
    let toolchain = toolchain::find_or_install(dir, say)?;
    let modules = toolchain::build(toolchain, Build { dir, packages: &[], target_dir: None })?;
    modules.into_iter().map(measure).collect()
}

fn measure(path: PathBuf) -> Result<Built, BuildError> {
    match fs::metadata(&path) {
        Ok(metadata) => Ok(Built { path, bytes: metadata.len() }),
        Err(error) => Err(BuildError::Read { path, error }),
    }
}
