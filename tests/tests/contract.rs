//! The contract with users, DESIGN §5: one case per line of it that exists, driven from outside on the built binary.

mod admin;
mod check;
mod explain;
mod plugin;
mod resource;
mod run;

use std::path::Path;

use serde_json::Value;
use stile_tests::{process::command, wait::soon};

/// A command that has ended.
struct Done {
    code: Option<i32>,
    out: String,
    err: String,
}

/// Runs `stile` in a folder, with environment variables.
async fn stile(folder: &Path, environment: &[(&str, &str)], args: &[&str]) -> Done {
    let mut command = command();
    command.current_dir(folder).envs(environment.iter().copied()).args(args);
    let output = soon("the command ends", command.output()).await.expect("the binary runs");
    Done {
        code: output.status.code(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

impl Done {
    /// What was printed, which must be one JSON value.
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error} in {:?}", self.out))
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}
