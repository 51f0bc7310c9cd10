//! The text of one file.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::super::error::{Finding, Position};

/// Why there is no text.
#[derive(Debug)]
pub(super) enum TextError {
    Read(io::Error),
    Content(Finding),
}

/// Reads the file with this number, if it has no more than `most` bytes.
pub(super) fn read(file: &Path, number: usize, most: usize) -> Result<String, TextError> {
    let mut bytes = Vec::new();
    File::open(file).and_then(|file| file.take(most as u64 + 1).read_to_end(&mut bytes)).map_err(TextError::Read)?;
    if bytes.len() > most {
        return Err(TextError::Content(too_large(number)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let before = String::from_utf8_lossy(&error.as_bytes()[..valid]);
        let finding = Finding::of_file(Position::end_of(&before, number), "the file is not UTF-8 text from here on");
        TextError::Content(finding)
    })
}

pub(super) fn too_large(number: usize) -> Finding {
    let with_others = if number > 0 { ", with those before it," } else { "" };
    Finding::of_file(Position::start_of(number), format!("the file{with_others} is larger than 16MiB"))
}
