//! Where the lines go: a file that somebody may rename away at any time, or standard output.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write, stdout},
    os::unix::fs::MetadataExt,
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
        let Some(path) = &self.path else { return Ok(()) };
        self.state.lock().unwrap_or_else(PoisonError::into_inner).file = Some(append_to(path)?);
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
        let Some(path) = &self.path else {
            let mut out = stdout().lock();
            return out.write_all(lines).and_then(|()| out.flush());
        };
        // Renamed or removed by who rotates logs: a new file takes its place, without a signal.
        let file = match state.file.take().filter(|file| is_at(file, path)) {
            Some(file) => file,
            None => append_to(path)?,
        };
        state.file.insert(file).write_all(lines)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    let identity = |metadata: io::Result<Metadata>| metadata.map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let open = identity(file.metadata());
    open.is_some() && open == identity(path.metadata())
}
