//! Which files the key `include` names. It lists folders and reads no file.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use glob::MatchOptions;

/// The most files that one configuration includes.
pub(super) const MAX_FILES: usize = 1024;

/// `*` is never the dot at the start of a hidden file's name, which is what drafts of editors and the versions of a
/// Kubernetes ConfigMap have.
const OPTIONS: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: true };

/// One element of `include`.
#[derive(Debug)]
pub(super) enum Include {
    File(PathBuf),
    Pattern(Pattern),
}

/// Files of one folder by their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    folder: PathBuf,
    name: glob::Pattern,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum IncludeError {
    #[error("\"{0}\" does not name a file")]
    NoName(String),
    #[error("\"{0}\" has a wildcard before its last part")]
    Folder(String),
    #[error("\"{0}\" is no pattern: {1}")]
    Pattern(String, &'static str),
    #[error("cannot read the folder {}: {}", .0.display(), .1)]
    List(PathBuf, io::Error),
    #[error("cannot read {}: {}", .0.display(), .1)]
    Read(PathBuf, io::Error),
    #[error("more than {MAX_FILES} files are included")]
    TooMany,
}

impl Include {
    /// Reads one as written in a file of this folder.
    pub(super) fn parse(text: &str, folder: &Path) -> Result<Self, IncludeError> {
        let path = Path::new(text);
        let name =
            path.file_name().and_then(|name| name.to_str()).ok_or_else(|| IncludeError::NoName(text.to_owned()))?;
        let parent = path.parent().unwrap_or(Path::new(""));
        if is_wild(&parent.to_string_lossy()) {
            return Err(IncludeError::Folder(text.to_owned()));
        }
        let folder = folder.join(parent);
        if !is_wild(name) {
            return Ok(Self::File(folder.join(name)));
        }
        let name = glob::Pattern::new(name).map_err(|error| IncludeError::Pattern(text.to_owned(), error.msg))?;
        Ok(Self::Pattern(Pattern { folder, name }))
    }
}

impl Pattern {
    /// That of `*.yaml` is the working directory.
    pub(super) fn folder(&self) -> &Path {
        if self.folder.as_os_str().is_empty() { Path::new(".") } else { &self.folder }
    }

    /// The same names in another folder.
    pub(super) fn of_folder(&self, folder: PathBuf) -> Self {
        Self { folder, name: self.name.clone() }
    }

    /// Whether a path is that of a file it names, there or not.
    pub(super) fn is_of(&self, file: &Path) -> bool {
        let name = file.file_name().and_then(|name| name.to_str());
        file.parent() == Some(&self.folder) && name.is_some_and(|name| self.name.matches_with(name, OPTIONS))
    }

    /// The files there are now, by name. A folder that is not there has none.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, IncludeError> {
        let listed = || -> io::Result<Vec<PathBuf>> {
            let mut files = Vec::new();
            for entry in fs::read_dir(self.folder())? {
                let file = self.folder.join(entry?.file_name());
                if self.is_of(&file) {
                    files.push(file);
                }
            }
            files.sort();
            Ok(files)
        };
        match listed() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(IncludeError::List(self.folder.clone(), error)),
            Ok(files) => Ok(files),
        }
    }
}

fn is_wild(text: &str) -> bool {
    text.contains(['*', '?', '['])
}
