//! Each `golden/NAME.yaml` is read as a configuration, and what comes of it is the text in `golden/NAME.txt`.
//! `STILE_BLESS=1` writes the texts anew: read the difference before it is committed.

use std::{env, ffi::OsStr, fs, path::Path};

use serde_json::Map;

use super::{Document, json_schema};

fn variable(name: &str) -> Option<String> {
    let value = match name {
        "ADDRESS" => "127.0.0.1:7001",
        "WORKERS" => "2",
        "SECRET" => "not-for-anybody",
        _ => return None,
    };
    Some(value.to_owned())
}

/// What a user sees: the errors, or the configuration as it was understood.
fn outcome(file: &Path) -> String {
    let text = fs::read_to_string(file).expect("a golden file");
    let name = Path::new(file.file_name().expect("a name"));
    match Document::parse(name, &text, &variable) {
        Ok(document) => serde_json::to_string_pretty(&document.config).expect("a configuration") + "\n",
        Err(errors) => format!("{errors}\n"),
    }
}

#[test]
fn every_file_has_its_outcome() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/config/golden");
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

/// The lines that only one of two texts has.
fn difference(expected: &str, found: &str) -> String {
    let only = |sign: char, one: &str, other: &str| -> String {
        let lines = one.lines().filter(|line| !other.lines().any(|of_other| of_other == *line));
        lines.map(|line| format!("\n{sign} {line}")).collect()
    };
    only('-', expected, found) + &only('+', found, expected)
}

#[test]
fn the_good_file_uses_every_key() {
    let text = include_str!("golden/good.yaml");
    let schema = json_schema();
    let definitions = schema["$defs"].as_object().expect("definitions").values();
    let keys = definitions.chain([&schema]).filter_map(|part| part["properties"].as_object()).flat_map(Map::keys);
    let missing: Vec<_> = keys.filter(|key| !text.contains(&format!("{key}:"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
