//! What is wrong with a configuration, and where: one error per mistake, all of them in one answer.

use std::{fmt, path::Path};

use serde::{Serialize, Serializer, ser::SerializeStruct};

/// Every mistake found in a configuration, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Errors(pub Vec<Error>);

/// One mistake; line and column count from 1, the column in characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Error {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// Such as `routes[0].match.path`; empty for the file as a whole.
    pub path: String,
    pub message: String,
}

/// A mistake that only `snapshot::compile` could find, not positioned yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Such as `routes[0].match.path`.
    pub path: String,
    pub message: String,
}

/// A place in the text, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A mistake in a text whose file is not known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) position: Position,
    pub(super) path: String,
    pub(super) message: String,
}

impl Errors {
    pub(super) fn new(file: &Path, mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.position);
        findings.dedup();
        let file = file.display().to_string();
        let errors = findings.into_iter().map(|Finding { position: Position { line, column }, path, message }| Error {
            file: file.clone(),
            line,
            column,
            path,
            message,
        });
        Self(errors.collect())
    }
}

impl Position {
    pub(super) const START: Self = Self { line: 1, column: 1 };
}

impl Finding {
    /// A mistake of the file as a whole.
    pub(super) fn of_file(position: Position, message: impl Into<String>) -> Self {
        Self { position, path: String::new(), message: message.into() }
    }
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, error) in self.0.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, column, path, message } = self;
        let separator = if path.is_empty() { "" } else { ": " };
        write!(f, "{file}:{line}:{column}: {path}{separator}{message}")
    }
}

impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Errors", 1)?;
        object.serialize_field("errors", &self.0)?;
        object.end()
    }
}
