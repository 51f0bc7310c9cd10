//! Each `golden/NAME.yaml` is read as a configuration, and what comes of it is the text in `golden/NAME.txt`.

use std::path::Path;

use serde_json::Map;

use super::{Document, json_schema};
use crate::golden;

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
    let document = Document::read(file, &variable);
    let text = if document.is_sound() {
        serde_json::to_string_pretty(&document.config).expect("a configuration")
    } else {
        document.errors(Vec::new()).to_string()
    };
    let folder = format!("{}/", file.parent().expect("the golden folder").display());
    text.replace(&folder, "") + "\n"
}

#[test]
fn every_file_has_its_outcome() {
    golden::check("src/config/golden", outcome);
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
