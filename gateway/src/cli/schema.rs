//! `stile schema`: the JSON Schema of a configuration file, for editors that complete and check as one types.

use std::{
    io::{ErrorKind, Write, stdout},
    process::ExitCode,
};

use anyhow::Result;

use crate::config::json_schema;

pub(super) fn schema() -> Result<ExitCode> {
    let schema = serde_json::to_string_pretty(&json_schema())?;
    match writeln!(stdout(), "{schema}") {
        // Whoever reads has read enough.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
        done => done?,
    }
    Ok(ExitCode::SUCCESS)
}
