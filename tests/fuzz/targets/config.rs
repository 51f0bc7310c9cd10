//! A configuration: whatever a file says, the answer is a snapshot or mistakes that stand somewhere in that file, the
//! same ones every time. Plugins are without modules here: files are not read.
#![no_main]

use std::{collections::HashMap, path::Path, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use stile_gateway::{
    config::{Document, Errors},
    snapshot::compile::{Input, compile},
};
use tokio::runtime::{Builder, Runtime};

/// In a folder that there is not, so that nothing can be included.
const FILE: &str = "/nowhere/fuzz.yaml";

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // A path could lead to a file of this machine, or to a device that is read for ever.
    if text.contains("include") && text.contains('/') {
        return;
    }
    let errors = errors(text);
    errors.0.iter().for_each(|error| is_inside(text, error));
    assert!(errors.0.is_sorted_by_key(|error| (error.line, error.column)), "{errors}");
    assert_eq!(errors, self::errors(text), "two answers to one text");
});

/// The way of `stile check`, but for what plugins are made of.
fn errors(text: &str) -> Errors {
    let document = Document::parse(Path::new(FILE), text, &|name| (name == "SET").then(|| "value".to_owned()));
    let input = Input {
        config: &document.config,
        revisions: &HashMap::new(),
        previous: None,
        workers: 1,
        generation: 1,
        stored: Default::default(),
    };
    let refused = RUNTIME.block_on(compile(input)).err();
    let runs = refused.is_none() && document.is_sound();
    let errors = document.errors(refused.unwrap_or_default());
    assert_eq!(runs, errors.0.is_empty(), "a configuration is refused for a reason, and only then");
    errors
}

fn is_inside(text: &str, error: &stile_gateway::config::Error) {
    assert!(error.file == FILE && !error.message.is_empty(), "{error:?}");
    // YAML 1.2 §5.4. The line after the last break is one too, and a mistake may stand behind the end of its line.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let lines: Vec<&str> = text.split('\n').collect();
    let line = error.line.checked_sub(1).and_then(|index| lines.get(index));
    let line = line.unwrap_or_else(|| panic!("{error}: there is no such line"));
    let columns = line.chars().count() + 1;
    assert!((1..=columns).contains(&error.column), "{error}: the line has {columns} columns");
}
