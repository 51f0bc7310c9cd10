//! `stile check`: everything that is wrong with a configuration, plugins and their configurations included.

use std::{path::Path, process::ExitCode};

use anyhow::Result;

use crate::{
    app::{engine, environment},
    config::{Document, Errors},
    control::{self, ApplyError},
};

pub(super) fn check(file: &Path, json: bool) -> Result<ExitCode> {
    let errors = errors(Document::read(file, &environment))?;
    match &errors {
        Some(errors) if json => println!("{}", serde_json::to_string(errors)?),
        Some(errors) => eprintln!("{errors}"),
        None if json => println!("{}", serde_json::to_string(&Errors(Vec::new()))?),
        None => println!("{} is right", file.display()),
    }
    Ok(if errors.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn errors(document: Document) -> Result<Option<Errors>> {
    let engine = engine(&document.config)?;
    match super::runtime()?.block_on(control::check(engine, document)) {
        Ok(()) => Ok(None),
        Err(ApplyError::Config(errors)) => Ok(Some(errors)),
        Err(error) => Err(error.into()),
    }
}
