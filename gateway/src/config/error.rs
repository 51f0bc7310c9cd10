//! What is wrong with a configuration, and where: one error per mistake, all of them in one answer.

use std::{
    fmt,
    path::{Path, PathBuf},
};

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
    /// Such as `routes[0].match.path`, by the indices of the `Config`.
    pub path: String,
    pub message: String,
    /// The path of another place that the message is about; where that is ends the message.
    pub other: Option<String>,
    /// What it was concluded from besides its own place: where that could not be read, there may be no problem.
    pub premises: Vec<Premise>,
}

/// Something that a problem was concluded from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Premise {
    /// All that stands at and below a path.
    All(String),
    /// The names in one of the lists of the file.
    Names(&'static str),
}

/// A place in a text, lines and columns counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Position {
    /// The files of a configuration are counted from 0, the main one.
    pub(super) file: usize,
    pub(super) line: usize,
    pub(super) column: usize,
}

/// A mistake, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) position: Position,
    pub(super) path: String,
    pub(super) message: String,
}

impl Errors {
    pub(super) fn new(files: &[PathBuf], mut findings: Vec<Finding>) -> Self {
        findings.sort_by_key(|finding| finding.position);
        findings.dedup();
        let errors = findings.into_iter().map(|Finding { position, path, message }| Error {
            file: position.file_of(files).display().to_string(),
            line: position.line,
            column: position.column,
            path,
            message,
        });
        Self(errors.collect())
    }
}

impl Problem {
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), other: None, premises: Vec::new() }
    }

    #[must_use]
    pub fn with_other(self, path: impl Into<String>) -> Self {
        Self { other: Some(path.into()), ..self }
    }

    #[must_use]
    pub fn given(mut self, premises: impl IntoIterator<Item = Premise>) -> Self {
        self.premises.extend(premises);
        self
    }
}

impl Position {
    pub(super) fn start_of(file: usize) -> Self {
        Self { file, line: 1, column: 1 }
    }

    /// Behind the last character of a text, whose lines end with LF, CR or both (YAML 1.2 §5.4).
    pub(super) fn end_of(text: &str, file: usize) -> Self {
        let last = text.rsplit(['\n', '\r']).next().unwrap_or_default();
        let breaks = text.matches(['\n', '\r']).count() - text.matches("\r\n").count();
        Self { file, line: breaks + 1, column: last.chars().count() + 1 }
    }

    pub(super) fn file_of(self, files: &[PathBuf]) -> &Path {
        files.get(self.file).map(PathBuf::as_path).unwrap_or(Path::new(""))
    }

    /// As messages name it.
    pub(super) fn shown(self, files: &[PathBuf]) -> String {
        format!("{}:{}:{}", self.file_of(files).display(), self.line, self.column)
    }
}

impl Finding {
    /// A mistake of a file as a whole.
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

impl Error {
    /// File, line and column, as messages name a place.
    pub(super) fn place(&self) -> String {
        format!("{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Serialize for Errors {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Errors", 1)?;
        object.serialize_field("errors", &self.0)?;
        object.end()
    }
}
