//! Tests by example: each `NAME.yaml` of a folder has an outcome, and that is the text in `NAME.txt`.
//! `STILE_BLESS=1` writes the texts anew: read the difference before it is committed.

use std::{env, ffi::OsStr, fs, path::Path};

/// Fails with the difference if a file of this folder of the crate has another outcome than its text.
pub(crate) fn check(folder: &str, outcome: impl Fn(&Path) -> String) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let files = fs::read_dir(folder).expect("the golden folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<_> = files.filter(|file| file.extension() == Some(OsStr::new("yaml"))).collect();
    files.sort();
    assert!(!files.is_empty());

    let mut different = String::new();
    for file in files {
        let (found, golden) = (outcome(&file), file.with_extension("txt"));
        if env::var_os("STILE_BLESS").is_some() {
            fs::write(golden, found).expect("a golden text is written");
            continue;
        }
        let expected = fs::read_to_string(golden).unwrap_or_default();
        if found != expected {
            different += &format!("\n{}{}", file.display(), difference(&expected, &found));
        }
    }
    assert!(different.is_empty(), "{different}\nto accept: STILE_BLESS=1");
}

/// Fails with the difference if a file of the crate is not this text.
pub(crate) fn same(file: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if env::var_os("STILE_BLESS").is_some() {
        fs::write(file, text).expect("a generated file is written");
        return;
    }
    let current = fs::read_to_string(&file).unwrap_or_default();
    assert!(current == text, "{}{}\nto accept: STILE_BLESS=1", file.display(), difference(&current, text));
}

/// The lines that only one of two texts has.
fn difference(expected: &str, found: &str) -> String {
    let only = |sign: char, one: &str, other: &str| -> String {
        let lines = one.lines().filter(|line| !other.lines().any(|of_other| of_other == *line));
        lines.map(|line| format!("\n{sign} {line}")).collect()
    };
    only('-', expected, found) + &only('+', found, expected)
}
