//! Where the lines go: a file that somebody may rename away at any time, or standard output.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write, stdout},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// One writer at a time.
#[derive(Debug)]
pub(super) struct Output {
    path: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    file: Option<File>,
    /// It was told that writing fails.
    failing: bool,
}

impl Output {
    pub(super) fn new(path: Option<PathBuf>) -> Self {
        Self { path, state: Mutex::default() }
    }

    pub(super) fn open(&self) -> io::Result<()> {
        let file = self.path.as_deref().map_or_else(standard_output, append_to)?;
        self.state.lock().unwrap_or_else(PoisonError::into_inner).file = Some(file);
        Ok(())
    }

    /// Gives the number of lines that could not be written.
    pub(super) fn append(&self, pieces: impl Iterator<Item = Vec<u8>>) -> u64 {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut lost = 0;
        for lines in pieces.filter(|lines| !lines.is_empty()) {
            match self.write(&mut state, &lines) {
                Ok(()) => state.failing = false,
                Err(error) => {
                    lost += lines.iter().filter(|byte| **byte == b'\n').count() as u64;
                    if !std::mem::replace(&mut state.failing, true) {
                        let path = self.path.as_deref().unwrap_or(Path::new("standard output"));
                        tracing::error!("access log {}: lines are lost: {error}", path.display());
                    }
                }
            }
        }
        lost
    }

    fn write(&self, state: &mut State, lines: &[u8]) -> io::Result<()> {
        // Renamed or removed by who rotates logs: a new file takes its place, without a signal.
        let is_current = |file: &File| self.path.as_deref().is_none_or(|path| is_at(file, path));
        let file = match state.file.take().filter(is_current) {
            Some(file) => file,
            None => self.path.as_deref().map_or_else(standard_output, append_to)?,
        };
        state.file.insert(file).write_all(lines)
    }
}

/// A file of its own: a write that nobody reads must not hold the lock that ending the process takes.
fn standard_output() -> io::Result<File> {
    Ok(stdout().as_fd().try_clone_to_owned()?.into())
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let open = identity(file.metadata());
    open.is_some() && open == identity(path.metadata())
}
